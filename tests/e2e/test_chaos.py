"""Things are killed, frozen, wiped and stopped while purchases flow: nothing that was accepted is lost or doubled."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import requests

from tests.support.stack import wait_until
from tests.support.system import System, at_once, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PURCHASES = 2_000
PER_SECOND = 120
USERS = 50
KILLED = (
    "gateway",
    "courier",
    "verifier",
    "verifier-store",
    "ledger",
    "ledger-api",
    "notifier",
    "webhooks",
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
    """Purchases that flow into a system from a thread of their own, paced over a time, each until it is accepted."""

    def __init__(self, system: System, *, purchases: int, per_second: float) -> None:
        self._system = system
        self._bought = at_once(lambda _: system.buy(), list(range(purchases)), threads=8)
        self._pause_s = 8 / per_second
        self._stop = threading.Event()
        self.accepted: dict[str, str] = {}
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._post, args=(share,)) for share in range(8)]

    def __enter__(self) -> Flow:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join()

    @property
    def flows(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def go_on_by(self, purchases: int) -> None:
        """Waits until so many more are accepted."""
        wanted = len(self.accepted) + purchases
        wait_until(
            lambda: len(self.accepted) >= wanted or not self.flows, within_s=60, what=f"{purchases} more purchases"
        )

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def _post(self, share: int) -> None:
        try:
            for number in range(share, len(self._bought), len(self._threads)):
                user_id = f"user-{number % USERS}"
                self.accepted[self._system.post_until_accepted(user_id, self._body(number))] = user_id
                self._stop.wait(self._pause_s)
        except BaseException as error:  # noqa: BLE001  told to the test by join()
            self.errors.append(error)

    def _body(self, number: int) -> dict[str, Any]:
        """Every fourth one is a receipt, which waits on the store."""
        bought = self._bought[number]
        if number % 4 == 0:
            return {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
        return {"signed_transaction": bought["signed_transaction"]}


def test_every_process_may_be_killed_in_turn(system: System) -> None:
    with Flow(system, purchases=PURCHASES, per_second=PER_SECOND) as flow:
        for name in KILLED:
            _kill_and_see_it_back(system, name)
            flow.go_on_by(PURCHASES // (2 * len(KILLED)))
        assert flow.flows, "the purchases came to an end before the kills did"
        flow.join()
    _all_completed_once(system, flow)


def _kill_and_see_it_back(system: System, name: str) -> None:
    pid = system.pid(name)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: system.pid(name) != pid, within_s=60, what=f"{name} started again")


def test_the_broker_may_be_wiped_and_frozen(system: System) -> None:
    broker = redis.Redis.from_url(system.stack.addresses.broker_url, socket_timeout=5)
    with Flow(system, purchases=600, per_second=60) as flow:
        for _ in range(3):
            flow.go_on_by(60)
            broker.flushall()
        pid = system.pid("redis")
        os.kill(pid, signal.SIGSTOP)
        try:
            # Accepting goes on while the broker hangs.
            flow.go_on_by(100)
        finally:
            os.kill(pid, signal.SIGCONT)
        flow.join()
    _all_completed_once(system, flow)


def test_without_postgres_it_says_503_and_goes_on_by_itself_afterwards(system: System) -> None:
    bought = system.buy()
    pid = system.pid("postgres")
    os.kill(pid, signal.SIGSTOP)  # not even a refusal: no answer at all
    try:
        response = system.post("waiting", {"signed_transaction": bought["signed_transaction"]})
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) >= 1
        assert response.json()["code"]
    finally:
        os.kill(pid, signal.SIGCONT)
    restarts = _restarts(system)
    os.kill(pid, signal.SIGKILL)
    statuses = set()

    def accepted() -> bool:
        try:
            response = system.post("waiting", {"signed_transaction": bought["signed_transaction"]})
        except requests.ConnectionError:
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


def _all_completed_once(system: System, flow: Flow) -> None:
    """Every accepted purchase is completed; every wallet holds what its purchases give, each once."""
    accepted = Counter(flow.accepted.values())
    total = len(flow.accepted)

    def granted() -> bool:
        return bool(system.scalar("select count(*) from ledger.transfer where kind = 'purchase'") >= total)

    _eventually(system, granted, what=f"{total} purchases in the books")
    assert system.scalar("select count(*) from ledger.transfer where kind = 'purchase'") == total
    assert system.scalar("select coalesce(sum(amount), 0) from ledger.entry") == 0
    for user_id, purchases in accepted.items():
        assert system.gems(user_id) == purchases * 100
    for purchase_id, user_id in list(flow.accepted.items())[::97]:
        assert system.purchase(purchase_id, user_id=user_id)["status"] == "completed"
    statuses = system.scalar("select array_agg(distinct word_type) from journal.timeline where subject like 'pur\\_%%'")
    assert statuses == ["purchase.completed"]
    _eventually(
        system, lambda: system.scalar("select count(*) from journal.delivery") == 0, what="everything delivered"
    )


def _eventually(system: System, condition: Callable[[], bool], *, what: str) -> None:
    try:
        wait_until(condition, within_s=150, what=what)
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{system.left_over()}") from error


def _restarts(system: System) -> dict[str, int]:
    return {one.name: one.restarts for one in system.stack.status()}
