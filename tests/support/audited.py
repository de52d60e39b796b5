"""Books that were posted by the ledger itself, with their events in the journal: what an audit looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

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
from ledger.handlers.facts import apply_facts
from ledger.store.answers import PostgresAnswers
from ledger.store.audit import PostgresAudits, PostgresEvidence, Run
from ledger.store.books import PostgresBooks
from ledger.store.commissions import PostgresCommissions
from shared.bus import journal
from shared.catalog import Catalog
from shared.clock import SystemClock
from shared.database import transact
from shared.events import Draft, Event, RefundReversed
from shared.ids import AppId, UserId, parse_public_id, system_ids
from tests.support.ledger import APPS, CATALOG, EMPTY_CATALOG, FLOOR_GAME, GAME, GEMS, NOW
from tests.support.ledger import refunded as refunded_event
from tests.support.ledger import transaction as transaction_of
from tests.support.ledger import verified as verified_event
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

    def tell(self, event: Event[Any], *, catalog: Catalog = CATALOG) -> None:
        """Records the event, and handles it as the bus does: its delivery is claimed, and what follows recorded."""
        ids = system_ids()
        known = replace(event, id=ids.event_id())

        def work(connection: Connection) -> None:
            draft = Draft(
                known.payload, known.app, known.subject, known.user_id, known.occurred_at, known.trace_id, id=known.id
            )
            journal.append(connection, [draft], ids=ids)
            handled = apply_facts(
                [known],
                tables=tables_on(connection, shard=self.shard),
                catalog=catalog,
                apps=APPS,
                new_id=ids.event_id,
                now=NOW,
            )
            if not handled.parked:
                connection.exec_driver_sql("delete from journal.delivery where event_id = %(id)s", {"id": known.id})
            journal.append(connection, handled.drafts, ids=ids)

        transact(self.engine, work)

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
