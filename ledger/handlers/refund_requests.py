"""Use-case: a user asks in the app for a refund of a purchase.

The ledger answers at once, since it knows all that counts: whose the purchase is, how much of it is spent, and what the
catalogue allows. It gives no money back; it holds what is left of the purchase until the store has answered
(`Settlement`), or until the request's time is over (`expire_requests`).

A request belongs to its store transaction, whose lock guards it: there is one that is open at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from ledger.domain.books import AccountKey, Amounts, KnownTransaction, TransactionKey, WalletKey, positive
from ledger.domain.commands import HoldState
from ledger.domain.decisions import Decision, Fact, key_of
from ledger.domain.lots import LotKey, LotsFound, LotsWanted
from ledger.domain.postings import Batch
from ledger.domain.refund_requests import (
    Advice,
    Ended,
    NotEligible,
    RefundRequest,
    RefundRequestView,
    ended,
    outcome,
    spent_milli,
    view_of,
    why_not,
    word_of,
)
from ledger.domain.spending import LEDGER_ITSELF, Hold, Standing
from ledger.handlers.commands import counter_on
from ledger.handlers.expiring import EXPIRED_AT_ONCE_MAX, Expired
from ledger.handlers.ports import Books, Commissions, Requests
from shared.apps import Apps
from shared.catalog import Catalog, RefundPolicy
from shared.events import Draft, Event, RefundDeclined, RefundReceived, Store
from shared.ids import AppId, EventId, PurchaseId, TransactionId, UserId


class StoreRefunds(Protocol):
    """How one store comes to hear that a refund is wanted. It is asked within a transaction, so it calls nobody.

    A store that refunds when it is told to (Google Play) is told by whoever hears of `refund_request.updated`, after
    the commit; the app has nothing to do then.
    """

    def advice(self, transaction_id: TransactionId) -> Advice:
        """What the app has to do about the store's transaction of that id."""
        ...


class FoundRequests(Requests, Protocol):
    """The requests, and what they are found by."""

    def transaction_of(self, *, app: AppId, purchase_id: PurchaseId) -> TransactionKey | None:
        """The store transaction that the purchase is."""
        ...

    def find(self, *, app: AppId, id: UUID) -> RefundRequest | None: ...

    def due(self, *, now: datetime, limit: int) -> Sequence[TransactionKey]:
        """What the open requests are about whose time is over, the oldest first."""
        ...


# ---- asking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody asks: `actor` is `client:<user id>` or `server:<key id>`.

    `only_user` is the user that a client token is bound to: what belongs to another is not there for it.
    """

    app: AppId
    purchase_id: PurchaseId
    actor: str
    trace_id: str
    only_user: UserId | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is answered (None: there is no such purchase), and the events that go with it."""

    answer: RefundRequestView | NotEligible | None
    drafts: Sequence[Draft] = ()


def ask(
    asked: Ask,
    *,
    books: Books,
    requests: FoundRequests,
    commissions: Commissions,
    catalog: Catalog,
    apps: Apps,
    stores: Mapping[Store, StoreRefunds],
    new_id: Callable[[], UUID],
    now: datetime,
) -> Asked:
    """Opens a request and holds what is left of the purchase, or answers the one that is open, or says why not."""
    key = requests.transaction_of(app=asked.app, purchase_id=asked.purchase_id)
    if key is None:
        return Asked(None)
    known = books.lock_transactions([key])[key]
    if known.user_id is None or asked.only_user not in {None, known.user_id}:
        return Asked(None)
    stated_as = known.transaction_id or key.transaction_id
    advice = stores[key.store].advice(stated_as)
    if (already := requests.open_of([key]).get(key)) is not None:
        return Asked(view_of(already, advice=advice))

    purchase = _Purchase.load(key, known, user_id=known.user_id, books=books, new_id=new_id, now=now)
    policy = _policy_of(known, catalog=catalog, app=key.app)
    spent = spent_milli(due=known.due, spent=purchase.spent())
    if (refusal := why_not(known=known, policy=policy, spent=spent, now=now)) is not None:
        return Asked(refusal)
    assert policy is not None  # without one it was refused
    request = RefundRequest(
        id=new_id(),
        transaction=key,
        stated_as=stated_as,
        purchase_id=asked.purchase_id,
        user_id=known.user_id,
        status="open",
        reason=asked.reason,
        spent_percentage_milli=spent,
        held=purchase.remaining(),
        created_at=now,
        updated_at=now,
        expires_at=now + timedelta(days=policy.open_days),
    )
    batch = purchase.batch
    batch.drafts.append(_draft(request, now=now, trace_id=asked.trace_id))
    counter = counter_on(batch, Standing(), found=LotsFound(), apps=apps, new_id=new_id)
    for hold in _holds_for(request, new_id=new_id):
        counter.place(hold, actor=asked.actor, trace_id=asked.trace_id, lots=known.lots[hold.currency])
    posting = batch.result()
    books.write(posting, {})
    requests.save([request])
    commissions.save(spends=(), holds=counter.holds.values(), reservations=counter.reservations)
    return Asked(view_of(request, advice=advice, is_new=True), posting.drafts)


def find(
    *, requests: FoundRequests, stores: Mapping[Store, StoreRefunds], app: AppId, id: UUID, only_user: UserId | None
) -> RefundRequestView | None:
    """A request as it stands; None: there is none, or not for this user."""
    request = requests.find(app=app, id=id)
    if request is None or only_user not in {None, request.user_id}:
        return None
    return view_of(request, advice=stores[request.transaction.store].advice(request.stated_as))


@dataclass(frozen=True, slots=True)
class _Purchase:
    """The accounts that a purchase was credited to, locked, and its own lots of them."""

    batch: Batch
    lots: Mapping[AccountKey, Sequence[int]]

    @classmethod
    def load(
        cls,
        key: TransactionKey,
        known: KnownTransaction,
        *,
        user_id: UserId,
        books: Books,
        new_id: Callable[[], UUID],
        now: datetime,
    ) -> _Purchase:
        wallet = WalletKey(key.app, key.environment, user_id)
        lots = {AccountKey.of_wallet(wallet, currency): versions for currency, versions in known.lots.items()}
        locked = books.lock_accounts(lots)
        own = {
            LotKey(locked.accounts[account].id, version) for account, versions in lots.items() for version in versions
        }
        found = books.load_lots(LotsWanted(lots=frozenset(own)))
        return cls(Batch(locked=locked, found=found, new_id=new_id, now=now), lots)

    def spent(self) -> Amounts:
        """What of it is gone, or set aside to go."""
        return {account.currency: self.batch.lots(account).spent(own) for account, own in self.lots.items()}

    def remaining(self) -> Amounts:
        """What of it is there to be held."""
        return positive(
            {account.currency: self.batch.lots(account).remaining(own) for account, own in self.lots.items()}
        )


def _policy_of(known: KnownTransaction, *, catalog: Catalog, app: AppId) -> RefundPolicy | None:
    product = None if known.product_id is None else catalog.find(app=app, product_id=known.product_id)
    return None if product is None else catalog.refund_policy(product)


def _holds_for(request: RefundRequest, *, new_id: Callable[[], UUID]) -> list[Hold]:
    """One in each currency of which something is left. They end with the request, not by themselves."""
    return [
        Hold(
            id=new_id(),
            wallet=request.wallet,
            currency=currency,
            amount=amount,
            expires_at=request.expires_at,
            created_at=request.created_at,
            refund_request=request.id,
        )
        for currency, amount in sorted(request.held.items())
    ]


# ---- ending ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenRequests:
    """The open requests that facts may end, with their holds: to be locked and loaded with all else of the batch."""

    requests: Mapping[TransactionKey, RefundRequest]
    holds: Sequence[Hold]

    @classmethod
    def of(cls, keys: Sequence[TransactionKey], *, requests: Requests) -> OpenRequests:
        """Those about transactions that are locked."""
        found = requests.open_of(keys) if keys else {}
        holds = requests.holds_of([request.id for request in found.values()]) if found else ()
        return cls(found, holds)

    @classmethod
    def ended_by(cls, events: Sequence[Event[Fact]], *, requests: Requests) -> OpenRequests:
        """Those that these facts may end; their transactions are locked. A batch of purchases asks for nothing."""
        answers = [event for event in events if isinstance(event.payload, RefundReceived | RefundDeclined)]
        return cls.of(sorted({key_of(event) for event in answers}), requests=requests)

    def accounts(self) -> set[AccountKey]:
        """The accounts that hold something for them."""
        return {hold.account for hold in self.holds}

    def hold_ids(self) -> frozenset[UUID]:
        return frozenset(hold.id for hold in self.holds)


class Settlement:
    """Ends requests in a batch of the books, whose accounts and lots it was given: what they held is free again.

    Of a fact, `settle` has to come before its posting: the refund is to take what was held for it.
    """

    def __init__(
        self, opened: OpenRequests, *, batch: Batch, found: LotsFound, apps: Apps, new_id: Callable[[], UUID]
    ) -> None:
        self._batch = batch
        self._open = dict(opened.requests)
        self._holds = opened.holds
        self._ended: list[RefundRequest] = []
        standing = Standing(holds={hold.id: hold for hold in opened.holds})
        self._counter = counter_on(batch, standing, found=found, apps=apps, new_id=new_id)

    def settle(self, event: Event[Fact], decision: Decision) -> None:
        """Ends the open request that the fact answers, if it does."""
        request = self._open.get(key_of(event))
        if request is not None and (status := outcome(request, event, decision)) is not None:
            self.end(request, status, trace_id=event.trace_id, causation_id=event.id)

    def end(self, request: RefundRequest, status: Ended, *, trace_id: str, causation_id: EventId | None = None) -> None:
        """Releases what it holds, and says so."""
        state: HoldState = "expired" if status == "expired" else "released"
        for hold in self._holds:
            if hold.refund_request == request.id:
                self._counter.release(hold, state, actor=LEDGER_ITSELF, trace_id=trace_id)
        after = ended(request, status, now=self._batch.now)
        self._batch.drafts.append(_draft(after, now=self._batch.now, trace_id=trace_id, causation_id=causation_id))
        self._ended.append(after)
        del self._open[request.transaction]

    def save(self, *, requests: Requests, commissions: Commissions) -> None:
        """Writes down what has ended, after the batch itself was written."""
        if self._ended:
            requests.save(self._ended)
            commissions.save(spends=(), holds=self._counter.holds.values(), reservations=())


def expire_requests(
    *,
    books: Books,
    requests: FoundRequests,
    commissions: Commissions,
    apps: Apps,
    new_id: Callable[[], UUID],
    new_trace: Callable[[], str],
    now: datetime,
    due: Sequence[TransactionKey] | None = None,
    limit: int = EXPIRED_AT_ONCE_MAX,
) -> Expired:
    """Ends those of the requests about `due` whose time is over; None: of all, the oldest first, `limit` at most."""
    due = requests.due(now=now, limit=limit) if due is None else due
    if not due:
        return Expired(0, ())
    books.lock_transactions(due)
    opened = OpenRequests.of(due, requests=requests)  # again: their transactions are locked now
    locked = books.lock_accounts(opened.accounts())
    found = books.load_lots(
        LotsWanted(
            holds=opened.hold_ids(),
            indebted=locked.indebted(),
        )
    )
    batch = Batch(locked=locked, found=found, new_id=new_id, now=now)
    settlement = Settlement(opened, batch=batch, found=found, apps=apps, new_id=new_id)
    over = [request for request in opened.requests.values() if request.expires_at <= now]
    for request in over:
        settlement.end(request, "expired", trace_id=new_trace())
    posting = batch.result()
    books.write(posting, {})
    settlement.save(requests=requests, commissions=commissions)
    return Expired(len(over), posting.drafts)


# ---- what they share ---------------------------------------------------------------------------------------------


def _draft(request: RefundRequest, *, now: datetime, trace_id: str, causation_id: EventId | None = None) -> Draft:
    """A request is part of its purchase's timeline."""
    return Draft(
        payload=word_of(request),
        app=request.transaction.app,
        subject=request.purchase_id,
        user_id=request.user_id,
        occurred_at=now,
        trace_id=trace_id,
        causation_id=causation_id,
    )
