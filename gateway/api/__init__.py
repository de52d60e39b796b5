"""HTTP in: translates requests to use-cases and outcomes to answers, and decides nothing else.

routes.py       every call: its path, who may make it, what answers it
credentials.py  whose request it is
documents.py    what comes in and goes out
errors.py       which outcome is which problem
purchases.py users.py webhooks.py operations.py    the views
openapi.py      the contract, made from the routes and the documents
reference.py    the contract as a page to read
"""
