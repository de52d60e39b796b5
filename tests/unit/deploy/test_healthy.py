"""The health check of a container says what is, by its exit code."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.healthy import main
from shared.bus.heartbeat import FRESH_S
from shared.clock import SystemClock


def test_a_heartbeat_is_well_until_it_is_too_old(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    file.touch()
    touched = SystemClock().now()
    os.utime(file, (touched.timestamp(), touched.timestamp()))
    assert main(["heartbeat", str(file)], now=touched + timedelta(seconds=FRESH_S)) == 0
    assert main(["heartbeat", str(file)], now=touched + timedelta(seconds=FRESH_S + 1)) == 1


def test_a_process_that_has_not_touched_its_file_yet_is_not_well(tmp_path: Path) -> None:
    assert main(["heartbeat", str(tmp_path / "heartbeat")], now=SystemClock().now()) == 1


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (204, 1), (503, 1)])
def test_a_process_is_well_when_it_answers_200_and_only_then(status: int, exit_code: int) -> None:
    with answering(status) as port:
        assert main(["http", str(port), "/readyz"], now=SystemClock().now()) == exit_code


def test_a_process_that_does_not_listen_is_not_well() -> None:
    with answering(200) as port:
        pass
    assert main(["http", str(port), "/readyz"], now=SystemClock().now()) == 1


@pytest.mark.parametrize("arguments", [[], ["http"], ["http", "port", "/"], ["heartbeat"], ["else", "1", "2"]])
def test_a_call_that_makes_no_sense_is_told_so(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments, now=SystemClock().now()) == 2
    assert "usage" in capsys.readouterr().err


@contextlib.contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on this port that answers each GET of /readyz with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
