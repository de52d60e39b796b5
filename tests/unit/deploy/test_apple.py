"""`purser apple` against a real HTTP server that answers as told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from deploy import app_store, cli
from shared.clock import SystemClock
from tests.support.app_store import AppStore
from tests.support.scripted_store import ScriptedStore, says, serving
from tests.support.server_api_key import new_signing_key

APPS = """
[[apps]]
id = "game"
name = "Game"
[apps.apple]
bundle_id = "com.example.game"
issuer_id = "issuer"
key_id = "KEY"
private_key_file = "key.p8"
"""
SECOND_APP = """
[[apps]]
id = "other"
name = "Other"
[apps.apple]
bundle_id = "com.example.other"
"""
NOTIFICATION_ID = UUID(int=7)
HISTORY = "/inApps/v1/notifications/history"
TEST = "/inApps/v1/notifications/test"


class Terminal:
    """An operator's configuration, the store that it names, and what the commands say."""

    def __init__(self, directory: Path, store: ScriptedStore, capsys: pytest.CaptureFixture[str]) -> None:
        self.apps_file = directory / "apps.toml"
        self.store = store
        self.apple = AppStore(now=SystemClock().now())
        self._capsys = capsys
        self.apps_file.write_text(APPS)
        (directory / "key.p8").write_bytes(new_signing_key().pem)
        (directory / "root.pem").write_bytes(self.apple.chain.root.pem)

    def run(self, *arguments: str, code: int = 0) -> str:
        """What `purser apple …` writes, to stderr too when it is to end with another code than 0."""
        assert cli.run(["apple", *arguments]) == code
        written = self._capsys.readouterr()
        return written.out + written.err if code else written.out

    def json(self, *arguments: str, code: int = 0) -> Any:
        assert cli.run(["apple", *arguments, "--json"]) == code
        return json.loads(self._capsys.readouterr().out)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Terminal]:
    store = ScriptedStore()
    with serving(store) as url:
        variables = {
            "PURSER_DATA_DIR": str(tmp_path / "data"),
            "PURSER_APPS_FILE": str(tmp_path / "apps.toml"),
            "PURSER_APPLE_ROOT_FILES": str(tmp_path / "root.pem"),
            "PURSER_APPLE_API_URL": url,
            "PURSER_APPLE_API_SANDBOX_URL": f"{url}/sandbox",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(app_store, "ASK_EVERY_S", 0.01)
        yield Terminal(tmp_path, store, capsys)


def test_a_transaction_is_shown_verified(terminal: Terminal) -> None:
    claims = terminal.apple.transaction(quantity=3)
    terminal.store.tell("/inApps/v1/transactions/1", says({"signedTransactionInfo": terminal.apple.sign(claims)}))
    shown = terminal.run("transaction", "1")
    assert claims["transactionId"] in shown
    assert "com.example.game.gems100" in shown
    assert shown.rstrip().endswith("yes")


def test_for_programs_all_that_was_signed_is_shown(terminal: Terminal) -> None:
    claims = terminal.apple.transaction()
    terminal.store.tell(
        "/sandbox/inApps/v1/transactions/1", says({"signedTransactionInfo": terminal.apple.sign(claims)})
    )
    (row,) = terminal.json("transaction", "1", "--environment", "sandbox")
    assert row["claims"] == claims
    assert row["verified"] == "yes"


@pytest.mark.parametrize("changed", ["signature", "nothing at all"])
def test_what_is_not_verified_is_shown_as_such_and_ends_with_1(terminal: Terminal, changed: str) -> None:
    claims = terminal.apple.transaction(purchaseDate="yesterday", revocationDate=10**30)
    other = AppStore(now=SystemClock().now())
    token = other.sign(claims) if changed == "signature" else "nonsense"
    terminal.store.tell("/inApps/v1/transactions/1", says({"signedTransactionInfo": token}))
    shown = terminal.run("transaction", "1", code=1)
    assert "UNVERIFIED: " in shown
    assert "1 of 1 may have been written by anybody" in shown
    assert (claims["transactionId"] in shown) == (changed == "signature")


@pytest.mark.parametrize(
    ("command", "path"), [("history", "/inApps/v2/history/1"), ("refunds", "/inApps/v2/refund/lookup/1")]
)
def test_lists_of_transactions_are_shown_whole(terminal: Terminal, command: str, path: str) -> None:
    signed = [terminal.apple.sign(terminal.apple.transaction(transactionId=str(number))) for number in (11, 22, 33)]
    terminal.store.tell(
        path,
        says({"signedTransactions": signed[:2], "revision": "r", "hasMore": True}),
        says({"signedTransactions": signed[2:], "revision": "s", "hasMore": False}),
    )
    assert [row["transaction_id"] for row in terminal.json(command, "1")] == ["11", "22", "33"]


def test_an_empty_list_is_said_to_be_empty(terminal: Terminal) -> None:
    terminal.store.tell("/inApps/v2/refund/lookup/1", says({"signedTransactions": [], "hasMore": False}))
    assert terminal.run("refunds", "1") == "no transactions\n"


def test_subscriptions_are_shown_with_their_status(terminal: Terminal) -> None:
    transaction = terminal.apple.sign(terminal.apple.transaction(productId="com.example.game.monthly"))
    renewal = terminal.apple.sign({"originalTransactionId": "1", "autoRenewStatus": 0})
    last = {
        "status": 4,
        "originalTransactionId": "1",
        "signedTransactionInfo": transaction,
        "signedRenewalInfo": renewal,
    }
    terminal.store.tell("/inApps/v1/subscriptions/1", says({"data": [{"lastTransactions": [last]}]}))
    (row,) = terminal.json("statuses", "1")
    assert (row["status"], row["product_id"], row["auto_renews"], row["verified"]) == (
        "grace period",
        "com.example.game.monthly",
        "no",
        "yes",
    )


def test_a_subscription_whose_renewal_is_not_signed_is_not_verified(terminal: Terminal) -> None:
    last = {"status": 9, "signedTransactionInfo": terminal.apple.sign(terminal.apple.transaction())}
    terminal.store.tell("/inApps/v1/subscriptions/1", says({"data": [{"lastTransactions": [last]}]}))
    (row,) = terminal.json("statuses", "1", code=1)
    assert (row["status"], row["verified"]) == ("9", "UNVERIFIED: there is nothing signed")


def test_notifications_are_shown_with_every_attempt(terminal: Terminal) -> None:
    attempts = [
        {"attemptDate": 2, "sendAttemptResult": "SUCCESS"},
        {"attemptDate": 1, "sendAttemptResult": "A_WORD_OF_NEXT_YEAR"},
    ]
    payload = terminal.apple.notification("TEST", None, notification_id=NOTIFICATION_ID)
    item = {"signedPayload": payload, "sendAttempts": attempts}
    terminal.store.tell(HISTORY, says({"notificationHistory": [item], "hasMore": False}))
    (row,) = terminal.json("notifications", "--since", "7d", "--only-failures")
    assert (row["type"], row["notification_id"]) == ("TEST", str(NOTIFICATION_ID))
    assert row["attempts"] == "A_WORD_OF_NEXT_YEAR, SUCCESS"
    question = terminal.store.asked[0].body
    assert question["endDate"] - question["startDate"] == pytest.approx(7 * 86_400_000, abs=5_000)
    assert question["onlyFailures"] is True


@pytest.mark.parametrize(
    ("since", "moment"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_a_date_is_utc_unless_it_says_otherwise(terminal: Terminal, since: str, moment: datetime) -> None:
    terminal.store.tell(HISTORY, says({"notificationHistory": [], "hasMore": False}))
    assert terminal.run("notifications", "--since", since) == "no notifications\n"
    assert terminal.store.asked[0].body["startDate"] == (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(
        milliseconds=1
    )


@pytest.mark.parametrize("since", ["yesterday", "7", "7w", "", "-1d"])
def test_what_is_no_moment_is_a_wrong_call(terminal: Terminal, since: str) -> None:
    assert "is neither like 7d" in terminal.run("notifications", "--since", since, code=2)


def test_a_test_notification_is_requested(terminal: Terminal) -> None:
    terminal.store.tell(TEST, says({"testNotificationToken": "abc"}))
    assert terminal.run("test-notification") == "requested: abc\n"


def test_a_test_notification_is_followed_until_the_app_store_says_how_it_went(terminal: Terminal) -> None:
    payload = terminal.apple.notification("TEST", None, notification_id=NOTIFICATION_ID)
    not_yet = says({"errorCode": 4040008, "errorMessage": "Not found."}, status=404)
    sent = {"signedPayload": payload, "sendAttempts": [{"attemptDate": 1, "sendAttemptResult": "SUCCESS"}]}
    terminal.store.tell(TEST, says({"testNotificationToken": "abc"}))
    terminal.store.tell(f"{TEST}/abc", not_yet, says({"signedPayload": payload}), says(sent))
    (row,) = terminal.json("test-notification", "--wait")
    assert (row["type"], row["attempts"], row["verified"]) == ("TEST", "SUCCESS", "yes")


def test_a_test_notification_that_did_not_arrive_ends_with_1_and_apples_word(terminal: Terminal) -> None:
    payload = terminal.apple.notification("TEST", None, notification_id=NOTIFICATION_ID)
    sent = {"signedPayload": payload, "sendAttempts": [{"attemptDate": 1, "sendAttemptResult": "TLS_ISSUE"}]}
    terminal.store.tell(TEST, says({"testNotificationToken": "abc"}))
    terminal.store.tell(f"{TEST}/abc", says(sent))
    assert "it did not arrive: TLS_ISSUE" in terminal.run("test-notification", "--wait", code=1)


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (404, {"errorCode": 4040010, "errorMessage": "Transaction id not found."}, "not found. (4040010)"),
        (401, None, "the issuer id, the key id"),
        (500, {"errorCode": 5000000, "errorMessage": "An unknown error occurred."}, "occurred. (5000000)"),
        (404, {"errorCode": 4040007, "errorMessage": "No notification URL."}, "No notification URL. (4040007)"),
    ],
)
def test_what_the_store_refuses_is_one_sentence(terminal: Terminal, status: int, body: Any, sentence: str) -> None:
    terminal.store.tell("/inApps/v1/transactions/1", says(body or b"", status=status))
    error = terminal.run("transaction", "1", code=1)
    assert error.startswith("purser: the App Store Server API: ")
    assert sentence in error
    assert error.count("\n") == 1


def test_a_key_that_cannot_be_read_is_one_sentence(terminal: Terminal) -> None:
    (terminal.apps_file.parent / "key.p8").unlink()
    error = terminal.run("transaction", "1", code=1)
    assert error.startswith("purser: app 'game': apple.private_key_file ")
    assert error.count("\n") == 1


def test_of_several_apps_one_has_to_be_named(terminal: Terminal) -> None:
    terminal.apps_file.write_text(APPS + SECOND_APP)
    assert "name one of the apps with --app: game, other" in terminal.run("transaction", "1", code=1)
    assert "there is no app 'gmae'; there are: game, other" in terminal.run("transaction", "1", "--app", "gmae", code=1)
    assert "app 'other' has no key" in terminal.run("transaction", "1", "--app", "other", code=1)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("APPLE_API_SHARE", "half"),
        ("APPLE_API_SHARE", "0"),
        ("APPLE_API_URL", "api.storekit.apple.com"),
        ("APPLE_API_SANDBOX_URL", "ftp://127.0.0.1"),
        ("APPLE_VERIFY_RECEIPT_URL", "https://"),
        ("APPLE_VERIFY_RECEIPT_SANDBOX_URL", "https://a store/verifyReceipt"),
        ("STORE_READ_TIMEOUT_S", "never"),
        ("APPLE_OCSP", "perhaps"),
        ("APPLE_ROOT_SHA256", "zz"),
    ],
)
def test_a_setting_that_is_nonsense_is_named_in_one_sentence(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
) -> None:
    monkeypatch.setenv(f"PURSER_{variable}", value)
    with pytest.raises(SystemExit) as ended:
        terminal.run("transaction", "1")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"purser: PURSER_{variable}")
    assert said.count("\n") == 1
