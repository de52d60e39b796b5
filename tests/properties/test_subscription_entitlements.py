"""What a user may use follows from all that gives it, in whatever order it was heard; each change is told once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random  # noqa: TID251 - Hypothesis gives the seeded ones

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.entitlements import FOR_EVER, Entitlement, Source, changed, until_of
from shared.ids import EntitlementId, PurchaseId, SubscriptionId

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
VIP, ADFREE = EntitlementId("vip"), EntitlementId("adfree")
DAYS = st.integers(-60, 60)
RANDOM = st.randoms(use_true_random=False)


def _pass(number: int, since: int, days: int, entitlement: EntitlementId = VIP) -> Source:
    return Source(PurchaseId(f"pur_{number}"), entitlement, _day(since), lasts=timedelta(days=days))


def _until(number: int, since: int, until: int | None, entitlement: EntitlementId = VIP) -> Source:
    ends = FOR_EVER if until is None else _day(until)
    return Source(SubscriptionId(f"sub_{number}"), entitlement, _day(since), ends)


def _day(number: int) -> datetime:
    return NOW + timedelta(days=number)


PASSES = st.lists(st.tuples(DAYS, st.integers(1, 40)), min_size=1, max_size=6).map(
    lambda drawn: [_pass(number, since, days) for number, (since, days) in enumerate(drawn)]
)
ENTITLEMENTS = st.sampled_from((VIP, ADFREE))
SOURCES = st.lists(
    st.one_of(
        st.builds(_pass, st.integers(0, 9), DAYS, st.integers(1, 40), ENTITLEMENTS),
        st.builds(_until, st.integers(0, 9), DAYS, st.none() | DAYS, ENTITLEMENTS),
    ),
    max_size=8,
    unique_by=lambda source: (source.id, source.entitlement),
)


@settings(deadline=None)
@given(sources=SOURCES, random=RANDOM)
def test_until_when_something_may_be_used_does_not_depend_on_the_order_of_what_gives_it(
    sources: list[Source], random: Random
) -> None:
    assert until_of(random.sample(sources, len(sources))) == until_of(sources)


@settings(deadline=None)
@given(passes=PASSES)
def test_passes_are_used_up_one_after_the_other(passes: list[Source]) -> None:
    """As a clock that runs down: each pass winds it up by its days, and it stands still at nothing."""
    left, at = timedelta(0), _day(-61)
    for source in sorted(passes, key=lambda each: each.since):
        assert source.lasts is not None
        left, at = max(timedelta(0), left - (source.since - at)) + source.lasts, source.since
    given_until = until_of(passes)
    assert given_until is not None
    assert given_until[0] == at + left


@settings(deadline=None)
@given(sources=SOURCES)
def test_something_may_be_used_until_the_last_thing_that_gives_it_ends(sources: list[Source]) -> None:
    dated = [source for source in sources if source.lasts is None]
    found = until_of(sources)
    assert (found is None) == (not sources)
    if found is not None:
        assert all(source.until <= found[0] for source in dated)
        assert found[1] in {source.id for source in sources}
        if len(dated) == len(sources):
            assert found[0] in {source.until for source in dated}


@settings(deadline=None)
@given(sources=SOURCES, random=RANDOM, batches=st.integers(1, 4))
def test_what_is_told_ends_alike_in_any_order_and_each_change_is_told_once(
    sources: list[Source], random: Random, batches: int
) -> None:
    at_once = _tell({}, sources, now=NOW)
    assert {name: told.version for name, told in at_once.items()} == dict.fromkeys(at_once, 1)
    bit_by_bit: dict[EntitlementId, Entitlement] = {}
    for end in range(1, batches + 1):
        known = random.sample(sources, len(sources) * end // batches)
        bit_by_bit = _tell(bit_by_bit, known, now=NOW)
    assert _active(bit_by_bit) == _active(at_once)
    assert not changed(bit_by_bit, sources, now=NOW)


@settings(deadline=None)
@given(sources=SOURCES, later=st.integers(1, 200))
def test_time_alone_ends_what_may_be_used_and_says_so_once(sources: list[Source], later: int) -> None:
    told = _tell({}, sources, now=NOW)
    news = changed(told, sources, now=_day(later))
    ended = {each.entitlement: each for each in news}
    for name, before in told.items():
        assert (name in ended) == (before.until <= _day(later))
    assert all(not each.active and each.until == told[name].until for name, each in ended.items())
    assert not changed(told | ended, sources, now=_day(later))
    assert not changed(told | ended, sources, now=_day(later + 300)) or any(
        each.until > _day(later) for each in told.values()
    )


def _tell(
    told: Mapping[EntitlementId, Entitlement], sources: Sequence[Source], *, now: datetime
) -> dict[EntitlementId, Entitlement]:
    news = changed(told, sources, now=now)
    assert len({each.entitlement for each in news}) == len(news)
    for each in news:
        before = told.get(each.entitlement)
        assert each.version == (before.version if before else 0) + 1
        assert before is None or (before.active, before.until, before.source) != (each.active, each.until, each.source)
    return {**told, **{each.entitlement: each for each in news}}


def _active(told: Mapping[EntitlementId, Entitlement]) -> dict[EntitlementId, tuple[datetime, object]]:
    return {name: (each.until, each.source) for name, each in told.items() if each.active}
