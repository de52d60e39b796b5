"""What our processes tell Prometheus.

described.py  every metric: name, labels, meaning
counted.py    those that are counted as it happens
read.py       those that are read at the scrape
ports.py      the port they are told on
relayed.py    what an application tells at a path of its own
serving.py    telling them, for a process that is one
together.py   for one that forks its workers: their sums.py, and what the process_tree.py takes

Nothing is imported here: `together` has to come before prometheus_client does.
"""
