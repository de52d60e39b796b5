"""The courier on a real journal, with a publisher that only remembers: who is handed what, when, and when again."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psycopg2
import pytest
from sqlalchemy import Engine

from shared.bus import courier as under_test
from shared.bus import parking
from shared.bus.courier import PAUSE_S, SWEEP_S, BrokerUnavailable, Courier, Message
from shared.bus.heartbeat import Heartbeat
from shared.bus.journal import append_once
from shared.bus.routes import LEDGER, NOTIFIER, VERIFIER, VERIFIER_STORE, Consumer, ConsumerName
from shared.bus.wake import Sleeper, Waker
from shared.clock import Clock, ManualClock, SystemClock
from shared.database import connect_engine, transact
from shared.events import TransactionSubmitted
from shared.ids import EventId, TransactionId
from tests.support.bus import NOW, RECEIPT_SUBMITTED, TOKEN_ISSUED, Bus, bus_in
from tests.support.stack import reachable_directory, running_servers, wait_until

SUBMITTED = TransactionSubmitted(store="apple", transaction_id=TransactionId("1"), signed_transaction="a.b.c")
LEASE_S = 15
PAUSE_BUSY_S = 0.4
CONSUMERS: Mapping[ConsumerName, Consumer] = {
    VERIFIER: Consumer(VERIFIER, ids_per_message=3, ids_in_flight=10, lease_s=LEASE_S, pause_busy_s=PAUSE_BUSY_S),
    VERIFIER_STORE: Consumer(VERIFIER_STORE, ids_per_message=2, ids_in_flight=10, lease_s=LEASE_S),
}
LONG_AGO = "due_at = clock_timestamp() - interval '1 hour'"


class Broker:
    """Remembers what it was given; refuses while it is away."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.away = False
        self.refused: set[ConsumerName] = set()
        self.tries = 0

    def publish(self, messages: Sequence[Message]) -> None:
        self.tries += 1
        if self.away:
            raise BrokerUnavailable("ConnectionError")
        taken = [message for message in messages if message.queue not in self.refused]
        self.messages.extend(taken)
        if len(taken) < len(messages):
            raise BrokerUnavailable("they are full", queues=self.refused)

    def ids(self) -> Counter[EventId]:
        """How often each id was handed over."""
        return Counter(event_id for message in self.messages for event_id in message.event_ids)


@pytest.fixture(scope="module")
def journal(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        yield bus


@pytest.fixture
def bus(journal: Bus) -> Bus:
    """With nothing to deliver."""
    journal.execute("delete from journal.delivery")
    return journal


@pytest.fixture(scope="module")
def engine(module_database: str) -> Iterator[Engine]:
    engine = connect_engine(module_database, role="purser_courier", pool_size=6, application_name="test-courier")
    yield engine
    engine.dispose()


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


CourierOf = Callable[..., Courier]


@pytest.fixture
def courier_of(engine: Engine, broker: Broker, clock: ManualClock) -> Iterator[CourierOf]:
    with contextlib.ExitStack() as stack:

        def made(
            *,
            on: Clock = clock,
            consumers: Mapping[ConsumerName, Consumer] = CONSUMERS,
            publisher: Broker = broker,
            heartbeat_file: Path | None = None,
            engine: Engine = engine,
        ) -> Courier:
            sleeper = Sleeper(engine)
            stack.callback(sleeper.close)
            return Courier(
                engine=engine,
                publisher=publisher,
                sleeper=sleeper,
                clock=on,
                consumers=consumers,
                heartbeat=Heartbeat(heartbeat_file),
            )

        yield made


@contextlib.contextmanager
def running(courier: Courier) -> Iterator[threading.Thread]:
    """The courier at work in a thread of its own; it has to stop when it is told to."""
    thread = threading.Thread(target=courier.run)
    thread.start()
    try:
        yield thread
    finally:
        courier.stop()
        thread.join(10)
        assert not thread.is_alive()


class TestHandingOver:
    def test_ids_travel_in_messages_of_one_type_for_one_queue_oldest_first(
        self, bus: Bus, broker: Broker, courier_of: CourierOf
    ) -> None:
        tokens, receipts = bus.tokens(7), bus.receipts(1)
        submitted = bus.record(bus.draft(SUBMITTED))
        assert courier_of().hand_over() == 9
        assert sorted(broker.messages, key=lambda each: (each.queue, each.event_type, each.event_ids)) == [
            Message(VERIFIER, TOKEN_ISSUED, tuple(tokens[:3])),
            Message(VERIFIER, TOKEN_ISSUED, tuple(tokens[3:6])),
            Message(VERIFIER, TOKEN_ISSUED, tuple(tokens[6:])),
            Message(VERIFIER, SUBMITTED.TYPE, tuple(submitted)),
            Message(VERIFIER_STORE, RECEIPT_SUBMITTED, tuple(receipts)),
        ]

    def test_what_was_recorded_first_goes_first_whatever_its_type(
        self, bus: Bus, broker: Broker, courier_of: CourierOf
    ) -> None:
        submitted = bus.record(bus.draft(SUBMITTED))
        tokens = bus.tokens(1)
        assert TOKEN_ISSUED < SUBMITTED.TYPE
        courier_of().hand_over()
        assert [message.event_ids for message in broker.messages] == [tuple(submitted), tuple(tokens)]

    def test_what_is_handed_over_is_leased_and_counted(self, bus: Bus, courier_of: CourierOf) -> None:
        (event_id,) = bus.tokens(1)
        courier_of().hand_over()
        row = bus.row(VERIFIER, event_id)
        assert row is not None
        assert (row.state, row.handovers, row.attempts) == ("handed", 1, 0)
        assert row.due_in_s == pytest.approx(LEASE_S, abs=3)

    def test_what_is_leased_is_not_handed_over_again_until_the_lease_is_over(
        self, bus: Bus, broker: Broker, clock: ManualClock, courier_of: CourierOf
    ) -> None:
        event_ids = bus.tokens(2)
        courier = courier_of()
        courier.hand_over()
        clock.advance(60)
        assert courier.hand_over() == 0
        bus.set(event_ids, "due_at = clock_timestamp()")
        assert courier.hand_over() == 2
        assert broker.ids() == Counter(event_ids * 2)

    def test_the_lease_doubles_with_each_hand_over_up_to_its_limit(
        self, bus: Bus, clock: ManualClock, courier_of: CourierOf
    ) -> None:
        event_ids = bus.tokens(3)
        for event_id, handovers in zip(event_ids, (1, 2, 200), strict=True):
            bus.set([event_id], f"handovers = {handovers}")
        courier_of().hand_over()
        rows = [bus.row(VERIFIER, event_id) for event_id in event_ids]
        assert [row.due_in_s for row in rows if row is not None] == [
            pytest.approx(2 * LEASE_S, abs=3),
            pytest.approx(4 * LEASE_S, abs=3),
            pytest.approx(under_test.LEASE_MAX_S, abs=3),
        ]

    def test_a_queue_nobody_serves_here_is_left_alone(self, bus: Bus, broker: Broker, courier_of: CourierOf) -> None:
        bus.tokens(1)
        assert courier_of(consumers={VERIFIER_STORE: CONSUMERS[VERIFIER_STORE]}).hand_over() == 0
        assert broker.messages == []

    def test_an_id_that_came_to_nothing_three_times_travels_alone(
        self, bus: Bus, broker: Broker, courier_of: CourierOf
    ) -> None:
        event_ids = bus.tokens(4)
        bus.set(event_ids[1:2], "handovers = 3")
        bus.set(event_ids[2:3], "handovers = 2")
        courier_of().hand_over()
        assert broker.messages == [
            Message(VERIFIER, TOKEN_ISSUED, (event_ids[0], event_ids[2], event_ids[3])),
            Message(VERIFIER, TOKEN_ISSUED, (event_ids[1],), alone=True),
        ]

    def test_what_is_parked_dead_or_waits_for_its_time_is_not_handed_over(
        self, bus: Bus, broker: Broker, courier_of: CourierOf
    ) -> None:
        event_ids = bus.tokens(3)
        bus.set(event_ids[:1], "state = 'parked', due_at = 'infinity'")
        bus.set(event_ids[1:2], "state = 'dead', due_at = 'infinity'")
        bus.set(event_ids[2:], "due_at = clock_timestamp() + interval '1 minute'")
        assert courier_of().hand_over() == 0

    def test_it_steps_over_what_another_courier_is_just_taking(self, bus: Bus, courier_of: CourierOf) -> None:
        tokens = bus.tokens(15)
        with bus.engine.begin() as other:
            other.exec_driver_sql(
                "select from journal.delivery where event_id = any(%(ids)s) for update", {"ids": tokens[:5]}
            )
            assert courier_of().hand_over() == 10
        assert {event_id for event_id in tokens if is_handed(bus, event_id)} == set(tokens[5:])

    def test_two_couriers_hand_each_id_over_once(self, bus: Bus, courier_of: CourierOf) -> None:
        consumers = {VERIFIER: Consumer(VERIFIER, ids_per_message=20, ids_in_flight=10_000, lease_s=LEASE_S)}
        event_ids = bus.tokens(600)
        brokers = [Broker(), Broker()]
        begin = threading.Barrier(2, timeout=10)

        def work(publisher: Broker) -> None:
            clock = ManualClock(NOW)
            courier = courier_of(on=clock, consumers=consumers, publisher=publisher)
            begin.wait()
            for _ in range(3):
                courier.hand_over()
                clock.advance(1)
                bus.tokens(5)

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(work, publisher) for publisher in brokers]:
                done.result(30)
        final = courier_of(consumers=consumers, publisher=brokers[0])
        final.hand_over()
        handed = brokers[0].ids() + brokers[1].ids()
        assert len(handed) == len(event_ids) + 30
        assert set(handed.values()) == {1}


def is_handed(bus: Bus, event_id: EventId) -> bool:
    row = bus.row(VERIFIER, event_id)
    return row is not None and row.state == "handed"


class TestWhatIsInFlight:
    def test_it_is_bounded_in_ids_per_queue(
        self, bus: Bus, broker: Broker, clock: ManualClock, courier_of: CourierOf
    ) -> None:
        tokens, receipts = bus.tokens(25), bus.receipts(1)
        courier = courier_of()
        assert courier.hand_over() == 11
        assert set(broker.ids()) == set(tokens[:10] + receipts)
        clock.advance(1)
        assert courier.hand_over() == 0

    def test_what_is_handled_makes_room(self, bus: Bus, clock: ManualClock, courier_of: CourierOf) -> None:
        tokens = bus.tokens(25)
        courier = courier_of()
        courier.hand_over()
        bus.execute("delete from journal.delivery where event_id = any(%(ids)s)", ids=tokens[:4])
        clock.advance(1)
        assert courier.hand_over() == 4

    def test_retries_that_wait_for_their_time_take_no_room(self, bus: Bus, courier_of: CourierOf) -> None:
        bus.set(bus.tokens(30), "due_at = clock_timestamp() + interval '10 s', attempts = 1")
        bus.tokens(10)
        assert courier_of().hand_over() == 10

    def test_a_lease_that_is_over_takes_no_room(self, bus: Bus, clock: ManualClock, courier_of: CourierOf) -> None:
        tokens = bus.tokens(10)
        courier = courier_of()
        courier.hand_over()
        bus.set(tokens, "due_at = clock_timestamp()")
        clock.advance(1)
        assert courier.hand_over() == 10


class TestLookingBack:
    def test_what_came_due_while_nobody_looked_is_found_at_once(self, bus: Bus, courier_of: CourierOf) -> None:
        bus.set(bus.tokens(3), LONG_AGO)
        assert courier_of().hand_over() == 3

    def test_between_sweeps_only_what_came_due_a_moment_ago_is_looked_for(
        self, bus: Bus, clock: ManualClock, courier_of: CourierOf
    ) -> None:
        courier = courier_of()
        assert courier.hand_over() == 0
        bus.set(bus.tokens(3), LONG_AGO)
        recent = bus.tokens(1)
        assert courier.hand_over() == 1
        bus.execute("delete from journal.delivery where event_id = any(%(ids)s)", ids=recent)
        clock.advance(SWEEP_S)
        assert courier.hand_over() == 3

    def test_a_backlog_is_worked_off_without_waiting_for_a_sweep(
        self, bus: Bus, clock: ManualClock, courier_of: CourierOf
    ) -> None:
        tokens = bus.tokens(25)
        bus.set(tokens, LONG_AGO)
        courier = courier_of()
        handed = []
        for _ in range(3):
            handed.append(courier.hand_over())
            bus.execute("delete from journal.delivery where state = 'handed'")
            clock.advance(PAUSE_BUSY_S)
        assert handed == [10, 10, 5]

    def test_a_look_reads_no_row_that_is_not_due(self, bus: Bus, engine: Engine) -> None:
        bus.execute(
            "insert into journal.delivery (consumer, event_id, type, due_at, state)"
            " select %(consumer)s, gen_random_uuid(), 'account_token.issued',"
            "        clock_timestamp() + interval '1 day', 'waiting' from generate_series(1, 20000)",
            consumer=VERIFIER,
        )
        bus.set(bus.tokens(5), LONG_AGO)
        bus.execute("analyze journal.delivery")
        parameters = {"names": [VERIFIER], "in_flight": [10], "leases": [15.0], "look_backs": [1e9]}
        (plan,) = bus.execute(f"explain (analyze, format json) {under_test._TAKE}", **parameters)
        assert rows_read(plan[0][0]["Plan"]) < 200


def rows_read(node: dict[str, Any]) -> int:
    """The rows that the nodes of a plan gave or threw away."""
    thrown = sum(int(value) for name, value in node.items() if name.startswith("Rows Removed"))
    own = int(node["Actual Rows"] * node["Actual Loops"]) + thrown
    return own + sum(rows_read(child) for child in node.get("Plans", ()))


class TestPauses:
    @pytest.mark.parametrize(("count", "pause_s"), [(1, PAUSE_S), (3, PAUSE_BUSY_S)])
    def test_between_two_hand_overs_to_one_queue_there_is_a_pause_longer_when_a_message_was_full(
        self, bus: Bus, clock: ManualClock, courier_of: CourierOf, count: int, pause_s: float
    ) -> None:
        courier = courier_of()
        bus.tokens(count)
        assert courier.hand_over() == count
        bus.tokens(1)
        bus.receipts(1)
        assert courier.hand_over() == 1  # the other queue does not rest
        clock.advance(pause_s - 0.001)
        assert courier.hand_over() == 0
        clock.advance(0.002)
        assert courier.hand_over() == 1

    def test_a_look_that_finds_nothing_is_followed_by_no_pause(self, bus: Bus, courier_of: CourierOf) -> None:
        courier = courier_of()
        assert courier.hand_over() == 0
        bus.tokens(1)
        assert courier.hand_over() == 1


class TestABrokerThatIsAway:
    def test_what_it_did_not_take_is_due_again_soon_and_does_not_count_as_handed_over(
        self, bus: Bus, broker: Broker, clock: ManualClock, courier_of: CourierOf
    ) -> None:
        event_ids = bus.tokens(4)
        broker.away = True
        courier = courier_of()
        with pytest.raises(BrokerUnavailable):
            courier.hand_over()
        row = bus.row(VERIFIER, event_ids[0])
        assert row is not None
        assert (row.state, row.handovers) == ("waiting", 0)
        assert row.due_in_s == pytest.approx(under_test.AWAY_S, abs=1)
        broker.away = False
        bus.set(event_ids, "due_at = clock_timestamp()")
        assert courier.hand_over() == 4
        assert not any(message.alone for message in broker.messages)

    def test_everything_is_handed_over_when_it_is_back(
        self, bus: Bus, broker: Broker, courier_of: CourierOf, tmp_path: Path
    ) -> None:
        heartbeat = tmp_path / "heartbeat"
        broker.away = True
        event_ids = bus.tokens(5)
        with running(courier_of(on=SystemClock(), heartbeat_file=heartbeat)):
            wait_until(lambda: rows_in(bus, "state = 'waiting' and due_at > clock_timestamp()") > 0)
            assert not heartbeat.exists()
            broker.away = False
            wait_until(lambda: set(broker.ids()) == set(event_ids), what="the hand-over")
            wait_until(heartbeat.exists, what="a sign of life")

    def test_one_queue_that_it_does_not_serve_waits_and_no_other_does(
        self, bus: Bus, broker: Broker, clock: ManualClock, courier_of: CourierOf
    ) -> None:
        courier = courier_of()
        broker.refused = {VERIFIER}
        refused, taken = bus.tokens(2), bus.receipts(2)
        assert courier.hand_over() == 2
        assert set(broker.ids()) == set(taken)
        row = bus.row(VERIFIER, refused[0])
        assert row is not None
        assert (row.state, row.handovers) == ("waiting", 0)
        other = bus.row(VERIFIER_STORE, taken[0])
        assert other is not None
        assert other.state == "handed"

        broker.refused = set()
        bus.set(refused, "due_at = clock_timestamp()")
        clock.advance(under_test.LEFT_ALONE_S - 1)
        more = bus.receipts(1)
        assert courier.hand_over() == 1
        assert set(broker.ids()) == set(taken + more)
        clock.advance(1)
        assert courier.hand_over() == 2
        assert set(broker.ids()) == set(refused + taken + more)

    def test_what_is_due_for_the_others_meanwhile_is_found_without_a_wake_up(
        self, bus: Bus, broker: Broker, courier_of: CourierOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "LEFT_ALONE_S", 300.0)
        broker.refused = {VERIFIER}
        bus.tokens(1)
        with running(courier_of(on=SystemClock())):
            wait_until(lambda: broker.tries > 0, what="the refusal")
            taken = bus.receipts(1)
            wait_until(lambda: set(broker.ids()) == set(taken), within_s=5)

    def test_a_table_that_others_hold_is_waited_for(
        self, bus: Bus, broker: Broker, courier_of: CourierOf, module_database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard = threading.Event()
        monkeypatch.setattr(under_test, "log", Mock(warning=lambda *_, **__: heard.set()))
        impatient = connect_engine(
            module_database, role="purser_courier", pool_size=2, application_name="courier", lock_timeout_s=1
        )
        event_ids = bus.tokens(1)
        with bus.engine.connect() as migration, running(courier_of(on=SystemClock(), engine=impatient)):
            migration.exec_driver_sql("lock table journal.delivery in access exclusive mode")
            bus_is_held = heard.wait(20)
            migration.rollback()
            assert bus_is_held
            wait_until(lambda: set(broker.ids()) == set(event_ids), what="the hand-over")
        impatient.dispose()

    def test_it_is_tried_once_in_a_while_however_often_somebody_calls(
        self, bus: Bus, engine: Engine, broker: Broker, clock: ManualClock, tmp_path: Path
    ) -> None:
        broker.away = True
        event_ids = bus.tokens(5)
        sleeper = LightSleeper(engine, meanwhile=lambda: called(2.5))
        courier = Courier(
            engine=engine,
            publisher=broker,
            sleeper=sleeper,
            clock=clock,
            consumers=CONSUMERS,
            heartbeat=Heartbeat(tmp_path / "heartbeat"),
        )

        def called(until_s: float) -> None:
            clock.advance(0.25)
            bus.set(event_ids, "due_at = clock_timestamp()")
            if clock.monotonic() >= until_s:
                courier.stop()

        courier.run()
        assert broker.tries == 3  # at 0 s, 1 s and 2 s
        assert not (tmp_path / "heartbeat").exists()
        sleeper.close()


class LightSleeper(Sleeper):
    """Somebody calls at once, each time; something happens meanwhile."""

    def __init__(self, engine: Engine, *, meanwhile: Callable[[], None]) -> None:
        super().__init__(engine)
        self._meanwhile = meanwhile

    def wait(self, timeout_s: float) -> bool:
        self._meanwhile()
        return True


def rows_in(bus: Bus, condition: str) -> int:
    return len(bus.execute(f"select from journal.delivery where {condition}"))


class TestRunning:
    def test_it_finds_what_is_written_without_a_wake_up(self, bus: Bus, broker: Broker, courier_of: CourierOf) -> None:
        with running(courier_of(on=SystemClock())):
            event_ids = bus.tokens(1)
            wait_until(lambda: set(broker.ids()) == set(event_ids), within_s=5)

    def test_a_wake_up_ends_its_sleep(
        self, bus: Bus, broker: Broker, courier_of: CourierOf, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "POLL_S", 300.0)
        waker = Waker(engine)
        with running(courier_of(on=SystemClock())):
            wait_until(lambda: listeners(bus) == 1, what="a listener")
            event_ids = bus.tokens(1)
            waker.poke()
            wait_until(lambda: set(broker.ids()) == set(event_ids), within_s=5)
        waker.close()

    def test_what_is_written_while_a_queue_rests_needs_no_second_wake_up(
        self, bus: Bus, broker: Broker, courier_of: CourierOf, engine: Engine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "POLL_S", 300.0)
        monkeypatch.setattr(under_test, "PAUSE_S", 1.0)
        waker = Waker(engine)
        with running(courier_of(on=SystemClock())):
            wait_until(lambda: listeners(bus) == 1, what="a listener")
            first = bus.tokens(1)
            waker.poke()
            wait_until(lambda: set(broker.ids()) == set(first), within_s=5)
            second = bus.tokens(1)
            wait_until(lambda: set(broker.ids()) == set(first + second), within_s=5)
        waker.close()

    @pytest.mark.slow
    def test_it_outlives_a_restart_of_postgres(self) -> None:
        broker = Broker()
        with reachable_directory() as directory, running_servers(directory) as servers:
            url = servers.migrated_database()
            engine = connect_engine(url, role="purser_courier", pool_size=2, application_name="test-courier")
            sleeper = Sleeper(engine)
            courier = Courier(
                engine=engine,
                publisher=broker,
                sleeper=sleeper,
                clock=SystemClock(),
                consumers=CONSUMERS,
                heartbeat=Heartbeat(None),
            )
            with bus_in(url) as bus, running(courier):
                before = bus.tokens(2)
                wait_until(lambda: set(broker.ids()) == set(before))
                restart_postgres(servers.postgres.data / "postmaster.pid", servers.postgres.ready)
                after = bus.tokens(2)
                wait_until(lambda: set(broker.ids()) == set(before + after), what="the hand-over after the restart")
                wait_until(lambda: listeners(bus) == 1, what="a listener after the restart")
            sleeper.close()
            engine.dispose()

    def test_partitions_are_made_ahead_of_time(self, bus: Bus, courier_of: CourierOf) -> None:
        courier = courier_of(on=ManualClock(datetime(2035, 11, 22, tzinfo=UTC)))
        courier._turn()
        names = bus.execute("select relname from pg_class where relname like 'event\\_203%%' and relkind = 'r'")
        assert {name for (name,) in names} >= {"event_2035_11", "event_2035_12", "event_2036_01", "event_2036_02"}

    def test_partitions_that_cannot_be_made_do_not_stop_the_hand_over(
        self, bus: Bus, broker: Broker, courier_of: CourierOf
    ) -> None:
        bus.execute("create table journal.event_2040_05 ()")
        bus.execute(
            "create table journal.event_2040_06 partition of journal.event for values from (%(a)s) to (%(b)s)",
            a="02070000-0000-0000-0000-000000000000",
            b="02080000-0000-0000-0000-000000000000",
        )
        event_ids = bus.tokens(1)
        courier_of(on=ManualClock(datetime(2040, 5, 1, tzinfo=UTC)))._turn()
        assert set(broker.ids()) == set(event_ids)


def listeners(bus: Bus) -> int:
    return len(
        bus.execute(
            "select from pg_stat_activity where query = 'listen purser_journal' and datname = current_database()"
        )
    )


def restart_postgres(pid_file: Path, ready: Callable[[], bool]) -> None:
    """Stops it the fast way; its supervisor starts it again."""
    pid = int(pid_file.read_text().split()[0])
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: not is_pid_of(pid_file, pid) and ready(), within_s=30, what="the restart of PostgreSQL")


def is_pid_of(pid_file: Path, pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(pid_file.read_text().split()[0]) == pid
    return True


class TestWaking:
    @pytest.fixture
    def sleeper(self, engine: Engine) -> Iterator[Sleeper]:
        sleeper = Sleeper(engine)
        sleeper.wait(0)  # listens from here on
        yield sleeper
        sleeper.close()

    def test_a_poke_wakes_and_one_sleep_only(self, engine: Engine, sleeper: Sleeper) -> None:
        waker = Waker(engine)
        waker.poke()
        assert sleeper.wait(10)
        assert not sleeper.wait(0.05)
        waker.close()

    def test_nothing_wakes_it_when_nothing_happens(self, sleeper: Sleeper) -> None:
        assert not sleeper.wait(0.05)

    def test_whoever_interrupts_waits_for_nobody_however_often_and_whoever_sleeps(self, sleeper: Sleeper) -> None:
        def interrupt() -> None:
            for _ in range(10_000):
                sleeper.interrupt()

        thread = threading.Thread(target=interrupt, daemon=True)
        thread.start()
        thread.join(10)
        assert not thread.is_alive()
        assert sleeper.wait(10)

    def test_interrupting_one_that_is_closed_changes_nothing(self, engine: Engine) -> None:
        closed = Sleeper(engine)
        closed.close()
        closed.interrupt()

    def test_an_interruption_wakes_it_from_any_thread(self, sleeper: Sleeper) -> None:
        with ThreadPoolExecutor(1) as pool:
            sleeping = pool.submit(sleeper.wait, 60)
            sleeper.interrupt()
            assert sleeping.result(5)
        assert not sleeper.wait(0.05)

    def test_many_pokes_are_few_notifications(self, engine: Engine, module_database: str) -> None:
        listener = psycopg2.connect(module_database)
        listener.autocommit = True
        with listener.cursor() as cursor:
            cursor.execute("listen purser_journal")
        waker = Waker(engine)
        clock = SystemClock()
        began = clock.monotonic()
        while clock.monotonic() < began + 0.3:
            waker.poke()
        waker.close()
        with listener.cursor() as cursor:
            cursor.execute("select 1")
        elapsed_s = clock.monotonic() - began
        assert 1 <= len(listener.notifies) <= elapsed_s / 0.02 + 2
        listener.close()

    def test_a_poke_never_fails_and_the_waker_lives_on_when_the_database_is_away(
        self, engine: Engine, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waker = Waker(engine)
        monkeypatch.setattr("shared.bus.wake.RECONNECT_S", 0.01)
        with monkeypatch.context() as away:
            away.setattr(engine, "connect", unreachable, raising=False)
            waker.poke()
            wait_until(lambda: not waker._poked.is_set())
        waker.poke()
        assert sleeper.wait(10)
        waker.close()

    def test_without_a_database_it_sleeps_its_time_and_hears_again_when_it_is_back(
        self, bus: Bus, engine: Engine, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as away:
            away.setattr(engine, "raw_connection", unreachable, raising=False)
            bus.execute("select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen purser_journal'")
            sleeper.wait(5)
            assert not sleeper.wait(0.05)
        sleeper.wait(0)
        bus.execute("notify purser_journal")
        assert sleeper.wait(10)

    def test_it_works_in_a_process_with_more_than_a_thousand_open_files(self, engine: Engine) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        with contextlib.ExitStack() as stack:
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            for _ in range(600):
                for end in socket.socketpair():
                    stack.callback(end.close)
            sleeper = Sleeper(engine)
            stack.callback(sleeper.close)
            sleeper.wait(0)
            engine.dispose()  # the next connections have high numbers too
            waker = Waker(engine)
            stack.callback(waker.close)
            waker.poke()
            assert sleeper.wait(10)


def unreachable(*_: Any) -> Any:
    raise psycopg2.OperationalError("connection refused")


def move(
    how: Callable[..., int], bus: Bus, event_ids: Sequence[EventId], *, consumer: ConsumerName | None = None
) -> int:
    return transact(
        bus.engine, lambda on: how(on, event_ids=event_ids, consumer=consumer, actor="dora", ids=bus.ids, now=NOW)
    )


class TestParking:
    @pytest.fixture
    def stuck(self, bus: Bus) -> list[EventId]:
        """One parked and one dead delivery, beside one that waits."""
        event_ids = bus.tokens(3)
        bus.set(event_ids[:1], "state = 'parked', due_at = 'infinity', attempts = 1, error = 'no such product'")
        bus.set(event_ids[1:2], "state = 'dead', due_at = 'infinity', attempts = 20, handovers = 9, error = 'why'")
        return event_ids

    def test_what_is_parked_and_what_is_dead_is_listed_oldest_first(self, bus: Bus, stuck: list[EventId]) -> None:
        listed = transact(bus.engine, parking.stuck)
        assert [
            (each.event_id, each.consumer, each.type, each.state, each.attempts, each.error) for each in listed
        ] == [
            (stuck[0], VERIFIER, TOKEN_ISSUED, "parked", 1, "no such product"),
            (stuck[1], VERIFIER, TOKEN_ISSUED, "dead", 20, "why"),
        ]
        assert listed[0].subject.startswith("pur_")
        assert len(transact(bus.engine, lambda connection: parking.stuck(connection, limit=1))) == 1
        assert len(transact(bus.engine, lambda connection: parking.stuck(connection, consumer=VERIFIER))) == 2
        assert transact(bus.engine, lambda connection: parking.stuck(connection, consumer=LEDGER)) == []

    def test_what_is_retried_is_handed_over_with_all_its_attempts_ahead(
        self, bus: Bus, broker: Broker, courier_of: CourierOf, stuck: list[EventId]
    ) -> None:
        assert move(parking.retry, bus, stuck) == 2
        row = bus.row(VERIFIER, stuck[1])
        assert row is not None
        assert (row.state, row.attempts, row.handovers) == ("waiting", 0, 0)
        courier_of().hand_over()
        assert set(broker.ids()) == set(stuck)

    def test_what_is_dropped_is_gone_from_the_deliveries_and_stays_in_the_journal(
        self, bus: Bus, stuck: list[EventId]
    ) -> None:
        assert move(parking.drop, bus, stuck) == 2
        assert bus.open(VERIFIER, stuck) == {stuck[2]}
        rows = bus.execute("select from journal.event where id = any(%(ids)s)", ids=stuck)
        assert len(rows) == 3

    def test_a_proof_that_was_dropped_is_no_repeat_when_it_is_sent_once_more(self, bus: Bus) -> None:
        draft = bus.draft(SUBMITTED)

        def sent() -> EventId | None:
            return transact(
                bus.engine,
                lambda on: append_once(on, draft, ids=bus.ids, fingerprint=b"of it", reopen=[SUBMITTED.TYPE]),
            )

        first = sent()
        assert first is not None
        assert sent() is None
        bus.set([first], "state = 'parked', due_at = 'infinity'")
        assert sent() is None
        move(parking.drop, bus, [first])
        assert sent() is not None
        assert sent() is None

    @pytest.mark.parametrize("how", [parking.retry, parking.drop])
    def test_another_consumers_delivery_is_left_alone(
        self, bus: Bus, stuck: list[EventId], how: Callable[..., int]
    ) -> None:
        assert move(how, bus, stuck, consumer=NOTIFIER) == 0
        assert move(how, bus, stuck[:1], consumer=VERIFIER) == 1

    def test_who_moves_what_is_stuck_is_written_down(self, bus: Bus, stuck: list[EventId]) -> None:
        """In the timeline of what it was about; and nothing of what was not moved."""
        move(parking.retry, bus, stuck[:1])
        move(parking.drop, bus, stuck)
        written = bus.execute(
            "select moved.causation_id, moved.type, moved.payload, moved.subject = stuck.subject"
            "  from journal.event moved join journal.event stuck on stuck.id = moved.causation_id"
            " where stuck.id = any(%(ids)s) order by moved.id",
            ids=stuck,
        )
        who = {"consumer": VERIFIER, "actor": "dora"}
        assert [tuple(row) for row in written] == [
            (stuck[0], "delivery.retried", who, True),
            (stuck[1], "delivery.dropped", who, True),
        ]
