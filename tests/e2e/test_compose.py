"""docker-compose.yml, for real: it comes up from nothing, sells, refunds, and survives a restart of each service.

It needs a Docker engine, and is skipped unless PURSER_TEST_COMPOSE is set. CI sets it (`make compose-test` does too).
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from shared.bus.routes import CONSUMERS
from tests.support.compose import FLOWER_LOGIN, Composed, is_short, is_wanted
from tests.support.stack import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not is_wanted(), reason="it needs a Docker engine: set PURSER_TEST_COMPOSE=1"),
]

ONE_SHOT = {"migrate"}
FROM_ELSEWHERE = {"postgres", "redis"}
SIMULATOR = "simulator"
RESTARTED = [
    "postgres",
    "redis",
    "gateway",
    "courier",
    "verifier",
    "verifier-store",
    "verifier-lookups",
    "reconciler",
    "ledger",
    "ledger-scheduler",
    "ledger-api",
    "notifier",
    "webhooks",
    "notifier-api",
    "flower",
    SIMULATOR,
]
IN_SHORT = ["postgres", "redis", "gateway", "courier", "ledger", "webhooks"]
"""Of each kind one; the proof (tests/proof) restarts all of them and does worse."""
BEFORE, AFTER = 10, 15
"""Purchases that are accepted before a restart, and that are accepted after it."""
PACE_S = 0.05
REDELIVERED_WITHIN_S = 180
"""What a restart loses on its way to a store or to a webhook comes again after its lease: two minutes, and some."""
TOLD = {"purchase.completed", "wallet.credited"}


@pytest.fixture(scope="module")
def system(composed_system: Composed) -> Composed:
    return composed_system


def test_every_service_is_restarted_below(system: Composed) -> None:
    assert set(system.services()) == {*RESTARTED, *ONE_SHOT}


def test_every_service_is_healthy_and_says_so_by_a_check(system: Composed) -> None:
    states = {name: system.inspect(name)["State"].get("Health", {}).get("Status") for name in RESTARTED}
    assert states == dict.fromkeys(RESTARTED, "healthy")


@pytest.mark.parametrize("service", [*RESTARTED, *ONE_SHOT])
def test_a_container_has_no_more_power_than_it_needs(system: Composed, service: str) -> None:
    described = system.inspect(service)
    host = described["HostConfig"]
    assert described["Config"]["User"] not in {"", "0", "root"}
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0


def test_ports_are_published_on_loopback_only_and_only_those_for_people(system: Composed) -> None:
    published = {
        service: {binding["HostIp"] for bindings in _ports(system, service).values() for binding in bindings or []}
        for service in RESTARTED
    }
    assert {name: ips for name, ips in published.items() if ips} == {
        name: {"127.0.0.1"} for name in ("gateway", "flower", SIMULATOR)
    }


def test_no_secret_is_in_the_image(system: Composed) -> None:
    assert "example-only" not in system.image_description()


def test_no_secret_is_in_a_label_or_on_a_command_line(system: Composed) -> None:
    assert "example-only" not in system.run("top")
    for service in system.services():
        described = system.inspect(service)
        assert "example-only" not in str([described["Config"]["Labels"], described["Path"], described["Args"]])


def test_a_purchase_is_credited_and_told_and_its_refund_debited_and_told(system: Composed) -> None:
    bought = system.buy()
    accepted = system.post("road", {"signed_transaction": bought["signed_transaction"]})
    assert accepted.status_code == 202
    purchase_id = accepted.json()["id"]
    assert system.purchase(purchase_id, user_id="road", status="completed")["granted"] == [
        {"currency": "gems", "amount": 100}
    ]
    assert system.gems("road") == 100

    system.refund(bought["transaction_id"])
    system.purchase(purchase_id, user_id="road", status="refunded")
    assert system.gems("road") == 0
    assert [entry["amount"] for entry in _entries(system, "road")] == [-100, 100]
    _wait_for_webhooks(system, {purchase_id}, {*TOLD, "purchase.refunded", "wallet.debited"})


def test_flower_shows_the_workers_to_who_has_the_login(system: Composed) -> None:
    def workers() -> set[str]:
        url = f"{system.flower}/api/workers?refresh=1"
        return {name.split("@")[0] for name in requests.get(url, auth=FLOWER_LOGIN, timeout=15).json()}

    wait_until(
        lambda: workers() == set(CONSUMERS),
        within_s=60,
        what="every worker in Flower",
    )
    assert requests.get(f"{system.flower}/api/workers", timeout=10).status_code == 401


@pytest.mark.parametrize("service", IN_SHORT if is_short() else RESTARTED)
def test_nothing_is_lost_or_doubled_when_it_is_restarted(system: Composed, service: str) -> None:
    # The simulator remembers receipts in its memory alone; what it signed is good without it.
    with Flow(system, user_id=f"during-{service}", receipts=service != SIMULATOR) as flow:
        flow.wait_for(BEFORE)
        system.restart(service)
        flow.wait_for(len(flow.accepted) + AFTER)
    bought = flow.accepted
    wait_until(
        lambda: system.gems(flow.user_id) >= 100 * len(bought), within_s=REDELIVERED_WITHIN_S, what="every credit"
    )
    assert system.gems(flow.user_id) == 100 * len(bought)
    for purchase_id in bought:
        assert system.purchase(purchase_id, user_id=flow.user_id)["status"] == "completed", purchase_id
    credited = Counter(entry["purchase_id"] for entry in _entries(system, flow.user_id))
    assert credited == dict.fromkeys(bought, 1)
    _wait_for_webhooks(system, set(bought), TOLD)


def test_a_lost_database_is_restored_as_the_runbook_says(system: Composed) -> None:
    bought = system.buy()
    purchase_id = system.post_until_accepted("restored", {"signed_transaction": bought["signed_transaction"]})
    system.purchase(purchase_id, user_id="restored", status="completed")
    _in_postgres(system, "purser-backup > /tmp/purser.dump")
    _in_postgres(
        system, "psql -U postgres -c 'drop database purser with (force)' -c 'create database purser owner purser'"
    )
    _in_postgres(system, "purser-restore < /tmp/purser.dump")
    system.run("run", "--rm", "migrate")
    assert "the books are sound" in system.run("exec", "-T", "ledger", "purser", "audit")
    wait_until(lambda: system.get("/readyz").status_code == 200, within_s=60, what="the gateway ready")
    assert system.gems("restored") == 100


def _in_postgres(system: Composed, command: str) -> None:
    system.run("exec", "-T", "postgres", "sh", "-euc", command)


class Flow:
    """A user who buys and posts until the block ends, by StoreKit 2's road and by the receipt's in turn."""

    def __init__(self, system: Composed, *, user_id: str, receipts: bool) -> None:
        self.user_id = user_id
        self.accepted: list[str] = []
        self._system = system
        self._receipts = receipts
        self._done = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Flow:
        self._running = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._pool.shutdown()
        self._running.result()

    def wait_for(self, count: int) -> None:
        """Returns once so many purchases have been accepted."""
        wait_until(lambda: len(self.accepted) >= count or self._running.done(), within_s=120, what=f"{count} purchases")

    def _run(self) -> None:
        while not self._done.wait(PACE_S):
            body = self._buy(by_receipt=self._receipts and len(self.accepted) % 2 == 1)
            if body is not None:
                self.accepted.append(self._system.post_until_accepted(self.user_id, body))

    def _buy(self, *, by_receipt: bool) -> dict[str, Any] | None:
        """What the app posts; None when the store is away, and so nothing was bought."""
        try:
            bought = self._system.buy()
        except (requests.ConnectionError, requests.Timeout):
            return None
        if by_receipt:
            return {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
        return {"signed_transaction": bought["signed_transaction"]}


def _entries(system: Composed, user_id: str) -> list[dict[str, Any]]:
    """All entries of the user's wallet, newest first."""
    entries: list[dict[str, Any]] = []
    after = ""
    while True:
        page = system.get(f"/v1/users/me/wallet/entries?limit=200{after}", user_id=user_id).json()
        entries += page["entries"]
        if not page["next"]:
            return entries
        after = f"&after={page['next']}"


def _wait_for_webhooks(system: Composed, purchases: set[str], types: set[str]) -> None:
    """The app's backend has heard each of these of each purchase. A repetition has the same id, which it can drop."""

    def heard() -> Counter[tuple[str, str]]:
        ids = {
            (got.id, got.body["type"], got.body["data"].get("purchase_id") or got.body["data"]["id"])
            for got in system.receiver.received
            if got.genuine
        }
        return Counter((event_type, purchase) for _, event_type, purchase in ids if purchase in purchases)

    wanted = Counter((event_type, purchase) for event_type in types for purchase in purchases)
    wait_until(lambda: heard() == wanted, within_s=REDELIVERED_WITHIN_S, what="each webhook, once")


def _ports(system: Composed, service: str) -> dict[str, list[dict[str, str]] | None]:
    ports: dict[str, list[dict[str, str]] | None] = system.inspect(service)["NetworkSettings"]["Ports"]
    return ports
