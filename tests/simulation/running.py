"""One run; many runs on many cores; and what is left of a failing one when all is taken out that it fails without."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.queues import SimpleQueue
from typing import Final

import structlog

from deploy.settings import PROJECT
from shared.apps import Apps, parse_apps
from shared.bus.worker import look_for_cycles_seldom
from shared.catalog import load_catalog
from shared.clock import ManualClock
from tests.simulation import checks
from tests.simulation.apple import Signer
from tests.simulation.database import START, SimulatedDatabase, prepare
from tests.simulation.plan import Plan, Weather, planned, weather
from tests.simulation.sabotage import SABOTAGES
from tests.simulation.stepping import Restless, Simulation, World
from tests.support.stack import Servers

LOOK_EVERY: Final = 40
"""Steps from one look at what must be so at every moment to the next."""
ROUNDS_MAX: Final = 10
"""So often somebody's app may post what it still wants."""
EMPTY_EVERY: Final = 60
"""Runs after which the room is freed that they have taken."""
SIMPLER_MAX: Final = 400
"""Runs that finding a simpler one that fails may take."""
AT_ONCE: Final = 10
"""Runs that a process is given at a time."""

# The endpoints are tried so often that no weather exhausts them.
_APPS: Final = """
[[apps]]
id = "game"
name = "Example Game"
[apps.apple]
bundle_id = "com.example.game"
app_apple_id = 1234567890
issuer_id = "57246542-96fe-1a63-e053-0824d011072a"
key_id = "EXAMPLE000"
private_key_file = "nobody-reads-it.p8"
[apps.wallet]
debt = "{debt}"
[[apps.webhooks]]
id = "all"
url = "http://127.0.0.1:8091/all"
secret = "whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh"
retry_delays_s = [{delays}]
[[apps.webhooks]]
id = "wallets"
url = "http://127.0.0.1:8091/wallets"
secret = "whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh"
events = ["wallet.*"]
retry_delays_s = [{delays}]
"""


# ---- one run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: its story, a digest of that, and what is wrong (nothing, mostly)."""

    seed: str
    plan: Plan
    weather: Weather
    story: tuple[str, ...] = field(repr=False)
    digest: str
    steps: int
    statements: int
    wrong: tuple[str, ...]

    def told(self) -> str:
        """All that there is to know of it, line by line."""
        lines = [
            f"seed {self.seed}: {len(self.plan.users)} users, debts are {self.plan.debt}; weather: {self.weather}",
            *(f"  {each}" for each in (*self.plan.sales, *self.plan.subscriptions)),
            *self.story,
            *(f"WRONG: {problem}" for problem in self.wrong),
            f"{self.steps} steps, {self.statements} statements, digest {self.digest}",
        ]
        return "\n".join(lines)


def world_on(url: str) -> World:
    """What all runs of this process need. The database is empty."""
    prepare(url)
    signer = Signer()
    return World(
        database=SimulatedDatabase(url),
        signer=signer,
        signatures=signer.verifier(),
        apps={debt: _apps(debt) for debt in ("negative", "floor")},
        catalog=load_catalog(PROJECT / "deploy" / "examples" / "catalog.toml"),
    )


def _apps(debt: str) -> Apps:
    return parse_apps(_APPS.format(debt=debt, delays=", ".join(["5"] * 5 + ["60"] * 25)))


def run(seed: str, world: World) -> Outcome:
    """The run of a seed."""
    return run_plan(seed, planned(seed), weather(seed), world)


def run_plan(seed: str, plan: Plan, of_weather: Weather, world: World) -> Outcome:
    """A run of this plan in this weather; what else is left to chance is the seed's."""
    clock, before = ManualClock(START), world.database.statements
    with world.database.run(clock.now):
        simulation = Simulation(seed, plan, of_weather, world=world, clock=clock)
        wrong = _to_its_end(simulation)
    return Outcome(
        seed=seed,
        plan=plan,
        weather=of_weather,
        story=tuple(simulation.story),
        digest=simulation.digest(),
        steps=simulation.steps,
        statements=world.database.statements - before,
        wrong=tuple(wrong),
    )


def _to_its_end(simulation: Simulation) -> list[str]:
    try:
        for _ in range(ROUNDS_MAX):
            if wrong := simulation.run(watch=checks.broken_now, every=LOOK_EVERY):
                return wrong
            if not (wanted := checks.still_wanted(simulation)):
                break
            for given in wanted:
                simulation.send(given)
        checks.note_how_it_ended(simulation)
        return checks.wrong_at_rest(simulation)
    except Restless as restless:
        return [str(restless), *checks.left_over(simulation)]
    except Exception as error:  # noqa: BLE001  whatever it is, it is what is wrong, and is told with the story
        return [f"{type(error).__name__}: {error}"]


def shrunk(failed: Outcome, world: World) -> Outcome:
    """A simpler run that fails too: without what can be left out one by one."""
    tries = iter(range(SIMPLER_MAX))
    while True:
        simpler = (
            run_plan(failed.seed, plan, of_weather, world)
            for (plan, of_weather), _ in zip(_simpler(failed), tries, strict=False)
        )
        found = next((each for each in simpler if each.wrong), None)
        if found is None:
            return failed
        failed = found


def _simpler(failed: Outcome) -> Iterator[tuple[Plan, Weather]]:
    for plan in failed.plan.simpler():
        yield plan, failed.weather
    for of_weather in failed.weather.simpler():
        yield failed.plan, of_weather


# ---- many runs ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What a process tells of some runs: the digests by their seeds, the last one if it was to be kept, the first that
    failed, and the simplest that was found to fail likewise."""

    digests: dict[str, str]
    steps: int
    statements: int
    last: Outcome | None = None
    failed: Outcome | None = None
    simplest: Outcome | None = None


class Crew:
    """Processes that run seeds, each on a database of its own."""

    def __init__(self, pool: ProcessPoolExecutor, jobs: int) -> None:
        self._pool = pool
        self._jobs = jobs

    def run(
        self, seeds: Sequence[str], *, sabotage: str | None = None, shrink: bool = True, keep: bool = False
    ) -> Future[Told]:
        """Runs these, in one process, until one fails. `keep`: the last is to be told of, whatever came of it."""
        return self._pool.submit(_run_some, list(seeds), sabotage, shrink, keep)

    def run_all(self, seeds: Iterable[str], *, sabotage: str | None = None, shrink: bool = True) -> Iterator[Told]:
        """Runs these, in all processes, and tells of some at a time. Whoever has heard enough stops listening."""
        rest = iter(seeds)
        begun: set[Future[Told]] = set()
        while True:
            while len(begun) < 2 * self._jobs and (some := list(itertools.islice(rest, AT_ONCE))):
                begun.add(self.run(some, sabotage=sabotage, shrink=shrink))
            if not begun:
                return
            done, begun = wait(begun, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


@contextmanager
def crew(servers: Servers, *, jobs: int) -> Iterator[Crew]:
    """A crew of so many processes, until the end of the block."""
    context = multiprocessing.get_context("spawn")
    urls: SimpleQueue[str] = context.SimpleQueue()
    for _ in range(jobs):
        urls.put(servers.empty_database())
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(urls,)) as pool:
        try:
            yield Crew(pool, jobs)
        finally:
            pool.shutdown(cancel_futures=True)


_WORLD: list[World] = []
"""Of a process of the crew, its own."""


def _begin(urls: SimpleQueue[str]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    _WORLD.append(world_on(urls.get()))
    look_for_cycles_seldom()


_RUNS = itertools.count(1)


def _make_room(world: World) -> None:
    if next(_RUNS) % EMPTY_EVERY == 0:
        world.database.empty()


def _run_some(seeds: Sequence[str], sabotage: str | None, shrink: bool, keep: bool) -> Told:
    (world,) = _WORLD
    digests: dict[str, str] = {}
    steps = statements = 0
    with SABOTAGES[sabotage].on(world.database) if sabotage else nullcontext():
        for seed in seeds:
            outcome = run(seed, world)
            digests[seed] = outcome.digest
            steps += outcome.steps
            statements += outcome.statements
            if outcome.wrong:
                simplest = shrunk(outcome, world) if shrink else None
                return Told(digests, steps, statements, outcome, outcome, simplest)
            _make_room(world)
    return Told(digests, steps, statements, outcome if keep else None)
