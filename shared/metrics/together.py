"""The metrics of a process that forks its workers: one target, whose numbers are the sums over all of them.

The workers count into files that they share with their parent (prometheus_client's multiprocess mode), and the parent
tells the sums (`sums.py`).

The library decides when it is imported how it counts, so nothing here imports it before the directory is named.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shared.metrics.ports import open_port
from shared.settings import ProcessSettings, count_into, refuse

if TYPE_CHECKING:
    from socket import socket

    from prometheus_client.registry import Collector

    from shared.metrics.serving import Render


@contextmanager
def serving_together(settings: ProcessSettings, read: Callable[[], Sequence[Collector]]) -> Iterator[None]:
    """Tells the sums of all that this process and those that it forks count, and what is `read` at the scrape.

    Ends the process with a sentence when the port or the directory cannot be had.
    """
    listener = open_port(settings)  # before the directory: whoever has the port is the one whose directory it is
    directory = own_directory(Path(tempfile.gettempdir()), port=settings.metrics_port)
    count_into(directory)
    try:
        _serve(listener, directory, read())
        yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def own_directory(parent: Path, *, port: int) -> Path:
    """An empty directory, for this account alone. What the last process on this port left there, since it was killed,
    is removed. Ends the process with a sentence when somebody else has it.
    """
    directory = parent / f"purser-metrics-{os.getuid()}-{port}"
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        known = directory.lstat()
        if not stat.S_ISDIR(known.st_mode) or known.st_uid != os.getuid():
            refuse(f"PURSER_METRICS_PORT: {directory} is to hold what is counted, and is somebody else's: remove it")
        shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
    return directory


def _serve(listener: socket, directory: Path, read: Sequence[Collector]) -> None:
    """No worker is forked while a scrape is answered, and none keeps the port open when its parent is gone."""
    from shared.metrics.process_tree import ProcessTree
    from shared.metrics.serving import BuildInfo, rendering, serve
    from shared.metrics.sums import Sums

    scraping = threading.Lock()

    def in_worker() -> None:
        scraping.release()
        listener.close()

    os.register_at_fork(before=scraping.acquire, after_in_parent=scraping.release, after_in_child=in_worker)
    serve(listener, _one_at_a_time(rendering([BuildInfo(), ProcessTree(), Sums(directory), *read]), scraping))


def _one_at_a_time(render: Render, lock: threading.Lock) -> Render:
    def alone(accept: str) -> tuple[bytes, str]:
        with lock:
            return render(accept)

    return alone
