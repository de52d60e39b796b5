"""What the bus counts: after the commit, each outcome once, and what is read of it at the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from shared.bus import journal
from shared.bus.consumer import ATTEMPTS_MAX, ConsumerRuntime, InBatches, OneByOne
from shared.bus.routes import CONSUMERS, VERIFIER, VERIFIER_STORE
from shared.bus.wake import Waker
from shared.bus.watching import BrokerWatched, DeliveriesWatched
from shared.bus.worker import celery_app
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.events import AccountTokenIssued, Event, PurchaseRejected, following
from shared.ids import PurchaseId, TransactionId, system_ids
from shared.metrics.read import Family
from shared.outcome import Handled, Later, Parked, TryLater
from tests.support.bus import NOW, RECEIPT_SUBMITTED, TOKEN_ISSUED, Bus, bus_in
from tests.support.metrics import Counting, counting

REJECTED = PurchaseRejected(
    purchase_id=PurchaseId("pur_1"),
    store="apple",
    transaction_id=TransactionId("1"),
    code="wrong_app",
    detail="of another app",
)
OUTCOMES = ("handled", "later", "parked", "failed", "dead")


@pytest.fixture
def bus(database: str) -> Iterator[Bus]:
    with bus_in(database) as bus:
        yield bus


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    engine = connect_engine(database, role="purser_verifier", pool_size=4, application_name="test-counting")
    yield engine
    engine.dispose()


@pytest.fixture
def runtime_of(engine: Engine) -> Iterator[Callable[..., ConsumerRuntime]]:
    waker = Waker(engine)

    def made(handler: InBatches | OneByOne[Any]) -> ConsumerRuntime:
        name, event_type = (
            (VERIFIER, TOKEN_ISSUED) if isinstance(handler, InBatches) else (VERIFIER_STORE, RECEIPT_SUBMITTED)
        )
        return ConsumerRuntime(
            consumer=CONSUMERS[name], handlers={event_type: handler}, engine=engine, waker=waker, ids=system_ids()
        )

    yield made
    waker.close()


class Outcomes:
    """What handling one type of events has come to from now on."""

    def __init__(self, consumer: str, event_type: str) -> None:
        self._counts = {
            outcome: counting("purser_events_handled_total", consumer=consumer, type=event_type, outcome=outcome)
            for outcome in OUTCOMES
        }
        self.ages = counting("purser_event_age_seconds_count", consumer=consumer, type=event_type)
        self.age_s = counting("purser_event_age_seconds_sum", consumer=consumer, type=event_type)

    @property
    def so_far(self) -> dict[str, float]:
        return {outcome: count.so_far for outcome, count in self._counts.items() if count.so_far}


def recorded(event_type: str) -> Counting:
    return counting("purser_events_recorded_total", type=event_type)


def test_what_is_rolled_back_is_not_counted_and_what_is_committed_is_once(bus: Bus) -> None:
    count = recorded(TOKEN_ISSUED)

    def in_vain(connection: Connection) -> None:
        journal.append(connection, [bus.draft(AccountTokenIssued(token=bus.ids.uuid()))], ids=bus.ids)
        raise LookupError

    with pytest.raises(LookupError):
        transact(bus.engine, in_vain)
    assert count.so_far == 0
    bus.tokens(3)
    assert count.so_far == 3


def test_of_what_is_recorded_once_a_repeat_is_not_counted(bus: Bus) -> None:
    count = recorded(TOKEN_ISSUED)
    draft = bus.draft(AccountTokenIssued(token=bus.ids.uuid()))
    for _ in range(3):
        transact(bus.engine, lambda connection: journal.append_once(connection, draft, ids=bus.ids))
    assert count.so_far == 1


def test_a_batch_is_counted_by_what_became_of_each_event_with_its_age(
    bus: Bus, runtime_of: Callable[..., ConsumerRuntime]
) -> None:
    done, later, parked = bus.tokens(3)
    counts, told = Outcomes(VERIFIER, TOKEN_ISSUED), recorded(REJECTED.TYPE)

    def apply(_connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        drafts = [following(event, REJECTED, occurred_at=NOW) for event in events if event.id == done]
        return Handled(drafts, parked={parked: "mend it"}, later={later: Later("not now", after_s=60)})

    runtime_of(InBatches(apply)).handle(TOKEN_ISSUED, [done, later, parked])
    assert counts.so_far == {"handled": 1, "later": 1, "parked": 1}
    assert told.so_far == 1
    assert counts.ages.so_far == 1
    assert 0 < counts.age_s.so_far < 60


def test_a_batch_that_fails_and_is_handled_one_by_one_is_counted_once(
    bus: Bus, runtime_of: Callable[..., ConsumerRuntime]
) -> None:
    events = bus.tokens(4)
    counts, told = Outcomes(VERIFIER, TOKEN_ISSUED), recorded(REJECTED.TYPE)

    def apply(_connection: Connection, batch: Sequence[Event[Any]]) -> Handled:
        if events[2] in {event.id for event in batch}:
            raise ValueError("cannot be handled")
        return Handled([following(event, REJECTED, occurred_at=NOW) for event in batch])

    runtime_of(InBatches(apply)).handle(TOKEN_ISSUED, events)
    assert counts.so_far == {"handled": 3, "failed": 1}
    assert (told.so_far, counts.ages.so_far) == (3, 3)


def test_what_the_commit_itself_refuses_has_failed_and_was_not_handled(
    bus: Bus, runtime_of: Callable[..., ConsumerRuntime]
) -> None:
    (event_id,) = bus.tokens(1)
    counts, told = Outcomes(VERIFIER, TOKEN_ISSUED), recorded(REJECTED.TYPE)

    def apply(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        connection.exec_driver_sql(
            "create temporary table once (number int unique deferrable initially deferred) on commit drop"
        )
        connection.exec_driver_sql("insert into once values (1), (1)")  # it is looked at when all is committed
        return Handled([following(event, REJECTED, occurred_at=NOW) for event in events])

    runtime_of(InBatches(apply)).handle(TOKEN_ISSUED, [event_id])
    assert counts.so_far == {"failed": 1}
    assert (told.so_far, counts.ages.so_far) == (0, 0)


def test_a_second_copy_of_a_message_is_not_counted(bus: Bus, runtime_of: Callable[..., ConsumerRuntime]) -> None:
    events = bus.tokens(2)
    counts = Outcomes(VERIFIER, TOKEN_ISSUED)
    runtime = runtime_of(InBatches(lambda _connection, _events: Handled()))
    runtime.handle(TOKEN_ISSUED, events)
    runtime.handle(TOKEN_ISSUED, events)
    assert counts.so_far == {"handled": 2}


@pytest.mark.parametrize(
    ("error", "attempts", "outcome"),
    [
        (TryLater("busy"), 0, "later"),
        (Parked("ours to mend"), 0, "parked"),
        (ValueError("a bug"), 0, "failed"),
        (ValueError("a bug"), ATTEMPTS_MAX - 1, "dead"),
        (TryLater("busy"), ATTEMPTS_MAX - 1, "dead"),
    ],
)
def test_an_event_that_waits_on_somebody_is_counted_by_what_came_of_asking(
    bus: Bus, runtime_of: Callable[..., ConsumerRuntime], error: Exception, attempts: int, outcome: str
) -> None:
    (event_id,) = bus.receipts(1)
    bus.set([event_id], f"attempts = {attempts}")
    counts = Outcomes(VERIFIER_STORE, RECEIPT_SUBMITTED)

    def ask(*_: object) -> None:
        raise error

    runtime = runtime_of(OneByOne(prepare=ask, settle=lambda _connection, _answered: Handled()))
    runtime.handle_one(RECEIPT_SUBMITTED, *runtime.open([event_id]))
    assert counts.so_far == {outcome: 1}


def test_one_that_is_put_off_for_the_last_time_is_dead(bus: Bus, runtime_of: Callable[..., ConsumerRuntime]) -> None:
    (event_id,) = bus.tokens(1)
    bus.set([event_id], f"attempts = {ATTEMPTS_MAX - 1}")
    counts = Outcomes(VERIFIER, TOKEN_ISSUED)
    runtime = runtime_of(InBatches(lambda _connection, _events: Handled(later={event_id: Later("not now")})))
    runtime.handle(TOKEN_ISSUED, [event_id])
    row = bus.row(VERIFIER, event_id)
    assert row is not None
    assert row.state == "dead"
    assert counts.so_far == {"dead": 1}


def test_one_that_has_killed_its_worker_too_often_is_dead(bus: Bus, runtime_of: Callable[..., ConsumerRuntime]) -> None:
    (event_id,) = bus.tokens(1)
    bus.set([event_id], f"attempts = {ATTEMPTS_MAX}")
    counts = Outcomes(VERIFIER, TOKEN_ISSUED)
    runtime = runtime_of(InBatches(lambda _connection, _events: Handled()))
    assert not runtime.begun(event_id)
    assert not runtime.begun(event_id)  # it is dead already: nothing happened
    assert counts.so_far == {"dead": 1}


# ---- what is read at the scrape ----------------------------------------------------------------------------------


@pytest.fixture
def courier(database: str) -> Iterator[Engine]:
    engine = connect_engine(database, role="purser_courier", pool_size=2, application_name="test-courier")
    yield engine
    engine.dispose()


class Shifted:
    """The machine's clock, so much later."""

    def __init__(self, later: timedelta) -> None:
        self._machine = SystemClock()
        self._later = later

    def now(self) -> Any:
        return self._machine.now() + self._later

    def monotonic(self) -> float:
        return self._machine.monotonic()


def values(families: Sequence[Family], name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for known in families
        for sample in known.samples
        if sample.name == name
    }


def test_deliveries_are_told_by_consumer_and_state_with_the_age_of_the_oldest(bus: Bus, courier: Engine) -> None:
    first, *others = bus.tokens(5)
    bus.set([first], "state = 'parked', due_at = 'infinity'")
    bus.set([others[0]], "state = 'dead', due_at = 'infinity'")
    bus.set([others[1]], "state = 'handed'")
    watched = DeliveriesWatched(
        engine=courier, consumers=[VERIFIER, VERIFIER_STORE], clock=Shifted(timedelta(seconds=100))
    )
    families = watched()
    counts = values(families, "purser_deliveries")
    assert counts[VERIFIER, "waiting"] == 2
    assert {state: counts[VERIFIER, state] for state in ("handed", "parked", "dead")} == {
        "handed": 1,
        "parked": 1,
        "dead": 1,
    }
    assert {counts[VERIFIER_STORE, state] for state in ("waiting", "handed", "parked", "dead")} == {0}
    ages = values(families, "purser_oldest_unhandled_seconds")
    assert 100 <= ages[VERIFIER,] < 160
    assert ages[VERIFIER_STORE,] == 0


def test_what_is_parked_or_dead_makes_nothing_old(bus: Bus, courier: Engine) -> None:
    bus.set(bus.tokens(2), "state = 'parked', due_at = 'infinity'")
    watched = DeliveriesWatched(engine=courier, consumers=[VERIFIER], clock=Shifted(timedelta(hours=1)))
    assert values(watched(), "purser_oldest_unhandled_seconds") == {(VERIFIER,): 0}


def test_a_backlog_is_counted_up_to_a_limit(bus: Bus, courier: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from shared.bus import watching

    monkeypatch.setattr(watching, "_DELIVERIES", watching._DELIVERIES.replace(str(watching.COUNTED_MAX), "3"))
    bus.tokens(7)
    watched = DeliveriesWatched(engine=courier, consumers=[VERIFIER], clock=SystemClock())
    assert values(watched(), "purser_deliveries")[VERIFIER, "waiting"] == 3


def test_the_brokers_queues_and_memory_are_told(redis_url: str) -> None:
    app = celery_app(name="test-watching", broker_url=redis_url)
    queue = VERIFIER
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        before = values(BrokerWatched(app=app, queues=[queue])(), "purser_queue_messages")[queue,]
        channel.client.rpush(queue, "a message", "another")
        families = BrokerWatched(app=app, queues=[queue])()
        for _ in range(2):
            channel.client.rpop(queue)
    assert values(families, "purser_queue_messages")[queue,] == before + 2
    assert values(families, "purser_broker_memory_bytes")[()] > 0
    assert values(families, "purser_broker_memory_max_bytes")[()] >= 0
    assert values(families, "purser_broker_unacknowledged_messages")[()] >= 0
