"""Workers that are forked count as one: each in a process of its own here, since the library decides at its import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.metrics.process_tree import ProcessTree
from shared.metrics.sums import GONE, Sums
from shared.metrics.together import own_directory
from tests.support.stack import child_environment

ROOT = Path(__file__).resolve().parents[4]
WORKER = """
import sys
from shared.metrics.counted import ACCEPTED, HTTP_DURATION
for _ in range(int(sys.argv[1])):
    ACCEPTED.add("receipt", "recorded")
    HTTP_DURATION.add(0.003, "/v1/purchases")
print("counted", flush=True)
sys.stdin.read()
"""


class Worker:
    """A process that counts into the directory and then lives until it is killed."""

    def __init__(self, directory: Path, count: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(count)],
            env=child_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(directory), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "counted\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)


def told(directory: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Sums(directory))
    return {
        "accepted": registry.get_sample_value("purser_accepted_total", {"kind": "receipt", "result": "recorded"})
        or 0.0,
        "answered": registry.get_sample_value("purser_http_request_duration_seconds_count", {"route": "/v1/purchases"})
        or 0.0,
        "quick": registry.get_sample_value(
            "purser_http_request_duration_seconds_bucket", {"route": "/v1/purchases", "le": "0.005"}
        )
        or 0.0,
    }


def test_what_workers_count_is_summed_whether_they_live_or_were_killed(tmp_path: Path) -> None:
    first, second = Worker(tmp_path, 2), Worker(tmp_path, 3)
    assert told(tmp_path) == {"accepted": 5, "answered": 5, "quick": 5}
    first.kill()
    assert told(tmp_path) == {"accepted": 5, "answered": 5, "quick": 5}
    third = Worker(tmp_path, 10)
    assert told(tmp_path) == {"accepted": 15, "answered": 15, "quick": 15}
    second.kill()
    third.kill()
    assert told(tmp_path) == {"accepted": 15, "answered": 15, "quick": 15}


def test_workers_that_are_gone_leave_two_files_however_many_they_were(tmp_path: Path) -> None:
    for _ in range(3):
        Worker(tmp_path, 1).kill()
    assert told(tmp_path)["accepted"] == 3
    assert {file.name for file in tmp_path.iterdir()} == {f"counter_{GONE}.db", f"histogram_{GONE}.db"}


def test_a_file_that_was_made_this_moment_breaks_no_scrape(tmp_path: Path) -> None:
    (tmp_path / f"counter_{os.getpid()}.db").touch()
    assert told(tmp_path)["accepted"] == 0


def test_the_directory_is_empty_at_the_start_and_for_this_account_alone(tmp_path: Path) -> None:
    first = own_directory(tmp_path, port=9464)
    (first / "counter_1.db").write_bytes(b"left by the one before, which was killed")
    again = own_directory(tmp_path, port=9464)
    assert again == first
    assert list(again.iterdir()) == []
    assert again.stat().st_mode & 0o777 == 0o700
    assert own_directory(tmp_path, port=9465) != first


def test_what_is_no_directory_of_ours_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    ours = own_directory(tmp_path, port=9464)
    ours.rmdir()
    ours.symlink_to(elsewhere)
    with pytest.raises(SystemExit):
        own_directory(tmp_path, port=9464)
    assert "remove it" in capfd.readouterr().err
    assert (elsewhere / "precious").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")
def test_the_processor_time_of_a_child_is_told_while_it_runs_and_never_taken_back() -> None:
    registry = CollectorRegistry()
    registry.register(ProcessTree())

    def told(name: str) -> float:
        return registry.get_sample_value(name) or 0.0

    before, memory_before = told("process_cpu_seconds_total"), told("process_resident_memory_bytes")
    busy = subprocess.Popen(
        [sys.executable, "-c", "sum(range(20_000_000)); print('done', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert busy.stdout is not None
    assert busy.stdout.readline() == "done\n"
    during, memory_during = told("process_cpu_seconds_total"), told("process_resident_memory_bytes")
    assert during - before > 0.1
    assert memory_during - memory_before > 1_000_000
    busy.communicate("\n", timeout=10)
    assert told("process_cpu_seconds_total") >= during
