"""The supervisor's shadow: stops what the supervisor started when the supervisor itself is gone, by `kill -9` even.

The supervisor holds the other end of this process's standard input and writes on it which process groups live, after
those that it gave as arguments:

    watch GROUP SIGNAL LIMIT_S DEPTH
    forget GROUP

The end of the input means that the supervisor has ended, however it did. Then every group that is still watched gets
its stop signal, and SIGKILL after its limit; the deepest first, which depend on the others.

A process group, rather than a process, because Granian and Celery have children; a pipe, rather than Linux's
parent-death signal, because that one neither reaches children's children nor exists elsewhere. It runs by path, on the
standard library alone, in a session of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LOOK_EVERY_S = 0.05
PROC = Path("/proc")


@dataclass(frozen=True)
class Watched:
    """One process group: how to ask it to stop, how long it may take, and how many it depends on in a row."""

    group: int
    signal: int
    limit_s: float
    depth: int


def watch(lines: Iterable[str]) -> dict[int, Watched]:
    """Reads the supervisor's lines to their end; returns the groups that were still alive then."""
    watched: dict[int, Watched] = {}
    for line in lines:
        match line.split():
            case ["watch", group, number, limit_s, depth]:
                watched[int(group)] = Watched(int(group), int(number), float(limit_s), int(depth))
            case ["forget", group]:
                watched.pop(int(group), None)
    return watched


def stop_all(watched: Collection[Watched]) -> None:
    """Stops what depends on others before those."""
    for depth in sorted({one.depth for one in watched}, reverse=True):
        stop(one for one in watched if one.depth == depth)


def stop(watched: Iterable[Watched]) -> None:
    """Asks every group's leader to stop, and ends what is left of each group when its limit has passed."""
    remaining = _alive(watched)
    for one in remaining:
        _send(os.kill, one.group, one.signal)
    began = time.monotonic()
    pause = threading.Event()
    while remaining:
        pause.wait(LOOK_EVERY_S)
        elapsed_s = time.monotonic() - began
        remaining = _alive(remaining)
        for one in remaining:
            if elapsed_s >= one.limit_s:
                _send(os.killpg, one.group, signal.SIGKILL)
        remaining = [one for one in remaining if elapsed_s < one.limit_s]


def _alive(watched: Iterable[Watched]) -> list[Watched]:
    candidates = list(watched)
    groups = living(one.group for one in candidates)
    return [one for one in candidates if one.group in groups]


def _send(send: Callable[[int, int], None], target: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        send(target, number)


def living(groups: Iterable[int]) -> set[int]:
    """Which of the process groups have a process that runs.

    Zombies do not count: they wait for a parent, and a container's first process may be one that never looks.
    """
    remaining = {group for group in groups if _exists(group)}
    if not remaining or not (PROC / "self" / "stat").exists():
        return remaining
    return {group for group, state in _groups_and_states() if state not in "ZX"} & remaining


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _groups_and_states() -> Iterator[tuple[int, str]]:
    """Of every process (proc(5), stat: behind the name in parentheses come state, parent and process group)."""
    for stat in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone in the meantime
            state, _, group, *_ = stat.read_text(errors="replace").rpartition(")")[2].split()
            yield int(group), state


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)  # it ends when its input does, not before
    stop_all(watch(itertools.chain(sys.argv[1:], sys.stdin)).values())
