"""The supervisor with small real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deploy.errors import ProcessUnavailable
from deploy.supervisor import Backoff, Died, Event, Ready, Started, Stopped, Supervisor
from shared.clock import SystemClock
from tests.support.processes import (
    FAMILY,
    SLEEPER,
    STUBBORN,
    first_number,
    group_members,
    killed_in_the_end,
    python_spec,
    runs,
)
from tests.support.stack import child_environment, wait_until


class Watcher:
    """A supervisor with what it told."""

    def __init__(self, log_dir: Path) -> None:
        self.events: list[Event] = []
        self.supervisor = Supervisor(
            log_dir=log_dir, clock=SystemClock(), on_event=self.events.append, backoff=Backoff(first_s=0.05, most_s=0.2)
        )

    def pid(self, name: str) -> int:
        pid = next(status.pid for status in self.supervisor.status() if status.name == name)
        assert pid is not None
        return pid

    def seen(self, kind: type[Event], name: str) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind) and event.name == name]


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Watcher]:
    watching = Watcher(tmp_path / "logs")
    with watching.supervisor:
        yield watching


def test_what_dies_is_started_again_and_reported_with_its_last_lines(watcher: Watcher) -> None:
    watcher.supervisor.start([python_spec("sleeper", "print('a last word', flush=True); " + SLEEPER)])
    log = watcher.supervisor.log_file("sleeper")
    wait_until(lambda: "a last word" in log.read_text())
    first = watcher.pid("sleeper")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(watcher.seen(Ready, "sleeper")) == 2)
    assert watcher.pid("sleeper") != first
    (died,) = watcher.seen(Died, "sleeper")
    assert isinstance(died, Died)
    assert (died.reason, died.last_lines) == ("was ended by SIGKILL", ("a last word",))
    assert [status.restarts for status in watcher.supervisor.status()] == [1]


def test_what_dies_takes_its_children_along(watcher: Watcher) -> None:
    watcher.supervisor.start([python_spec("family", FAMILY, STUBBORN)])
    log = watcher.supervisor.log_file("family")
    wait_until(lambda: "deaf" in log.read_text())
    parent, child = watcher.pid("family"), first_number(log)
    os.kill(parent, signal.SIGKILL)
    wait_until(lambda: len(watcher.seen(Ready, "family")) == 2)
    assert not runs(child)


def test_a_process_that_dies_before_it_was_ever_ready_is_not_started_again(watcher: Watcher) -> None:
    spec = python_spec("broken", "print('no such file'); raise SystemExit(3)", ready=lambda: False)
    with pytest.raises(ProcessUnavailable, match="broken ended with exit code 3, before it was ready") as caught:
        watcher.supervisor.start([spec])
    assert caught.value.last_lines == ("no such file",)
    assert len(watcher.seen(Started, "broken")) == 1


def test_a_program_that_is_not_there_is_one_sentence(watcher: Watcher) -> None:
    spec = python_spec("absent", "")
    with pytest.raises(ProcessUnavailable, match="absent could not be started: No such file or directory"):
        watcher.supervisor.start([spec.__class__(name="absent", argv=["/nowhere/at-all"], env={})])


def test_a_process_that_never_answers_is_given_up_within_its_limit_and_left_dead(watcher: Watcher) -> None:
    spec = python_spec("silent", SLEEPER, ready=lambda: False, ready_within_s=0.3)
    with pytest.raises(ProcessUnavailable, match=r"silent was not ready within 0\.3 s"):
        watcher.supervisor.start([spec])
    started = watcher.seen(Started, "silent")[0]
    assert isinstance(started, Started)
    assert not runs(started.pid)


def test_a_process_starts_after_those_it_depends_on_are_ready(watcher: Watcher, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    first = python_spec("first", f"open({str(flag)!r}, 'w').close(); " + SLEEPER, ready=flag.exists)
    second = python_spec("second", SLEEPER, depends_on=("first",))
    watcher.supervisor.start([second, first])
    names = [(type(event).__name__, event.name) for event in watcher.events]
    assert names == [("Started", "first"), ("Ready", "first"), ("Started", "second"), ("Ready", "second")]


def test_stopping_is_in_reverse_order_and_leaves_no_process(watcher: Watcher) -> None:
    watcher.supervisor.start(
        [python_spec("first", SLEEPER), python_spec("second", FAMILY, SLEEPER, depends_on=("first",))]
    )
    groups = [watcher.pid("first"), watcher.pid("second")]
    wait_until(lambda: len(group_members(groups[1])) == 2)
    watcher.supervisor.stop()
    assert [group_members(group) for group in groups] == [[], []]
    assert [event.name for event in watcher.events if isinstance(event, Stopped)] == ["second", "first"]


def test_what_ignores_the_stop_signal_is_killed_after_its_limit(watcher: Watcher) -> None:
    watcher.supervisor.start([python_spec("stubborn", STUBBORN, stop_within_s=0.3)])
    log = watcher.supervisor.log_file("stubborn")
    wait_until(lambda: "deaf" in log.read_text())
    pid = watcher.pid("stubborn")
    watcher.supervisor.stop()
    assert not runs(pid)
    assert watcher.events[-1] == Stopped(name="stubborn", forced=True)


def test_a_large_log_is_set_aside_at_the_next_start(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.supervisor.child.LOG_BYTES_MAX", 3)
    watcher.supervisor.start([python_spec("talker", "print('long enough', flush=True); " + SLEEPER)])
    log = watcher.supervisor.log_file("talker")
    wait_until(lambda: "long enough" in log.read_text())
    os.kill(watcher.pid("talker"), signal.SIGKILL)
    wait_until(lambda: len(watcher.seen(Ready, "talker")) == 2)
    assert log.with_name("talker.log.1").read_text() == "long enough\n"


SUPERVISING = """
import sys, threading
from pathlib import Path
from deploy.supervisor import Supervisor
from shared.clock import SystemClock
from tests.support.processes import FAMILY, SLEEPER, STUBBORN, python_spec

supervisor = Supervisor(log_dir=Path(sys.argv[1]), clock=SystemClock(), on_event=lambda event: None)
supervisor.start([python_spec("family", FAMILY, STUBBORN, stop_within_s=0.5), python_spec("sleeper", SLEEPER)])
print(*[status.pid for status in supervisor.status()], flush=True)
threading.Event().wait(300)
"""


@pytest.mark.parametrize("guardian_dies_first", [False, True])
def test_killing_the_supervisor_leaves_no_process(tmp_path: Path, guardian_dies_first: bool) -> None:
    """SIGKILL to the supervisor, of whose children one has a child that ignores SIGTERM: all are gone soon after."""
    supervising = subprocess.Popen(
        [sys.executable, "-c", SUPERVISING, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=child_environment()
    )
    with killed_in_the_end(supervising):
        assert supervising.stdout is not None
        groups = [int(pid) for pid in supervising.stdout.readline().split()]
        wait_until(lambda: "deaf" in (tmp_path / "family.log").read_text())
        assert [len(group_members(group)) for group in groups] == [2, 1]
        if guardian_dies_first:
            _kill_guardian_and_wait_for_the_next(supervising.pid)
        supervising.kill()
    wait_until(lambda: not any(group_members(group) for group in groups), what="the end of every child")


def _is_guardian(child: psutil.Process) -> bool:
    try:
        return any("guardian.py" in word for word in child.cmdline())
    except psutil.NoSuchProcess:  # gone, or killed and still a zombie, whose words cannot be read
        return False


def _kill_guardian_and_wait_for_the_next(supervisor: int) -> None:
    def guardians() -> list[int]:
        children = psutil.Process(supervisor).children()
        return [child.pid for child in children if _is_guardian(child)]

    (first,) = guardians()
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(guardians()) == 1 and guardians() != [first], what="another guardian")
