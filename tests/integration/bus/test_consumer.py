"""The consumer runtime on a real journal: claimed once, all or nothing, and nothing dropped."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import structlog
from sqlalchemy import Connection, Engine

from shared.bus.consumer import ATTEMPTS_MAX, DELAY_FIRST_S, DELAY_MAX_S, ConsumerRuntime, InBatches, OneByOne
from shared.bus.routes import CONSUMERS, NOTIFIER, VERIFIER, VERIFIER_STORE
from shared.bus.wake import Sleeper, Waker
from shared.database import DatabaseUnavailable, connect_engine
from shared.events import Event, PurchaseRejected, following
from shared.ids import EventId, PurchaseId, TransactionId, system_ids
from shared.outcome import Handled, Later, Parked, Tried, TryLater
from tests.support.bus import NOW, RECEIPT_SUBMITTED, TOKEN_ISSUED, Bus, bus_in
from tests.support.stack import wait_until

SECRET = "MIIT-marker-of-a-receipt"
POOL_SIZE = 8

REJECTED = PurchaseRejected(
    purchase_id=PurchaseId("pur_1"),
    store="apple",
    transaction_id=TransactionId("1"),
    code="wrong_app",
    detail="of another app",
)


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        bus.execute("create table verifier.effect (event_id uuid, note text)")
        bus.execute("grant select, insert on verifier.effect to purser_verifier")
        yield bus


@pytest.fixture(scope="module")
def engine(module_database: str) -> Iterator[Engine]:
    engine = connect_engine(
        module_database, role="purser_verifier", pool_size=POOL_SIZE, application_name="test-consumer"
    )
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def waker(engine: Engine) -> Iterator[Waker]:
    waker = Waker(engine)
    yield waker
    waker.close()


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the runtime logs, tracebacks in full."""
    lines = io.StringIO()
    processors: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    log = structlog.wrap_logger(structlog.PrintLogger(lines), processors=processors)
    monkeypatch.setattr("shared.bus.consumer.log", log)
    return lines


class Effects:
    """A handler that writes a row for each event, and remembers what it was called with."""

    def __init__(self, bus: Bus, then: Callable[[Event[Any]], None] = lambda _: None) -> None:
        self._bus = bus
        self._then = then
        self.batches: list[list[EventId]] = []

    def __call__(self, connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        self.batches.append([event.id for event in events])
        for event in events:
            self.write(connection, event)
            self._then(event)
        return Handled(drafts=[following(event, REJECTED, occurred_at=NOW) for event in events])

    @staticmethod
    def write(connection: Connection, event: Event[Any]) -> None:
        connection.exec_driver_sql("insert into verifier.effect (event_id) values (%(id)s)", {"id": event.id})

    def of(self, event_ids: Sequence[EventId]) -> Counter[EventId]:
        """How often each of the events took effect."""
        rows = self._bus.execute(
            "select event_id from verifier.effect where event_id = any(%(ids)s)", ids=list(event_ids)
        )
        return Counter(row[0] for row in rows)


class Refusing:
    """Raises an error for some events."""

    def __init__(self, error: Exception, *event_ids: EventId) -> None:
        self._error = error
        self._event_ids = event_ids

    def __call__(self, event: Event[Any]) -> None:
        if event.id in self._event_ids:
            raise self._error


@pytest.fixture
def runtime_of(engine: Engine, waker: Waker) -> Callable[..., ConsumerRuntime]:
    def made(handler: InBatches | OneByOne[Any]) -> ConsumerRuntime:
        name, event_type = (
            (VERIFIER, TOKEN_ISSUED) if isinstance(handler, InBatches) else (VERIFIER_STORE, RECEIPT_SUBMITTED)
        )
        return ConsumerRuntime(
            consumer=CONSUMERS[name], handlers={event_type: handler}, engine=engine, waker=waker, ids=system_ids()
        )

    return made


@pytest.fixture
def batches(runtime_of: Callable[..., ConsumerRuntime]) -> Callable[[Any], ConsumerRuntime]:
    return lambda apply: runtime_of(InBatches(apply))


@pytest.fixture
def one_by_one(runtime_of: Callable[..., ConsumerRuntime]) -> Callable[..., ConsumerRuntime]:
    def made(
        prepare: Callable[[Event[Any], Tried], Any] = lambda _event, _before: None,
        settle: Callable[[Connection, Event[Any], Any], Handled] = lambda *_: Handled(),
    ) -> ConsumerRuntime:
        def settle_each(connection: Connection, answered: Sequence[tuple[Event[Any], Any]]) -> Handled:
            return Handled.together(settle(connection, event, fact) for event, fact in answered)

        return runtime_of(OneByOne(prepare=prepare, settle=settle_each))

    return made


def handle_one(runtime: ConsumerRuntime, event_id: EventId, *, counted: bool = False) -> float | None:
    """Opens and handles one event, if it is still to be handled."""
    delays = [runtime.handle_one(RECEIPT_SUBMITTED, each) for each in runtime.open([event_id], counted=counted)]
    return delays[0] if delays else None


Batches = Callable[[Any], ConsumerRuntime]
OneByOnes = Callable[..., ConsumerRuntime]


def once_each(event_ids: Sequence[EventId]) -> Counter[EventId]:
    return Counter(event_ids)


class TestABatch:
    def test_it_takes_effect_and_what_followed_is_recorded_and_nothing_is_left_to_deliver(
        self, bus: Bus, batches: Batches
    ) -> None:
        event_ids = bus.tokens(5)
        effects = Effects(bus)
        batches(effects).handle(TOKEN_ISSUED, event_ids)
        assert effects.batches == [sorted(event_ids)]
        assert effects.of(event_ids) == once_each(event_ids)
        assert Counter(bus.caused_by(event_ids)) == once_each(event_ids)
        assert bus.open(VERIFIER, event_ids) == set()

    def test_what_followed_is_due_for_its_own_subscribers(self, bus: Bus, batches: Batches) -> None:
        event_ids = bus.tokens(1)
        batches(Effects(bus)).handle(TOKEN_ISSUED, event_ids)
        rows = bus.execute(
            "select d.consumer, d.state from journal.delivery d join journal.event e on e.id = d.event_id"
            " where e.causation_id = any(%(ids)s)",
            ids=event_ids,
        )
        assert [tuple(row) for row in rows] == [(NOTIFIER, "waiting")]

    def test_a_second_copy_of_the_message_calls_no_handler(self, bus: Bus, batches: Batches) -> None:
        event_ids = bus.tokens(3)
        effects = Effects(bus)
        runtime = batches(effects)
        runtime.handle(TOKEN_ISSUED, event_ids)
        runtime.handle(TOKEN_ISSUED, event_ids)
        assert len(effects.batches) == 1

    def test_a_copy_that_comes_while_the_first_is_handled_neither_waits_nor_handles(
        self, bus: Bus, batches: Batches
    ) -> None:
        event_ids = bus.tokens(3)
        entered, go_on = threading.Event(), threading.Event()

        def slowly(_event: Event[Any]) -> None:
            entered.set()
            assert go_on.wait(10)

        first, second = Effects(bus, slowly), Effects(bus)
        with ThreadPoolExecutor(1) as pool:
            handling = pool.submit(batches(first).handle, TOKEN_ISSUED, event_ids)
            assert entered.wait(10)
            batches(second).handle(TOKEN_ISSUED, event_ids)
            assert second.batches == []
            go_on.set()
            handling.result(10)
        assert first.of(event_ids) == once_each(event_ids)

    def test_overlapping_messages_in_many_threads_handle_each_event_once(self, bus: Bus, batches: Batches) -> None:
        event_ids = bus.tokens(120)
        effects = Effects(bus)
        runtime = batches(effects)
        slices = [event_ids[start : start + 40][::step] for start in range(0, 120, 10) for step in (1, -1)]
        with ThreadPoolExecutor(POOL_SIZE) as pool:
            for done in [pool.submit(runtime.handle, TOKEN_ISSUED, each) for each in slices]:
                done.result(30)
        assert effects.of(event_ids) == once_each(event_ids)
        assert Counter(bus.caused_by(event_ids)) == once_each(event_ids)
        assert bus.open(VERIFIER, event_ids) == set()

    def test_an_event_that_cannot_be_handled_stays_alone_and_the_others_of_its_batch_are_handled(
        self, bus: Bus, batches: Batches
    ) -> None:
        event_ids = bus.tokens(5)
        poison, others = event_ids[2], event_ids[:2] + event_ids[3:]
        effects = Effects(bus, Refusing(ValueError("no such thing"), poison))
        batches(effects).handle(TOKEN_ISSUED, event_ids)
        assert effects.of(event_ids) == once_each(others)
        assert Counter(bus.caused_by(event_ids)) == once_each(others)
        row = bus.row(VERIFIER, poison)
        assert row is not None
        assert (row.state, row.attempts, row.error) == ("waiting", 1, "ValueError: no such thing")
        assert row.due_in_s is not None
        assert 0.5 * DELAY_FIRST_S < row.due_in_s < 1.5 * DELAY_FIRST_S

    def test_nothing_of_a_failed_handling_is_kept_but_the_failure(self, bus: Bus, batches: Batches) -> None:
        event_ids = bus.tokens(1)

        def write_then_fail(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
            Effects.write(connection, events[0])
            raise ValueError("after the write")

        batches(write_then_fail).handle(TOKEN_ISSUED, event_ids)
        assert Effects(bus).of(event_ids) == Counter()
        assert bus.caused_by(event_ids) == []
        assert bus.open(VERIFIER, event_ids) == set(event_ids)

    @pytest.mark.parametrize(
        ("version", "payload", "error"),
        [
            (99, '{"token": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"}', "no event 'account_token.issued' version 99"),
            (1, '{"token": 5}', "account_token.issued version 1"),
        ],
    )
    def test_an_event_that_cannot_be_read_does_not_harm_the_others(
        self, bus: Bus, batches: Batches, version: int, payload: str, error: str
    ) -> None:
        event_ids = bus.tokens(2)
        unread = bus.forge(bus.draft(REJECTED), version=version, payload=payload, consumer=VERIFIER)
        effects = Effects(bus)
        batches(effects).handle(TOKEN_ISSUED, [*event_ids, unread])
        assert effects.of(event_ids) == once_each(event_ids)
        row = bus.row(VERIFIER, unread)
        assert row is not None
        assert (row.state, row.attempts) == ("waiting", 1)
        assert error in (row.error or "")

    def test_it_wakes_whoever_sleeps_until_the_journal_grows(self, bus: Bus, batches: Batches, engine: Engine) -> None:
        event_ids = bus.tokens(1)
        sleeper = Sleeper(engine)
        sleeper.wait(0)  # listens from here on
        batches(Effects(bus)).handle(TOKEN_ISSUED, event_ids)
        assert sleeper.wait(10)
        sleeper.close()

    def test_a_type_that_is_handled_one_by_one_is_refused_as_a_batch(self, bus: Bus, one_by_one: OneByOnes) -> None:
        with pytest.raises(TypeError):
            one_by_one().handle(RECEIPT_SUBMITTED, bus.receipts(1))


class TestWhatAHandlerMaySay:
    def test_an_event_that_the_handler_parks_waits_for_an_operator_with_its_reason(
        self, bus: Bus, batches: Batches
    ) -> None:
        (event_id,) = bus.tokens(1)
        batches(Effects(bus, Refusing(Parked("no such product"), event_id))).handle(TOKEN_ISSUED, [event_id])
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.state, row.attempts, row.error, row.due_in_s) == ("parked", 1, "no such product", None)

    def test_try_later_is_honoured(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        later = TryLater("the store is away", after_s=3600)
        batches(Effects(bus, Refusing(later, event_id))).handle(TOKEN_ISSUED, [event_id])
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.state, row.attempts, row.error) == ("waiting", 1, "the store is away")
        assert row.due_in_s == pytest.approx(3600, abs=10)

    def test_a_short_try_later_does_not_use_up_the_attempts_in_minutes(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        bus.set([event_id], "attempts = 10")
        later = TryLater("too many requests", after_s=1)
        batches(Effects(bus, Refusing(later, event_id))).handle(TOKEN_ISSUED, [event_id])
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert row.due_in_s is not None
        assert row.due_in_s > 0.7 * DELAY_FIRST_S * 2**10

    def test_the_delay_grows_with_the_attempts_up_to_its_limit(self, bus: Bus, batches: Batches) -> None:
        event_ids = bus.tokens(2)
        bus.set(event_ids[:1], "attempts = 4")
        bus.set(event_ids[1:], "attempts = 18")
        batches(Effects(bus, Refusing(ValueError("no"), *event_ids))).handle(TOKEN_ISSUED, event_ids)
        rows = [bus.row(VERIFIER, event_id) for event_id in event_ids]
        delays = [row.due_in_s for row in rows if row is not None]
        assert delays == [
            pytest.approx(DELAY_FIRST_S * 2**4, rel=0.25),
            pytest.approx(DELAY_MAX_S, rel=0.25),
        ]

    def test_it_is_dead_after_its_last_attempt(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        bus.set([event_id], f"attempts = {ATTEMPTS_MAX - 1}")
        batches(Effects(bus, Refusing(ValueError("no"), event_id))).handle(TOKEN_ISSUED, [event_id])
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.state, row.attempts, row.due_in_s) == ("dead", ATTEMPTS_MAX, None)

    @pytest.mark.parametrize("state", ["parked", "dead"])
    def test_a_late_copy_of_an_event_that_is_parked_or_dead_is_not_handled(
        self, bus: Bus, batches: Batches, state: str
    ) -> None:
        (event_id,) = bus.tokens(1)
        bus.set([event_id], f"state = '{state}', due_at = 'infinity', error = 'why'")
        effects = Effects(bus)
        batches(effects).handle(TOKEN_ISSUED, [event_id])
        assert effects.batches == []
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.state, row.error) == (state, "why")

    def test_parked_and_later_events_of_a_batch_keep_their_deliveries_and_the_others_are_handled(
        self, bus: Bus, batches: Batches
    ) -> None:
        event_ids = bus.tokens(3)
        bus.set(event_ids, "attempts = 2")
        parked, later, handled = event_ids

        def apply(_connection: Connection, events: Sequence[Event[Any]]) -> Handled:
            drafts = [following(event, REJECTED, occurred_at=NOW) for event in events if event.id == parked]
            return Handled(drafts=drafts, parked={parked: "not for sale"}, later={later: Later("not yet", 120)})

        batches(apply).handle(TOKEN_ISSUED, event_ids)
        row = bus.row(VERIFIER, parked)
        assert row is not None
        assert (row.state, row.attempts, row.error, row.due_in_s) == ("parked", 3, "not for sale", None)
        row = bus.row(VERIFIER, later)
        assert row is not None
        assert (row.state, row.attempts, row.error) == ("waiting", 3, "not yet")
        assert row.due_in_s == pytest.approx(120, abs=10)
        assert bus.open(VERIFIER, event_ids) == {parked, later}
        assert bus.caused_by(event_ids) == [parked]
        assert handled not in bus.open(VERIFIER, event_ids)

    def test_later_without_a_time_follows_the_schedule_of_the_bus(self, bus: Bus, batches: Batches) -> None:
        event_ids = bus.tokens(2)
        bus.set(event_ids[:1], "attempts = 4")
        bus.set(event_ids[1:], f"attempts = {ATTEMPTS_MAX - 1}")

        def apply(_connection: Connection, events: Sequence[Event[Any]]) -> Handled:
            return Handled(later={event.id: Later("not yet") for event in events})

        batches(apply).handle(TOKEN_ISSUED, event_ids)
        rows = [bus.row(VERIFIER, event_id) for event_id in event_ids]
        assert [(row.state, row.attempts) for row in rows if row is not None] == [("waiting", 5), ("dead", 20)]
        assert rows[0] is not None
        assert rows[0].due_in_s == pytest.approx(DELAY_FIRST_S * 2**4, rel=0.25)

    def test_a_failure_wipes_out_how_often_it_was_handed_over_before(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        bus.set([event_id], "handovers = 3")
        batches(Effects(bus, Refusing(ValueError("no"), event_id))).handle(TOKEN_ISSUED, [event_id])
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert row.handovers == 0


class TestErrorsThatOperatorsRead:
    @pytest.mark.parametrize(
        "statement",
        [
            "select %(secret)s::int",
            "insert into verifier.effect (event_id, note) values (%(secret)s::text::uuid, 'x')",
            "select 1 from no_such_table where note = %(secret)s",
        ],
    )
    @pytest.mark.parametrize("size", [1, 2])
    def test_what_the_database_says_of_a_payload_is_in_no_error_and_no_log(
        self, bus: Bus, batches: Batches, logged: io.StringIO, statement: str, size: int
    ) -> None:
        event_ids = bus.tokens(size)

        def apply(connection: Connection, _events: Sequence[Event[Any]]) -> Handled:
            connection.exec_driver_sql(statement, {"secret": SECRET})
            return Handled()

        batches(apply).handle(TOKEN_ISSUED, event_ids)
        for event_id in event_ids:
            row = bus.row(VERIFIER, event_id)
            assert row is not None
            assert "Error" in (row.error or "") or "Undefined" in (row.error or "")
            assert SECRET not in (row.error or "")
        assert "not handled" in logged.getvalue()
        assert SECRET not in logged.getvalue()

    def test_an_error_is_cut_to_a_readable_length(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        batches(Effects(bus, Refusing(ValueError("too long " * 1_000), event_id))).handle(TOKEN_ISSUED, [event_id])
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert len(row.error or "") == 500


class TestADatabaseThatIsAway:
    def test_it_is_raised_and_not_taken_for_a_failure_of_the_event(self, bus: Bus, batches: Batches) -> None:
        event_ids = bus.tokens(2)
        away = Refusing(DatabaseUnavailable("OperationalError"), *event_ids)
        with pytest.raises(DatabaseUnavailable):
            batches(Effects(bus, away)).handle(TOKEN_ISSUED, event_ids)
        row = bus.row(VERIFIER, event_ids[0])
        assert row is not None
        assert (row.state, row.attempts, row.error) == ("waiting", 0, None)

    def test_one_that_cannot_be_reached_is_raised(self, waker: Waker) -> None:
        nowhere = connect_engine("postgresql://a:b@127.0.0.1:1/c", role=None, pool_size=1, application_name="test")
        runtime = ConsumerRuntime(
            consumer=CONSUMERS[VERIFIER],
            handlers={TOKEN_ISSUED: InBatches(lambda *_: Handled())},
            engine=nowhere,
            waker=waker,
            ids=system_ids(),
        )
        with pytest.raises(DatabaseUnavailable):
            runtime.handle(TOKEN_ISSUED, [system_ids().event_id()])
        with pytest.raises(DatabaseUnavailable):
            runtime.begun(system_ids().event_id())

    def test_a_connection_that_is_cut_in_the_middle_is_replaced_and_the_batch_takes_effect_once(
        self, bus: Bus, batches: Batches
    ) -> None:
        event_ids = bus.tokens(2)
        cuts: list[int] = []

        def apply(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
            for event in events:
                Effects.write(connection, event)
            if not cuts:
                cuts.append(connection.exec_driver_sql("select pg_backend_pid()").scalar_one())
                bus.execute("select pg_terminate_backend(%(pid)s)", pid=cuts[0])
                connection.exec_driver_sql("select 1")
            return Handled()

        batches(apply).handle(TOKEN_ISSUED, event_ids)
        assert Effects(bus).of(event_ids) == once_each(event_ids)
        assert bus.open(VERIFIER, event_ids) == set()


class TestOneByOne:
    def test_it_is_prepared_with_no_transaction_open_and_settled_in_the_transaction_of_the_claim(
        self, bus: Bus, one_by_one: OneByOnes
    ) -> None:
        (event_id,) = bus.receipts(1)
        open_while_preparing: list[Any] = []

        def prepare(_event: Event[Any], _before: Tried) -> str:
            open_while_preparing.extend(
                bus.execute(
                    "select pid from pg_stat_activity where application_name = 'test-consumer'"
                    " and datname = current_database() and xact_start is not null and query not like 'notify%%'"
                )
            )
            return "the store says yes"

        def settle(connection: Connection, event: Event[Any], fact: str) -> Handled:
            assert fact == "the store says yes"
            Effects.write(connection, event)
            return Handled(drafts=[following(event, REJECTED, occurred_at=NOW)])

        assert handle_one(one_by_one(prepare, settle), event_id) is None
        assert open_while_preparing == []
        assert Effects(bus).of([event_id]) == once_each([event_id])
        assert bus.caused_by([event_id]) == [event_id]
        assert bus.row(VERIFIER_STORE, event_id) is None

    def test_two_copies_that_run_at_once_settle_once(self, bus: Bus, one_by_one: OneByOnes) -> None:
        (event_id,) = bus.receipts(1)
        both_asked = threading.Barrier(2, timeout=10)

        def settle(connection: Connection, event: Event[Any], _fact: Any) -> Handled:
            Effects.write(connection, event)
            return Handled()

        runtime = one_by_one(lambda *_: both_asked.wait(), settle)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(handle_one, runtime, event_id) for _ in range(2)]:
                assert done.result(10) is None
        assert Effects(bus).of([event_id]) == once_each([event_id])

    def test_those_that_have_their_answers_by_then_are_settled_in_one_transaction(
        self, bus: Bus, runtime_of: Callable[..., ConsumerRuntime]
    ) -> None:
        event_ids = bus.receipts(8)
        settled: list[int] = []
        others_wait = threading.Event()

        def settle(connection: Connection, answered: Sequence[tuple[Event[Any], Any]]) -> Handled:
            settled.append(len(answered))
            assert others_wait.wait(10)
            for event, _ in answered:
                Effects.write(connection, event)
            return Handled()

        runtime = runtime_of(OneByOne(prepare=lambda *_: None, settle=settle))
        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(handle_one, runtime, event_ids[0])]
            wait_until(lambda: settled == [1])
            futures += [pool.submit(handle_one, runtime, event_id) for event_id in event_ids[1:]]
            wait_until(lambda: runtime.unsettled(RECEIPT_SUBMITTED) == 7, what="seven who wait")
            others_wait.set()
            assert [future.result(10) for future in futures] == [None] * 8
        assert settled == [1, 7]
        assert Effects(bus).of(event_ids) == once_each(event_ids)

    def test_one_that_cannot_be_settled_does_not_take_the_others_with_it(
        self, bus: Bus, runtime_of: Callable[..., ConsumerRuntime]
    ) -> None:
        event_ids = bus.receipts(8)
        poison = event_ids[3]

        def settle(connection: Connection, answered: Sequence[tuple[Event[Any], Any]]) -> Handled:
            for event, _ in answered:
                Effects.write(connection, event)
            if any(event.id == poison for event, _ in answered):
                raise ValueError("poison")
            return Handled()

        runtime = runtime_of(OneByOne(prepare=lambda *_: None, settle=settle))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda event_id: handle_one(runtime, event_id), event_ids))
        assert Effects(bus).of(event_ids) == once_each([each for each in event_ids if each != poison])
        row = bus.row(VERIFIER_STORE, poison)
        assert row is not None
        assert (row.attempts, row.error) == (1, "ValueError: poison")

    @pytest.mark.parametrize("state", ["gone", "parked", "dead"])
    def test_nobody_outside_is_asked_about_an_event_that_is_not_open(
        self, bus: Bus, one_by_one: OneByOnes, state: str
    ) -> None:
        (event_id,) = bus.receipts(1)
        if state == "gone":
            bus.execute("delete from journal.delivery where event_id = %(id)s", id=event_id)
        else:
            bus.set([event_id], f"state = '{state}', due_at = 'infinity'")
        asked: list[Any] = []
        assert handle_one(one_by_one(lambda *arguments: asked.append(arguments)), event_id) is None
        assert asked == []

    def test_a_short_retry_is_left_to_the_caller_and_watched_over_by_the_lease(
        self, bus: Bus, one_by_one: OneByOnes
    ) -> None:
        (event_id,) = bus.receipts(1)
        runtime = one_by_one(raising(TryLater("21005", after_s=30)))
        assert handle_one(runtime, event_id) == 30
        row = bus.row(VERIFIER_STORE, event_id)
        assert row is not None
        assert (row.state, row.attempts, row.error) == ("waiting", 1, "21005")
        assert row.due_in_s == pytest.approx(30 + CONSUMERS[VERIFIER_STORE].lease_s, abs=10)

    def test_a_long_retry_is_left_to_the_journal(self, bus: Bus, one_by_one: OneByOnes) -> None:
        (event_id,) = bus.receipts(1)
        assert handle_one(one_by_one(raising(TryLater("429", after_s=61))), event_id) is None
        row = bus.row(VERIFIER_STORE, event_id)
        assert row is not None
        assert row.due_in_s == pytest.approx(61, abs=10)

    def test_it_is_told_how_often_handling_has_failed_before_and_why(self, bus: Bus, one_by_one: OneByOnes) -> None:
        (event_id,) = bus.receipts(1)
        told: list[Tried] = []

        def prepare(_event: Event[Any], before: Tried) -> None:
            told.append(before)
            raise TryLater(f"away {before.times}")

        runtime = one_by_one(prepare)
        for _ in range(3):
            handle_one(runtime, event_id)
        assert told == [Tried(), Tried(1, "away 0"), Tried(2, "away 1")]

    def test_a_reason_that_the_database_cannot_keep_as_it_is_keeps_its_event_all_the_same(
        self, bus: Bus, one_by_one: OneByOnes, batches: Batches
    ) -> None:
        """It may quote what somebody outside said, and PostgreSQL's text has neither NUL nor half a surrogate pair."""
        (asked,), (batched,) = bus.receipts(1), bus.tokens(1)
        assert handle_one(one_by_one(raising(TryLater("the store says \0\ud800", after_s=3600))), asked) is None
        said = Handled(parked={batched: "the store says \0\ud800"})
        batches(lambda _connection, _events: said).handle(TOKEN_ISSUED, [batched])
        rows = bus.row(VERIFIER_STORE, asked), bus.row(VERIFIER, batched)
        assert [(row.state, row.error) for row in rows if row] == [
            ("waiting", "the store says \N{REPLACEMENT CHARACTER}?"),
            ("parked", "the store says \N{REPLACEMENT CHARACTER}?"),
        ]

    def test_parked_while_preparing_waits_for_an_operator(self, bus: Bus, one_by_one: OneByOnes) -> None:
        (event_id,) = bus.receipts(1)
        assert handle_one(one_by_one(raising(Parked("21004"))), event_id) is None
        row = bus.row(VERIFIER_STORE, event_id)
        assert row is not None
        assert (row.state, row.error, row.due_in_s) == ("parked", "21004", None)

    def test_an_error_while_settling_keeps_nothing_but_the_failure(self, bus: Bus, one_by_one: OneByOnes) -> None:
        (event_id,) = bus.receipts(1)

        def settle(connection: Connection, event: Event[Any], _fact: Any) -> Handled:
            Effects.write(connection, event)
            raise ValueError("after the write")

        retry_s = handle_one(one_by_one(lambda *_: None, settle), event_id)
        assert retry_s == pytest.approx(DELAY_FIRST_S, rel=0.25)
        assert Effects(bus).of([event_id]) == Counter()
        row = bus.row(VERIFIER_STORE, event_id)
        assert row is not None
        assert (row.attempts, row.error) == (1, "ValueError: after the write")

    def test_a_failure_does_not_take_back_that_another_copy_parked_it_meanwhile(
        self, bus: Bus, one_by_one: OneByOnes
    ) -> None:
        (event_id,) = bus.receipts(1)

        def prepare(_event: Event[Any], _before: Tried) -> None:
            bus.set([event_id], "state = 'parked', due_at = 'infinity', error = 'not for sale'")
            raise TryLater("away")

        assert handle_one(one_by_one(prepare), event_id) is None
        row = bus.row(VERIFIER_STORE, event_id)
        assert row is not None
        assert (row.state, row.error) == ("parked", "not for sale")

    def test_a_database_that_is_away_is_raised(self, bus: Bus, one_by_one: OneByOnes) -> None:
        (event_id,) = bus.receipts(1)
        with pytest.raises(DatabaseUnavailable):
            handle_one(one_by_one(raising(DatabaseUnavailable("x"))), event_id)
        row = bus.row(VERIFIER_STORE, event_id)
        assert row is not None
        assert row.attempts == 0


class TestAnAttemptThatIsCountedBeforeItIsMade:
    def test_an_event_that_never_finishes_is_dead_after_its_last_attempt(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        runtime = batches(Effects(bus))
        assert [runtime.begun(event_id) for _ in range(ATTEMPTS_MAX + 1)] == [True] * ATTEMPTS_MAX + [False]
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.state, row.due_in_s) == ("dead", None)
        assert "never finished" in (row.error or "")

    def test_it_is_not_counted_twice_when_it_fails(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        runtime = batches(Effects(bus, Refusing(ValueError("no"), event_id)))
        assert runtime.begun(event_id)
        runtime.handle(TOKEN_ISSUED, [event_id], counted=True)
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.attempts, row.error) == (1, "ValueError: no")

    def test_it_is_not_counted_twice_when_it_comes_later(self, bus: Bus, batches: Batches) -> None:
        (event_id,) = bus.tokens(1)
        runtime = batches(lambda *_: Handled(later={event_id: Later("not yet")}))
        assert runtime.begun(event_id)
        runtime.handle(TOKEN_ISSUED, [event_id], counted=True)
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert row.attempts == 1

    def test_the_attempt_that_is_being_made_is_not_among_those_that_failed_before(
        self, bus: Bus, one_by_one: OneByOnes
    ) -> None:
        (event_id,) = bus.receipts(1)
        told: list[int] = []
        runtime = one_by_one(lambda _event, before: told.append(before.times))
        assert runtime.begun(event_id)
        handle_one(runtime, event_id, counted=True)
        assert told == [0]

    @pytest.mark.parametrize("state", ["parked", "dead"])
    def test_it_leaves_an_event_alone_that_is_parked_or_dead(self, bus: Bus, batches: Batches, state: str) -> None:
        (event_id,) = bus.tokens(1)
        bus.set([event_id], f"state = '{state}', due_at = 'infinity', error = 'why', attempts = 7")
        assert not batches(Effects(bus)).begun(event_id)
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.state, row.error, row.attempts) == (state, "why", 7)


def raising(error: Exception) -> Callable[[Event[Any], Tried], Any]:
    def prepare(_event: Event[Any], _before: Tried) -> None:
        raise error

    return prepare
