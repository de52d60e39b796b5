"""Things are killed, frozen, wiped and stopped while purchases flow: nothing that was accepted is lost or doubled."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import redis
import requests

from tests.support.processes import runs
from tests.support.stack import wait_until
from tests.support.system import System, at_once, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PURCHASES = 600
USERS = 50
RECEIPTS_WAITING = 64
STOPS_WITHIN_S = 12
"""A worker finishes the answers that it waits for, within what its supervisor allows (15 s)."""
KILLED = (
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
    "redis",
    "postgres",
)
"""Every process but the simulator, which is not ours to keep alive: it is the App Store."""


@pytest.fixture
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


class Flow:
    """Purchases that flow into a system from threads of their own, each until it is accepted; as many as are let."""

    def __init__(self, system: System, *, purchases: int) -> None:
        self._system = system
        self._bought = at_once(lambda _: system.buy(), list(range(purchases)), threads=8)
        self._numbers = iter(range(purchases))
        self._let = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.accepted: dict[str, str] = {}
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._post, daemon=True) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def let(self, purchases: int) -> None:
        """So many more may flow from now on."""
        self._let.release(purchases)

    def go_on_by(self, purchases: int) -> None:
        """Waits until so many more are accepted."""
        wanted = len(self.accepted) + purchases
        wait_until(lambda: self._arrived(wanted), within_s=120, what=f"{purchases} more purchases")

    def finish(self) -> None:
        """Waits until all of them are accepted."""
        wait_until(lambda: self._arrived(len(self._bought)), within_s=180, what="all purchases accepted")

    def _arrived(self, wanted: int) -> bool:
        if self.errors:
            raise self.errors[0]
        return len(self.accepted) >= wanted

    def _post(self) -> None:
        try:
            while (number := self._next()) is not None:
                user_id = f"user-{number % USERS}"
                self.accepted[self._system.post_until_accepted(user_id, self._body(number))] = user_id
        except BaseException as error:  # noqa: BLE001  told to the test, which waits for what is accepted
            self.errors.append(error)

    def _next(self) -> int | None:
        if not self._let.acquire(timeout=300):
            return None
        with self._lock:
            return next(self._numbers, None)

    def _body(self, number: int) -> dict[str, Any]:
        """Every fourth one is a receipt, which waits on the store."""
        bought = self._bought[number]
        if number % 4 == 0:
            return {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
        return {"signed_transaction": bought["signed_transaction"]}


def test_every_process_may_be_killed_in_turn(system: System) -> None:
    flow, share = Flow(system, purchases=PURCHASES), PURCHASES // len(KILLED)
    for name in KILLED:
        flow.let(share)
        flow.go_on_by(share // 4)
        _kill_and_see_it_back(system, name)  # while the rest of the share flows
    flow.let(PURCHASES)
    flow.finish()
    all_completed_once(system, flow)


def _kill_and_see_it_back(system: System, name: str) -> None:
    pid = system.pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: system.pid(name) != pid, within_s=60, what=f"{name} started again")


def test_the_broker_may_be_wiped_and_frozen(system: System) -> None:
    broker = redis.Redis.from_url(system.stack.addresses.broker_url, socket_timeout=5)
    flow = Flow(system, purchases=600)
    for _ in range(3):
        flow.let(120)
        flow.go_on_by(60)
        broker.flushall()
    with _frozen(system, "redis"):
        flow.let(600)
        flow.go_on_by(100)  # accepting goes on while the broker hangs
    flow.finish()
    all_completed_once(system, flow)


def test_without_postgres_it_says_503_and_goes_on_by_itself_afterwards(system: System) -> None:
    bought = system.buy()
    with _frozen(system, "postgres"):  # not even a refusal: no answer at all
        response = system.post("waiting", {"signed_transaction": bought["signed_transaction"]})
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert response.json()["code"]
    restarts = _restarts(system)
    os.kill(system.pid("postgres"), signal.SIGKILL)
    statuses = set()

    def accepted() -> bool:
        try:
            response = system.post("waiting", {"signed_transaction": bought["signed_transaction"]})
        except requests.RequestException:  # refused, or cut off within its answer
            return False
        statuses.add(response.status_code)
        return response.status_code in (200, 202)

    wait_until(accepted, within_s=60, what="accepting again")
    assert statuses <= {503, 202, 200}
    purchase_id = system.post("waiting", {"signed_transaction": bought["signed_transaction"]}).json()["id"]
    assert system.purchase(purchase_id, user_id="waiting")["status"] == "completed"
    assert system.gems("waiting") == 100
    after = _restarts(system)
    assert {name for name, count in after.items() if count > restarts[name]} == {"postgres"}


def test_a_worker_that_is_told_to_stop_while_the_store_keeps_it_waiting_goes_soon_and_loses_nothing(
    system: System,
) -> None:
    system.faults(verify_receipt={"delay_ms": 3_000})
    bought = at_once(lambda _: system.buy(), list(range(RECEIPTS_WAITING)))
    worker = system.pid("verifier-store")
    bodies = [{"transaction_id": each["transaction_id"], "receipt": each["receipt"]} for each in bought]
    accepted = at_once(lambda body: system.post_until_accepted("patient", body), bodies)
    wait_until(lambda: _handed_to_the_store(system) == RECEIPTS_WAITING, what="all of them being asked about")
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: not runs(worker), within_s=STOPS_WITHIN_S, what="the worker's end")  # its parent waits for it
    system.faults()
    for purchase_id in accepted:
        assert system.purchase(purchase_id, user_id="patient", status="completed")
    assert system.gems("patient") == 100 * RECEIPTS_WAITING


def _handed_to_the_store(system: System) -> int:
    handed = "select count(*) from journal.delivery where consumer = 'verifier-store' and state = 'handed'"
    return int(system.scalar(handed))


def all_completed_once(system: System, flow: Flow) -> None:
    """Every accepted purchase is completed; every wallet holds what its purchases give, each once."""
    accepted = Counter(flow.accepted.values())
    total = len(flow.accepted)

    def granted() -> bool:
        return bool(system.scalar("select count(*) from ledger.transfer where kind = 'purchase'") >= total)

    system.eventually(granted, within_s=150, what=f"{total} purchases in the books")
    assert system.scalar("select count(*) from ledger.transfer where kind = 'purchase'") == total
    assert system.scalar("select coalesce(sum(amount), 0) from ledger.entry") == 0
    for user_id, purchases in accepted.items():
        assert system.gems(user_id) == purchases * 100
    for purchase_id, user_id in list(flow.accepted.items())[::97]:
        assert system.purchase(purchase_id, user_id=user_id)["status"] == "completed"
    statuses = system.scalar("select array_agg(distinct word_type) from journal.timeline where subject like 'pur\\_%%'")
    assert statuses == ["purchase.completed"]
    system.eventually(
        lambda: system.scalar("select count(*) from journal.delivery") == 0, within_s=150, what="everything delivered"
    )
    _all_told(system, purchases=total)


def _all_told(system: System, *, purchases: int) -> None:
    """The app's backend has heard of every purchase and every credit, each signed and with its event's id."""
    waiting = "select count(*) from notifier.delivery where state = 'waiting'"
    # what a killed process was about to send comes again when its lease is over: a minute
    system.eventually(lambda: system.scalar(waiting) == 0, within_s=150, what="every webhook delivered")
    told = {each.id: each.body["type"] for each in system.receiver.received if each.genuine}
    assert Counter(told.values()) == {"purchase.completed": purchases, "wallet.credited": purchases}
    assert len(told) == system.scalar("select count(*) from journal.outward")


@contextmanager
def _frozen(system: System, name: str) -> Iterator[None]:
    """A process and its children stand still."""
    process = psutil.Process(system.pid(name))
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.suspend()
    try:
        yield
    finally:
        for member in family:
            member.resume()


def _restarts(system: System) -> dict[str, int]:
    return {one.name: one.restarts for one in system.stack.status()}
