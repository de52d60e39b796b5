"""The rules of the books: what a purchase gives, what a refund takes back, and which postings that makes.

    books.py      what there is: wallets, accounts, and how each store transaction stands
    decisions.py  what an event comes to: which currency moves, and what is to be said about it
    postings.py   transfers and their balanced entries, on the accounts that they touch
    statements.py what a user is told of a wallet

Pure: values in, values out; no clock, no IO, no order of arrival.

Sign convention: a wallet's balance is what its user owns, so a purchase is positive there (below zero: the user owes).
The house's accounts mirror it: `issuance` goes down by what is granted and up by what is taken back; `write_off` goes
down by what a refund could not take from a wallet that must not go below zero. The entries of a transfer sum to zero
in each currency.
"""
