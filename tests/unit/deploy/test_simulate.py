"""`purser simulate`, against a simulator that is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from deploy.commands.simulate import command
from deploy.errors import StackInvalid
from simulator.app import build, serve
from tests.support.notification_receiver import Receiver, receiver
from tests.support.served import served
from tests.support.shop import BUNDLE_ID, example_apps, example_catalog


@pytest.fixture(name="hook", autouse=True)
def a_running_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as hook:
        simulator = build(data_dir=tmp_path, apps=example_apps(), catalog=example_catalog(), webhook_url=hook.url)
        with closing(simulator), served(serve(simulator)) as url:
            monkeypatch.setenv("PURSER_SIMULATOR_PORT", str(urlsplit(url).port))
            monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
            monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:9/0")
            yield hook


def run(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(command, list(arguments))
    assert done.exit_code == 0, done.output
    answer: dict[str, Any] = json.loads(done.output)
    return answer


def test_a_test_notification_is_shown_with_what_became_of_it(hook: Receiver) -> None:
    told = run("test-notification", "--environment", "sandbox")
    (payload,) = hook.wait_for_posts(1)
    assert payload["data"]["bundleId"] == BUNDLE_ID
    assert (told["type"], told["environment"], told["id"]) == ("TEST", "sandbox", payload["notificationUUID"])
    assert [attempt["result"] for attempt in told["attempts"]] == ["SUCCESS"]


def test_faults_are_put_shown_and_taken_away_again() -> None:
    put = run("faults", '{"verify_receipt": {"statuses": [21005, "cut"]}, "ocsp": {"stale": true}}')
    assert put == run("faults")
    assert (put["verify_receipt"]["statuses"], put["ocsp"]["stale"]) == ([21005, "cut"], True)
    assert run("faults", "{}")["verify_receipt"]["statuses"] == []


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ("x", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"api": {"status": 1}}', "api.status"),
        ('{"verify_recepit": {}}', "verify_recepit"),
    ],
)
def test_bad_faults_are_refused_with_a_sentence(faults: str, said: str) -> None:
    done = CliRunner().invoke(command, ["faults", faults])
    assert done.exit_code != 0
    assert said in done.output


def test_that_something_else_answers_is_said(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its port, by accident: not with a stack trace."""
    monkeypatch.setenv("PURSER_SIMULATOR_PORT", str(urlsplit(hook.url).port))
    with pytest.raises(StackInvalid, match="is no simulator"):
        CliRunner().invoke(command, ["faults"], catch_exceptions=False)
