"""The rehearsal of the worst day: the database is gone, a backup of it is put back, and nobody's money is wrong.

As deploy/runbook.md tells it. The processes and the App Store live on meanwhile, as they would.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, create_engine, make_url

from tests.support.stack import Servers, wait_until
from tests.support.system import System, at_once, purser, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

BEFORE, AFTER = 40, 30
"""Purchases that the backup holds, and purchases that came after it."""
TOLD = 3
"""Purchases after it that the store itself told of, for a user whom it knows by an account token."""
KNOWN_BY_TOKEN = "by-token"
GEMS = 100


@pytest.fixture
def system(servers: Servers) -> Iterator[System]:
    with running_system(database_url=SecretStr(servers.empty_database())) as running:
        yield running


def test_a_backup_is_restored_and_what_came_after_it_is_asked_for_again(system: System, tmp_path: Path) -> None:
    backup = tmp_path / "purser.dump"
    early = [sell(system, f"user-{number % 8}") for number in range(BEFORE)]
    refunded = early[0]
    system.refund(refunded["transaction_id"])
    settle(system)
    assert "bytes" in purser(system, "backup", str(backup))

    late = [sell(system, f"user-{number % 8}") for number in range(AFTER)]
    token = token_of(system, KNOWN_BY_TOKEN)  # it is not in the backup either
    told_by_the_store = [
        system.buy(notify=True, app_account_token=token) | {"user_id": KNOWN_BY_TOKEN} for _ in range(TOLD)
    ]
    system.refund(early[1]["transaction_id"])  # its refund is not in the backup
    settle(system)
    right = {user: system.gems(user) for user in users()}

    lose_the_database(system)
    purser(system, "restore", str(backup), within_s=120)
    assert json.loads(purser(system, "audit", "--json", within_s=120))["clean"] is True
    assert sum(system.gems(user) for user in users()) == (BEFORE - 1) * GEMS

    purser(system, "reconcile", "--since", "1h", within_s=120)  # what the store had told us since
    settle(system)
    # What the apps do: they repeat what they have not finished. What was bought with a token that nobody knows any more
    # is whoever's who brings the signed transaction.
    at_once(lambda sold: submit(system, sold), [*late, *told_by_the_store])
    wait_until(lambda: {user: system.gems(user) for user in users()} == right, within_s=60, what="every wallet right")
    assert json.loads(purser(system, "audit", "--json", within_s=120))["clean"] is True
    assert credits_per_purchase(system) == Counter({1: BEFORE + AFTER + TOLD})


def test_a_backup_is_not_restored_over_what_is_there(system: System, tmp_path: Path) -> None:
    backup = tmp_path / "purser.dump"
    purser(system, "backup", str(backup))
    assert backup.stat().st_mode & 0o077 == 0
    purser(system, "backup", str(backup), code=1)  # nor is a backup written over another
    purser(system, "restore", str(backup), code=1)
    cut = tmp_path / "cut.dump"
    cut.write_bytes(backup.read_bytes()[: backup.stat().st_size // 2])
    lose_the_database(system)
    purser(system, "restore", str(cut), code=1)
    assert system.scalar("select count(*) from pg_namespace where nspname = 'journal'") == 0  # all of it, or nothing
    purser(system, "restore", str(backup), within_s=120)


def users() -> list[str]:
    return [*(f"user-{number}" for number in range(8)), KNOWN_BY_TOKEN]


def sell(system: System, user_id: str) -> dict[str, Any]:
    """A purchase that the store tells us of by nothing but the client; it is completed when this returns."""
    sold = system.buy() | {"user_id": user_id}
    submit(system, sold)
    return sold


def submit(system: System, sold: dict[str, Any]) -> None:
    system.post_until_accepted(sold["user_id"], {"signed_transaction": sold["signed_transaction"]})


def token_of(system: System, user_id: str) -> str:
    token: str = system.get("/v1/users/me/account-token", user_id=user_id).json()["app_account_token"]
    return token


def settle(system: System) -> None:
    """Everything that was recorded is handled."""
    open_deliveries = "select count(*) from journal.delivery"
    system.eventually(lambda: system.scalar(open_deliveries) == 0, within_s=60, what="everything handled")


def credits_per_purchase(system: System) -> Counter[int]:
    """How often purchases were granted: so often so many of them."""
    with system.engine.connect() as connection:
        counts = connection.exec_driver_sql(
            "select count(*) from ledger.transfer where kind = 'purchase' group by transaction_id"
        )
        return Counter(counts.scalars())


def lose_the_database(system: System) -> None:
    """It is dropped under the feet of everybody who is connected, and an empty one is there in its place."""
    url = make_url(system.stack.addresses.database_url)
    system.engine.dispose()
    engine: Engine = create_engine(
        url.set(drivername="postgresql+psycopg2", database="postgres"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.exec_driver_sql(f'drop database "{url.database}" with (force)')
        connection.exec_driver_sql(f'create database "{url.database}"')
    engine.dispose()
