"""The web server as the processes' table starts it, where Granian alone would not do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from deploy.ports import free_port
from deploy.settings import PROJECT
from shared.ids import system_ids
from tests.support.metrics import told
from tests.support.processes import killed_in_the_end
from tests.support.stack import child_environment, wait_until

STARTS_FOR_EVER = """
import os, pathlib, threading

def create_app():
    pathlib.Path(f"starts-{os.getpid()}").touch()
    threading.Event().wait(300)
"""
KILL_TIMEOUT_S = 240

COUNTS = """
import os
from shared.metrics.counted import ACCEPTED

def create_app():
    def app(environ, start_response):
        if environ["PATH_INFO"] == "/metrics":
            start_response("200 OK", [])
            return [b"# TYPE purser_ledger_audit_problems gauge\\npurser_ledger_audit_problems 3\\n"]
        ACCEPTED.add("receipt", "recorded")
        start_response("200 OK", [])
        return [str(os.getpid()).encode()]
    return app
"""
TIMEOUT_S = 10
ACCEPTED = "purser_accepted_total"


def test_a_server_whose_workers_still_start_stops_without_waiting_for_their_limit(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(STARTS_FOR_EVER, encoding="utf-8")
    port = free_port(bind="127.0.0.1", ids=system_ids())
    options = (
        f"--port {port} --interface wsgi --workers 2 --workers-kill-timeout {KILL_TIMEOUT_S} --factory slow:create_app"
    )
    env = child_environment() | {"PYTHONPATH": str(tmp_path)}
    server = subprocess.Popen([sys.executable, "-m", "deploy.serve", *options.split()], env=env, cwd=tmp_path)
    with killed_in_the_end(server):
        wait_until(lambda: len(list(tmp_path.glob("starts-*"))) == 2, what="two workers that start")
        server.terminate()
        assert server.wait(timeout=60) == 0


class Counting:
    """A server of two workers that count each request."""

    def __init__(self, directory: Path, *options: str, metrics_port: int | None = None) -> None:
        (directory / "counts.py").write_text(COUNTS, encoding="utf-8")
        ids = system_ids()
        self.port = free_port(bind="127.0.0.1", ids=ids)
        self.metrics_port = metrics_port or free_port(bind="127.0.0.1", ids=ids, besides={self.port})
        served = f"--host 127.0.0.1 --port {self.port} --interface wsgi --workers 2 --respawn-failed-workers"
        env = child_environment() | {
            "PYTHONPATH": str(directory),
            "TMPDIR": str(directory),
            "PURSER_METRICS_PORT": str(self.metrics_port),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy.serve", *options, *served.split(), "--factory", "counts:create_app"],
            env=env,
            cwd=PROJECT,
            stderr=subprocess.PIPE,
            text=True,
        )

    def asked(self) -> int | None:
        """Asks once, on a connection of its own; the worker that answered."""
        try:
            return int(requests.get(f"http://127.0.0.1:{self.port}/", timeout=TIMEOUT_S).text)
        except requests.RequestException:
            return None

    def both_answer(self) -> set[int]:
        """Asks until two workers have answered; how they are called."""
        workers = set[int]()

        def known() -> bool:
            if (worker := self.asked()) is not None:
                workers.add(worker)
            return len([each for each in workers if psutil.pid_exists(each)]) == 2

        wait_until(known, within_s=60, what="two workers that answer")
        return {each for each in workers if psutil.pid_exists(each)}

    def total(self, name: str) -> float | None:
        return told(f"127.0.0.1:{self.metrics_port}")(name)


@pytest.fixture
def counting(tmp_path: Path) -> Iterator[Counting]:
    server = Counting(tmp_path, "--metrics", "--metrics-path=/metrics")
    with killed_in_the_end(server.process):
        yield server
    server.process.communicate(timeout=TIMEOUT_S)


def answered(server: Counting, requests_made: int) -> int:
    return sum(server.asked() is not None for _ in range(requests_made))


def test_the_workers_of_a_server_count_as_one_and_one_that_is_killed_takes_nothing_with_it(counting: Counting) -> None:
    workers = counting.both_answer()
    before = counting.total(ACCEPTED)
    assert before is not None
    count = answered(counting, 30)
    assert counting.total(ACCEPTED) == before + count
    os.kill(min(workers), signal.SIGKILL)
    assert counting.total(ACCEPTED) == before + count
    after = counting.both_answer()
    assert after != workers
    again = counting.total(ACCEPTED)
    assert again is not None
    count = answered(counting, 30)
    assert counting.total(ACCEPTED) == again + count
    assert counting.total("process_resident_memory_bytes") == pytest.approx(
        sum(psutil.Process(pid).memory_info().rss for pid in (counting.process.pid, *after)), rel=0.2
    )


def test_what_the_application_tells_itself_is_told_there_too(counting: Counting) -> None:
    counting.both_answer()
    assert counting.total("purser_ledger_audit_problems") == 3


def test_a_server_that_stops_leaves_nothing_behind(counting: Counting, tmp_path: Path) -> None:
    counting.both_answer()
    assert list(tmp_path.glob("purser-metrics-*/*.db"))
    counting.process.terminate()
    assert counting.process.wait(timeout=60) == 0
    assert list(tmp_path.glob("purser-metrics-*")) == []


def test_after_a_server_was_killed_the_next_one_has_its_port_and_begins_at_nothing(
    counting: Counting, tmp_path: Path
) -> None:
    counting.both_answer()
    answered(counting, 50)
    counting.process.kill()
    counting.process.wait(timeout=TIMEOUT_S)
    # its workers may live on for a moment, and may not keep the port
    again = Counting(tmp_path, "--metrics", metrics_port=counting.metrics_port)
    with killed_in_the_end(again.process):
        made = [0]

        def counted() -> bool:
            made[0] += again.asked() is not None
            return made[0] >= 1

        wait_until(counted, within_s=60, what="an answer")
        assert again.total(ACCEPTED) == made[0]
    again.process.communicate(timeout=TIMEOUT_S)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is dead")
def test_a_server_that_is_killed_takes_its_workers_with_it(counting: Counting) -> None:
    workers = counting.both_answer()
    counting.process.kill()
    counting.process.wait(timeout=TIMEOUT_S)
    wait_until(lambda: not any(is_alive(worker) for worker in workers), what="the workers' end")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_server_whose_metrics_port_is_taken_says_so_and_ends(counting: Counting, tmp_path: Path) -> None:
    counting.both_answer()
    other = Counting(tmp_path, "--metrics", metrics_port=counting.metrics_port)
    with killed_in_the_end(other.process):
        _, said = other.process.communicate(timeout=60)
    assert other.process.returncode == 2
    assert "PURSER_METRICS_PORT" in said
    assert counting.total(ACCEPTED), "the files of the one that runs were removed"


def test_without_the_option_no_port_is_opened_and_nothing_is_written(tmp_path: Path) -> None:
    server = Counting(tmp_path)
    with killed_in_the_end(server.process):
        server.both_answer()
        assert server.total(ACCEPTED) is None
        assert list(tmp_path.glob("purser-metrics-*")) == []
    server.process.communicate(timeout=TIMEOUT_S)
