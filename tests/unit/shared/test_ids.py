"""Identifiers: time-ordered ones never go back, derived ones never run together."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import ManualClock
from shared.ids import (
    account_subject,
    notification_subject,
    purchase_id,
    system_ids,
    transaction_subject,
    uuid7_floor,
    uuid7_moment,
)
from tests.support.seeded import seeded_ids

FIXED = "pur_dbr25haewfyewh7o74bgf4jt6z"
"""Of alice's claim to the example's transaction. Changing it would make every stored purchase another one."""
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


class TestEventIds:
    def test_they_are_of_version_7_and_carry_the_millisecond_of_the_clock(self) -> None:
        event_id = seeded_ids(1, clock=ManualClock(START)).event_id()
        assert (event_id.version, event_id.variant) == (7, "specified in RFC 4122")
        assert uuid7_moment(event_id) == START

    def test_many_in_one_millisecond_are_each_greater_than_the_one_before(self) -> None:
        ids = seeded_ids(1, clock=ManualClock(START))
        minted = [ids.event_id() for _ in range(10_000)]
        assert minted == sorted(set(minted))
        assert {value.version for value in minted} == {7}

    def test_more_than_a_millisecond_can_hold_borrow_the_next_one_and_no_more(self) -> None:
        ids = seeded_ids(1, clock=ManualClock(START))
        minted = [ids.event_id() for _ in range(4097)]
        assert uuid7_moment(minted[4095]) == START
        assert uuid7_moment(minted[4096]) == START + timedelta(milliseconds=1)

    @given(steps=st.lists(st.floats(min_value=-3600, max_value=3600, allow_nan=False), min_size=1, max_size=50))
    def test_they_never_go_back_whatever_the_clock_does(self, steps: list[float]) -> None:
        clock = ManualClock(START)
        ids = seeded_ids(1, clock=clock)
        minted = [ids.event_id()]
        for step_s in steps:
            clock.advance(step_s)
            minted.append(ids.event_id())
        assert all(earlier < later for earlier, later in itertools.pairwise(minted))

    def test_a_clock_that_has_caught_up_is_followed_again(self) -> None:
        clock = ManualClock(START)
        ids = seeded_ids(1, clock=clock)
        ids.event_id()
        clock.advance(-10)
        assert uuid7_moment(ids.event_id()) == START
        clock.advance(20)
        assert uuid7_moment(ids.event_id()) == START + timedelta(seconds=10)

    def test_threads_never_share_one(self) -> None:
        ids = system_ids()
        with ThreadPoolExecutor(8) as pool:
            minted = list(pool.map(lambda _: ids.event_id(), range(5_000)))
        assert len(set(minted)) == 5_000

    def test_two_sources_at_the_same_moment_differ(self) -> None:
        clock = ManualClock(START)
        assert seeded_ids(1, clock=clock).event_id() != seeded_ids(2, clock=clock).event_id()

    def test_the_same_seed_and_clock_give_the_same_ids(self) -> None:
        first, second = (seeded_ids(7, clock=ManualClock(START)) for _ in range(2))
        assert [first.event_id(), first.uuid(), first.trace_id()] == [
            second.event_id(),
            second.uuid(),
            second.trace_id(),
        ]


class TestBounds:
    @given(moment=st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2500, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants naive bounds
    def test_the_floor_of_a_moment_is_below_every_id_of_its_millisecond_and_above_every_one_before(
        self, moment: datetime
    ) -> None:
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        here = seeded_ids(1, clock=ManualClock(moment)).event_id()
        after = seeded_ids(1, clock=ManualClock(moment + timedelta(milliseconds=1))).event_id()
        assert uuid7_floor(moment) < here < uuid7_floor(moment + timedelta(milliseconds=1)) < after

    def test_the_moment_of_a_floor_is_that_moment(self) -> None:
        assert uuid7_moment(uuid7_floor(START)) == START


class TestOtherRandomness:
    def test_a_trace_id_is_32_hexadecimal_digits(self) -> None:
        trace_id = system_ids().trace_id()
        assert len(trace_id) == 32
        assert set(trace_id) <= set("0123456789abcdef")

    def test_a_uuid_is_of_version_4(self) -> None:
        assert system_ids().uuid().version == 4
        assert UUID(str(system_ids().uuid())).version == 4

    def test_jitter_stays_between_its_bounds(self) -> None:
        ids = seeded_ids(1)
        drawn = [ids.uniform(0.8, 1.2) for _ in range(1_000)]
        assert 0.8 <= min(drawn) < 0.85
        assert 1.15 < max(drawn) <= 1.2


WORDS = st.text(max_size=6)


class TestDerivedIds:
    @given(
        one=st.tuples(WORDS, WORDS, WORDS, WORDS),
        other=st.tuples(WORDS, WORDS, WORDS, WORDS),
    )
    def test_two_purchases_have_the_same_id_only_when_all_that_names_them_is_the_same(
        self, one: tuple[str, str, str, str], other: tuple[str, str, str, str]
    ) -> None:
        assert (self._purchase(*one) == self._purchase(*other)) == (one == other)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (("game", "apple", "12", "3"), ("game", "apple", "1", "23")),
            (("ga", "meapple", "1", "a"), ("game", "apple", "1", "a")),
            (("game", "apple", "", "1a"), ("game", "apple", "1a", "")),
            (("game", "apple", "1\0", "a"), ("game", "apple", "1", "\0a")),
        ],
    )
    def test_words_that_run_together_alike_do_not_make_the_same_id(
        self, one: tuple[str, str, str, str], other: tuple[str, str, str, str]
    ) -> None:
        assert self._purchase(*one) != self._purchase(*other)

    def test_their_prefix_says_what_they_name_and_they_are_safe_in_a_url(self) -> None:
        derived = {
            "pur": self._purchase("game", "apple", "1", "alice"),
            "txn": transaction_subject(app="game", store="apple", environment="sandbox", transaction_id="1"),
            "ntf": notification_subject(app="game", store="apple", notification_id="1"),
            "acc": account_subject(app="game", user_id="alice"),
        }
        for prefix, value in derived.items():
            name, _, digest = value.partition("_")
            assert name == prefix
            assert len(digest) == 26
            assert set(digest) <= set("abcdefghijklmnopqrstuvwxyz234567")

    def test_the_environment_is_part_of_an_unclaimed_transaction(self) -> None:
        subjects = {
            transaction_subject(app="game", store="apple", environment=environment, transaction_id="1")
            for environment in ("sandbox", "production")
        }
        assert len(subjects) == 2

    def test_an_id_is_the_same_in_every_release(self) -> None:
        assert self._purchase("game", "apple", "2000000277760217", "alice") == FIXED

    @staticmethod
    def _purchase(app: str, store: str, transaction_id: str, user_id: str) -> str:
        return purchase_id(app=app, store=store, transaction_id=transaction_id, user_id=user_id)
