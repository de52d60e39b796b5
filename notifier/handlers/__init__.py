"""Use-cases of the notifier, and what they need from outside.

ports.py     what the use-cases need: the deliveries, the feed, somebody who posts
queueing.py  who is to hear of an event
sending.py   one attempt to tell; what attempts come to
desk.py      what an operator sees and does
"""
