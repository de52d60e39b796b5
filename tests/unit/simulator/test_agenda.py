"""What is due when, and the thread that does it: in time, one after the other, and not while it stands still."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

from shared.clock import ManualClock, SystemClock
from shared.ids import TransactionId
from simulator.agenda import Agenda, Clockwork, Setting
from simulator.domain import TransactionUnknown
from tests.support.shop import START
from tests.support.stack import wait_until

ONE, TWO, THREE = (TransactionId(each) for each in "123")
RUNNING = Setting(running=True)
A_MINUTE = timedelta(minutes=1)


def test_what_is_due_first_is_taken_first() -> None:
    clock = ManualClock(START)
    agenda = Agenda(clock, RUNNING)
    for each, minutes in ((ONE, 3), (TWO, 1), (THREE, 2)):
        agenda.plan(each, START + minutes * A_MINUTE)
    clock.advance(600)
    assert [agenda.take() for _ in range(3)] == [TWO, THREE, ONE]


def test_only_the_newest_plan_counts() -> None:
    clock = ManualClock(START)
    agenda = Agenda(clock, RUNNING)
    agenda.plan(ONE, START + A_MINUTE)
    agenda.plan(ONE, START + 3 * A_MINUTE)
    agenda.plan(TWO, START + 2 * A_MINUTE)
    agenda.plan(THREE, START)
    agenda.plan(THREE, None)
    clock.advance(600)
    assert [agenda.take() for _ in range(2)] == [TWO, ONE]
    agenda.close()
    assert agenda.take() is None


def test_what_was_planned_anew_again_and_again_takes_no_more_memory() -> None:
    agenda = Agenda(ManualClock(START), RUNNING)
    for minutes in range(10_000):
        agenda.plan(ONE, START + minutes * A_MINUTE)
    assert len(agenda._heap) < 2_000


def test_a_setting_says_how_long_a_month_is() -> None:
    assert Setting(month_s=60).lengths.month == A_MINUTE
    assert Setting().lengths.month is None


class Doings:
    """What the clockwork did."""

    def __init__(self) -> None:
        self.done: list[TransactionId] = []
        self.unknown: set[TransactionId] = set()

    def act(self, subscription_id: TransactionId) -> None:
        self.done.append(subscription_id)
        if subscription_id in self.unknown:
            raise TransactionUnknown(subscription_id)


@contextmanager
def at_work(agenda: Agenda) -> Iterator[Doings]:
    doings = Doings()
    with closing(Clockwork(agenda, doings.act)):
        yield doings


def test_the_clockwork_does_what_comes_due_in_real_time() -> None:
    clock = SystemClock()
    agenda = Agenda(clock, RUNNING)
    with at_work(agenda) as doings:
        agenda.plan(TWO, clock.now() + timedelta(milliseconds=60))
        agenda.plan(ONE, clock.now() + timedelta(milliseconds=20))
        wait_until(lambda: len(doings.done) == 2)
    assert doings.done == [ONE, TWO]


def test_while_it_stands_still_nothing_happens_and_then_all_that_is_due() -> None:
    agenda = Agenda(SystemClock(), Setting())
    agenda.plan(ONE, START - A_MINUTE)
    taken: list[TransactionId | None] = []
    taker = threading.Thread(target=lambda: taken.append(agenda.take()))
    taker.start()
    taker.join(timeout=0.1)  # as long as it waits, there is nothing to be seen but that it does
    assert (taker.is_alive(), taken) == (True, [])
    agenda.put(RUNNING)
    taker.join(timeout=5)
    assert taken == [ONE]


def test_one_that_cannot_go_on_does_not_stop_the_others() -> None:
    agenda = Agenda(SystemClock(), RUNNING)
    with at_work(agenda) as doings:
        doings.unknown.add(ONE)
        agenda.plan(ONE, START - A_MINUTE)
        wait_until(lambda: doings.done == [ONE])
        agenda.plan(TWO, START - A_MINUTE)
        wait_until(lambda: doings.done == [ONE, TWO])


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    with at_work(Agenda(SystemClock(), RUNNING)):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
