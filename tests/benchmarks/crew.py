"""Processes that work as the ledger's do: its own handlers, on its own runtime, as its own role.

A process is made once and then given one piece of work after the other. It says when it is ready, is told to begin, and
says when its first job began and its last one ended: by the monotonic clock, which all processes of a machine share.
Nothing of starting, connecting and handing out the work is in what is measured.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import ClassVar, Final

from ledger.domain.books import WalletKey
from ledger.domain.commands import Command
from shared.clock import SystemClock
from shared.ids import EventId
from tests.benchmarks.bookkeeper import Bookkeeper

CREATED: Final = 201
ANSWER_WITHIN_S: Final = 600
END_WITHIN_S: Final = 10


@dataclass(frozen=True, slots=True)
class Facts:
    """One message of the bus: events of one type, handled in one transaction."""

    event_type: str
    event_ids: Sequence[EventId]

    @property
    def operations(self) -> int:
        return len(self.event_ids)


@dataclass(frozen=True, slots=True)
class Asked:
    """A command that somebody waits for: it shares a transaction with what other threads ask at the same moment."""

    command: Command
    operations: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Look:
    """A wallet is read."""

    wallet: WalletKey
    operations: ClassVar[int] = 1


Job = Facts | Asked | Look


@dataclass(frozen=True, slots=True)
class Work:
    """Jobs for one process, taken up in their order by so many threads."""

    jobs: Sequence[Job]
    threads: int


@dataclass(frozen=True, slots=True)
class Worked:
    """When it began and ended, by the monotonic clock, and how long each job took."""

    began_s: float
    ended_s: float
    latencies_s: Sequence[float]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a crew's work came to, from its first beginning to its last end. A job is a message, a command or a look."""

    operations: int
    seconds: float
    latencies_s: Sequence[float]

    @property
    def per_second(self) -> float:
        return self.operations / self.seconds

    def quantile_ms(self, share: float) -> float:
        """Of a job's time."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


class WorkFailed(Exception):
    """A process of the crew could not do its work; its traceback is the message."""


class Crew:
    """Some processes on one database."""

    def __init__(self, pipes: Sequence[Pipe]) -> None:
        self._pipes = pipes

    def run(self, shares: Sequence[Work]) -> Measured:
        """Each share by a process of its own. Raises WorkFailed."""
        pipes = self._pipes[: len(shares)]
        for pipe, work in zip(pipes, shares, strict=True):
            pipe.send(work)
        for pipe in pipes:
            _heard(pipe)
        for pipe in pipes:
            pipe.send("begin")
        worked = [_heard(pipe) for pipe in pipes]
        return Measured(
            operations=sum(job.operations for work in shares for job in work.jobs),
            seconds=max(each.ended_s for each in worked) - min(each.began_s for each in worked),
            latencies_s=[latency for each in worked for latency in each.latencies_s],
        )

    def divided(self, jobs: Sequence[Job], *, processes: int, threads: int) -> Measured:
        """The jobs dealt out like cards."""
        return self.run([Work(jobs[number::processes], threads) for number in range(processes)])


@contextlib.contextmanager
def crew_on(database_url: str, *, processes: int) -> Iterator[Crew]:
    """Starts the processes; they are gone at the end."""
    context = multiprocessing.get_context("spawn")
    pipes, members = [], []
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            member = context.Process(target=_serve, args=(database_url, theirs), daemon=True)
            member.start()
            theirs.close()
            pipes.append(ours)
            members.append(member)
        yield Crew(pipes)
    finally:
        for pipe in pipes:
            pipe.close()  # what a process reads next is the end
        for member in members:
            member.join(END_WITHIN_S)
            if member.is_alive():
                member.kill()
                member.join(END_WITHIN_S)


def _heard(pipe: Pipe) -> Worked:
    if not pipe.poll(ANSWER_WITHIN_S):
        raise WorkFailed(f"a process said nothing for {ANSWER_WITHIN_S} s")
    try:
        heard = pipe.recv()
    except (EOFError, OSError) as error:
        raise WorkFailed("a process ended before its work did") from error
    if isinstance(heard, str):
        raise WorkFailed(heard)
    assert isinstance(heard, Worked)
    return heard


# ---- in the processes ---------------------------------------------------------------------------------------------

_READY: Final = Worked(0.0, 0.0, ())


def _serve(database_url: str, pipe: Pipe) -> None:
    """Does what comes until nobody is there to give any. Ctrl-C is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.closing(Bookkeeper(database_url)) as bookkeeper:
        while True:
            try:
                work: Work = pipe.recv()
                pipe.send(_READY)
                pipe.recv()
            except EOFError:
                return
            pipe.send(_done(work, bookkeeper))


def _done(work: Work, bookkeeper: Bookkeeper) -> Worked | str:
    try:
        return _do(work, bookkeeper)
    except Exception:  # noqa: BLE001  the edge: told to the parent, who raises it
        return traceback.format_exc()


def _do(work: Work, bookkeeper: Bookkeeper) -> Worked:
    clock = SystemClock()
    waiting, turn = iter(work.jobs), threading.Lock()

    def next_job() -> Job | None:
        with turn:
            return next(waiting, None)

    def take_up() -> list[float]:
        latencies_s = []
        while (job := next_job()) is not None:
            began_s = clock.monotonic()
            _carry_out(job, bookkeeper)
            latencies_s.append(clock.monotonic() - began_s)
        return latencies_s

    with ThreadPoolExecutor(work.threads) as pool:
        began_s = clock.monotonic()
        futures = [pool.submit(take_up) for _ in range(work.threads)]
        latencies = [future.result() for future in futures]
        return Worked(began_s, clock.monotonic(), list(itertools.chain.from_iterable(latencies)))


def _carry_out(job: Job, bookkeeper: Bookkeeper) -> None:
    match job:
        case Facts(event_type, event_ids):
            bookkeeper.handle(event_type, event_ids)
        case Asked(command):
            if (answer := bookkeeper.ask(command)).status != CREATED:
                raise WorkFailed(f"a command was refused: {answer.document}")
        case Look(wallet):
            bookkeeper.look(wallet)
