"""What the notifier keeps in PostgreSQL.

deliveries.py  deliveries, their attempts, and how the endpoints do: what the road writes
watching.py    what the endpoints have not taken, for the metrics
desk.py        the same for an operator: lists, single ones, what is to be sent again
"""
