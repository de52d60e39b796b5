"""What an operator sees and does from the command line, on the running system."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.stack import wait_until
from tests.support.system import System, purser, running_system

pytestmark = pytest.mark.slow


def test_a_purchase_of_an_unknown_product_is_parked_and_visible(system: System) -> None:
    bought = system.buy("com.example.game.not-in-the-catalogue", type="consumable")
    purchase = system.post("collector", {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20").json()
    assert purchase["status"] == "parked"

    def stuck() -> list[dict[str, Any]]:
        return [
            row
            for row in json.loads(purser(system, "parked", "list", "--json", code=1))
            if row["subject"] == purchase["id"]
        ]

    (row,) = stuck()
    assert (row["consumer"], row["type"], row["state"]) == ("ledger", "purchase.verified", "parked")
    assert "catalog" in row["error"]
    # Retried before anything was mended, it is parked again, and says so no second time.
    assert "1 due again" in purser(system, "parked", "retry", row["event_id"])
    wait_until(lambda: [one["attempts"] for one in stuck()] == [1], what="being parked again")
    lines = json.loads(purser(system, "timeline", purchase["id"], "--json"))["events"]
    assert [line["type"] for line in lines].count("purchase.parked") == 1
    assert "ledger" in next(line["still_to"] for line in lines if line["type"] == "purchase.verified")
    assert "1 dropped" in purser(system, "parked", "drop", row["event_id"], "--yes")
    assert purser(system, "parked", "retry", row["event_id"], code=1) == "0 due again\n"


def test_the_simulator_buys_and_refunds_from_the_command_line(system: System) -> None:
    bought = json.loads(purser(system, "simulate", "buy", "com.example.game.gems100", "--no-notify"))
    assert bought["transaction_id"]
    refunded = json.loads(purser(system, "simulate", "refund", bought["transaction_id"], "--percent", "40"))
    assert refunded["transaction_id"] == bought["transaction_id"]
    purser(system, "simulate", "buy", "com.example.game.unknown", code=1)


def test_the_files_are_checked_and_an_unknown_subject_is_said_to_be_one(system: System) -> None:
    assert json.loads(purser(system, "catalog", "check", "--json"))["products"] == {"game": 6}
    purser(system, "timeline", "pur_nothing", code=1)


def test_a_webhook_is_seen_and_sent_once_more_from_the_command_line(system: System) -> None:
    bought = system.buy()
    purchase = system.post("told", {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20").json()

    def deliveries() -> dict[str, str]:
        listed = json.loads(purser(system, "webhooks", "list", "--state", "delivered", "--json"))
        return {row["type"]: row["event_id"] for row in listed}

    wait_until(lambda: "purchase.completed" in deliveries(), within_s=20, what="the webhook")
    event_id = deliveries()["purchase.completed"]
    shown = json.loads(purser(system, "webhooks", "show", event_id, "--json"))
    assert shown["message"]["data"]["id"] == purchase["id"]
    assert purser(system, "webhooks", "resend", event_id) == "1 due again\n"
    wait_until(lambda: _times_received(system, event_id) == 2, within_s=20, what="the same once more")
    assert "taken: 200" in purser(system, "webhooks", "test", "backend")
    assert "on" in purser(system, "webhooks", "endpoints")


def _times_received(system: System, event_id: str) -> int:
    return [each.id for each in system.receiver.received].count(event_id)


@pytest.fixture(scope="module")
def own_system() -> Iterator[System]:
    """One whose configuration is changed, and whose processes are started again with it."""
    with running_system() as running:
        yield running


def configure(system: System, *changes: tuple[str, str]) -> None:
    """What an operator does: edits the apps file, and starts what reads it again. The store is not told."""
    text = system.settings.apps_file.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    system.settings.apps_file.write_text(text, encoding="utf-8")
    before = {name: system.pid(name) for name in ("verifier-store", "verifier-lookups")}
    for pid in before.values():
        os.kill(pid, signal.SIGTERM)
    for name, pid in before.items():
        wait_until(partial(_is_another, system, name, pid), within_s=60, what=f"{name} started again")


def _is_another(system: System, name: str, pid: int) -> bool:
    return system.pid(name) != pid


WRONG = [("example-shared-secret", "of-another-app"), ("EXAMPLE000", "REVOKED000")]


def test_what_waits_for_a_wrong_secret_and_a_wrong_key_completes_once_they_are_mended(own_system: System) -> None:
    """The store's 21004 and 401 are the operator's fault: nobody is rejected for them, and nothing has to be bought or
    posted again."""
    system = own_system
    configure(system, *WRONG)
    token = system.get("/v1/users/me/account-token", user_id="by-id").json()["app_account_token"]
    with_a_subscription = system.buy("com.example.game.vip.monthly")  # for other receipts no secret is asked for
    by_id = system.buy(app_account_token=token)
    posted = {
        "by-receipt": {name: with_a_subscription[name] for name in ("transaction_id", "receipt")},
        "by-id": {"transaction_id": by_id["transaction_id"]},
    }
    ids = {user: system.post_until_accepted(user, body) for user, body in posted.items()}

    seen = {user: system.purchase(purchase, user_id=user) for user, purchase in ids.items()}
    assert {(one["status"], one["rejection"]) for one in seen.values()} == {("parked", None)}
    stuck = {row["subject"]: row for row in json.loads(purser(system, "parked", "list", "--json", code=1))}
    assert stuck[ids["by-receipt"]]["error"].startswith("verifyReceipt 21004: ")
    assert stuck[ids["by-id"]]["error"].startswith("the App Store Server API 401: ")
    assert "21004" in purser(system, "timeline", ids["by-receipt"])
    doctor = {
        finding["check"]: (finding["outcome"], finding["found"])
        for finding in json.loads(purser(system, "doctor", "--json", code=1))["findings"]
    }
    assert doctor["Server API game production"] == ("failed", "401: it does not take the key")
    assert doctor["parked"][0] == "warning"
    assert "21004" in doctor["parked"][1]

    configure(system, *((wrong, right) for right, wrong in WRONG))
    assert "2 due again" in purser(system, "parked", "retry", "--all")
    for user, purchase in ids.items():
        assert system.purchase(purchase, user_id=user, status="completed")["rejection"] is None
    assert (system.gems("by-receipt"), system.gems("by-id")) == (300, 100)
    assert purser(system, "parked", "list") == "nothing is parked\n"
    purser(system, "doctor")
