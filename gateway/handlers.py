"""The gateway's use-cases, and the ports that they need. What is asked is checked already, and who asks is known.

Whatever reads or records raises shared.database.DatabaseUnavailable when the journal is away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol
from uuid import UUID

from gateway.domain.callers import Caller, may_see
from gateway.domain.feeds import Bookmark, FeedKey, FeedPage, Place
from gateway.domain.purchases import SUBMITTED, Proof, Purchase, Standing, Status, proof_text, purchase_of
from gateway.domain.services import ServiceAnswer
from gateway.domain.timelines import Entry
from shared.apps import Apps
from shared.events import AccountTokenIssued, Draft, PurchaseRejected, Store
from shared.ids import (
    AppId,
    EventId,
    PurchaseId,
    TransactionId,
    UserId,
    account_subject,
    purchase_id,
)
from shared.jws import SignedPayload
from shared.notifications import addressee, draft_of, notification_of

REOPEN: Final = (*sorted(SUBMITTED), PurchaseRejected.TYPE)
"""While one of these is the newest word, another proof of the same purchase is looked at too. Once one was found good,
what becomes of the others changes nothing (shared.events.WORD_RANK)."""
REPEAT: Final = (PurchaseRejected.TYPE,)
"""And after this one even the same proof again, after a while: what was wrong may have been mended on our side, or the
store may know by then what was only named."""


class PurchaseUnknown(LookupError):
    """There is no such purchase, or it is not the caller's to see."""


class Journal(Protocol):
    """What the gateway writes down and reads back."""

    def record_once(
        self,
        draft: Draft,
        *,
        fingerprint: bytes | None = None,
        reopen: Sequence[str] = (),
        repeat: Sequence[str] = (),
    ) -> bool:
        """Durable when it returns. True: recorded now; False: its subject was known (see journal.append_once)."""
        ...

    def standing(self, *, app: AppId, purchase_id: PurchaseId) -> Standing | None:
        """How one purchase stands."""
        ...

    def standings_of_user(
        self, *, app: AppId, user_id: UserId, limit: int, before: EventId | None
    ) -> Sequence[Standing]:
        """A user's purchases, newest first; `before` is the first event of the last one that was seen."""
        ...

    def timeline(self, *, app: AppId, purchase_id: PurchaseId) -> Sequence[Entry]:
        """The events of a purchase and those that caused them, oldest first; none if there is no such purchase."""
        ...

    def account_token(self, *, app: AppId, user_id: UserId) -> UUID | None:
        """The token that was issued to the user, if one was."""
        ...

    def check(self) -> None:
        """Raises DatabaseUnavailable when the database does not answer."""
        ...


class Feed(Protocol):
    """The outward events, in the order in which everybody reads them."""

    def place(self, key: FeedKey, *, bookmark: Bookmark) -> Place:
        """Where the bookmark is. Raises BookmarkUnknown."""
        ...

    def page(self, key: FeedKey, *, after: Place, limit: int) -> FeedPage:
        """So many events at most behind a place. Raises EventUnknown when a newer release recorded one of them."""
        ...


class Waiting(Protocol):
    """Where requests wait. Each answers True once it has come or the time is up; False, at once, when no more may."""

    def until_final(self, *, app: AppId, purchase_id: PurchaseId, within_s: float) -> bool:
        """Until a purchase comes to an end."""
        ...

    def until_grown(self, key: FeedKey, *, after: Place, within_s: float) -> bool:
        """Until a feed has something behind the place."""
        ...


class Signatures(Protocol):
    """The App Store's signatures."""

    def verify(self, token: str, *, now: datetime) -> SignedPayload:
        """Raises shared.jws.JwsMalformed or JwsUntrusted."""
        ...


class InternalApi(Protocol):
    """The internal API of the ledger, or of the notifier."""

    def read(
        self, path: Sequence[str], *, query: Mapping[str, str], caller: Caller, trace_id: str, request_id: str
    ) -> ServiceAnswer:
        """Reads what is at the path (its segments, below `/v1`).

        Raises gateway.domain.services.ServiceUnavailable.
        """
        ...

    def send(
        self, path: Sequence[str], *, body: bytes, key: str | None, caller: Caller, trace_id: str, request_id: str
    ) -> ServiceAnswer:
        """Tells the service to do what the body (JSON, as the caller wrote it) says at the path, once.

        `key` is the caller's Idempotency-Key. Raises gateway.domain.services.ServiceUnavailable: it was not done; or
        ServiceAnswerUnavailable: it may have been done or not.
        """
        ...


@dataclass(frozen=True, slots=True)
class Submitted:
    """What is said of a purchase that was taken in, or had been before."""

    id: PurchaseId
    status: Status
    store: Store
    transaction_id: TransactionId
    user_id: UserId


def submit_purchase(
    proof: Proof, *, app: AppId, user_id: UserId, journal: Journal, trace_id: str, now: datetime
) -> Submitted:
    """Takes in a proof of a purchase. Once this returns it is durable, and will be looked at."""
    subject = purchase_id(app=app, store=proof.store, transaction_id=proof.transaction_id, user_id=user_id)
    recorded = journal.record_once(
        Draft(payload=proof, app=app, subject=subject, user_id=user_id, occurred_at=now, trace_id=trace_id),
        fingerprint=hashlib.sha256(proof_text(proof).encode()).digest(),
        reopen=REOPEN,
        repeat=REPEAT,
    )
    status = "accepted" if recorded else _purchase(journal, app=app, purchase_id=subject).status
    return Submitted(id=subject, status=status, store=proof.store, transaction_id=proof.transaction_id, user_id=user_id)


def find_purchase(wanted: PurchaseId, *, caller: Caller, journal: Journal) -> Purchase:
    """Raises PurchaseUnknown."""
    purchase = _purchase(journal, app=caller.app.id, purchase_id=wanted)
    if not may_see(caller, purchase.user_id):
        raise PurchaseUnknown(wanted)
    return purchase


def await_purchase(
    wanted: PurchaseId, *, caller: Caller, journal: Journal, waiting: Waiting, within_s: float
) -> tuple[Purchase, bool]:
    """The purchase once it is final, or as it stands when the time is up; and whether it could be waited for.

    Raises PurchaseUnknown.
    """
    purchase = find_purchase(wanted, caller=caller, journal=journal)
    if purchase.is_final:
        return purchase, True
    if not waiting.until_final(app=caller.app.id, purchase_id=wanted, within_s=within_s):
        return purchase, False
    return find_purchase(wanted, caller=caller, journal=journal), True


def purchases_of_user(
    user_id: UserId, *, app: AppId, limit: int, after: EventId | None, journal: Journal
) -> tuple[list[Purchase], EventId | None]:
    """A page of a user's purchases, newest first, and where the next one goes on (None: there is none)."""
    standings = journal.standings_of_user(app=app, user_id=user_id, limit=limit + 1, before=after)
    page = standings[:limit]
    following = page[-1].first_event_id if len(standings) > limit else None
    return [purchase_of(standing) for standing in page], following


def timeline_of(wanted: PurchaseId, *, caller: Caller, journal: Journal) -> Sequence[Entry]:
    """All that is recorded of a purchase, oldest first. Raises PurchaseUnknown."""
    timeline = journal.timeline(app=caller.app.id, purchase_id=wanted)
    if not timeline:
        raise PurchaseUnknown(wanted)
    return timeline


def read_feed(key: FeedKey, *, after: Bookmark, limit: int, within_s: float, feed: Feed, waiting: Waiting) -> FeedPage:
    """The events behind the bookmark; when there are none, those that come within so many seconds.

    Raises BookmarkUnknown, and EventUnknown when a newer release recorded one of them: none is passed over.
    """
    place = feed.place(key, bookmark=after)
    page = feed.page(key, after=place, limit=limit)
    if page.end != place or not within_s:
        return page
    waiting.until_grown(key, after=place, within_s=within_s)
    return feed.page(key, after=place, limit=limit)


def account_token(
    user_id: UserId, *, app: AppId, new_token: UUID, journal: Journal, trace_id: str, now: datetime
) -> UUID:
    """The user's token: the one that was issued first, whoever else asks at the same moment."""
    issued = journal.account_token(app=app, user_id=user_id)
    if issued is not None:
        return issued
    draft = Draft(
        payload=AccountTokenIssued(token=new_token),
        app=app,
        subject=account_subject(app=app, user_id=user_id),
        user_id=user_id,
        occurred_at=now,
        trace_id=trace_id,
    )
    if journal.record_once(draft):
        return new_token
    return journal.account_token(app=app, user_id=user_id) or new_token


def receive_notification(
    signed_payload: str, *, apps: Apps, signatures: Signatures, journal: Journal, trace_id: str, now: datetime
) -> None:
    """Takes in what the App Store says; a repeat is taken for what it is. Once this returns it is durable.

    Raises JwsMalformed, JwsUntrusted, NotificationInvalid, NotificationRejected.
    """
    claims = signatures.verify(signed_payload, now=now).claims
    app = addressee(claims, apps=apps)
    notification = notification_of(claims, signed_payload=signed_payload)
    journal.record_once(draft_of(notification, app=app, trace_id=trace_id, now=now))


def _purchase(journal: Journal, *, app: AppId, purchase_id: PurchaseId) -> Purchase:
    standing = journal.standing(app=app, purchase_id=purchase_id)
    if standing is None:
        raise PurchaseUnknown(purchase_id)
    return purchase_of(standing)
