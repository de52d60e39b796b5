"""Flower as it is run: closed to whoever has no login, and its password nowhere to be read."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from deploy.ports import free_port
from deploy.probes import answers_http
from deploy.processes import PROCESSES
from deploy.settings import StackSettings
from shared.ids import system_ids
from tests.support.processes import killed_in_the_end
from tests.support.stack import child_environment, wait_until

PASSWORD = "flowers-password-in-this-test"
OPEN = {"/healthcheck", "/logout"}
"""What says nothing."""


@dataclass(frozen=True, slots=True)
class Flower:
    """One that runs."""

    url: str
    pid: int

    def status(self, path: str, login: tuple[str, str] | None = None) -> int:
        return requests.get(self.url + path, auth=login, timeout=20, allow_redirects=False).status_code


@pytest.fixture(scope="module")
def flower(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    port = free_port(bind="127.0.0.1", ids=system_ids())
    password = tmp_path_factory.mktemp("flower") / "password"
    password.write_text(PASSWORD + "\n")
    env = child_environment() | {
        "PURSER_BROKER_URL": redis_url,
        "PURSER_FLOWER_PORT": str(port),
        "PURSER_FLOWER_PASSWORD_FILE": str(password),
    }
    process = subprocess.Popen(PROCESSES["flower"].argv(StackSettings()), env=env)
    with killed_in_the_end(process):
        wait_until(lambda: answers_http(host="127.0.0.1", port=port, path="/healthcheck"), within_s=120, what="Flower")
        yield Flower(f"http://127.0.0.1:{port}", process.pid)


def paths() -> list[str]:
    """Every path that Flower serves, with something in place of its parts."""
    from flower.urls import handlers

    patterns = [str(one[0]) if isinstance(one, tuple) else str(one.regex.pattern) for one in handlers]
    return sorted({re.sub(r"\([^)]*\)", "x", each).rstrip("$") for each in patterns if each.startswith("/")})


def test_nobody_sees_more_without_the_login_than_that_it_is_there(flower: Flower) -> None:
    assert "/metrics" in paths()
    shown = {path for path in paths() if flower.status(path) == 200}
    assert {path for path in shown if not path.startswith("/static")} == OPEN


def test_whoever_has_the_login_sees_the_metrics_and_the_workers(flower: Flower) -> None:
    assert flower.status("/metrics", ("purser", "wrong")) == 401
    assert [flower.status(path, ("purser", PASSWORD)) for path in ("/metrics", "/workers")] == [200, 200]


def test_its_password_is_on_no_command_line(flower: Flower) -> None:
    assert PASSWORD not in (Path("/proc") / str(flower.pid) / "cmdline").read_text()
