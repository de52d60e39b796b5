"""What of all that the App Store said has never come here: how far back to look, what is news, and when to ask again.

Two roads lead back: what it told us (`notifications`: its history of them, which has the signed text of each), and how
subscriptions stand that should have renewed (`subscriptions`), since a notification may have been lost for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from shared.events import Draft, Environment, StoreTransaction
from shared.ids import AppId, TransactionId

Road = Literal["notifications", "subscriptions"]

KEPT: Final[Mapping[Environment, timedelta]] = {"production": timedelta(days=180), "sandbox": timedelta(days=30)}
"""So long the App Store remembers what it told us (Apple: Get Notification History)."""

MARGIN: Final = timedelta(hours=1)
"""So much less is asked for: what was within reach when the question was put together has to be when it arrives."""

OVERLAP: Final = timedelta(hours=6)
"""What was looked through so shortly before is looked through again: a notification may come into the history late, and
Apple's clock may be another than ours."""

PART: Final = timedelta(days=1)
"""Apple says nothing about the order of its pages, so a cursor moves only past a span of time that was seen whole: no
more than this is seen again after a crash."""

ON_ITS_WAY: Final = timedelta(seconds=10)
"""What was signed so lately, and not tried yet, is late by nobody's measure."""

CHECK_AFTER_S: Final = (1 * 3600, 2 * 3600, 4 * 3600, 8 * 3600, 16 * 3600, 24 * 3600)
"""How long after a question about a subscription the next one is asked, as long as nothing is heard; the last for ever
after: Apple tries to charge for 60 days (Apple: billing retry)."""

SPOKEN_LATELY: Final = timedelta(hours=1)
"""What the store has said of a subscription since its period ended is its last word for so long. Without this,
one that stays unpaid would be due again as soon as its answer was handled."""

CHECKS_MAX: Final = 90
"""So many questions in vain, over some three months, are the last: the store has nothing more to say."""

PUT_OFF: Final = timedelta(minutes=10)
"""A question that the store did not answer is asked again after so long."""

EXPIRED: Final = 2
BILLING_RETRY: Final = 3
IN_GRACE_PERIOD: Final = 4
REVOKED: Final = 5
"""Of a subscription (Apple: appstoreserverapi/status); 1 is active."""

ENDED: Final = frozenset({EXPIRED, REVOKED})
UNPAID: Final = frozenset({BILLING_RETRY, IN_GRACE_PERIOD})


class StoreUnanswered(Exception):
    """The store did not give what it was asked for; the message says why, and is safe to show."""


class SubscriptionUnknown(LookupError):
    """The store knows no subscription by this id, in this environment."""


@dataclass(frozen=True, slots=True)
class Key:
    """What has a cursor, and a count, of its own."""

    app: AppId
    environment: Environment
    road: Road


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How far it has come: see `verifier.reconciliation` for what the columns say."""

    key: Key
    cursor_at: datetime | None = None
    asked_at: datetime | None = None
    checked_at: datetime | None = None
    missed: int = 0
    missed_at: datetime | None = None
    error: str | None = None
    failing_since: datetime | None = None


# ---- what the store told us --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Remembered:
    """A notification in the store's history, and whether it has tried to deliver it. Nothing is verified yet."""

    signed_payload: str
    tried: bool


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of the history; `next` is where the next one is, None after the last."""

    items: tuple[Remembered, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """A notification that is not in the journal, as it is to be recorded, and whether it should have been there."""

    draft: Draft
    missed: bool


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, both ends included."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """What is to be looked through. `moves_cursor`: all that lies between the cursor and it was looked through."""

    span: Span
    moves_cursor: bool

    def parts(self) -> Iterator[Span]:
        """It, in spans that are short enough to be seen again; the oldest first."""
        since = self.span.since
        while since < self.span.until:
            until = min(since + PART, self.span.until)
            yield Span(since, until)
            since = until


def window(*, cursor_at: datetime | None, since: datetime | None, environment: Environment, now: datetime) -> Window:
    """From a little before the cursor (at first: as far back as the store remembers), or from `since`, up to now.

    What is asked for by `since` moves the cursor unless it would leave a gap behind it.
    """
    oldest = now - KEPT[environment] + MARGIN
    if since is None:
        begin = oldest if cursor_at is None else max(cursor_at - OVERLAP, oldest)
        return Window(Span(begin, now), moves_cursor=True)
    return Window(Span(max(since, oldest), now), moves_cursor=cursor_at is None or since <= cursor_at)


def was_missed(remembered: Remembered, *, signed_at: datetime | None, now: datetime) -> bool:
    """Whether a notification that is not here should be. The store has tried to deliver it, or should have by now.

    What it will try again after a failure was missed too: we take it now, and when it comes it is a repeat.
    """
    return remembered.tried or signed_at is None or now - signed_at > ON_ITS_WAY


# ---- how subscriptions stand -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DueOrigin:
    """A subscription that should have renewed, of which nothing was heard. `heard_at`: when the store last spoke of its
    renewal; `checks`: how often it was asked since, in vain."""

    original_transaction_id: TransactionId
    check_at: datetime
    heard_at: datetime | None
    checks: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What the store says of one subscription: its own number for the status, and the signed rest, not verified."""

    original_transaction_id: TransactionId
    status: int
    signed_transaction: str
    signed_renewal_info: str | None


def is_news(
    stated: StoreTransaction,
    *,
    known: StoreTransaction | None,
    status: int,
    due: DueOrigin | None,
) -> bool:
    """Whether the newest transaction of a subscription, or its status, says what we have not heard.

    A store always speaks when a period ends: it was renewed, could not be charged, or has expired. A subscription is
    `due` because we heard neither that it was renewed nor that it has expired; so those two are news. That it could not
    be charged is, unless the store has said something since the period ended. Of a subscription that is not due (the
    store tells of all that the customer has) only another transaction, or another end of it, is.
    """
    if known is None or _end(known) != _end(stated):
        return True
    if due is None:
        return False
    if status in UNPAID:
        expires_at = stated.period.expires_at if stated.period else None
        return due.heard_at is None or (expires_at is not None and due.heard_at < expires_at)
    return status in ENDED


def _end(transaction: StoreTransaction) -> tuple[str, datetime | None]:
    """An extended renewal date is an old transaction with another end."""
    return transaction.product_id, transaction.period.expires_at if transaction.period else None


def next_check(due: DueOrigin, *, status: int | None, now: datetime) -> datetime | None:
    """When to ask again, unless something is heard before; None: never. `status` None: the store knows it not."""
    if status in ENDED or due.checks + 1 >= CHECKS_MAX:
        return None
    return now + timedelta(seconds=CHECK_AFTER_S[min(due.checks, len(CHECK_AFTER_S) - 1)])
