"""The rules of the books: what a purchase gives, what a refund takes back, what users spend, and the postings of it.

    books.py            what there is: wallets, accounts, and how each store transaction stands
    decisions.py        what a store's word comes to: which currency moves, and what is to be said about it
    commands.py         what may be asked of the ledger directly, and what it comes to
    spending.py         what such a request does to the books: spends, holds, grants
    lots.py             which credit each debit came from, what is owed, and where what is given back goes
    postings.py         transfers and their balanced entries, on the accounts that they touch
    refund_requests.py  when a user's request for a refund is taken, and how it ends
    statements.py       what a user is told of a wallet
    audit.py            what the books promise at every moment

Pure: values in, values out; no clock, no IO, no order of arrival.

Sign convention: a wallet's balance is what its user owns, so a purchase is positive there (below zero: the user owes).
The house's accounts mirror it: `issuance` goes down by what purchases give and up by what refunds take back, `goodwill`
down by what was given for nothing, `sink` up by what was spent; `write_off` goes down by what a refund could not take
from a wallet that must not go below zero. The entries of a transfer sum to zero in each currency.
"""
