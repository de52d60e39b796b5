"""What stands before the start of the stack: its directory, its ports, its lock."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.errors import DataInvalid, PortUnavailable, StackUnavailable
from deploy.lock import DirectoryLock
from deploy.stack import Parts, Stack, Told
from shared.apps import load_apps
from shared.clock import SystemClock
from shared.ids import system_ids
from tests.support.processes import processes_naming
from tests.support.stack import as_environment, child_environment, own_settings, reachable_directory, wait_until

PURSER = Path(sys.executable).with_name("purser")


@pytest.fixture
def directory() -> Iterator[Path]:
    with reachable_directory() as fresh:
        yield fresh


def stack(directory: Path, told: list[Told], **values: object) -> Stack:
    return Stack(
        settings=own_settings(directory, **values),
        parts=Parts(),
        clock=SystemClock(),
        ids=system_ids(),
        tell=told.append,
        durable=False,
    )


def test_a_taken_port_is_said_before_anything_is_started_or_made(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        told: list[Told] = []
        with stack(directory, told, gateway_port=port) as refused, pytest.raises(PortUnavailable) as caught:
            refused.start()
    assert f"Port {port}, for the gateway, is taken" in str(caught.value)
    assert "set PURSER_GATEWAY_PORT to another port" in str(caught.value)
    assert told == []
    assert not (directory / "postgres").exists()


def test_purser_up_with_a_taken_port_is_one_sentence_and_exit_code_1(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = own_settings(directory, flower_port=port)
        ended = subprocess.run(
            [PURSER, "up"],
            env={**child_environment(), **as_environment(settings)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"purser: Port {port}, for Flower, is taken")
    assert ended.stderr.count("\n") == 1
    assert processes_naming(str(directory)) == []


def test_a_second_stack_on_the_same_directory_is_refused_with_the_first_ones_process(directory: Path) -> None:
    first = DirectoryLock(directory, clock=SystemClock(), tell=lambda _: None)
    with pytest.raises(StackUnavailable, match=rf"\(process {os.getpid()}\) uses {directory}"):
        DirectoryLock(directory, clock=SystemClock(), tell=lambda _: None)
    first.release()
    DirectoryLock(directory, clock=SystemClock(), tell=lambda _: None).release()


def test_a_second_up_is_told_of_the_first_one_and_not_of_a_port_that_the_first_one_holds(directory: Path) -> None:
    settings = own_settings(directory)
    (app,) = load_apps(settings.apps_file)
    first = DirectoryLock(directory, clock=SystemClock(), tell=lambda _: None)
    with socket.create_server(("127.0.0.1", urlsplit(app.webhooks[0].url).port or 0)):
        ended = subprocess.run(
            [PURSER, "up"],
            env={**child_environment(), **as_environment(settings)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    first.release()
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"purser: Another `purser up` (process {os.getpid()}) uses {directory}")


HOLDING = """
import subprocess, sys
from pathlib import Path
from deploy.lock import DirectoryLock
from shared.clock import SystemClock

lock = DirectoryLock(Path(sys.argv[1]), clock=SystemClock(), tell=print)
heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=0, pass_fds=[lock.descriptor])
print("held", flush=True)
heir.wait()
"""


def test_a_stack_waits_for_what_a_killed_one_left_running(directory: Path) -> None:
    """The guardian holds the lock in the killed one's place until it has stopped everything."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    notes: list[str] = []

    def let_go(note: str) -> None:
        notes.append(note)
        assert holder.stdin is not None
        holder.stdin.close()

    DirectoryLock(directory, clock=SystemClock(), tell=let_go).release()
    holder.stdout.close()
    assert notes == [f"waiting for what process {holder.pid} left running when it was killed"]


def test_data_without_its_password_file_is_refused(directory: Path) -> None:
    (directory / "postgres").mkdir()
    with stack(directory, []) as refused, pytest.raises(DataInvalid, match=r"embedded\.json"):
        refused.start()


def test_a_directory_that_cannot_be_made_names_the_variable(directory: Path) -> None:
    (directory / "file").write_text("")
    told: list[Told] = []
    settings = own_settings(directory).model_copy(update={"data_dir": directory / "file" / "data"})
    refused = Stack(settings=settings, parts=Parts(), clock=SystemClock(), ids=system_ids(), tell=told.append)
    with refused, pytest.raises(DataInvalid, match="PURSER_DATA_DIR"):
        refused.start()
    wait_until(lambda: processes_naming(str(directory)) == [])
