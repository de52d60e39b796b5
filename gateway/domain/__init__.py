"""The gateway's rules: values in, values out.

callers.py        who asks, and what they may ask for
purchases.py      what is accepted as a purchase, and what its newest word makes of it
timelines.py      the events of a purchase, as they are shown
wallets.py        what the ledger says when it is asked or told something
"""
