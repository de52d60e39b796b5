"""How much an endpoint is asked at once: never too much, next to nothing while it is away, and soon all again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.deliveries import RETRY_AFTER_S_MAX, Answer
from notifier.domain.lanes import (
    ASKED_PAUSE_S_MAX,
    FAILURES_TOLERATED,
    PAUSE_S_MAX,
    WIDTH_FIRST,
    Lane,
)

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
STATUSES = (None, 200, 204, 302, 400, 404, 410, 429, 500, 502, 503, 504)
CALLS_AT_ONCE_MAX = 64


def answer(status: int | None, *, retry_after_s: float | None = None) -> Answer:
    return Answer(at=AT, duration_ms=7, status=status, retry_after_s=retry_after_s)


TAKEN = answer(200)
REFUSED = answer(500)
SILENT = answer(None)


def after(lane: Lane, answers: Iterable[Answer], *, now_s: float = 0.0) -> Lane:
    """The lane after these answers, all at one moment."""
    for each in answers:
        lane = lane.heard(each, now_s=now_s)
    return lane


def probed(lane: Lane, failures: int, *, now_s: float = 0.0) -> tuple[Lane, float]:
    """The lane after so many failures, each as soon as it may be, and the time after the last of them."""
    for _ in range(failures):
        now_s = max(now_s, lane.probe_at_s)
        lane = lane.heard(SILENT, now_s=now_s)
    return lane, now_s


@dataclass
class Road:
    """An endpoint that is called whenever its lane has room, and its calls that have not been answered yet."""

    lane: Lane
    now_s: float = 0.0
    in_flight: int = 0
    paused_s: list[float] = field(default_factory=list)

    def call(self) -> None:
        self.in_flight += self.lane.room(in_flight=self.in_flight, now_s=self.now_s)

    def answers(self, given: Answer) -> None:
        if self.in_flight:
            self.in_flight -= 1
            self.lane = self.lane.heard(given, now_s=self.now_s)


answers = st.builds(
    answer, st.sampled_from(STATUSES), retry_after_s=st.none() | st.floats(0, RETRY_AFTER_S_MAX, allow_nan=False)
)
steps = st.lists(st.tuples(answers, st.floats(0, 100, allow_nan=False), st.booleans()), max_size=60)


class TestWhateverIsAnswered:
    @given(width_max=st.integers(1, CALLS_AT_ONCE_MAX), steps=steps)
    def test_the_calls_at_once_are_at_most_what_the_endpoint_allows_and_a_probe_is_alone(
        self, width_max: int, steps: list[tuple[Answer, float, bool]]
    ) -> None:
        road = Road(Lane.of(width_max))
        for given_answer, pause_s, calls in steps:
            before = road.in_flight
            if calls:
                road.call()
            assert 1 <= road.lane.width <= width_max
            assert road.in_flight <= width_max
            if road.lane.is_probed and road.in_flight > before:
                assert (before, road.in_flight) == (0, 1)
            road.answers(given_answer)
            road.now_s += pause_s

    @given(width_max=st.integers(1, CALLS_AT_ONCE_MAX), steps=steps)
    def test_no_pause_is_longer_than_its_limit(self, width_max: int, steps: list[tuple[Answer, float, bool]]) -> None:
        road = Road(Lane.of(width_max))
        for given_answer, pause_s, _ in steps:
            road.call()
            road.answers(given_answer)
            assert road.lane.probe_at_s <= road.now_s + PAUSE_S_MAX
            assert road.lane.asked_until_s <= road.now_s + ASKED_PAUSE_S_MAX
            road.now_s += pause_s
        assert road.lane.room(in_flight=0, now_s=road.now_s + ASKED_PAUSE_S_MAX) >= 1

    @given(width_max=st.integers(1, CALLS_AT_ONCE_MAX), steps=steps)
    def test_one_message_that_is_taken_ends_the_probing(
        self, width_max: int, steps: list[tuple[Answer, float, bool]]
    ) -> None:
        road = Road(Lane.of(width_max))
        for given_answer, pause_s, _ in steps:
            road.call()
            road.answers(given_answer)
            road.now_s += pause_s
        opened = road.lane.heard(TAKEN, now_s=road.now_s)
        assert not opened.is_probed
        assert opened.room(in_flight=0, now_s=max(road.now_s, opened.asked_until_s)) == opened.width

    @given(failures=st.integers(10, 4_000))
    def test_however_long_it_fails_it_is_probed_once_a_minute(self, failures: int) -> None:
        lane, now_s = probed(Lane.of(16), failures)
        if failures >= FAILURES_TOLERATED + 6:
            assert lane.probe_at_s == now_s + PAUSE_S_MAX
        assert lane.room(in_flight=0, now_s=now_s + PAUSE_S_MAX) == 1


class TestWidth:
    def test_a_lane_begins_narrow_and_never_wider_than_the_endpoint_allows(self) -> None:
        assert Lane.of(16).room(in_flight=0, now_s=0) == WIDTH_FIRST == 4
        assert Lane.of(2).room(in_flight=0, now_s=0) == 2

    def test_it_grows_by_one_with_each_message_that_is_taken_up_to_its_limit(self) -> None:
        lane = Lane.of(6)
        widths = [(lane := lane.heard(TAKEN, now_s=0)).width for _ in range(3)]
        assert widths == [5, 6, 6]

    @pytest.mark.parametrize("status", [None, 429, 502, 503, 504])
    def test_it_halves_with_each_sign_of_too_much_and_is_never_less_than_one(self, status: int | None) -> None:
        lane = after(Lane.of(16), [TAKEN] * 12)
        widths = []
        for _ in range(4):
            lane = lane.heard(answer(status), now_s=0)
            widths.append(lane.width)
        assert widths == [8, 4, 2, 1]
        assert lane.heard(answer(status), now_s=0).width == 1

    @pytest.mark.parametrize("status", [302, 400, 401, 404, 410, 500])
    def test_a_message_that_is_refused_for_what_it_is_leaves_the_width_alone(self, status: int) -> None:
        assert Lane.of(16).heard(answer(status), now_s=0).width == WIDTH_FIRST

    def test_what_is_in_flight_takes_its_part_of_the_room(self) -> None:
        lane = Lane.of(16)
        assert [lane.room(in_flight=each, now_s=0) for each in (0, 3, 4, 9)] == [4, 1, 0, 0]


class TestProbing:
    def test_it_begins_with_the_fifth_failure_in_a_row(self) -> None:
        lane = after(Lane.of(16), [REFUSED] * 4)
        assert (lane.is_probed, lane.room(in_flight=0, now_s=0)) == (False, WIDTH_FIRST)
        lane = lane.heard(REFUSED, now_s=0)
        assert (lane.is_probed, lane.room(in_flight=0, now_s=0.9), lane.room(in_flight=0, now_s=1)) == (True, 0, 1)

    def test_failures_that_are_not_in_a_row_are_no_reason(self) -> None:
        lane = after(Lane.of(16), ([REFUSED] * 4 + [TAKEN]) * 10)
        assert not lane.is_probed

    def test_its_pauses_double_up_to_a_minute(self) -> None:
        lane, now_s = probed(Lane.of(16), FAILURES_TOLERATED)
        pauses = []
        for _ in range(8):
            pauses.append(lane.probe_at_s - now_s)
            now_s = lane.probe_at_s
            lane = lane.heard(REFUSED, now_s=now_s)
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]

    def test_while_any_call_is_in_flight_there_is_no_second_one(self) -> None:
        lane, now_s = probed(Lane.of(16), FAILURES_TOLERATED)
        assert lane.room(in_flight=1, now_s=now_s + PAUSE_S_MAX) == 0

    def test_many_that_fail_in_one_moment_are_one_reason_to_pause_and_not_many(self) -> None:
        lane = after(Lane.of(64), [TAKEN] * 60)
        lane = after(lane, [SILENT] * 64, now_s=100)  # it is started anew, say
        assert lane.probe_at_s == 101
        assert lane.heard(SILENT, now_s=101).probe_at_s == 103

    def test_after_it_a_lane_is_as_wide_as_the_failures_left_it(self) -> None:
        lane, now_s = probed(after(Lane.of(16), [TAKEN] * 12), FAILURES_TOLERATED)
        assert lane.heard(TAKEN, now_s=now_s).room(in_flight=0, now_s=now_s) == 2
        refused = after(after(Lane.of(16), [TAKEN] * 12), [REFUSED] * 5)
        assert refused.heard(TAKEN, now_s=1).room(in_flight=0, now_s=1) == 16


class TestWhatItAsksFor:
    @pytest.mark.parametrize("status", [429, 503])
    def test_with_these_it_is_left_alone_for_as_long_as_it_asks(self, status: int) -> None:
        lane = Lane.of(16).heard(answer(status, retry_after_s=30), now_s=100)
        assert [lane.room(in_flight=0, now_s=at) for at in (100, 129.9, 130)] == [0, 0, 2]

    @pytest.mark.parametrize("status", [302, 404, 500, 502])
    def test_with_others_the_one_message_waits_and_no_other(self, status: int) -> None:
        assert Lane.of(16).heard(answer(status, retry_after_s=30), now_s=0).room(in_flight=0, now_s=0) > 0

    def test_it_is_not_left_alone_for_longer_than_an_hour(self) -> None:
        lane = Lane.of(16).heard(answer(429, retry_after_s=24 * 3600), now_s=0)
        assert [lane.room(in_flight=0, now_s=at) for at in (3599, 3600)] == [0, 2]

    def test_a_shorter_wish_does_not_shorten_a_longer_one(self) -> None:
        lane = after(Lane.of(16), [answer(429, retry_after_s=60), answer(503, retry_after_s=5)])
        assert lane.room(in_flight=0, now_s=59) == 0

    def test_a_message_that_was_called_before_and_is_taken_does_not_end_the_pause(self) -> None:
        lane = after(Lane.of(16), [answer(429, retry_after_s=60), TAKEN])
        assert [lane.room(in_flight=0, now_s=at) for at in (0, 59, 60)] == [0, 0, 3]

    def test_while_it_is_probed_the_longer_pause_counts(self) -> None:
        lane, now_s = probed(Lane.of(16), FAILURES_TOLERATED)
        asking = lane.heard(answer(503, retry_after_s=600), now_s=lane.probe_at_s)
        assert asking.room(in_flight=0, now_s=lane.probe_at_s + 599) == 0
        assert asking.room(in_flight=0, now_s=lane.probe_at_s + 600) == 1
        assert now_s == 0
