"""What the services share: the vocabulary (events, money, ids, clock, apps, catalogue, JWS) and the bus.

No business rule lives here.
"""
