"""The notifier's rules: values in, values out.

deliveries.py  one message to one endpoint: what is posted, and what the answer means
lanes.py       how much an endpoint is asked at once, by how it has been doing
endpoints.py   who is to hear of what; what is wrong with an endpoint's configuration
addresses.py   which addresses may be called
desk.py        what an operator is told of all that
"""
