"""The process that tells the endpoints, as it is: killed with calls in flight, and told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.notifier import Notifier, apps_text, apps_with, credited, endpoint, ids_of
from tests.support.processes import killed_in_the_end
from tests.support.receiver import Receiver, Reply
from tests.support.stack import child_environment, wait_until

CALLS = 4
"""In flight at once, before anything is known of an endpoint."""
TIMEOUT_S = 3
LEASE_S = 120.0
"""More than the lease that the process takes."""


@contextmanager
def webhooks_process(notifier: Notifier, directory: Path, *endpoints: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once it is well."""
    apps_file, heartbeat_file = directory / "apps.toml", directory / "heartbeat"
    apps_file.write_text(apps_text(*endpoints), encoding="utf-8")
    settings = {
        "PURSER_DATABASE_URL": notifier.database_url,
        "PURSER_APPS_FILE": str(apps_file),
        "PURSER_HEARTBEAT_FILE": str(heartbeat_file),
        "PURSER_WEBHOOK_TIMEOUT_S": str(TIMEOUT_S),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "deploy.call", "notifier.app:run_webhooks_worker"], env=child_environment() | settings
    )
    with killed_in_the_end(process):
        wait_until(heartbeat_file.exists, what="the process being well")
        yield process


@pytest.fixture
def running(notifier: Notifier, receiver: Receiver, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with webhooks_process(notifier, tmp_path, endpoint(receiver.url)) as process:
        yield process


def test_killed_with_calls_in_flight_it_leaves_them_to_the_next_one_who_sends_them_with_the_same_ids(
    notifier: Notifier, receiver: Receiver, running: subprocess.Popen[bytes]
) -> None:
    receiver.reply_usually(Reply(behaviour="hang"))
    told = notifier.tell(*(credited(version) for version in range(1, 31)))
    notifier.wait(lambda: len(receiver.received) == CALLS, what="calls in flight")
    os.kill(running.pid, signal.SIGKILL)
    running.wait(10)
    in_flight = {each.id for each in receiver.received}
    assert notifier.states() == {("backend", "waiting"): 30}
    receiver.reply_usually(Reply())
    with notifier.sending():
        notifier.clock.advance(LEASE_S)
        notifier.settled("delivered", 30)
    sent = Counter(each.id for each in receiver.received)
    assert sent == Counter(ids_of(told)) + Counter(in_flight)
    assert len({(each.id, each.raw) for each in receiver.received}) == 30


def test_told_to_stop_it_finishes_its_calls_gives_the_rest_back_and_ends_well(
    notifier: Notifier, receiver: Receiver, running: subprocess.Popen[bytes]
) -> None:
    receiver.reply_usually(Reply(behaviour="hang"))
    told = notifier.tell(*(credited(version) for version in range(1, 31)))
    notifier.wait(lambda: len(receiver.received) == CALLS, what="calls in flight")
    running.terminate()
    assert running.wait(TIMEOUT_S + 10) == 0
    attempted = notifier.rows("select event_id, error from notifier.attempt")
    assert {row["error"] for row in attempted} == {f"no answer within {TIMEOUT_S} s"}
    assert {str(row["event_id"]) for row in attempted} == {each.id for each in receiver.received}
    assert len(attempted) == CALLS
    receiver.reply_usually(Reply())
    with notifier.sending():  # at once: nothing has to wait for a lease
        notifier.settled("delivered", 30 - CALLS)
    assert {each.id for each in receiver.received} == set(ids_of(told))


def test_one_that_hangs_keeps_the_process_well_and_the_others_told(
    notifier: Notifier, receiver: Receiver, other_receiver: Receiver, tmp_path: Path
) -> None:
    endpoints = endpoint(receiver.url), endpoint(other_receiver.url, id="analytics")
    notifier.apps = apps_with(*endpoints)
    receiver.reply_usually(Reply(behaviour="hang"))
    with webhooks_process(notifier, tmp_path, *endpoints):
        beaten_at = (tmp_path / "heartbeat").stat().st_mtime_ns
        notifier.tell(*(credited(version) for version in range(1, 101)))
        notifier.settled("delivered", 100, endpoint_id="analytics")
        wait_until(lambda: (tmp_path / "heartbeat").stat().st_mtime_ns > beaten_at, what="another sign of life")
    assert len(other_receiver.received) == 100
    assert notifier.states()["backend", "waiting"] == 100
