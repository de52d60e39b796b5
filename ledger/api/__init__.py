"""The internal API: what the gateway asks the ledger. Translation only.

routes.py    every call: its path, what it takes to make it, what answers it
rights.py    what it takes to make a call; shared/callers.py asks for it
bodies.py    what comes in
answers.py   what goes out
services.py  what it is answered from: the ports that the wiring fills
wallets.py belongings.py commands.py refund_requests.py operations.py    the views
"""

from ledger.api.answers import render
from ledger.api.routes import routes
from ledger.api.services import Commands, Queries, ReadEntries, ReadSubscriptions, RefundRequests

__all__ = ["Commands", "Queries", "ReadEntries", "ReadSubscriptions", "RefundRequests", "render", "routes"]
