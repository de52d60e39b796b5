"""Events that were answered at the same time and are settled in one transaction, when something goes wrong with it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from shared.bus.consumer import ConsumerRuntime, OneByOne
from shared.bus.group_commit import BATCH_MAX
from shared.bus.routes import CONSUMERS, VERIFIER_STORE
from shared.bus.wake import Waker
from shared.database import DatabaseUnavailable, connect_engine
from shared.events import Event
from shared.ids import EventId, system_ids
from shared.outcome import Handled, Later, Parked, TryLater
from tests.support.bus import RECEIPT_SUBMITTED, Bus, Row, bus_in
from tests.support.stack import wait_until

Answered = Sequence[tuple[Event[Any], Any]]
Wrong = Callable[[Connection, list[EventId]], Handled]
"""What goes wrong, once the effects of these events are written."""


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        bus.execute("create table verifier.effect (event_id uuid, answer text)")
        bus.execute("grant select, insert on verifier.effect to purser_verifier")
        yield bus


@pytest.fixture(scope="module")
def engine(module_database: str) -> Iterator[Engine]:
    engine = connect_engine(module_database, role="purser_verifier", pool_size=16, application_name="test-settling")
    yield engine
    engine.dispose()


class Road:
    """A consumer whose first event is being settled while the others gather behind it."""

    def __init__(self, engine: Engine, *, wrong: Wrong = lambda *_: Handled(), answer: str = "yes") -> None:
        self.groups: list[list[EventId]] = []
        self._wrong = wrong
        self._first_waits = threading.Event()
        self._others_wait = threading.Event()
        self.waker = Waker(engine)
        self.runtime = ConsumerRuntime(
            consumer=CONSUMERS[VERIFIER_STORE],
            handlers={RECEIPT_SUBMITTED: OneByOne(prepare=lambda *_: answer, settle=self._settle)},
            engine=engine,
            waker=self.waker,
            ids=system_ids(),
        )

    def _settle(self, connection: Connection, answered: Answered) -> Handled:
        group = [event.id for event, _ in answered]
        self.groups.append(group)
        self._first_waits.set()
        assert self._others_wait.wait(10)
        for event, answer in answered:
            parameters = {"id": event.id, "answer": answer}
            connection.exec_driver_sql("insert into verifier.effect values (%(id)s, %(answer)s)", parameters)
        return self._wrong(connection, group)

    def handle(
        self, first: EventId, others: Sequence[EventId], *, once_opened: Callable[[], object] = lambda: None
    ) -> list[Future[float | None]]:
        """All of them, the others as one group; one may be named twice, as when it is handed over twice."""
        others_opened = [self.runtime.open([event_id])[0] for event_id in others]
        once_opened()
        with ThreadPoolExecutor(1 + len(others)) as pool:
            futures = [pool.submit(self.runtime.handle_one, RECEIPT_SUBMITTED, self.runtime.open([first])[0])]
            assert self._first_waits.wait(10)
            futures += [pool.submit(self.runtime.handle_one, RECEIPT_SUBMITTED, each) for each in others_opened]
            wait_until(lambda: self.runtime.unsettled(RECEIPT_SUBMITTED) == len(others), what="the others' answers")
            self._others_wait.set()
        return futures


@pytest.fixture
def road(engine: Engine) -> Iterator[Callable[..., Road]]:
    made: list[Road] = []

    def make(**how: Any) -> Road:
        made.append(Road(engine, **how))
        return made[-1]

    yield make
    for each in made:
        each.waker.close()


def effects(bus: Bus, event_ids: Sequence[EventId]) -> Counter[EventId]:
    rows = bus.execute("select event_id from verifier.effect where event_id = any(%(ids)s)", ids=list(event_ids))
    return Counter(row[0] for row in rows)


def left(bus: Bus, event_id: EventId) -> Row:
    row = bus.row(VERIFIER_STORE, event_id)
    assert row is not None
    return row


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (Parked("not for sale"), "parked", "not for sale"),
        (TryLater("the book is closed"), "waiting", "the book is closed"),
        (ValueError("poison"), "waiting", "ValueError: poison"),
    ],
)
def test_what_is_raised_for_one_of_a_full_group_befalls_that_one_and_the_others_settle_once(
    bus: Bus, road: Callable[..., Road], error: Exception, state: str, reason: str
) -> None:
    first, *others = bus.receipts(1 + BATCH_MAX)
    bad = others[BATCH_MAX // 2]

    def wrong(_connection: Connection, group: list[EventId]) -> Handled:
        if bad in group:
            raise error
        return Handled()

    one_road = road(wrong=wrong)
    futures = one_road.handle(first, others)
    assert all(future.exception() is None for future in futures)
    assert len(one_road.groups[1]) == BATCH_MAX
    assert effects(bus, [first, *others]) == Counter({first, *others} - {bad})
    assert bus.open(VERIFIER_STORE, [first, *others]) == {bad}
    assert (left(bus, bad).state, left(bus, bad).attempts, left(bus, bad).error) == (state, 1, reason)


def test_what_is_said_of_one_of_a_group_befalls_that_one_in_the_groups_own_transaction(
    bus: Bus, road: Callable[..., Road]
) -> None:
    first, parked, later, fine = bus.receipts(4)
    one_road = road(
        wrong=lambda _connection, group: (
            Handled(parked={parked: "why"}, later={later: Later("not yet", 120)}) if parked in group else Handled()
        )
    )
    one_road.handle(first, [parked, later, fine])
    assert [len(group) for group in one_road.groups] == [1, 3]
    assert bus.open(VERIFIER_STORE, [first, parked, later, fine]) == {parked, later}
    assert (left(bus, parked).state, left(bus, later).state) == ("parked", "waiting")


def test_two_copies_of_one_event_that_are_answered_at_once_settle_once(bus: Bus, road: Callable[..., Road]) -> None:
    first, twice, once = bus.receipts(3)
    futures = road().handle(first, [twice, twice, once])
    assert all(future.exception() is None for future in futures)
    assert effects(bus, [first, twice, once]) == Counter([first, twice, once])
    assert bus.open(VERIFIER_STORE, [first, twice, once]) == set()


def test_two_processes_that_ask_about_one_event_settle_it_once_with_one_answer(
    bus: Bus, road: Callable[..., Road]
) -> None:
    """The store hangs longer than the lease: the event is handed over again, to another process."""
    first, second, asked_twice = bus.receipts(3)
    both_have_it = threading.Barrier(2, timeout=10).wait
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(road(answer=answer).handle, each, [asked_twice], once_opened=both_have_it)
            for answer, each in (("slow", first), ("quick", second))
        ]
        assert all(future.exception() is None for futures in both for future in futures.result(30))
    assert effects(bus, [first, second, asked_twice]) == Counter([first, second, asked_twice])
    assert bus.open(VERIFIER_STORE, [asked_twice]) == set()


def test_a_database_that_goes_away_in_the_middle_of_a_group_loses_and_doubles_none_of_it(
    bus: Bus, road: Callable[..., Road]
) -> None:
    """Cut off twice: the first time the transaction is tried anew by itself."""
    first, *others = bus.receipts(9)

    def wrong(connection: Connection, group: list[EventId]) -> Handled:
        if len(group) > 1:
            pid = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
            bus.execute("select pg_terminate_backend(%(pid)s)", pid=pid)
            connection.exec_driver_sql("select 1")
        return Handled()

    futures = road(wrong=wrong).handle(first, others)
    assert [type(future.exception()) for future in futures] == [type(None)] + [DatabaseUnavailable] * len(others)
    assert effects(bus, [first, *others]) == Counter([first])
    assert {left(bus, event_id).attempts for event_id in others} == {0}, "it was no fault of theirs"
    road().handle(others[0], others[1:])
    assert effects(bus, [first, *others]) == Counter([first, *others])
    assert bus.open(VERIFIER_STORE, others) == set()


@pytest.mark.parametrize("ends", [SystemExit(1), KeyboardInterrupt()])
def test_a_thread_that_is_ended_while_it_settles_a_group_loses_and_doubles_none_of_it(
    bus: Bus, road: Callable[..., Road], ends: BaseException
) -> None:
    first, *others = bus.receipts(5)

    def wrong(_connection: Connection, group: list[EventId]) -> Handled:
        if len(group) > 1:
            raise ends
        return Handled()

    futures = road(wrong=wrong).handle(first, others)
    assert Counter(type(future.exception()) for future in futures) == Counter(
        [type(None), type(ends)] + [DatabaseUnavailable] * (len(others) - 1)
    )
    assert effects(bus, [first, *others]) == Counter([first])
    road().handle(others[0], others[1:])
    assert effects(bus, [first, *others]) == Counter([first, *others])


def test_a_row_that_somebody_else_holds_is_left_to_its_next_hand_over(
    bus: Bus, engine: Engine, road: Callable[..., Road]
) -> None:
    """The others of its group do not wait for it, and its answer is asked for again."""
    first, held, other = bus.receipts(3)
    with engine.connect() as holder:
        holder.exec_driver_sql("select from journal.delivery where event_id = %(id)s for update", {"id": held})
        futures = road().handle(first, [held, other])
        holder.rollback()
    assert all(future.exception() is None for future in futures)
    assert effects(bus, [first, held, other]) == Counter([first, other])
    assert left(bus, held).state == "waiting"
