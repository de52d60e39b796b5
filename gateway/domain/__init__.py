"""The gateway's rules: values in, values out.

callers.py        who asks, and what they may ask for
rates.py          how often something may be done
peers.py          where a request comes from
feeds.py          the outward events in their order, and where somebody is in it
purchases.py      what is accepted as a purchase, and what its newest word makes of it
timelines.py      the events of a purchase, as they are shown
services.py       what another service says when it is asked or told something
"""
