"""Calling the endpoints.

poster.py       one message, signed, posted once
connections.py  urllib3's connections, in time and with bounded answers
caller.py       connections to addresses that may be called, and to no others
"""
