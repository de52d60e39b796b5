"""The roads between the processes as the proof sees them: each process reaches each of its peers by a road of its own,
which can be cut, made a black hole, or slowed down, without the others noticing.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import urlsplit

from deploy.settings import PROJECT
from tests.proof.proxy import Condition
from tests.support.stack import child_environment

SERVICES: Final = (
    "gateway",
    "courier",
    "verifier",
    "verifier-store",
    "verifier-lookups",
    "reconciler",
    "ledger",
    "ledger-scheduler",
    "ledger-api",
    "notifier",
    "webhooks",
    "notifier-api",
)
"""The processes of ours. The simulator is the App Store, and not ours to keep alive."""

PEERS: Final[Mapping[str, tuple[str, ...]]] = {
    "postgres": SERVICES,
    "broker": ("courier", "verifier", "verifier-store", "verifier-lookups", "ledger", "notifier"),
    "store": ("verifier-store", "verifier-lookups", "reconciler"),
    "ledger-api": ("gateway",),
    "backend": ("webhooks",),
    "gateway": ("simulator",),
}
"""Who is reached by whom. The backend is the app's own: its webhooks arrive there."""

EVERYBODY: Final = "everybody"
ENDS_WITHIN_S: Final = 10.0


def road(process: str, peer: str) -> str:
    """The name of a road."""
    return f"{process} > {peer}"


def all_roads() -> list[str]:
    """Every road by itself, and those that lead to one peer together where there are several."""
    single = [road(process, peer) for peer, processes in PEERS.items() for process in processes]
    return [*single, *(road(EVERYBODY, peer) for peer, processes in PEERS.items() if len(processes) > 3)]


@dataclass(frozen=True, slots=True)
class Network:
    """The roads of one run."""

    ports: Mapping[str, int]
    _process: subprocess.Popen[str] = field(repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def put(self, name: str, condition: Condition) -> None:
        """A road, or all that lead to a peer, into a condition. Returns once it is in force."""
        process, _, peer = name.partition(" > ")
        several = [road(each, peer) for each in PEERS[peer]] if process == EVERYBODY else [name]
        self._command({"roads": several, "condition": condition})

    def url(self, url: str, process: str, peer: str) -> str:
        """The same URL, by the process's own road."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}127.0.0.1:{self.ports[road(process, peer)]}").geturl()

    def _command(self, command: Mapping[str, Collection[str]]) -> None:
        with self._lock:
            commands, answers = _pipes(self._process)
            commands.write(json.dumps(command) + "\n")
            commands.flush()
            if answers.readline() != "ok\n":
                raise RuntimeError("the proxy has ended")


@contextmanager
def network(upstreams: Mapping[str, tuple[str, int]]) -> Iterator[Network]:
    """All roads to these peers, as long as the block lasts. Should this process be killed, the proxy ends by itself."""
    roads = {road(process, peer): upstreams[peer] for peer, processes in PEERS.items() for process in processes}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.proof.proxy", json.dumps(roads)],
        env=child_environment(),
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C is for whoever stops it in order
    )
    try:
        _, answers = _pipes(process)
        yield Network(json.loads(answers.readline()), process)
    finally:
        process.kill()
        process.communicate(timeout=ENDS_WITHIN_S)


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[Any], IO[Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout
