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
from tests.support.shop import ADFREE, BUNDLE_ID, GEMS, example_apps, example_catalog


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


@pytest.mark.parametrize(
    ("commands", "notification_type"),
    [
        ([["refund"]], "REFUND"),
        ([["refund"], ["reverse-refund"]], "REFUND_REVERSED"),
        ([["request-refund", "--reason", "LEGAL"]], "CONSUMPTION_REQUEST"),
        ([["decline-refund"]], "REFUND_DECLINED"),
        ([["revoke"]], "REVOKE"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_befalls_a_transaction_is_told_and_shown(
    hook: Receiver, commands: list[list[str]], notification_type: str
) -> None:
    shared = ["--family-shared"] if notification_type == "REVOKE" else []
    bought = run("buy", ADFREE, "--no-notify", *shared)
    *before, (action, *options) = commands
    for earlier in before:
        run(*earlier, bought["transaction_id"], "--no-notify")
    shown = run(action, bought["transaction_id"], *options)
    (payload,) = hook.wait_for_posts(1)
    assert (payload["notificationType"], payload["notificationUUID"]) == (notification_type, shown["notification_id"])
    assert payload["data"]["signedTransactionInfo"] == shown["signed_transaction"]


def test_a_part_is_refunded_as_it_is_named() -> None:
    bought = run("buy", GEMS, "--no-notify")
    assert run("refund", bought["transaction_id"], "--percent", "33.333")["revocation"]["percentage_milli"] == 33_333
    assert run("refund", bought["transaction_id"])["revocation"]["percentage_milli"] == 100_000


def test_what_does_not_fit_what_has_happened_is_refused_with_a_sentence() -> None:
    bought = run("buy", GEMS, "--no-notify")
    done = CliRunner().invoke(command, ["reverse-refund", bought["transaction_id"]])
    assert done.exit_code != 0
    assert "there is no refund to reverse" in done.output


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
