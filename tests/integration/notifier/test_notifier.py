"""From an outward event in the journal to a real receiver and back, on a real PostgreSQL; the test hands over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ProgrammingError

from notifier import tasks
from notifier.app import ROLE
from notifier.domain import RETRY_DELAYS_S
from notifier.store import Deliveries, Records
from notifier.webhook import WebhookPoster
from shared.apps import Apps, parse_apps
from shared.bus import journal, parking
from shared.bus.consumer import ConsumerRuntime, InBatches, OneByOne
from shared.bus.routes import CONSUMERS, NOTIFIER, WEBHOOKS, ConsumerName
from shared.bus.wake import Waker
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.events import (
    Draft,
    Event,
    Payload,
    PurchaseRejected,
    WalletChange,
    WalletCredited,
    WebhookDelivered,
    WebhookExhausted,
    WebhookQueued,
)
from shared.ids import AppId, EventId, PurchaseId, TransactionId, UserId, system_ids
from shared.money import CurrencyId
from tests.support.receiver import Behaviour, Receiver, Reply, receiving

T = TypeVar("T")

SECRET = "whsec_" + "QUJD" * 8
CREDITED = WalletCredited(
    WalletChange(
        entry_id="ent_1",
        environment="production",
        currency=CurrencyId("gems"),
        amount=100,
        balance_after=100,
        version=1,
        kind="purchase",
        purchase_id=PurchaseId("pur_1"),
    )
)
REJECTED = PurchaseRejected(
    purchase_id=PurchaseId("pur_2"),
    store="apple",
    transaction_id=TransactionId("7"),
    code="wrong_product",
    detail="not sold here",
)
ENDPOINT = """
[[apps.webhooks]]
id = "{id}"
url = "{url}"
secret = "{secret}"
events = {events}
"""
APP = """
[[apps]]
id = "game"
name = "Game"
[apps.apple]
bundle_id = "com.example.game"
"""


def apps_with(*endpoints: tuple[str, str, list[str]]) -> Apps:
    """The app `game` with endpoints of these ids, URLs and filters."""
    tables = [
        ENDPOINT.format(id=name, url=url, secret=SECRET, events=str(events).replace("'", '"'))
        for name, url, events in endpoints
    ]
    return parse_apps(APP + "".join(tables))


@dataclass
class Notifier:
    """Both consumers over one database; `record` and `tell` do what courier and workers do."""

    engine: Engine
    queueing: ConsumerRuntime
    telling: ConsumerRuntime
    admin: Engine

    def record(self, *payloads: Payload, app: str = "game") -> list[EventId]:
        """Puts outward events into the journal, as the ledger does."""
        now = SystemClock().now()
        drafts = [
            Draft(payload, AppId(app), "pur_1", UserId("alice"), occurred_at=now, trace_id="0" * 32)
            for payload in payloads
        ]
        return transact(self.admin, lambda connection: journal.append(connection, drafts, ids=system_ids()))

    def queue(self, *payloads: Payload, app: str = "game") -> list[Event[WebhookQueued]]:
        """Records events of one type and has them handled; the deliveries that came of it."""
        event_ids = self.record(*payloads, app=app)
        self.queueing.handle(payloads[0].TYPE, event_ids)
        return [event for event in self.events(WebhookQueued) if event.causation_id in event_ids]

    def tell(self, queued: Event[WebhookQueued]) -> None:
        """One hand-over of a delivery."""
        for opened in self.telling.open([queued.id]):
            assert self.telling.handle_one(WebhookQueued.TYPE, opened) is None

    def events(self, payload_class: type[Payload]) -> list[Event[Any]]:
        """All events of a type, oldest first."""
        ids = self.rows("select id from journal.event where type = %(type)s", type=payload_class.TYPE)
        return transact(self.admin, lambda connection: [*journal.load(connection, [row["id"] for row in ids])])

    def pending(self, queued: Event[Any]) -> journal.Pending | None:
        """What the bus still has to do about it; None when it is done with."""
        return self.pending_for(WEBHOOKS, queued.id)

    def pending_for(self, consumer: str, event_id: EventId) -> journal.Pending | None:
        found = transact(self.admin, lambda connection: journal.pending(connection, [event_id]))
        return next((pending for pending in found if pending.consumer == consumer), None)

    def row(self, queued: Event[WebhookQueued]) -> dict[str, Any]:
        """The notifier's record of the delivery."""
        return self.rows(
            "select * from notifier.delivery where endpoint_id = %(endpoint)s and event_id = %(event)s::uuid",
            endpoint=queued.payload.endpoint_id,
            event=str(queued.payload.event_id),
        )[0]

    def attempts(self, queued: Event[WebhookQueued]) -> list[dict[str, Any]]:
        """Its attempts, in order."""
        return self.rows(
            "select * from notifier.attempt where endpoint_id = %(endpoint)s and event_id = %(event)s::uuid"
            " order by number",
            endpoint=queued.payload.endpoint_id,
            event=str(queued.payload.event_id),
        )

    def retry(self, queued: Event[WebhookQueued]) -> None:
        """What `purser parked retry` does."""
        assert transact(self.admin, lambda c: parking.retry(c, event_ids=[queued.id], consumer=WEBHOOKS)) == 1

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        return self.read(sql, lambda rows: [dict(row._mapping) for row in rows], **parameters)

    def read(self, sql: str, shape: Callable[[Sequence[Any]], T], **parameters: Any) -> T:
        def run(connection: Connection) -> T:
            return shape(connection.exec_driver_sql(sql, parameters).all())

        return transact(self.admin, run)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def other_receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def start(database: str) -> Iterator[Callable[[Apps], Notifier]]:
    """Makes both consumers for these apps, as the wiring does; calling it again is a restart with another file."""
    clock, ids = SystemClock(), system_ids()
    admin = connect_engine(database, role=None, pool_size=2, application_name="test")
    engine = connect_engine(database, role=ROLE, pool_size=4, application_name="test-notifier")
    waker = Waker(engine)
    poster = WebhookPoster(clock=clock, connect_timeout_s=1, timeout_s=1)

    def runtime(name: ConsumerName, handlers: Mapping[str, InBatches | OneByOne[Any]]) -> ConsumerRuntime:
        return ConsumerRuntime(consumer=CONSUMERS[name], handlers=handlers, engine=engine, waker=waker, ids=ids)

    def made(apps: Apps) -> Notifier:
        queueing = tasks.queueing(deliveries_on=Deliveries, apps=apps, clock=clock)
        telling = tasks.telling(
            deliveries_on=Deliveries, records=Records(engine), poster=poster, apps=apps, clock=clock, ids=ids
        )
        return Notifier(engine, runtime(NOTIFIER, queueing), runtime(WEBHOOKS, telling), admin)

    yield made
    waker.close()
    poster.close()
    engine.dispose()
    admin.dispose()


@pytest.fixture
def notifier(start: Callable[[Apps], Notifier], receiver: Receiver) -> Notifier:
    """With one endpoint, `backend`, that wants everything."""
    return start(apps_with(("backend", receiver.url, ["*"])))


def seconds_from_now(moment: datetime | None) -> float:
    assert moment is not None
    return (moment - SystemClock().now()).total_seconds()


class TestQueueing:
    def test_an_outward_event_is_queued_once_for_each_endpoint_that_wants_it(
        self, start: Callable[[Apps], Notifier], receiver: Receiver, other_receiver: Receiver
    ) -> None:
        notifier = start(
            apps_with(
                ("backend", receiver.url, ["*"]),
                ("analytics", other_receiver.url, ["purchase.rejected", "purchase.completed"]),
            )
        )
        credited, rejected = notifier.queue(CREDITED), notifier.queue(REJECTED)
        assert [queued.payload.endpoint_id for queued in credited] == ["backend"]
        assert sorted(queued.payload.endpoint_id for queued in rejected) == ["analytics", "backend"]
        for queued in (*credited, *rejected):
            notifier.tell(queued)
        assert [each.body["type"] for each in receiver.received] == ["wallet.credited", "purchase.rejected"]
        assert [each.body["type"] for each in other_receiver.received] == ["purchase.rejected"]

    def test_a_delivery_belongs_to_the_timeline_and_the_trace_of_its_event(self, notifier: Notifier) -> None:
        (queued,) = notifier.queue(CREDITED)
        assert (queued.subject, queued.user_id, queued.trace_id) == ("pur_1", "alice", "0" * 32)
        assert queued.payload.event_id == queued.causation_id
        row = notifier.row(queued)
        assert (row["state"], row["attempts"], row["type"]) == ("waiting", 0, "wallet.credited")

    def test_an_app_with_no_endpoint_that_wants_it_has_nothing_queued(
        self, start: Callable[[Apps], Notifier], receiver: Receiver
    ) -> None:
        notifier = start(apps_with(("backend", receiver.url, ["purchase.completed"])))
        assert notifier.queue(CREDITED) == []
        assert notifier.queue(CREDITED, app="unheard-of") == []
        assert notifier.rows("select * from notifier.delivery") == []
        assert notifier.rows("select * from journal.delivery") == []

    def test_a_duplicate_of_the_event_makes_one_delivery(self, notifier: Notifier) -> None:
        event_ids = notifier.record(CREDITED)
        notifier.queueing.handle(CREDITED.TYPE, event_ids * 2)
        notifier.queueing.handle(CREDITED.TYPE, event_ids)
        assert len(notifier.events(WebhookQueued)) == 1
        assert len(notifier.rows("select * from notifier.delivery")) == 1

    def test_an_event_that_is_handled_anew_is_not_queued_anew(self, notifier: Notifier) -> None:
        (queued,) = notifier.queue(CREDITED)
        event_id = EventId(queued.payload.event_id)
        notifier.read(
            "insert into journal.delivery (consumer, event_id, type)"
            " values (%(consumer)s, %(event)s::uuid, 'wallet.credited') returning 1",
            lambda rows: rows,
            consumer=NOTIFIER,
            event=str(event_id),
        )
        notifier.queueing.handle(CREDITED.TYPE, [event_id])
        assert notifier.pending_for(NOTIFIER, event_id) is None
        assert len(notifier.events(WebhookQueued)) == 1


class TestDelivery:
    def test_what_is_taken_at_once_is_told_once(self, notifier: Notifier, receiver: Receiver) -> None:
        (queued,) = notifier.queue(CREDITED)
        notifier.tell(queued)
        notifier.tell(queued)  # a second copy of the message
        (received,) = receiver.received
        assert received.genuine
        assert received.id == str(queued.payload.event_id)
        assert received.body["data"]["balance_after"] == 100
        assert notifier.pending(queued) is None
        row = notifier.row(queued)
        assert (row["state"], row["attempts"], row["last_status"], row["last_error"]) == ("delivered", 1, 200, None)
        assert row["delivered_at"] is not None
        (delivered,) = notifier.events(WebhookDelivered)
        assert (delivered.payload.attempt, delivered.payload.status) == (1, 200)
        assert (delivered.subject, delivered.causation_id) == ("pur_1", queued.id)

    def test_a_failure_is_followed_by_another_attempt_with_the_same_id_and_body(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        receiver.reply_next(Reply(status=500, body=b"database is on fire"))
        (queued,) = notifier.queue(CREDITED)
        notifier.tell(queued)
        waiting = notifier.pending(queued)
        assert waiting is not None
        assert (waiting.state, waiting.attempts, waiting.error) == ("waiting", 1, "answered 500")
        assert 2 < seconds_from_now(waiting.due_at) <= 5 * 1.2
        notifier.tell(queued)
        first, second = receiver.received
        assert (first.id, first.raw) == (second.id, second.raw)
        assert second.genuine
        assert notifier.pending(queued) is None
        assert [(row["number"], row["status"], row["answer"], row["error"]) for row in notifier.attempts(queued)] == [
            (1, 500, "database is on fire", "answered 500"),
            (2, 200, "", None),
        ]

    @pytest.mark.parametrize("behaviour", ["hang", "close", "trickle"])
    def test_no_answer_is_an_attempt_too(self, notifier: Notifier, receiver: Receiver, behaviour: Behaviour) -> None:
        receiver.reply_next(Reply(behaviour=behaviour))
        (queued,) = notifier.queue(CREDITED)
        notifier.tell(queued)
        (attempt,) = notifier.attempts(queued)
        assert attempt["status"] is None
        assert attempt["error"].startswith("no answer")
        notifier.tell(queued)
        assert notifier.row(queued)["state"] == "delivered"

    def test_retry_after_is_honoured(self, notifier: Notifier, receiver: Receiver) -> None:
        receiver.reply_next(Reply(status=429, headers={"Retry-After": "600"}))
        (queued,) = notifier.queue(CREDITED)
        notifier.tell(queued)
        waiting, row = notifier.pending(queued), notifier.row(queued)
        assert waiting is not None
        assert 590 < seconds_from_now(waiting.due_at) <= 600 * 1.2
        assert 590 < seconds_from_now(row["next_attempt_at"]) <= 600 * 1.2
        assert notifier.attempts(queued)[0]["retry_after_s"] == 600

    def test_one_endpoint_that_fails_leaves_the_other_alone(
        self, start: Callable[[Apps], Notifier], receiver: Receiver, other_receiver: Receiver
    ) -> None:
        notifier = start(apps_with(("backend", receiver.url, ["*"]), ("analytics", other_receiver.url, ["*"])))
        receiver.reply_next(Reply(status=503))
        deliveries = notifier.queue(CREDITED)
        for queued in deliveries:
            notifier.tell(queued)
        assert {queued.payload.endpoint_id: notifier.row(queued)["state"] for queued in deliveries} == {
            "backend": "waiting",
            "analytics": "delivered",
        }


class TestExhausted:
    def exhaust(self, notifier: Notifier, receiver: Receiver) -> Event[WebhookQueued]:
        receiver.reply_next(*[Reply(status=500)] * (len(RETRY_DELAYS_S) + 1))
        (queued,) = notifier.queue(CREDITED)
        for _ in range(len(RETRY_DELAYS_S) + 1):
            notifier.tell(queued)
        return queued

    def test_after_the_last_attempt_it_is_parked_and_listed(self, notifier: Notifier, receiver: Receiver) -> None:
        queued = self.exhaust(notifier, receiver)
        notifier.tell(queued)  # a copy of an old message: nothing that is parked is tried by it
        assert len(receiver.received) == 10
        assert len({received.id for received in receiver.received}) == 1
        (stuck,) = transact(notifier.admin, lambda connection: parking.stuck(connection, consumer=WEBHOOKS))
        assert (stuck.event_id, stuck.state) == (queued.id, "parked")
        assert stuck.error == "not taken in 10 attempts, the last one: answered 500"
        (exhausted,) = notifier.events(WebhookExhausted)
        assert (exhausted.payload.attempts, exhausted.payload.endpoint_id) == (10, "backend")
        assert notifier.row(queued)["state"] == "exhausted"

    def test_each_attempt_waited_as_long_as_the_contract_says(self, notifier: Notifier, receiver: Receiver) -> None:
        receiver.reply_next(*[Reply(status=500)] * len(RETRY_DELAYS_S))
        (queued,) = notifier.queue(CREDITED)
        for least_s in RETRY_DELAYS_S:
            notifier.tell(queued)
            waiting = notifier.pending(queued)
            assert waiting is not None
            assert least_s - 3 < seconds_from_now(waiting.due_at) <= least_s * 1.2

    def test_an_operators_retry_is_one_more_attempt(self, notifier: Notifier, receiver: Receiver) -> None:
        queued = self.exhaust(notifier, receiver)
        receiver.reply_next(Reply(status=500))
        notifier.retry(queued)
        notifier.tell(queued)
        assert notifier.row(queued)["state"] == "exhausted"
        assert [event.payload.attempts for event in notifier.events(WebhookExhausted)] == [10, 11]
        notifier.retry(queued)
        notifier.tell(queued)
        assert len(receiver.received) == 12
        assert notifier.row(queued)["state"] == "delivered"
        assert notifier.pending(queued) is None
        assert notifier.events(WebhookDelivered)[0].payload.attempt == 12


class TestSwitchedOff:
    def switch_off(self, notifier: Notifier, receiver: Receiver) -> Event[WebhookQueued]:
        receiver.reply_next(Reply(status=410))
        (queued,) = notifier.queue(CREDITED)
        notifier.tell(queued)
        return queued

    def test_410_parks_the_delivery_and_all_that_come_after_it(self, notifier: Notifier, receiver: Receiver) -> None:
        first = self.switch_off(notifier, receiver)
        (second,) = notifier.queue(CREDITED)
        notifier.tell(second)
        assert len(receiver.received) == 1
        for queued in (first, second):
            parked = notifier.pending(queued)
            assert parked is not None
            assert (parked.state, parked.due_at) == ("parked", None)
            assert parked.error == "the endpoint is switched off: it answered 410 Gone"
            assert notifier.row(queued)["state"] == "parked"
        assert (len(notifier.attempts(first)), len(notifier.attempts(second))) == (1, 0)

    def test_another_endpoint_of_the_app_stays_on(
        self, start: Callable[[Apps], Notifier], receiver: Receiver, other_receiver: Receiver
    ) -> None:
        notifier = start(
            apps_with(("backend", receiver.url, ["wallet.credited"]), ("analytics", other_receiver.url, ["*"]))
        )
        receiver.reply_next(Reply(status=410))
        for _ in range(2):
            for queued in notifier.queue(CREDITED):
                notifier.tell(queued)
        assert (len(receiver.received), len(other_receiver.received)) == (1, 2)

    def test_an_operators_retry_that_is_taken_switches_it_on_again(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        queued = self.switch_off(notifier, receiver)
        notifier.retry(queued)
        notifier.tell(queued)
        (later,) = notifier.queue(CREDITED)
        notifier.tell(later)
        assert [notifier.row(each)["state"] for each in (queued, later)] == ["delivered", "delivered"]

    def test_an_operators_retry_that_fails_leaves_it_off(self, notifier: Notifier, receiver: Receiver) -> None:
        queued = self.switch_off(notifier, receiver)
        receiver.reply_next(Reply(status=502))
        notifier.retry(queued)
        notifier.tell(queued)
        assert notifier.row(queued)["last_error"] == "the endpoint stays switched off: answered 502"
        (later,) = notifier.queue(CREDITED)
        notifier.tell(later)
        assert notifier.row(later)["state"] == "parked"

    def test_another_url_is_another_chance(
        self,
        notifier: Notifier,
        start: Callable[[Apps], Notifier],
        receiver: Receiver,
        other_receiver: Receiver,
    ) -> None:
        self.switch_off(notifier, receiver)
        moved = start(apps_with(("backend", other_receiver.url, ["*"])))
        (queued,) = moved.queue(CREDITED)
        moved.tell(queued)
        assert len(other_receiver.received) == 1

    def test_a_delivery_to_an_endpoint_that_is_configured_no_more_is_parked(
        self, notifier: Notifier, start: Callable[[Apps], Notifier], receiver: Receiver
    ) -> None:
        (queued,) = notifier.queue(CREDITED)
        start(apps_with()).tell(queued)
        parked = notifier.pending(queued)
        assert parked is not None
        assert (parked.state, parked.error) == ("parked", "the endpoint is no longer configured")
        notifier.retry(queued)  # it is back in the apps file
        notifier.tell(queued)
        assert notifier.row(queued)["state"] == "delivered"
        assert len(receiver.received) == 1


class TestRights:
    @pytest.mark.parametrize(
        "statement",
        ["update notifier.attempt set error = null", "delete from notifier.attempt", "delete from notifier.delivery"],
    )
    def test_the_notifiers_own_role_cannot_undo_what_is_on_record(self, notifier: Notifier, statement: str) -> None:
        with pytest.raises(ProgrammingError, match="permission denied"):
            transact(notifier.engine, lambda connection: connection.exec_driver_sql(statement))
