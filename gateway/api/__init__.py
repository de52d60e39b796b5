"""HTTP in: translates requests to use-cases and outcomes to answers, and decides nothing else.

routes.py       every call: its path, who may make it, what answers it
access.py       who may make a call
credentials.py  whose request it is
limits.py       how often they may ask
documents/      what comes in and goes out, by subject
errors.py       which outcome is which problem
purchases.py users.py wallets.py subscriptions.py refund_requests.py events.py webhooks.py endpoints.py deliveries.py
operations.py   the views
forwarding.py   what the ledger or the notifier answers is handed on to it
openapi.py      the contract, made from the routes and the documents
reference.py    the contract as a page to read
"""
