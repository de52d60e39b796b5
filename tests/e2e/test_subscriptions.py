"""A year of subscriptions on the whole system, of which much was never told: when the App Store has been asked, all is
here as it is there.

A short form by itself; `make proof-subscriptions` runs it with five hundred.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.catalog import load_catalog
from shared.clock import SystemClock
from tests.support.stack import wait_until
from tests.support.subscriber_year import Year
from tests.support.system import System, purser, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SUBSCRIPTIONS = int(os.environ.get("PURSER_TEST_SUBSCRIPTIONS", "60"))  # noqa: TID251 - a test's own setting
SEED = int(os.environ.get("PURSER_TEST_SEED", "20261122"))  # noqa: TID251
MONTH_S = 3.0 if SUBSCRIPTIONS <= 100 else 10.0
"""With many of them a month is longer: on two processors the simulator signs some hundred statements a second."""
DROPPED, DUPLICATED, SHUFFLED = 0.2, 0.2, 0.5
WITHIN_S = 300
ON_ITS_WAY_S = 12
"""What was signed so lately the reconciliation leaves alone: it may still come by itself."""


@pytest.fixture
def system() -> Iterator[System]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PURSER_RECONCILE_INTERVAL_S", "0")  # only when it is told to
        with running_system(webhooks=False) as running:
            yield running


@dataclass(frozen=True, slots=True)
class Result:
    """What a year came to."""

    year: Year
    told: Counter[str]
    posted: int
    missed: Counter[str]
    before: int
    after: int
    seconds: float

    def table(self) -> str:
        """For people."""
        rows = {
            "things that befell them": self.year.befell.total() - self.year.befell["refused"],
            "notifications": self.told.total(),
            "  never posted": self.told["dropped"],
            "  posted, some twice": self.posted,
            "found missing": self.missed["notifications"],
            "  and by status": self.missed["subscriptions"],
            "differences before": self.before,
            "differences after": self.after,
        }
        return "\n".join(
            [
                f"\na year of {len(self.year.members)} subscriptions, a fifth of it never told (seed {SEED})",
                *(f"  {name:<26}{value:>7}" for name, value in rows.items()),
                f"  {'seconds':<26}{self.seconds:>7.0f}",
            ]
        )


def test_after_a_year_of_which_much_was_not_told_all_is_here_as_it_is_in_the_app_store(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = SystemClock()
    began_s = clock.monotonic()
    year = Year(
        system, load_catalog(Path("deploy/examples/catalog.toml")), size=SUBSCRIPTIONS, month_s=MONTH_S, seed=SEED
    )
    system.faults(notifications={"drop": DROPPED, "duplicate": DUPLICATED, "shuffle": SHUFFLED})
    year.begins()
    year.passes()
    year.ends()
    ended_s = clock.monotonic()
    _settles(system, year)
    wait_until(lambda: clock.monotonic() > ended_s + ON_ITS_WAY_S, what="the age of what was told last")
    before = _differences(year)
    assert before, f"nothing that mattered was dropped (seed {SEED})"
    told, missed = year.notifications(), _reconciled(system)
    assert missed["notifications"] == told["dropped"]
    _settles(system, year)
    after = _differences(year)
    assert not after, "\n".join([f"seed {SEED}, {len(after)} differ:", *after[:5]])
    seconds = clock.monotonic() - began_s
    with capsys.disabled():
        print(Result(year, told, year.posts(), missed, len(before), len(after), seconds).table())


def _differences(year: Year) -> list[str]:
    """Of whom both sides differ, and in what. Twice: a period may be over between a look there and a look here."""
    first, second = year.differences(), year.differences()
    return [f"{user}: {second[user]}" for user in first if user in second]


def _settles(system: System, year: Year) -> None:
    """The App Store has posted what it will post, and nothing of it is left to be handled."""
    system.eventually(lambda: not year.notifications()["pending"], within_s=WITHIN_S, what="every notification's end")
    stuck = "select count(*) from journal.delivery where state in ('waiting', 'handed')"
    system.eventually(lambda: system.scalar(stuck) == 0, within_s=WITHIN_S, what=f"an empty journal (seed {SEED})")
    dead = system.scalar("select count(*) from journal.delivery where state in ('parked', 'dead')")
    assert dead == 0, system.left_over()


def _reconciled(system: System) -> Counter[str]:
    """How much of what the App Store had said was missed, by the road on which it was found."""
    rows: list[dict[str, Any]] = json.loads(purser(system, "reconcile", "--since", "1d", "--json", within_s=WITHIN_S))
    assert not [row for row in rows if row["error"]], rows
    missed: Counter[str] = Counter()
    for row in rows:
        missed[row["road"]] += row["missed"]
    return missed
