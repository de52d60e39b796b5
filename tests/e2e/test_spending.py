"""What users do with their currency, end to end: spends, holds, goodwill, and refunds of what is spent already."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from deploy.commands.audit import command as audit_command
from tests.support.stack import wait_until
from tests.support.system import System

pytestmark = pytest.mark.slow


def test_a_spend_is_made_once_and_its_repeat_gets_the_first_answer(system: System) -> None:
    _bought(system, "spender")
    body = {"currency": "gems", "amount": 30, "reference": "order-1", "item": "a hat"}
    first = system.order("/v1/users/spender/spends", body, key="order-1")
    again = system.order("/v1/users/spender/spends", body, key="order-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert system.order("/v1/users/spender/spends", {**body, "amount": 31}, key="order-1").status_code == 409
    assert system.funds("spender") == {"balance": 70, "available": 70, "held": 0, "debt": 0}
    (told,) = _told(system, "spender", "wallet.debited")
    assert (told["amount"], told["spend_id"], told["reference"]) == (-30, first.json()["id"], "order-1")


def test_what_is_not_there_cannot_be_spent(system: System) -> None:
    _bought(system, "short")
    response = system.order("/v1/users/short/spends", {"currency": "gems", "amount": 101}, key="too-much")
    assert (response.status_code, response.json()["code"]) == (422, "insufficient-funds")
    assert response.json()["available"] == 100
    assert system.gems("short") == 100


def test_a_refund_of_what_is_spent_is_owed_and_one_that_is_reversed_gives_it_back(system: System) -> None:
    bought, purchase_id = _bought(system, "debtor")
    assert system.order("/v1/users/debtor/spends", {"currency": "gems", "amount": 60}, key="all-in").ok
    system.refund(bought["transaction_id"])
    assert system.purchase(purchase_id, user_id="debtor", status="refunded")["status"] == "refunded"
    assert system.funds("debtor") == {"balance": -60, "available": 0, "held": 0, "debt": 60}
    grant = system.order("/v1/users/debtor/grants", {"currency": "gems", "amount": 10, "reason": "sorry"}, key="sorry")
    assert grant.json()["wallet"]["funds"] == {"balance": -50, "available": 0, "held": 0, "debt": 50}
    system.reverse_refund(bought["transaction_id"])
    assert system.purchase(purchase_id, user_id="debtor", status="completed")["refunded"] == []
    assert system.funds("debtor") == {"balance": 50, "available": 50, "held": 0, "debt": 0}
    assert _told(system, "debtor", "purchase.refund_reversed")


def test_a_hold_that_nobody_ends_ends_by_itself(system: System) -> None:
    _bought(system, "bidder")
    hold = system.order(
        "/v1/users/bidder/holds", {"currency": "gems", "amount": 80, "expires_in_s": 1}, key="bid-1"
    ).json()
    assert (hold["state"], hold["wallet"]["funds"]["available"]) == ("open", 20)
    wait_until(lambda: system.funds("bidder")["held"] == 0, within_s=30, what="the hold's end")
    late = system.order(f"/v1/holds/{hold['id']}/capture", {})
    assert (late.status_code, late.json()["code"], late.json()["state"]) == (409, "hold-not-open", "expired")


def test_what_is_asked_back_is_held_until_the_store_has_decided(system: System) -> None:
    bought, purchase_id = _bought(system, "asker")
    asked = system.order(f"/v1/purchases/{purchase_id}/refund-requests", {"reason": "bought by mistake"})
    assert (asked.status_code, asked.json()["status"]) == (201, "open")
    assert asked.json()["advice"]["action"] == "present_refund_sheet"
    assert system.funds("asker") == {"balance": 100, "available": 0, "held": 100, "debt": 0}
    system.decline_refund(bought["transaction_id"])
    path = f"/v1/refund-requests/{asked.json()['id']}"
    wait_until(lambda: system.get(path, user_id="asker").json()["status"] == "declined", what="the store's answer")
    assert system.funds("asker") == {"balance": 100, "available": 100, "held": 0, "debt": 0}


def test_the_books_are_sound_after_all_of_it(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", system.stack.addresses.database_url)
    monkeypatch.setenv("PURSER_BROKER_URL", system.stack.addresses.broker_url)
    result = CliRunner().invoke(audit_command, [])
    assert result.exit_code == 0, result.output
    assert "the books are sound" in result.output


def _bought(system: System, user_id: str) -> tuple[dict[str, Any], str]:
    """100 gems: what the store said, and the purchase's id."""
    bought = system.buy()
    purchase = system.post(user_id, {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20").json()
    assert purchase["status"] == "completed"
    return bought, purchase["id"]


def _told(system: System, user_id: str, event_type: str) -> list[dict[str, Any]]:
    """What the app's backend has heard of it."""
    found: list[dict[str, Any]] = []

    def heard() -> bool:
        found[:] = [
            got.body["data"]
            for got in system.receiver.received
            if got.genuine and got.body["type"] == event_type and got.body["data"]["user_id"] == user_id
        ]
        return bool(found)

    wait_until(heard, what=f"a webhook of {event_type}")
    return found
