"""Group commit by itself: who leads, who hears what, and what becomes of the others when it goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from shared import trail
from shared.bus import group_commit
from shared.bus.group_commit import BATCH_MAX, GroupCommit
from shared.database import DatabaseUnavailable
from shared.trail import Place, SpanId
from tests.support.stack import wait_until


class Stopped(BaseException):
    """What ends a thread, as SystemExit and KeyboardInterrupt do."""


class Ledger:
    """Writes numbers; its first write waits until `open` is set, so that the others gather behind it."""

    def __init__(self, refuse: Callable[[Sequence[int]], BaseException | None] = lambda _: None) -> None:
        self.writes: list[list[int]] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        self._refuse = refuse

    def write(self, items: Sequence[int]) -> list[int]:
        self.writes.append(list(items))
        if len(self.writes) == 1:
            self.entered.set()
            assert self.open.wait(10)
        if (error := self._refuse(items)) is not None:
            raise error
        return [10 * item for item in items]


def differ(item: int, others: Sequence[int]) -> bool:
    return item not in others


def behind(ledger: Ledger, group: GroupCommit[int, int], items: Sequence[int]) -> list[Future[int]]:
    """0 is being written; the items gather behind it, in this order, and then go."""
    pool = ThreadPoolExecutor(len(items) + 1)
    futures = [pool.submit(group.submit, 0)]
    assert ledger.entered.wait(10)
    for count, item in enumerate(items, start=1):
        futures.append(pool.submit(group.submit, item))
        wait_until(lambda wanted=count: group.waiting() == wanted)  # type: ignore[misc]
    ledger.open.set()
    pool.shutdown(wait=True)
    return futures


def test_who_is_alone_is_written_at_once_and_alone() -> None:
    ledger = Ledger()
    ledger.open.set()
    group = GroupCommit(ledger.write, may_join=differ)
    assert [group.submit(1), group.submit(2)] == [10, 20]
    assert ledger.writes == [[1], [2]]


def test_those_who_come_meanwhile_are_written_together_and_each_hears_of_its_own() -> None:
    ledger = Ledger()
    futures = behind(ledger, GroupCommit(ledger.write, may_join=differ), [1, 2, 3])
    assert ledger.writes == [[0], [1, 2, 3]]
    assert [future.result() for future in futures] == [0, 10, 20, 30]


def test_who_writes_for_several_is_where_all_of_them_are_and_nowhere_else() -> None:
    """So that a line about one of them has its trace, and not the leader's."""
    ledger, seen = Ledger(), []

    def write(items: Sequence[int]) -> list[int]:
        seen.append([place.trace_id for place in trail.places()])
        return ledger.write(items)

    group = GroupCommit(write, may_join=differ)

    def submit(item: int) -> int:
        with trail.at(Place(f"trace of {item}", SpanId("1" * 16))):
            return group.submit(item)

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(submit, 0)]
        assert ledger.entered.wait(10)
        for item in (1, 2):
            futures.append(pool.submit(submit, item))
            wait_until(lambda wanted=item: group.waiting() == wanted)  # type: ignore[misc]
        ledger.open.set()
        assert [future.result(10) for future in futures] == [0, 10, 20]
    assert seen == [["trace of 0"], ["trace of 1", "trace of 2"]]


def test_what_may_not_join_is_written_after_the_others() -> None:
    ledger = Ledger()
    futures = behind(ledger, GroupCommit(ledger.write, may_join=differ), [1, 1, 2])
    assert ledger.writes == [[0], [1, 2], [1]]
    assert [future.result() for future in futures] == [0, 10, 10, 20]


def test_a_batch_has_its_limit_and_the_rest_goes_next() -> None:
    ledger = Ledger()
    behind(ledger, GroupCommit(ledger.write, may_join=differ), range(1, BATCH_MAX + 3))
    assert [len(write) for write in ledger.writes] == [1, BATCH_MAX, 2]


def test_one_that_cannot_be_written_costs_each_of_the_others_one_more_write_and_no_more() -> None:
    ledger = Ledger(lambda items: ValueError("poison") if 7 in items else None)
    futures = behind(ledger, GroupCommit(ledger.write, may_join=differ), range(1, BATCH_MAX + 1))
    assert [future.exception() is None for future in futures] == [item != 7 for item in range(BATCH_MAX + 1)]
    assert isinstance(futures[7].exception(), ValueError)
    assert len(ledger.writes) == 2 + BATCH_MAX


def test_a_database_that_is_away_is_tried_once_for_all_of_a_batch() -> None:
    ledger = Ledger(lambda items: None if items == [0] else DatabaseUnavailable("away"))
    futures = behind(ledger, GroupCommit(ledger.write, may_join=differ), [1, 2, 3])
    assert ledger.writes == [[0], [1, 2, 3]]
    assert [type(future.exception()) for future in futures] == [type(None)] + [DatabaseUnavailable] * 3


def test_a_database_that_goes_away_while_each_is_written_alone_takes_nothing_from_who_was_written() -> None:
    def refuse(items: Sequence[int]) -> BaseException | None:
        if len(items) > 1:
            return ValueError("poison")
        return DatabaseUnavailable("away") if items[0] >= 2 else None

    ledger = Ledger(refuse)
    futures = behind(ledger, GroupCommit(ledger.write, may_join=differ), [1, 2, 3])
    assert sorted(ledger.writes) == [[0], [1], [1, 2, 3], [2], [3]]
    assert [type(future.exception()) for future in futures] == [type(None)] * 2 + [DatabaseUnavailable] * 2


def test_who_is_written_alone_waits_for_none_of_the_others() -> None:
    """One whose wallet is locked waits for all of its time-out, and others with it: none of them for another."""
    meet = threading.Barrier(3)

    def refuse(items: Sequence[int]) -> BaseException | None:
        if len(items) > 1:
            return ValueError("locked")
        if items != [0]:
            meet.wait(5)  # breaks, unless all three are being written at the same moment
        return None

    ledger = Ledger(refuse)
    futures = behind(ledger, GroupCommit(ledger.write, may_join=differ), [1, 2, 3])
    assert [future.result() for future in futures] == [0, 10, 20, 30]


@pytest.mark.parametrize("ends", [Stopped(), SystemExit(1), KeyboardInterrupt()])
def test_a_leader_that_is_ended_takes_nobody_along_and_the_others_hear_that_they_are_not_written(
    ends: BaseException,
) -> None:
    ledger = Ledger(lambda items: ends if items[0] == 1 else None)
    group = GroupCommit(ledger.write, may_join=differ)
    futures = behind(ledger, group, [1, 2, 3])
    assert futures[1].exception() is ends
    assert [type(future.exception()) for future in futures[2:]] == [DatabaseUnavailable] * 2
    assert group.submit(4) == 40  # somebody leads again


def test_a_leader_that_cannot_tell_who_goes_with_it_is_not_written_and_the_next_one_leads() -> None:
    def may_join(item: int, _: Sequence[int]) -> bool:
        if item == 1:
            raise MemoryError
        return True

    ledger = Ledger()
    group = GroupCommit(ledger.write, may_join=may_join)
    futures = behind(ledger, group, [1, 2])
    assert isinstance(futures[1].exception(), MemoryError)
    assert futures[2].result() == 20
    assert group.waiting() == 0
    assert group.submit(3) == 30


def test_who_waits_too_long_gives_up_and_the_next_ones_are_written_once_the_leader_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "TURN_WITHIN_S", 0.05)
    ledger = Ledger()
    group = GroupCommit(ledger.write, may_join=differ)
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(group.submit, 0)
        assert ledger.entered.wait(10)
        with pytest.raises(DatabaseUnavailable, match="did not come"):
            group.submit(1)
        assert group.waiting() == 0
        ledger.open.set()
        assert stuck.result(10) == 0
    assert group.submit(2) == 20
    assert ledger.writes == [[0], [2]]


class Late(threading.Event):
    """Its time is up at the very moment when it comes true."""

    def wait(self, timeout: float | None = None) -> bool:
        assert super().wait(10)
        return False


def test_who_gives_up_at_the_moment_when_it_is_to_lead_leads_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nobody would, ever again."""
    monkeypatch.setattr(group_commit, "threading", SimpleNamespace(Event=Late, Lock=threading.Lock))
    ledger = Ledger()
    group = GroupCommit(ledger.write, may_join=differ)
    futures = behind(ledger, group, [1, 2])
    assert [future.result() for future in futures] == [0, 10, 20]
    assert group.submit(3) == 30
