"""One proof from its beginning to its end: faults befall a world under load, it comes to rest, and all is counted.

What happens is told as it happens; what it comes to is a Result.
"""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psutil

from shared.catalog import Catalog, load_catalog
from shared.clock import SystemClock
from tests.proof import faults, stories
from tests.proof.chaos import Befallen, Chaos
from tests.proof.check import Finding, check, check_books
from tests.proof.clients import Answers, Clients
from tests.proof.evidence import Evidence, gather, read_books, read_unhandled, read_unsent
from tests.proof.faults import LASTS_S, Step
from tests.proof.load import Load
from tests.proof.model import Model
from tests.proof.world import World, running_world

STORIES_WITHIN_S: Final = 900.0
"""After the last fault the rest of the stories are performed: so long that may take."""
LOOK_EVERY_S: Final = 1.0
UNRULY_STORE: Final = {"notifications": {"duplicate": 0.05, "shuffle": 0.1, "drop": 0.01}}
"""What befalls the store's notifications on the way by itself. Those that are dropped only the reconciler finds."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be proved. `settled_within_s`: so long after the load everything has its right end.

    `steps` None: as the seed says.
    """

    purchases: int
    faults: int
    seed: int
    broker_url: str | None = None
    redelivery: bool = True
    lasts_s: tuple[float, float] = LASTS_S
    recovery_within_s: float = 180.0
    settled_within_s: float = 900.0
    steps: Sequence[Step] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a proof came to. `counts`: how much of what the load did; `answers`: the gateway's, by status (`none`: the
    connection failed), and those to the store's notifications; `webhooks` arrived, about `events` different events."""

    options: Options
    machine: str
    duration_s: float
    settled_s: float
    counts: Mapping[str, int]
    answers: Mapping[str, int]
    store_heard: Mapping[str, int]
    webhooks: int
    events: int
    befallen: Sequence[Befallen]
    findings: Sequence[Finding]

    @property
    def unrecovered(self) -> list[Befallen]:
        return [each for each in self.befallen if each.recovered_s is None]

    @property
    def proved(self) -> bool:
        return not self.findings and not self.unrecovered


Tell = Callable[[str], None]


def prove(options: Options, *, tell: Tell) -> Result:
    """All of it, on a world of its own."""
    tell("the system starts")
    with running_world(broker_url=options.broker_url, redelivery=options.redelivery) as world:
        return Proof(world, options, tell=tell).run()


@dataclass(slots=True)
class Proof:
    """One proof on a world that runs. What was found stays in it, for whoever wants to look at it again."""

    world: World
    options: Options
    tell: Tell
    model: Model = field(default_factory=Model)
    _clock: SystemClock = field(default_factory=SystemClock)

    def run(self) -> Result:
        """Load and faults, then the rest, then the reckoning."""
        began_s = self._clock.monotonic()
        with self._clients() as clients:
            befallen = self._befall(clients)
            loaded_s = self._clock.monotonic()
            self._settle()
            settled_s = self._clock.monotonic() - loaded_s
            self.tell("everything is looked at")
            evidence = gather(self.world, clients=clients, model=self.model)
            return self._result(befallen, evidence, clients.answers, began_s=began_s, settled_s=settled_s)

    def look_again(self) -> list[Finding]:
        """What is found now, beside what has to be."""
        with self._clients() as clients:
            return check(self.model, gather(self.world, clients=clients, model=self.model), self._catalog())

    @contextmanager
    def _clients(self) -> Iterator[Clients]:
        clients = Clients(gateway=self.world.gateway, store=self.world.simulator, answers=Answers())
        try:
            yield clients
        finally:
            clients.stop()

    def _befall(self, clients: Clients) -> Sequence[Befallen]:
        options = self.options
        plan = stories.plan(seed=options.seed, purchases=options.purchases)
        steps = options.steps
        if steps is None:
            steps = faults.plan(
                seed=options.seed,
                faults=options.faults,
                owns_broker=self.world.owns_broker,
                lasts_s=options.lasts_s,
            )
        self.world.faults(**UNRULY_STORE)
        load = Load(plan, clients=clients, model=self.model)
        progress = _Progress(self.tell, load, self.model, steps=len(steps), stories=len(plan))
        try:
            chaos = Chaos(
                self.world,
                load=load,
                clients=clients,
                model=self.model,
                seed=options.seed,
                recovery_within_s=options.recovery_within_s,
                tell=progress,
            )
            chaos.run(steps, stories=len(plan) // (len(steps) + 1))
            self.tell("no more faults; the rest of the purchases")
            load.finish(within_s=STORIES_WITHIN_S)
        finally:
            load.close()
            self.world.faults()
        return chaos.befallen

    def _settle(self) -> None:
        """Waits until nothing is left to be done, or the limit is over: what is left then is told by the reckoning."""
        deadline = self._clock.monotonic() + self.options.settled_within_s
        pause, said = threading.Event(), ""
        while (left := self._left()) and self._clock.monotonic() < deadline:
            if left != said:
                self.tell(f"it comes to rest: {left}")
                said = left
            pause.wait(LOOK_EVERY_S)

    def _left(self) -> str:
        """What has still to happen; what waits for an operator does not."""
        unhandled = sum(each.count for each in read_unhandled(self.world) if not each.is_stuck)
        unsent = read_unsent(self.world).get("waiting", 0)
        off = list(check_books(self.model, read_books(self.world), self._catalog()))
        left = {"events to be handled": unhandled, "webhooks to be sent": unsent, "differences to the model": len(off)}
        said = ", ".join(f"{count:,} {what}" for what, count in left.items() if count)
        return f"{said} ({off[0].sentence})" if off else said

    def _catalog(self) -> Catalog:
        return load_catalog(self.world.settings.catalog_file)

    def _result(
        self, befallen: Sequence[Befallen], evidence: Evidence, answers: Answers, *, began_s: float, settled_s: float
    ) -> Result:
        genuine = [told.id for told in evidence.told if told.genuine]
        return Result(
            options=self.options,
            machine=_machine(self.world),
            duration_s=self._clock.monotonic() - began_s,
            settled_s=settled_s,
            counts=dict(self.model.counts),
            answers=dict(answers.statuses),
            store_heard=dict(evidence.store_heard),
            webhooks=len(genuine),
            events=len(set(genuine)),
            befallen=befallen,
            findings=check(self.model, evidence, self._catalog()),
        )


@dataclass(slots=True)
class _Progress:
    """A line for each step that is past."""

    tell: Tell
    load: Load
    model: Model
    steps: int
    stories: int
    _past: int = 0
    _clock: SystemClock = field(default_factory=SystemClock)
    _began_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._began_s = self._clock.monotonic()

    def __call__(self, befallen: Befallen) -> None:
        self._past += 1
        each_s = (self._clock.monotonic() - self._began_s) / self._past
        recovered = "never" if befallen.recovered_s is None else f"after {befallen.recovered_s:.1f} s"
        recovered += f" (last: {befallen.awaited})"
        self.tell(
            f"{self._past}/{self.steps}  {befallen}  → recovered {recovered};"
            f" {self.load.done:,} of {self.stories:,} stories, about {each_s * (self.steps - self._past) / 60:.0f} min"
        )


def _machine(world: World) -> str:
    """What it ran on."""
    gigabytes = psutil.virtual_memory().total / 2**30
    servers = f"PostgreSQL {world.servers.postgres.binaries.version}"
    if world.owns_broker:
        servers += f", Redis {world.servers.redis.binaries.version}"
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GiB, Python {platform.python_version()}, {servers}"
