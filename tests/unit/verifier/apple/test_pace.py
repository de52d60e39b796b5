"""The pace of questions to the Server API, on a clock of its own: waiting moves it, nothing else does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import ManualClock
from shared.events import Environment
from shared.ids import AppId
from verifier.apple.pace import RATES_PER_S, Endpoint, Lane, Pace

GAME = AppId("game")
TRANSACTION = Lane(GAME, "production", Endpoint.TRANSACTION)
REFUNDS = Lane(GAME, "production", Endpoint.REFUNDS)
TEST = Lane(GAME, "production", Endpoint.TEST)

ENTRIES_MAX = 200_000
about = partial(pytest.approx, abs=1e-5)


class Road:
    """A pace, its clock, and how long each wait was."""

    def __init__(self, *, share: float = 1, wait_s_max: float = 1) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.waits: list[float] = []
        self.pace = Pace(share=share, clock=self.clock, wait_s_max=wait_s_max, wait=self.wait)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.clock.advance(seconds)

    def entries(self, lane: Lane, *, within_s: float) -> list[float]:
        """When a caller who asks again and again gets in, until so many seconds have passed (or for ever, it seems)."""
        start_s = self.clock.monotonic()
        moments: list[float] = []
        while len(moments) < ENTRIES_MAX:
            refused_s = self.pace.enter(lane)
            if refused_s is not None:
                self.clock.advance(refused_s)
            elif self.clock.monotonic() - start_s < within_s:
                moments.append(self.clock.monotonic() - start_s)
            else:
                break
        return moments


@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.parametrize(("environment", "part"), [("production", 1), ("sandbox", 0.1)])
@pytest.mark.parametrize("share", [1, 0.25])
def test_over_an_hour_no_endpoint_is_asked_more_often_than_apple_allows(
    endpoint: Endpoint, environment: Environment, part: float, share: float
) -> None:
    rate_per_s = RATES_PER_S[endpoint] * part * share
    burst = max(rate_per_s, 1)
    entries = Road(share=share).entries(Lane(GAME, environment, endpoint), within_s=3600)
    assert 3600 * rate_per_s - 1 <= len(entries) <= 3600 * rate_per_s + burst


@given(st.lists(st.floats(min_value=0, max_value=3), max_size=200), st.sampled_from([TRANSACTION, REFUNDS, TEST]))
def test_whatever_comes_when_no_second_sees_more_than_twice_the_rate(pauses: list[float], lane: Lane) -> None:
    """One second's worth that was saved up, and one that has come due."""
    road = Road()
    entered = []
    for pause_s in pauses:
        road.clock.advance(pause_s / lane.rate_per_s)
        if road.pace.enter(lane) is None:
            entered.append(road.clock.monotonic())
    for begin in entered:
        assert sum(begin <= moment < begin + 1 - 1e-6 for moment in entered) <= 2 * lane.rate_per_s


def test_after_a_quiet_time_one_seconds_worth_goes_at_once_and_no_more() -> None:
    road = Road()
    road.clock.advance(1000)
    at_once = 0
    while not road.waits:
        assert road.pace.enter(TRANSACTION) is None
        at_once += 1
    assert at_once - 1 == RATES_PER_S[Endpoint.TRANSACTION]
    assert road.waits == [about(0.02)]


def test_a_turn_that_is_too_far_off_is_not_waited_for_and_not_taken() -> None:
    road = Road(wait_s_max=0.5)
    assert road.pace.enter(TEST) is None
    assert [road.pace.enter(TEST) for _ in range(3)] == [about(1)] * 3
    assert road.waits == []
    road.clock.advance(1)
    assert road.pace.enter(TEST) is None


def test_lanes_do_not_wait_for_each_other() -> None:
    road = Road(wait_s_max=0)
    others = [
        TRANSACTION,
        Lane(GAME, "sandbox", Endpoint.TEST),
        Lane(AppId("other"), "production", Endpoint.TEST),
        Lane(GAME, "production", Endpoint.TEST_STATUS),
    ]
    assert road.pace.enter(TEST) is None
    assert road.pace.enter(TEST) is not None
    assert [road.pace.enter(lane) for lane in others] == [None] * 4


def test_a_lane_that_the_store_has_closed_is_closed_to_everybody_until_then() -> None:
    road = Road()
    road.pace.close(TRANSACTION, for_s=60)
    assert road.pace.enter(TRANSACTION) == about(60)
    assert road.pace.enter(REFUNDS) is None
    road.clock.advance(59.5)
    assert road.pace.enter(TRANSACTION) is None
    assert road.waits == [about(0.5)]


def test_of_two_ends_of_a_closure_the_later_counts() -> None:
    road = Road()
    road.pace.close(TRANSACTION, for_s=60)
    road.pace.close(TRANSACTION, for_s=5)
    assert road.pace.enter(TRANSACTION) == about(60)


def test_who_waits_for_his_turn_while_the_store_closes_the_lane_does_not_enter() -> None:
    road = Road()

    def wait(seconds: float) -> None:
        road.wait(seconds)
        pace.close(TEST, for_s=30)

    pace = Pace(share=1, clock=road.clock, wait=wait)
    assert pace.enter(TEST) is None
    assert pace.enter(TEST) == about(30)


def test_threads_get_a_turn_each_and_nobody_waits_twice() -> None:
    """The clock stands still meanwhile, so each that waits is told its own turn."""
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    waits: list[float] = []
    lock = threading.Lock()

    def wait(seconds: float) -> None:
        with lock:
            waits.append(seconds)

    pace = Pace(share=1, clock=clock, wait=wait)
    with ThreadPoolExecutor(16) as pool:
        refused = [one for one in pool.map(lambda _: pace.enter(TRANSACTION), range(130)) if one is not None]
    assert sorted(waits) == about([turn / 50 for turn in range(1, 51)])
    assert refused == about([1.02] * 30)
