"""What an operator sees and does from the command line, on the running system."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import child_environment, wait_until
from tests.support.system import System

pytestmark = pytest.mark.slow


def purser(system: System, *arguments: str, code: int = 0) -> str:
    """What a command prints; it has to end with this code."""
    addresses = system.stack.addresses
    environment = child_environment() | {
        "PURSER_DATABASE_URL": addresses.database_url,
        "PURSER_BROKER_URL": addresses.broker_url,
        "PURSER_SIMULATOR_PORT": str(system.settings.simulator_port),
        "PURSER_APPS_FILE": str(system.settings.apps_file),
    }
    program = Path(sys.executable).parent / "purser"
    ended = subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


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
    lines = json.loads(purser(system, "timeline", purchase["id"], "--json"))
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
    assert json.loads(purser(system, "catalog", "check", "--json"))["products"] == {"game": 5}
    purser(system, "timeline", "pur_nothing", code=1)
