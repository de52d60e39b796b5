"""What is read at the scrape never holds a scrape up, and never tells the numbers of before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from shared.clock import ManualClock, SystemClock
from shared.metrics import read
from shared.metrics.read import BROKER_UP, KEPT_S, Family, ReadAtScrape, family


def values(collector: ReadAtScrape) -> dict[str, float]:
    return {sample.name: sample.value for found in collector.collect() for sample in found.samples}


class Depth:
    """A queue that grows by one with each look."""

    def __init__(self) -> None:
        self.looks = 0
        self.trouble: Exception | None = None

    def __call__(self) -> list[Family]:
        self.looks += 1
        if self.trouble is not None:
            raise self.trouble
        return [family("purser_queue_messages", {("ledger",): self.looks})]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 22, tzinfo=UTC))


def test_what_is_found_is_told_and_that_it_was(clock: ManualClock) -> None:
    assert values(ReadAtScrape(Depth(), up=BROKER_UP, clock=clock)) == {BROKER_UP: 1, "purser_queue_messages": 1}


def test_scrapes_that_come_close_together_see_one_reading(clock: ManualClock) -> None:
    collector = ReadAtScrape(Depth(), up=BROKER_UP, clock=clock)
    assert [values(collector)["purser_queue_messages"] for _ in range(3)] == [1, 1, 1]
    clock.advance(KEPT_S + 1)
    assert values(collector)["purser_queue_messages"] == 2


def test_what_fails_is_not_told_and_the_numbers_of_before_are_not_either(clock: ManualClock) -> None:
    depth = Depth()
    collector = ReadAtScrape(depth, up=BROKER_UP, clock=clock)
    values(collector)
    depth.trouble = OSError("away")
    clock.advance(KEPT_S + 1)
    assert values(collector) == {BROKER_UP: 0}
    depth.trouble = None
    clock.advance(KEPT_S + 1)
    assert values(collector)[BROKER_UP] == 1


@pytest.fixture
def hanging() -> Iterator[tuple[Callable[[], list[Family]], list[None], threading.Event]]:
    """A read that comes to its end when it is let; how often it began."""
    let, began = threading.Event(), list[None]()

    def hang() -> list[Family]:
        began.append(None)
        let.wait(30)
        return []

    yield hang, began, let
    let.set()


def test_what_hangs_is_given_up_and_no_second_one_begins_beside_it(
    hanging: tuple[Callable[[], list[Family]], list[None], threading.Event],
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hang, began, _ = hanging
    monkeypatch.setattr(read, "READ_WITHIN_S", 0.05)
    collector = ReadAtScrape(hang, up=BROKER_UP, clock=clock)
    watch = SystemClock()
    started = watch.monotonic()
    for _ in range(3):
        assert values(collector) == {BROKER_UP: 0}
        clock.advance(KEPT_S + 1)
    assert watch.monotonic() - started < 5
    assert len(began) == 1
