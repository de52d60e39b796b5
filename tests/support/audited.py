"""Books that were posted by the ledger itself, with their events in the journal: what an audit looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from ledger.app import end_entitlements_on, lapse_subscriptions_on
from ledger.domain.audit import Report
from ledger.domain.books import WalletKey
from ledger.domain.commands import (
    Answer,
    CaptureHold,
    Command,
    Grant,
    GrantDone,
    HoldDone,
    Outcome,
    PlaceHold,
    Request,
    ReverseSpend,
    Spend,
    SpendDone,
)
from ledger.handlers.auditing import audit
from ledger.handlers.commands import execute
from ledger.store.answers import PostgresAnswers
from ledger.store.audit import PostgresAudits, PostgresEvidence, Run
from ledger.store.books import PostgresBooks
from ledger.store.commissions import PostgresCommissions
from ledger.store.entitlements import PostgresEntitlements
from ledger.store.subscriptions import PostgresSubscriptions
from ledger.tasks import postings
from shared.bus import journal
from shared.catalog import Catalog
from shared.clock import ManualClock, SystemClock
from shared.database import array_literal, transact
from shared.events import Draft, Event, RefundReversed, StoreTransaction
from shared.ids import AppId, TransactionId, UserId, parse_public_id, system_ids
from tests.support.ledger import ALICE, APPS, BOB, CATALOG, EMPTY_CATALOG, FLOOR_GAME, GAME, GEMS, NOW, refund_reversed
from tests.support.ledger import refunded as refunded_event
from tests.support.ledger import transaction as transaction_of
from tests.support.ledger import verified as verified_event
from tests.support.ledger_subscriptions import DAY, FREE_TRIAL, MONTH, SHOP, changed, period, renewal, taken_back
from tests.support.ledger_tables import tables_on

SAID = NOW - timedelta(days=180)
"""From when on stores speak of refunds. An audit goes by the real clock, and minds what is signed in its future."""
TRACE = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class AuditedBooks:
    """The ledger on one database; each fact and each request is a transaction of its own."""

    engine: Engine
    shard: int = 0

    # ---- what stores say -----------------------------------------------------------------------------------------

    def buy(self, name: str, user: str, *, app: AppId = GAME, catalog: Catalog = CATALOG, **of: Any) -> None:
        """A purchase is verified."""
        self.tell(verified_event(transaction_of(name, **of), user=UserId(user), app=app), catalog=catalog)

    def refund(self, name: str, *, milli: int = 100_000, second: int = 1, app: AppId = GAME, **of: Any) -> None:
        """The store says, in that second after SAID, that so much is refunded."""
        bought = replace(transaction_of(name, **of), signed_at=SAID + timedelta(seconds=second))
        self.tell(refunded_event(bought, milli=milli, app=app))

    def reverse_refund(self, name: str, *, second: int = 2, app: AppId = GAME, **of: Any) -> None:
        """The store says, in that second after SAID, that nothing is refunded."""
        bought = replace(transaction_of(name, **of), signed_at=SAID + timedelta(seconds=second))
        event: Event[Any] = refunded_event(bought, app=app)
        self.tell(replace(event, payload=RefundReversed(bought)))

    def tell(self, event: Event[Any], *, catalog: Catalog = CATALOG, ago: timedelta = timedelta(0)) -> None:
        """Records the event, and handles it as the bus does, so long `ago` by the ledger's clock."""
        self.tell_together([event], catalog=catalog, ago=ago)

    def tell_together(
        self, events: Sequence[Event[Any]], *, catalog: Catalog = CATALOG, ago: timedelta = timedelta(0)
    ) -> None:
        """As `tell`, with events of one type in one batch: their deliveries are claimed, and what follows recorded."""
        ids, clock = system_ids(), ManualClock(SystemClock().now() - ago)
        known = [replace(event, id=ids.event_id()) for event in events]
        handling = postings(
            tables_on=lambda connection: tables_on(connection, shard=self.shard),
            catalog=catalog,
            apps=APPS,
            ids=ids,
            clock=clock,
        )[events[0].payload.TYPE]

        def record(connection: Connection) -> None:
            journal.append(connection, [_recorded(event) for event in known], ids=ids)

        def handle(connection: Connection) -> None:
            handled = handling.apply(connection, known)
            claimed = [event.id for event in known if event.id not in handled.parked]
            connection.exec_driver_sql(
                "delete from journal.delivery where event_id = any(%(ids)s::uuid[])", {"ids": array_literal(claimed)}
            )
            journal.append(connection, handled.drafts, ids=ids)

        transact(self.engine, record)
        transact(self.engine, handle)

    # ---- what time does ------------------------------------------------------------------------------------------

    def lapse(self, *, after: timedelta = timedelta(0)) -> None:
        """The scheduler ends what is over so long after now."""
        ids, clock = system_ids(), ManualClock(SystemClock().now() + after)

        def lapse(connection: Connection) -> None:
            due = PostgresSubscriptions(connection).due(now=clock.now(), limit=100)
            lapse_subscriptions_on(connection, ids=ids, clock=clock, due=due)

        def end(connection: Connection) -> None:
            due = PostgresEntitlements(connection).due(now=clock.now(), limit=100)
            end_entitlements_on(connection, ids=ids, clock=clock, due=due)

        transact(self.engine, lapse)
        transact(self.engine, end)

    # ---- what is asked for ---------------------------------------------------------------------------------------

    def grant(self, user: str, amount: int, *, app: AppId = GAME) -> UUID:
        done = self._ask(Grant(_wallet(user, app), GEMS, amount, "because"))
        assert isinstance(done, GrantDone)
        return _uuid(done.id)

    def spend(self, user: str, amount: int, *, app: AppId = GAME) -> UUID:
        done = self._ask(Spend(_wallet(user, app), GEMS, amount))
        assert isinstance(done, SpendDone)
        return _uuid(done.id)

    def reverse(self, spend: UUID, amount: int | None = None, *, app: AppId = GAME) -> None:
        assert isinstance(self._ask(ReverseSpend(app, spend, amount)), SpendDone)

    def hold(self, user: str, amount: int, *, app: AppId = GAME) -> UUID:
        done = self._ask(PlaceHold(_wallet(user, app), GEMS, amount, 3600))
        assert isinstance(done, HoldDone)
        return _uuid(done.id)

    def capture(self, hold: UUID, amount: int | None = None, *, app: AppId = GAME) -> None:
        assert isinstance(self._ask(CaptureHold(app, hold, amount)), HoldDone)

    def _ask(self, request: Request) -> Outcome:
        ids = system_ids()
        outcomes: list[Outcome] = []

        def render(_: Command, outcome: Outcome) -> Answer:
            outcomes.append(outcome)
            return Answer(200, "{}")

        def work(connection: Connection) -> None:
            outcomes.clear()
            executed = execute(
                [Command(request, "server:backend", TRACE)],
                books=PostgresBooks(connection, shard=self.shard),
                commissions=PostgresCommissions(connection),
                answers=PostgresAnswers(connection),
                apps=APPS,
                render=render,
                new_id=ids.event_id,
                now=NOW,
            )
            journal.append(connection, executed.drafts, ids=ids)

        transact(self.engine, work)
        return outcomes[0]


def _recorded(event: Event[Any]) -> Draft:
    return Draft(event.payload, event.app, event.subject, event.user_id, event.occurred_at, event.trace_id, id=event.id)


def post_of_everything(books: AuditedBooks) -> None:
    """One of everything that the books can come to."""
    books.buy("pack", "alice", product="bundle", quantity=2)
    spend = books.spend("alice", 40)
    books.reverse(spend, 15)
    books.grant("alice", 9)
    books.capture(books.hold("alice", 50), 20)
    books.hold("alice", 7)
    books.refund("pack", milli=33_333, product="bundle", quantity=2)
    books.reverse_refund("pack", product="bundle", quantity=2)
    books.refund("pack", milli=1_000, second=3, product="bundle", quantity=2)
    books.buy("pack", "mallory", product="bundle", quantity=2)  # contested: it is alice's

    books.refund("early", milli=60_000)  # before its purchase
    books.buy("early", "alice")
    books.reverse_refund("early")

    books.buy("gone", "bob")
    books.spend("bob", 80)
    books.refund("gone")  # bob owes 80
    books.buy("more", "bob")  # and pays them

    books.buy("lessened", "erin")
    books.refund("lessened", milli=60_000)
    books.refund("lessened", milli=20_000, second=2)

    books.buy("owing", "dave")
    books.spend("dave", 30)
    books.refund("owing")

    books.buy("written-off", "carol", app=FLOOR_GAME)
    hold = books.hold("carol", 30, app=FLOOR_GAME)
    books.spend("carol", 60, app=FLOOR_GAME)
    books.refund("written-off", app=FLOOR_GAME)  # 10 there, 30 owed as long as they are held, 60 written off
    books.capture(hold, app=FLOOR_GAME)
    books.reverse_refund("written-off", app=FLOOR_GAME)

    books.buy("play", "alice", environment="sandbox")
    books.buy("nothing", "alice", product="adfree")
    books.buy("parked", "alice", catalog=EMPTY_CATALOG)
    books.refund("unclaimed", milli=50_000)
    subscribe_in_every_way(books)
    hold_what_is_no_subscription(books)


def today() -> timedelta:
    """How long after NOW it is by the clock that audits go by."""
    return SystemClock().now() - NOW


def subscribe_in_every_way(books: AuditedBooks) -> None:
    """A subscription for each way that one can stand, by the number of its original transaction."""
    now = today()

    def tell(*events: Event[Any], ago: timedelta = timedelta(0), catalog: Catalog = SHOP) -> None:
        for event in events:
            books.tell(event, catalog=catalog, ago=ago)

    first, second = period(starts=now - 40 * DAY), period(2, starts=now - 10 * DAY)
    tell(verified_event(second), verified_event(first))  # active; the renewal is heard first
    tell(changed(second, renewal=renewal(signed=now - 10 * DAY)))
    tell(verified_event(replace(second, transaction_id=TransactionId("copy"), signed_at=second.signed_at + DAY)))
    tell(refunded_event(first))  # an old period's
    tell(verified_event(first, user=BOB))  # contested: it is alice's

    tell(verified_event(period(original="20", starts=now - DAY, offer=FREE_TRIAL)))
    tell(verified_event(period(original="21", starts=now - DAY, family_shared=True), user=BOB))
    upgraded = period(2, original="22", starts=now - DAY, product="gold")
    tell(verified_event(period(original="22", starts=now - 2 * DAY), user=BOB), verified_event(upgraded, user=BOB))

    failed = period(original="30", starts=now - MONTH - DAY)
    grace = renewal(signed=now - DAY, in_billing_retry=True, grace_until=now + 15 * DAY)
    tell(verified_event(failed), changed(failed, renewal=grace))
    tried = period(original="31", starts=now - MONTH - DAY)
    tell(verified_event(tried), changed(tried, renewal=renewal(signed=now - DAY, in_billing_retry=True)))
    given_up = period(original="32", starts=now - MONTH - 61 * DAY)
    tell(verified_event(given_up), changed(given_up, renewal=renewal(signed=now - 61 * DAY, in_billing_retry=True)))
    left = period(original="33", starts=now - MONTH - DAY)
    ended = renewal(signed=now - DAY, auto_renew=False, expiration_reason="customer_cancelled")
    tell(verified_event(left), changed(left, renewal=ended))
    tell(verified_event(period(original="34", starts=now - MONTH - DAY), user=BOB), ago=2 * DAY)  # no word of its end

    gone = period(original="40", starts=now - 2 * DAY, signed=now - DAY)
    tell(verified_event(gone), refunded_event(gone))
    back = period(original="41", starts=now - 3 * DAY, signed=now - 2 * DAY)
    tell(verified_event(back), refunded_event(back), refund_reversed(replace(back, signed_at=gone.signed_at)))
    shared = period(original="42", starts=now - 2 * DAY, family_shared=True)
    tell(verified_event(shared), changed(shared, revoked=taken_back(signed=now - DAY, family=True)))

    tell(changed(period(original="50", starts=now - DAY), user=None))  # nobody has claimed it
    tell(verified_event(period(original="51", starts=now - DAY)), catalog=EMPTY_CATALOG)  # parked
    books.lapse()


def hold_what_is_no_subscription(books: AuditedBooks) -> None:
    """Passes that are used up one after the other, one of them refunded in part; what is for ever, and was returned."""
    now = today()
    for name, bought in {"60": now - 70 * DAY, "61": now - 20 * DAY, "62": now - 10 * DAY}.items():
        books.tell(verified_event(season_pass(name, bought), user=ALICE), catalog=SHOP)
    books.tell(refunded_event(season_pass("61", now - 20 * DAY, signed=now - DAY), milli=33_333), catalog=SHOP)
    books.tell(verified_event(season_pass("63", now - 31 * DAY), user=BOB), catalog=SHOP, ago=2 * DAY)
    books.buy("64", "carol", product="adfree")
    books.refund("64", product="adfree")
    books.lapse()


def season_pass(name: str, bought: timedelta, *, signed: timedelta | None = None) -> StoreTransaction:
    """A pass for 30 days that was bought so long after NOW."""
    return replace(
        transaction_of(name, product="season", product_type="non_renewing"),
        purchased_at=NOW + bought,
        signed_at=NOW + (bought if signed is None else signed),
    )


def audited(run: Run, *, rows: int | None = None, since: datetime | None = None) -> Report:
    """An audit of what `run` sees, in pages of so many rows."""
    report = audit(
        evidence=PostgresEvidence(run, rows=rows), audits=PostgresAudits(run), clock=SystemClock(), since=since
    )
    assert report is not None
    return report


def _wallet(user: str, app: AppId) -> WalletKey:
    return WalletKey(app, "production", UserId(user))


def _uuid(public_id: str) -> UUID:
    (found,) = [
        value for prefix in ("spd", "hld", "grt") if (value := parse_public_id(public_id, prefix=prefix)) is not None
    ]
    return found
