"""What a process and those that it has forked take of the machine, told as of one: `process_…`, as everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

_PROC: Final = Path("/proc")
_TICKS_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_OF_THE_PARENT: Final = frozenset({"process_start_time_seconds", "process_max_fds"})


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one process has taken, or takes."""

    cpu_s: float
    resident_bytes: int
    open_files: int


class ProcessTree(Collector):
    """Processor time, memory and open files of this process and its children, where there is a /proc.

    What children that have ended took of the processor is known to their parent, so the sum never falls. Memory that
    they share is counted once for each.
    """

    def __init__(self) -> None:
        self._own = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        yield from (family for family in self._own.collect() if family.name in _OF_THE_PARENT)
        everybody = [_taken(_PROC / "self"), *map(_taken, _children(os.getpid()))]
        known = [taken for taken in everybody if taken is not None]
        ended = os.times()
        cpu_s = sum(taken.cpu_s for taken in known) + ended.children_user + ended.children_system
        yield CounterMetricFamily("process_cpu_seconds", "Processor time, of children too.", value=cpu_s)
        resident = sum(taken.resident_bytes for taken in known)
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory, of children too.", value=resident)
        files = sum(taken.open_files for taken in known)
        yield GaugeMetricFamily("process_open_fds", "Open file descriptors, of children too.", value=files)


def _children(parent: int) -> Iterator[Path]:
    for process in _PROC.glob("[0-9]*"):
        fields = _stat(process)
        if fields is not None and int(fields[1]) == parent:
            yield process


def _taken(process: Path) -> _Taken | None:
    """None: it has ended, or there is no /proc."""
    fields = _stat(process)
    if fields is None:
        return None
    try:
        files = len(os.listdir(process / "fd"))
    except OSError:
        files = 0
    return _Taken((int(fields[11]) + int(fields[12])) / _TICKS_S, int(fields[21]) * _PAGE_BYTES, files)


def _stat(process: Path) -> list[str] | None:
    """proc(5): what follows the name, which is in parentheses and may hold some: state, parent, …"""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
