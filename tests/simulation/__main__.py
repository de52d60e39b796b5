"""`python -m tests.simulation`: many runs, or one."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator

from shared.clock import SystemClock
from shared.ids import system_ids
from tests.simulation.running import Crew, Told, crew
from tests.simulation.sabotage import SABOTAGES
from tests.support.stack import reachable_directory, running_servers

PROGRESS_EVERY_S = 5.0


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing is wrong."""
    given = _parser().parse_args(arguments)
    with reachable_directory() as directory, running_servers(directory) as servers:
        if given.seed is not None:
            with crew(servers, jobs=1) as alone:
                return _one(alone, given.seed, sabotage=given.sabotage, verbose=given.verbose, shrink=given.shrink)
        with crew(servers, jobs=given.jobs) as all_hands:
            return _many(all_hands, given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", help="one run, this one")
    parser.add_argument("-v", "--verbose", action="store_true", help="its story, also when nothing is wrong")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false", help="do not look for a simpler one")
    parser.add_argument("--runs", type=int, help="so many (else as many as the time allows)")
    parser.add_argument("--minutes", type=float, default=1.0, help="so long, unless --runs says how many (1)")
    parser.add_argument("--base", help="what the seeds of the runs begin with (else a new one each time)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one for each core)")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), help="break this, and see it found")
    return parser


def _one(alone: Crew, seed: str, *, sabotage: str | None, verbose: bool, shrink: bool) -> int:
    told = alone.run([seed], sabotage=sabotage, shrink=shrink, keep=True).result()
    assert told.last is not None
    if verbose or told.failed:
        print(told.last.told())
    _tell_of_failure(told)
    return 1 if told.failed else 0


def _many(all_hands: Crew, given: argparse.Namespace) -> int:
    clock, base = SystemClock(), given.base or f"{system_ids().uuid().hex[:8]}-"
    began_s = told_s = clock.monotonic()
    ends_s = began_s + given.minutes * 60

    def seeds() -> Iterator[str]:
        for number in itertools.count(1):
            if number > given.runs if given.runs else clock.monotonic() > ends_s:
                return
            yield f"{base}{number}"

    print(f"seeds {base}1, {base}2, …; {given.jobs} processes", flush=True)
    runs = steps = statements = 0
    for told in all_hands.run_all(seeds(), sabotage=given.sabotage, shrink=given.shrink):
        runs, steps, statements = runs + len(told.digests), steps + told.steps, statements + told.statements
        if told.failed is not None:
            print(told.failed.told())
            _tell_of_failure(told)
            return 1
        if clock.monotonic() - told_s > PROGRESS_EVERY_S:
            told_s = clock.monotonic()
            print(f"{runs:>8,} runs, {60 * runs / (told_s - began_s):,.0f} a minute", flush=True)
    took_s = clock.monotonic() - began_s
    print(
        f"{runs:,} runs in {took_s:.0f} s, {60 * runs / took_s:,.0f} a minute: "
        f"{steps:,} steps, {statements:,} statements; nothing is wrong"
    )
    return 0


def _tell_of_failure(told: Told) -> None:
    if told.failed is None:
        return
    if told.simplest is not None and told.simplest is not told.failed:
        print(f"\n==== simpler, with {len(told.simplest.plan.inputs)} inputs of {len(told.failed.plan.inputs)}:\n")
        print(told.simplest.told())
    print(f"\nagain: python -m tests.simulation --seed {told.failed.seed} -v", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
