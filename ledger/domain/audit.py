"""What the books promise at every moment, and what an audit says of it.

The database keeps most of this by itself (its constraints and triggers), and the code does too. An audit believes
neither: it computes everything again from what is written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

FINDINGS_KEPT_MAX: Final = 100
"""Of what is off, the first so many are named; the rest is counted."""

PROMISES: Final[Mapping[str, str]] = {
    # transfers
    "transfer-entries": "a transfer has two entries or more",
    "transfer-sum": "the entries of a transfer sum to zero in each currency",
    "transfer-place": "a transfer moves nothing from one app or environment to another",
    "transfer-event": "a transfer follows from an event in the journal, of its kind and app, about what it names",
    "transfer-house": "a transfer is between a wallet and the house's account for its kind",
    "transfer-cause": "a transfer belongs to the store transaction, spend or reversed spend that it names",
    "credit-lot": "what a purchase or a grant credits is a lot",
    "debit-portions": "a spend's or refund's portions, and no other transfer's, come to what it took",
    "portion-own": "a portion is said to be of the refunded purchase's own lots when it is, and only then",
    # entries
    "entry-version": "the entries of an account are numbered 1, 2, 3, … without a gap",
    "entry-balance": "an entry begins with the balance that the one before it left",
    "entry-amount": "an entry's balance after it is the one before it and its amount",
    "entry-account": "an entry is of an account that exists, and names its wallet",
    "entry-transfer": "an entry is part of a transfer",
    "wallet-entry-version": "the entries of a wallet are numbered 1, 2, 3, … without a gap",
    # wallets and accounts
    "wallet-version": "a wallet's version is the number of its entries",
    "account-version": "an account's version is the number of its entries",
    "account-balance": "an account's balance is the sum of its entries",
    "account-lots": "a balance is what is left and held in the account's lots, less what is owed",
    "account-held": "what an account holds is what its lots hold",
    "account-holds": "what an account holds is what its open holds set aside",
    "account-reserved": "what a lot holds is what open holds reserve in it",
    "account-owed": "what an account owes is what is open of its debits",
    # lots
    "lot-credit": "a lot is one credit of a wallet, and no more than it",
    "lot-parts": "what is left, held and taken of a lot is all of it",
    "lot-spent": "what is spent of a lot is what others than its own refund took, and did not give back",
    # spends and holds
    "spend-posted": "a spend is posted as what it says",
    "spend-reversed": "what is reversed of a spend is what its reversals brought back",
    "spend-returned": "what is reversed of a spend is back where it came from",
    "spend-hold": "a spend that captured a hold is what that captured",
    "hold-reserved": "a hold reserves what it says",
    "hold-captured": "a captured hold became a spend",
    "hold-request": "what is held for a request for a refund is held while that is open",
    # store transactions and the journal
    "transaction-posted": "a granted transaction moved what is due less what is refunded, and any other nothing",
    "transaction-lots": "the lots of a transaction are what it granted",
    "transaction-refunds": "what a transaction granted and its refunds left is what is due less what is refunded",
    "transaction-wallet": "a transaction moved currency in its user's wallet alone",
    "transaction-purchase": "a transaction is granted once",
    "transaction-sequence": "a transaction's refunds and reversals are numbered 1, 2, 3, … and it knows the newest",
    "transaction-stated": "a granted transaction has the id under which its store stated it",
    "transaction-signed": "a store's word on a refund is not signed in the future: it would outdo all later ones",
    "event-posted": "a spend, a reversed spend or a grant that the journal tells of is in the books",
    "verified-granted": "a verified purchase is granted or parked, or still to be handled",
    "refund-applied": "a refund, or its reversal, is in the books as it was stated, or still to be handled",
    # subscriptions and entitlements
    "subscription-heard": "what a store said of a subscription counts, or newer words do, or it is still to be handled",
    "subscription-told": "an owned subscription is told as what counts of what was heard of it",
    "subscription-status": "a subscription's status is told within five minutes of its becoming so",
    "subscription-due": "a subscription's status is looked at again when time changes it, within five minutes",
    "subscription-gives": "what a subscription gives lasts as long as its user may use it",
    "source-cause": "what gives a user something is a subscription or a purchase of theirs that was not taken back",
    "entitlement-told": "a user is told that they may use something as long as the longest of all that gives it",
    "entitlement-ended": "what a user may use ends with its time, within five minutes",
}
"""Every check by its name. Each is a sentence that is true of sound books."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that is not kept: by what, what was found there, and what was expected."""

    check: str
    thing: Mapping[str, Any]
    found: str
    expected: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A refund whose purchase nobody has claimed: nothing is wrong, and nothing can be taken back."""

    app: str
    store: str
    environment: str
    transaction_id: str
    refunded_milli: int


Cursor = tuple[str, ...]
"""The key of the last row that was looked at."""


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of a walk came to: of `problems` and `refunds_waiting` the first FINDINGS_KEPT_MAX are listed.

    `last` is where the next page goes on; None: the walk is at its end.
    """

    rows: int
    problems: int
    findings: Sequence[Finding]
    refunds_waiting: int
    waiting: Sequence[Waiting]
    last: Cursor | None


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit came to. `checked` says how many of what it looked at.

    Of `problems` and `refunds_waiting` in all, the first FINDINGS_KEPT_MAX are in `findings` and `waiting`.
    """

    started_at: datetime
    finished_at: datetime
    checked: Mapping[str, int]
    problems: int
    findings: Sequence[Finding]
    refunds_waiting: int
    waiting: Sequence[Waiting]

    @property
    def clean(self) -> bool:
        return self.problems == 0


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest audit that was finished, for a monitor: how many problems, when it ended, and how long it took."""

    problems: int
    finished_at: datetime
    duration_s: float
