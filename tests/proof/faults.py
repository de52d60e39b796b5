"""What befalls the system: kinds and targets, planned by the seed, and how each is done and undone."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded, and the seed is said
from typing import Any, Final, Literal

import psutil
import redis

from tests.proof.network import SERVICES, all_roads
from tests.proof.proxy import Condition
from tests.proof.world import World
from tests.support.stack import wait_until

Kind = Literal[
    "kill -9",
    "kill -9 of one worker",
    "freeze",
    "restart",
    "cut",
    "blackhole",
    "slow",
    "flush all",
    "full memory",
    "disconnect all",
]

REDIS: Final = "redis"
POSTGRES: Final = "postgres"
FULL_BYTES: Final = 1
"""A Redis with so little memory takes nothing more (noeviction)."""
REDIS_TIMEOUT_S: Final = 2
UNDONE_WITHIN_S: Final = 60.0
LASTS_S: Final = (1.0, 6.0)
"""How long what has a length lasts: from, to."""
PAIR_OF: Final = 8
"""One step of so many has two faults at once."""

_CONDITIONS: Final[Mapping[Kind, Condition]] = {"cut": "cut", "blackhole": "blackhole", "slow": "slow"}
_DISCONNECT_ALL: Final = """
select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """`lasts_s` is 0 for what is over as soon as it has happened."""

    kind: Kind
    target: str
    lasts_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind}: {self.target}" + (f", {self.lasts_s:.1f} s" if self.lasts_s else "")


Step = tuple[Fault, ...]
"""Faults that overlap; mostly it is one."""


def groups(*, owns_broker: bool) -> list[list[tuple[Kind, str]]]:
    """All that there is, in groups that get equal shares: of each way in which something may fail one."""
    roads = all_roads()
    broker: list[tuple[Kind, str]] = [(kind, REDIS) for kind in ("kill -9", "freeze", "restart", "flush all")]
    database: list[tuple[Kind, str]] = [(kind, POSTGRES) for kind in ("kill -9", "freeze", "restart", "disconnect all")]
    return [
        [*(("kill -9", name) for name in SERVICES), ("kill -9 of one worker", "gateway")],
        [("freeze", name) for name in SERVICES],
        [("restart", name) for name in SERVICES],
        [("cut", name) for name in roads],
        [("blackhole", name) for name in roads],
        [("slow", name) for name in roads],
        database,
        *([[*broker, ("full memory", REDIS)]] if owns_broker else []),
    ]


def plan(*, seed: int, faults: int, owns_broker: bool, lasts_s: tuple[float, float] = LASTS_S) -> list[Step]:
    """So many faults, each group's in an order of its own, and none twice before all of the group were there."""
    random = Random(f"{seed}/faults")
    decks = [_endless(random, group) for group in groups(owns_broker=owns_broker)]
    drawn = [_fault(random, *next(decks[number % len(decks)]), lasts_s) for number in range(faults)]
    random.shuffle(drawn)
    return list(_steps(random, drawn))


def _endless(random: Random, group: Sequence[tuple[Kind, str]]) -> Iterator[tuple[Kind, str]]:
    while True:
        yield from random.sample(group, len(group))


def _fault(random: Random, kind: Kind, target: str, lasts_s: tuple[float, float]) -> Fault:
    return Fault(kind, target, random.uniform(*lasts_s) if kind in LASTING else 0.0)


LASTING: Final = frozenset({"freeze", "full memory", *_CONDITIONS})


def _steps(random: Random, faults: Sequence[Fault]) -> Iterator[Step]:
    waiting = list(faults)
    while waiting:
        fault = waiting.pop()
        if random.randrange(PAIR_OF) == 0 and waiting and waiting[-1].target != fault.target:
            yield fault, waiting.pop()
        else:
            yield (fault,)


# ---- doing and undoing --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that is in force. `end` takes it back, where it has a length; `is_over`: what it stopped runs again."""

    fault: Fault
    end: Callable[[], None]
    is_over: Callable[[], bool]


def inject(world: World, fault: Fault, random: Random) -> Injected:
    """Does it. `random` chooses one of several workers."""
    match fault.kind:
        case "kill -9":
            return _signalled(world, fault, signal.SIGKILL)
        case "restart":
            return _signalled(world, fault, signal.SIGINT if fault.target == POSTGRES else signal.SIGTERM)
        case "kill -9 of one worker":
            return _worker_killed(world, fault, random)
        case "freeze":
            return _frozen(world, fault)
        case "flush all":
            _redis(world).flushall()
            return _done(fault)
        case "full memory":
            return _filled(world, fault)
        case "disconnect all":
            world.rows(_DISCONNECT_ALL)
            return _done(fault)
        case _:
            world.network.put(fault.target, _CONDITIONS[fault.kind])
            return Injected(fault, lambda: world.network.put(fault.target, "open"), lambda: True)


def _done(fault: Fault) -> Injected:
    return Injected(fault, lambda: None, lambda: True)


def _signalled(world: World, fault: Fault, number: signal.Signals) -> Injected:
    """To the process itself: its supervisor ends what it leaves behind, and starts it again."""
    before = _running(world, fault.target)
    os.kill(before.pid, number)
    return Injected(fault, lambda: None, lambda: world.status(fault.target).restarts > before.restarts)


@dataclass(frozen=True, slots=True)
class _Run:
    pid: int
    restarts: int


def _running(world: World, name: str) -> _Run:
    """The process as it runs now; waits while it is being started again."""
    found: list[_Run] = []

    def runs() -> bool:
        status = world.status(name)
        if status.pid is not None and status.state == "ready":
            found.append(_Run(status.pid, status.restarts))
        return bool(found)

    wait_until(runs, within_s=UNDONE_WITHIN_S, what=f"{name} running")
    return found[0]


def _worker_killed(world: World, fault: Fault, random: Random) -> Injected:
    _running(world, fault.target)
    _, *workers = world.family(fault.target)
    with contextlib.suppress(psutil.NoSuchProcess):
        random.choice(sorted(workers, key=lambda worker: worker.pid)).kill()
    before = {worker.pid for worker in workers}
    return Injected(fault, lambda: None, lambda: any(one.pid not in before for one in world.family(fault.target)[1:]))


def _frozen(world: World, fault: Fault) -> Injected:
    """A process and its children stand still."""
    _running(world, fault.target)
    family = world.family(fault.target)
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.suspend()

    def thaw() -> None:
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()

    return Injected(fault, thaw, lambda: True)


def _filled(world: World, fault: Fault) -> Injected:
    _redis(world).config_set("maxmemory", FULL_BYTES)

    def emptied() -> bool:
        """Where it was killed meanwhile it takes a moment; then it has forgotten the limit anyway."""
        with contextlib.suppress(redis.RedisError):
            return bool(_redis(world).config_set("maxmemory", 0))
        return False

    return Injected(
        fault, lambda: wait_until(emptied, within_s=UNDONE_WITHIN_S, what="Redis' memory given back"), lambda: True
    )


def _redis(world: World) -> Any:
    """By no road that can be cut."""
    return redis.Redis.from_url(
        world.servers.redis.url(), socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
    )
