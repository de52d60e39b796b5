"""What is measured of a ledger: each thing once for many wallets and once for one that everybody is after."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.benchmarks.bookkeeper import API_THREADS, WORKER_THREADS
from tests.benchmarks.crew import Measured, Work
from tests.benchmarks.site import BATCH, CROWDS, Crowd, Site


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to be measured: so many operations (`share` of the usual number), prepared as work for processes.

    `clients`: of the plain inserts that it is beside; None: it is beside plain reads. `goal`: a second, in new books.
    """

    what: str
    crowd: Crowd
    prepare: Callable[[Site, int], Sequence[Work]]
    clients: int | None
    share: float = 1.0
    goal: int | None = None
    posts: bool = True

    def count(self, postings: int) -> int:
        """How many operations a measurement has."""
        return int(postings * self.share)


def scenarios() -> Iterator[Scenario]:
    """All of them, each for many wallets and for one."""
    for crowd in CROWDS:
        hot = crowd != CROWDS[0]
        for processes in (1, 2):
            goal = (10_000 if hot else 15_000) if processes == 2 else None
            yield _credits(crowd, batch=BATCH, processes=processes, goal=goal)
        yield _credits(crowd, batch=1, processes=1, share=0.1)
        for processes in (1, 2):
            yield _mix(crowd, processes=processes)
        for threads, share in ((1, 0.1), (API_THREADS, 0.5), (32, 0.5)):
            yield _spends(crowd, threads=threads, share=share)
        yield _looks(crowd)


def _credits(crowd: Crowd, *, batch: int, processes: int, share: float = 1.0, goal: int | None = None) -> Scenario:
    def prepare(site: Site, count: int) -> Sequence[Work]:
        jobs = site.credits(crowd, count, batch=batch)
        threads = 1 if batch == 1 else WORKER_THREADS
        return [Work(jobs[number::processes], threads) for number in range(processes)]

    what = "purchases, one by one" if batch == 1 else f"purchases, batches of {batch}, {_worded(processes)}"
    return Scenario(what, crowd, prepare, clients=processes, share=share, goal=goal)


def _mix(crowd: Crowd, *, processes: int) -> Scenario:
    def prepare(site: Site, count: int) -> Sequence[Work]:
        mix = site.mix(crowd, count)
        workers = [Work(mix.facts[number::processes], WORKER_THREADS) for number in range(processes)]
        return [*workers, Work(mix.spends, API_THREADS)]

    return Scenario(f"mix, {_worded(processes)} and the API", crowd, prepare, clients=processes)


def _spends(crowd: Crowd, *, threads: int, share: float) -> Scenario:
    def prepare(site: Site, count: int) -> Sequence[Work]:
        return [Work(site.spends(crowd, count), threads)]

    what = "spends, one by one" if threads == 1 else f"spends, {threads} threads"
    return Scenario(what, crowd, prepare, clients=min(threads, 8), share=share)


def _looks(crowd: Crowd) -> Scenario:
    def prepare(site: Site, count: int) -> Sequence[Work]:
        return [Work(site.looks(crowd, count), threads=1)]

    return Scenario("wallets read, one by one", crowd, prepare, clients=None, share=0.5, posts=False)


def _worded(processes: int) -> str:
    return "1 worker" if processes == 1 else f"{processes} workers"


def run(scenario: Scenario, site: Site, *, count: int) -> Measured:
    """One measurement of so many operations. Raises RuntimeError when not everything that was to be posted was."""
    work = scenario.prepare(site, count)
    site.tell_everybody()
    before = site.postings()
    measured = site.crew.run(work)
    posted, left = site.postings() - before, site.unhandled()
    if left or posted != (count if scenario.posts else 0):
        raise RuntimeError(f"{scenario.what}, {site.name}: {posted} of {count} were posted, {left} events are left")
    return measured
