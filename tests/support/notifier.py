"""The notifier on a real PostgreSQL: the real consumer queues, real senders tell real receivers, tests move the clock.

`notifying(database)` gives a `Notifier`. Events are recorded as the ledger records them; `tell` has them queued; while
`sending()` is open a real sender tells whoever is due. What is due goes by a clock that runs as the machine's does and
can be moved on; receivers live in the machine's own time, and so does who calls them.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Engine

from notifier import tasks
from notifier.app import ROLE, Record, settling, webhook_poster
from notifier.domain.endpoints import configured_endpoints
from notifier.sending import Sender
from notifier.settings import PostingSettings
from notifier.store.deliveries import Deliveries
from shared.apps import Apps, parse_apps
from shared.bus import journal
from shared.bus.consumer import ConsumerRuntime
from shared.bus.feed import Feed
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import CONSUMERS, NOTIFIER
from shared.bus.wake import Sleeper, Waker
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.events import Draft, Event, Payload, PurchaseRejected, WalletChange, WalletCredited
from shared.ids import AppId, EventId, Ids, PurchaseId, TransactionId, UserId, system_ids
from shared.money import CurrencyId
from tests.support.stack import wait_until

SECRET: Final = "whsec_" + "QUJD" * 8
TRACE: Final = "0" * 32
CALL_WITHIN_S: Final = 1.0
"""What an endpoint has to answer in, unless a test says otherwise."""

SOON: Final = timedelta(seconds=90)
"""More than the lease of what is being tried."""

REJECTED: Final = PurchaseRejected(
    purchase_id=PurchaseId("pur_2"),
    store="apple",
    transaction_id=TransactionId("7"),
    code="wrong_product",
    detail="not sold here",
)


def credited(version: int = 1) -> WalletCredited:
    """The entry with which a wallet came to this version: 100 more."""
    change = WalletChange(
        entry_id=f"ent_{version}",
        environment="production",
        currency=CurrencyId("gems"),
        amount=100,
        balance_after=100 * version,
        version=version,
        kind="purchase",
        purchase_id=PurchaseId("pur_1"),
    )
    return WalletCredited(change)


CREDITED: Final = credited()


def endpoint(url: str, *, id: str = "backend", secret: str = SECRET, **more: object) -> str:
    """A table of the apps file; `more` are its other fields."""
    fields = {"id": id, "url": url, "secret": secret, **more}
    lines = (f"{name} = {json.dumps(value)}" for name, value in fields.items())  # such values are TOML's too
    return "\n".join(["[[apps.webhooks]]", *lines, ""])


def apps_text(*endpoints: str, app: str = "game") -> str:
    """The text of an apps file: one app with these endpoints."""
    head = f'[[apps]]\nid = "{app}"\nname = "A game"\n[apps.apple]\nbundle_id = "com.example.{app}"\n'
    return "\n".join([head, *endpoints])


def apps_with(*endpoints: str) -> Apps:
    """The app `game` with these endpoints."""
    return parse_apps(apps_text(*endpoints))


class MovedClock:
    """The machine's clock, and what it was moved on by."""

    def __init__(self) -> None:
        self._machine = SystemClock()
        self._moved_s = 0.0

    def now(self) -> datetime:
        return self._machine.now() + timedelta(seconds=self._moved_s)

    def monotonic(self) -> float:
        return self._machine.monotonic() + self._moved_s

    def advance(self, seconds: float) -> None:
        """So much later. Whoever sleeps for a while of real time does so still."""
        self._moved_s += seconds


@dataclass
class Notifier:
    """The notifier of one database. `apps` may be replaced: whoever starts after that has read another file.

    `owner` sees everything, `ledger` records as the ledger does, and `engine` is the notifier's own.
    """

    apps: Apps
    database_url: str
    owner: Engine
    ledger: Engine
    engine: Engine
    waker: Waker
    clock: MovedClock = field(default_factory=MovedClock)
    ids: Ids = field(default_factory=system_ids)

    # ---- what happens -------------------------------------------------------------------------------------------

    def record(
        self, *payloads: Payload, app: str = "game", user_id: str = "alice", subject: str = "pur_1"
    ) -> list[EventId]:
        """Puts outward events into the journal, as the ledger does; nobody is told yet."""
        now = self.clock.now()
        drafts = [
            Draft(payload, AppId(app), subject, UserId(user_id), occurred_at=now, trace_id=TRACE)
            for payload in payloads
        ]
        return transact(self.ledger, lambda connection: journal.append(connection, drafts, ids=self.ids))

    def consumer(self) -> ConsumerRuntime:
        """Who decides who is to hear, of the apps as they are now."""
        handlers = tasks.queueing(deliveries_on=Deliveries, feed_on=Feed, apps=self.apps, clock=self.clock)
        return ConsumerRuntime(
            consumer=CONSUMERS[NOTIFIER], handlers=handlers, engine=self.engine, waker=self.waker, ids=self.ids
        )

    def tell(self, *payloads: Payload, app: str = "game", user_id: str = "alice") -> list[EventId]:
        """Records events and has them queued for the endpoints that want them: a message for each type in a row.

        Nobody is there to bring again what failed, so nothing may.
        """
        event_ids = self.record(*payloads, app=app, user_id=user_id)
        pairs = zip(payloads, event_ids, strict=True)
        for event_type, told in groupby(pairs, key=lambda pair: pair[0].TYPE):
            self.consumer().handle(event_type, [event_id for _, event_id in told])
        left = self.rows(
            "select event_id, error from journal.delivery where event_id = any(%(ids)s::uuid[])", ids=ids_of(event_ids)
        )
        assert left == []
        return event_ids

    def sender(self, sleeper: Sleeper, *, call_within_s: float = CALL_WITHIN_S) -> Sender:
        """A sender of the apps as they are now, that does not run yet."""
        return Sender(
            endpoints=configured_endpoints(self.apps),
            record=Record(self.engine),
            settle=settling(self.engine, clock=self.clock, ids=self.ids),
            poster=webhook_poster(PostingSettings(webhook_timeout_s=call_within_s), clock=SystemClock()),
            call_within_s=call_within_s,
            sleeper=sleeper,
            heartbeat=Heartbeat(None),
            clock=self.clock,
            ids=self.ids,
        )

    @contextlib.contextmanager
    def sending(self, *, call_within_s: float = CALL_WITHIN_S) -> Iterator[Sender]:
        """A real sender runs until the end of the block, and then finishes what it has begun. Several may."""
        sleeper, stopping = Sleeper(self.engine), threading.Event()
        sender = self.sender(sleeper, call_within_s=call_within_s)
        thread = threading.Thread(target=sender.run, args=(stopping.is_set,), name="sender", daemon=True)
        thread.start()
        try:
            yield sender
        finally:
            stopping.set()
            sleeper.interrupt()
            thread.join(10)
            sender.close(within_s=call_within_s + 5)
            sleeper.close()
            assert not thread.is_alive()

    def wait(self, condition: Callable[[], bool], *, what: str, within_s: float = 15.0) -> None:
        """Waits for it, in the machine's own time; a test that fails says how the deliveries stand."""
        try:
            wait_until(condition, within_s=within_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; {dict(self.states())}") from error

    def settled(self, state: str, count: int, *, endpoint_id: str = "backend", within_s: float = 15.0) -> None:
        """Waits until so many deliveries to the endpoint are in this state."""
        wanted = (endpoint_id, state)
        self.wait(lambda: self.states()[wanted] == count, what=f"{count} of {wanted}", within_s=within_s)

    def attempted(self, event_id: EventId, times: int, *, endpoint_id: str = "backend") -> dict[str, Any]:
        """Waits until the endpoint was told of the event so often; its delivery then."""
        self.wait(
            lambda: self.delivery(event_id, endpoint_id)["attempts"] == times, what=f"attempt {times} at {endpoint_id}"
        )
        return self.delivery(event_id, endpoint_id)

    def pass_time(self, seconds: float) -> None:
        """So much later; gives senders a moment to try what is due then, as far as their lanes let them."""
        self.clock.advance(seconds)
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._due(), within_s=3, what="all that is due being tried")

    def _due(self) -> int:
        """How many deliveries are due, or are being tried."""
        soon = self.clock.now() + SOON
        (row,) = self.rows(
            "select count(*) as size from notifier.delivery where state = 'waiting' and due_at < %(soon)s", soon=soon
        )
        return int(row["size"])

    # ---- what is on record --------------------------------------------------------------------------------------

    def states(self) -> Counter[tuple[str, str]]:
        """How many deliveries there are, by endpoint and state."""
        counted = self.rows("select endpoint_id, state, count(*) as size from notifier.delivery group by 1, 2")
        return Counter({(row["endpoint_id"], row["state"]): row["size"] for row in counted})

    def delivery(self, event_id: EventId, endpoint_id: str = "backend") -> dict[str, Any]:
        """One delivery."""
        (row,) = self.rows(
            "select * from notifier.delivery where endpoint_id = %(endpoint)s and event_id = %(event)s::uuid",
            endpoint=endpoint_id,
            event=str(event_id),
        )
        return row

    def attempts(self, event_id: EventId, endpoint_id: str = "backend") -> list[dict[str, Any]]:
        """Its attempts, in their order."""
        return self.rows(
            "select * from notifier.attempt where endpoint_id = %(endpoint)s and event_id = %(event)s::uuid"
            " order by number",
            endpoint=endpoint_id,
            event=str(event_id),
        )

    def known(self, endpoint_id: str = "backend") -> dict[str, Any] | None:
        """What is known of an endpoint beyond the apps file."""
        rows = self.rows("select * from notifier.endpoint where endpoint_id = %(endpoint)s", endpoint=endpoint_id)
        return rows[0] if rows else None

    def events(self, payload_class: type[Payload]) -> list[Event[Any]]:
        """All events of a type, oldest first."""
        ids = self.rows("select id from journal.event where type = %(type)s order by id", type=payload_class.TYPE)
        return transact(self.owner, lambda connection: [*journal.load(connection, [row["id"] for row in ids])])

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """What the database's owner reads, or changes behind the notifier's back."""

        def run(connection: Any) -> list[dict[str, Any]]:
            result = connection.exec_driver_sql(sql, parameters or None)
            return [dict(row._mapping) for row in result] if result.returns_rows else []

        return transact(self.owner, run)


@contextlib.contextmanager
def notifying(database_url: str, apps: Apps) -> Iterator[Notifier]:
    """The notifier of a migrated database."""
    engines = {
        name: connect_engine(database_url, role=role, pool_size=size, application_name=f"test-{name}")
        for name, role, size in (("owner", None, 4), ("ledger", "purser_ledger", 2), ("notifier", ROLE, 12))
    }
    waker = Waker(engines["notifier"])
    try:
        yield Notifier(apps, database_url, engines["owner"], engines["ledger"], engines["notifier"], waker)
    finally:
        waker.close()
        for engine in engines.values():
            engine.dispose()


def ids_of(event_ids: Sequence[EventId]) -> list[str]:
    """The event ids as receivers see them."""
    return [str(event_id) for event_id in event_ids]
