"""Whole systems on one seed each: hundreds of them come to what they should, and broken ones are found out."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.simulation.running import Crew, crew
from tests.simulation.sabotage import SABOTAGES
from tests.support.stack import Servers

RUNS = int(os.environ.get("PURSER_TEST_SIMULATIONS", "300"))  # noqa: TID251 - a test's own setting
SEED = os.environ.get("PURSER_TEST_SEED", "20261122")  # noqa: TID251
JOBS = 2
FOUND_WITHIN = {
    "answers-first": 12,
    "claim-first": 12,
    "claim-kept": 12,
    "early-refund": 12,
    "keys-forgotten": 40,
    "last-word": 12,
    "never-again": 12,
    "nobodys-refund": 12,
    "promise-forgotten": 100,
    "nothing-unique": 12,
    "rounding": 60,
    "token-ignored": 30,
    "webhook-kept": 12,
}
"""Runs, three times as many as it took or more."""
SELDOM_FOUND = {"claim-ignored", "time-ignored"}
"""By `python -m tests.simulation --sabotage NAME`, if at all. A claim that is ignored comes to nothing: the verifier
knows what it has said, the ledger what it has granted, the feed what it has. `nothing-unique` is when all forget."""


@pytest.fixture(scope="module")
def hands(servers: Servers) -> Iterator[Crew]:
    with crew(servers, jobs=JOBS) as hands:
        yield hands


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_goes_wrong_each_run_comes_to_what_it_should(hands: Crew) -> None:
    runs = 0
    for told in hands.run_all(f"{SEED}-{number}" for number in range(1, RUNS + 1)):
        runs += len(told.digests)
        assert told.failed is None, (told.simplest or told.failed).told()
    assert runs == RUNS


def test_a_seed_tells_the_same_story_each_time(hands: Crew) -> None:
    """In another process too, and whatever was told before it."""
    seeds = [f"story-{number}" for number in range(1, 7)]
    forwards, backwards = hands.run(seeds), hands.run(seeds[::-1])
    assert forwards.result().digests == backwards.result().digests
    assert len(set(forwards.result().digests.values())) == len(seeds)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sabotage", FOUND_WITHIN)
def test_what_is_broken_on_purpose_is_found(hands: Crew, sabotage: str) -> None:
    seeds = [f"sabotage-{number}" for number in range(1, FOUND_WITHIN[sabotage] + 1)]
    told = hands.run(seeds, sabotage=sabotage, shrink=False).result()
    assert told.failed is not None, f"not found, though {SABOTAGES[sabotage].breaks}"


def test_every_sabotage_is_tried_or_said_to_be_found_seldom() -> None:
    assert set(SABOTAGES) == set(FOUND_WITHIN) | SELDOM_FOUND


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_what_is_found_a_simpler_run_is_told(hands: Crew) -> None:
    """It fails too, with fewer inputs and less bad luck."""
    told = hands.run([f"sabotage-{number}" for number in range(1, 30)], sabotage="never-again").result()
    assert told.failed is not None
    assert told.simplest is not None
    assert told.simplest.wrong
    assert len(told.simplest.plan.inputs) < len(told.failed.plan.inputs)
    assert len(told.simplest.weather.rates()) <= len(told.failed.weather.rates())
