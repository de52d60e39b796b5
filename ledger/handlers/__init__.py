"""Use-cases of the ledger, and what they need from outside.

    ports.py            what the use-cases need: the books, the answers that were given, the wallets for reading
    facts.py            what the stores say of purchases is posted, in batches
    commands.py         spends, holds and grants that are asked for
    expiring.py         holds and requests whose time is over
    refund_requests.py  a user asks for a refund in the app
    auditing.py         everything is computed again, and compared
    reading.py          wallets and their entries, subscriptions, entitlements

Whatever posts takes its locks in one order, so that no two transactions wait for each other in a circle: the keys of
answers, the store transactions, the wallets, the accounts; each class in the order of its keys or ids. Lots, spends and
holds belong to a wallet, whose lock guards them.
"""

from ledger.handlers.commands import execute
from ledger.handlers.expiring import expire_holds
from ledger.handlers.facts import apply_facts
from ledger.handlers.ports import Answers, Books, Commissions, Requests, Wallets
from ledger.handlers.reading import PAGE_MAX, read_entitlements, read_entries, read_subscriptions, read_wallet
from ledger.handlers.refund_requests import ask, expire_requests, find

__all__ = [
    "PAGE_MAX",
    "Answers",
    "Books",
    "Commissions",
    "Requests",
    "Wallets",
    "apply_facts",
    "ask",
    "execute",
    "expire_holds",
    "expire_requests",
    "find",
    "read_entitlements",
    "read_entries",
    "read_subscriptions",
    "read_wallet",
]
