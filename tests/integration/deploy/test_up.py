"""`purser up` as somebody at a terminal has it: the whole system, the demo, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from deploy.processes import PROCESSES
from deploy.settings import StackSettings
from tests.support.processes import processes_naming, runs
from tests.support.stack import as_environment, child_environment, own_settings, reachable_directory, wait_until

pytestmark = pytest.mark.slow

PURSER = Path(sys.executable).with_name("purser")
UP_WITHIN_S = 180.0  # two cores that everybody shares; some ten seconds are usual
STEPS = ("bought", "accepted", "verified", "credited", "webhook delivered", "refunded", "debited", "webhook delivered")


@dataclass
class Terminal:
    """A `purser up` in a terminal of its own, and what it has printed there."""

    process: subprocess.Popen[bytes]
    screen: Path
    directory: Path

    def text(self) -> str:
        return self.screen.read_text(encoding="utf-8")

    def wait_for(self, text: str, *, within_s: float = UP_WITHIN_S) -> None:
        def shown_or_over() -> bool:
            return text in self.text() or self.process.poll() is not None

        wait_until(shown_or_over, within_s=within_s, what=f"{text!r} on the screen")
        assert text in self.text(), self.text()

    def press_ctrl_c(self) -> None:
        """A terminal sends it to everybody in its foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def offspring(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def ends_and_leaves_nothing(self, offspring: list[int]) -> int:
        code = self.process.wait(timeout=90)
        assert len(offspring) > len(PROCESSES)
        wait_until(lambda: not any(runs(pid) for pid in offspring), within_s=60, what="the end of every process")
        assert processes_naming(str(self.directory)) == []
        return code


@contextmanager
def terminal(settings: StackSettings, *options: str) -> Iterator[Terminal]:
    """Starts `purser up` with these settings; kills what is left of it when the test is over."""
    directory = settings.data_dir
    screen = directory / "screen"
    env = {**child_environment(), **as_environment(settings)}
    with screen.open("wb") as output:
        process = subprocess.Popen(
            [PURSER, "up", *options], env=env, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield Terminal(process, screen, directory)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def directory() -> Iterator[Path]:
    with reachable_directory() as fresh:
        yield fresh


def test_the_demo_from_the_wheels_then_a_death_then_ctrl_c(directory: Path) -> None:
    """From the wheels: the steps are shown in order; what dies comes back; Ctrl-C ends it well and leaves nothing."""
    with terminal(own_settings(directory, embedded="wheels")) as shown:
        shown.wait_for("Ctrl-C stops everything.")
        steps = re.findall(r"^  ✓ (.+?) +\d+(?:\.\d)? m?s   \S", shown.text(), flags=re.MULTILINE)
        assert tuple(steps) == STEPS
        assert re.search(r"purchase +gems +\+100 +100 *\n.* refund +gems +-100 +0 *\n", shown.text())
        offspring = shown.offspring()
        os.kill(_main_process_of(shown, "gateway.app"), signal.SIGKILL)
        shown.wait_for("gateway is back", within_s=60)
        shown.press_ctrl_c()
        assert shown.ends_and_leaves_nothing([*offspring, *shown.offspring()]) == 0
        assert "nothing is left running" in shown.text()


def test_kill_9_leaves_nothing_and_a_start_at_once_waits_for_that_and_finds_the_data(directory: Path) -> None:
    settings = own_settings(directory)
    with terminal(settings, "--no-demo", "--no-flower") as first:
        first.wait_for("Ctrl-C stops everything.")
        made = (directory / "embedded.json").read_text()
        left = first.offspring()
        first.process.kill()
        first.process.wait()
    with terminal(settings, "--no-demo", "--no-flower") as second:
        second.wait_for("PostgreSQL's data in place")
        assert not [pid for pid in left if runs(pid)]
        second.wait_for("Ctrl-C stops everything.")
        assert (directory / "embedded.json").read_text() == made
        offspring = second.offspring()
        second.process.send_signal(signal.SIGTERM)
        assert second.ends_and_leaves_nothing(offspring) == 0


def test_a_terminal_that_is_closed_while_it_starts_leaves_nothing(directory: Path) -> None:
    with terminal(own_settings(directory), "--no-demo") as closed:
        closed.wait_for("database migrated")
        wait_until(lambda: len(closed.offspring()) > len(PROCESSES), within_s=60, what="the start of all processes")
        offspring = closed.offspring()
        closed.process.send_signal(signal.SIGHUP)
        assert closed.ends_and_leaves_nothing(offspring) == 130


def _main_process_of(shown: Terminal, target: str) -> int:
    (pid,) = [
        child.pid
        for child in psutil.Process(shown.process.pid).children()
        if any(target in word for word in child.cmdline())
    ]
    return pid
