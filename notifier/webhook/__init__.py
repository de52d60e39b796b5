"""Calling the endpoints.

poster.py       one message, signed, posted once
connections.py  connections to addresses that may be called, and to no others
"""
