"""What several processes have counted into one directory, summed up.

A worker that is killed takes nothing with it: its file stays. The files of those that are gone are put together into
one, so that a worker that dies again and again does not fill the directory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

GONE: Final = 0
"""What the file of those that are gone bears for a process id: it is nobody's."""


class Sums(Collector):
    """The sums; counters and histograms only. No process is to be forked into this directory while it collects."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        for file in self._files():
            if not _is_counted_into(file):
                self._put_together(file)
        yield from MultiProcessCollector.merge([str(file) for file in self._files()])  # type: ignore[no-untyped-call]

    def _files(self) -> list[Path]:
        """`counter_123.db`; one that was made this moment has nothing in it yet, not even a head."""
        return [file for file in self._directory.glob("*.db") if file.stat().st_size]

    def _put_together(self, file: Path) -> None:
        """Adds what it holds to what those that are gone have counted."""
        kind = file.stem.rpartition("_")[0]
        gone = MmapedDict(str(self._directory / f"{kind}_{GONE}.db"))  # type: ignore[no-untyped-call]
        for key, value, _, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
            gone.write_value(key, gone.read_value(key)[0] + value, 0.0)  # type: ignore[no-untyped-call]
        gone.close()  # type: ignore[no-untyped-call]
        file.unlink()


def _is_counted_into(file: Path) -> bool:
    """Whether its process lives, or may: one that has ended and was not waited for yet is seen the next time."""
    pid = int(file.stem.rpartition("_")[2])
    if pid == GONE:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
