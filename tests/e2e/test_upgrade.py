"""The rehearsal of an upgrade: every process is started anew, one after the other, and nobody outside notices.

As deploy/runbook.md tells it: migrate first, then consumers before producers. Two gateways stand behind what a proxy
does: whoever finds one closed is sent to the other. An old release cannot be run here, so what is rehearsed is the
order, the stops and the starts, and a migration beside a system that runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.ports import free_port
from deploy.probes import answers_http
from shared.ids import system_ids
from tests.support.stack import as_environment, child_environment, wait_until
from tests.support.system import REQUEST_TIMEOUT_S, System, client, purser, running_system, server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONSUMERS_FIRST = (
    ("notifier", "webhooks", "notifier-api"),
    ("ledger", "ledger-scheduler", "ledger-api"),
    ("verifier", "verifier-store", "verifier-lookups", "reconciler"),
    ("courier", "flower"),
)
"""What reads a new event is there before what writes it; the gateways come last."""
BUYERS = 4
MEANWHILE = 10
"""Purchases that are accepted while processes are away, or right after."""
TOLD = {"purchase.completed", "wallet.credited"}


@dataclass
class Traffic:
    """Users who buy, look at their wallets and spend through whichever gateway is open, all the time; and all answers.

    `taken_in`: the trace ids of accepted purchases. `cut_off`: those of requests whose connection broke after it was
    open, as the kernel does with those that wait to be taken in when a server closes. A proxy sends them to another
    server only if they may be repeated: ours may.
    """

    system: System
    gateways: Sequence[str]
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    accepted: dict[str, str] = field(default_factory=dict)
    taken_in: list[str] = field(default_factory=list)
    spent: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    cut_off: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._live, args=(f"buyer-{number}",)) for number in range(BUYERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        assert not self.errors, self.errors

    def go_on_by(self, purchases: int) -> None:
        """Waits until so many more were accepted."""
        wanted = len(self.accepted) + purchases
        wait_until(lambda: len(self.accepted) >= wanted or bool(self.errors), within_s=60, what=f"{purchases} more")
        assert not self.errors, self.errors

    def _live(self, user_id: str) -> None:
        try:
            while not self._stop.is_set():
                bought = self.system.buy()
                body = {"store": "apple", "signed_transaction": bought["signed_transaction"]}
                purchase = self._until(200, 202, what="POST purchases", user_id=user_id, json=body)
                self.accepted[purchase["id"]] = user_id
                self._until(200, what="GET wallet", user_id=user_id)
                spent = self._until(201, 422, what="POST spends", user_id=user_id, key=f"{user_id}-{purchase['id']}")
                self.spent[user_id] += spent.get("amount", 0)
        except BaseException as error:  # noqa: BLE001  told to the test
            self.errors.append(error)

    def _until(self, *wanted: int, what: str, **parts: Any) -> dict[str, Any]:
        """The first answer with one of these statuses; 503 is asked again, anything else is a fault."""
        found: list[dict[str, Any]] = []

        def attempt() -> bool:
            response = self._through_any(what, **parts)
            if response is None or response.status_code == 503:
                return False
            assert response.status_code in wanted, f"{what}: {response.status_code} {response.text}"
            found.append(response.json())
            return True

        wait_until(attempt, within_s=60, what=what)
        return found[0]

    def _through_any(self, what: str, **parts: Any) -> requests.Response | None:
        """As a proxy does: the next gateway when one is closed. None: all are."""
        for gateway in self.gateways:
            trace_id = system_ids().trace_id()
            try:
                response = _ask(gateway, what, trace_id=trace_id, **parts)
            except requests.RequestException as error:
                with self._lock:
                    if _was_refused(error):
                        self.closed += 1
                    else:
                        self.cut_off.append(trace_id)
                continue
            with self._lock:
                self.answers[what, response.status_code] += 1
                if response.status_code == 202:
                    self.taken_in.append(trace_id)
                if response.status_code >= 500 and not (
                    response.status_code == 503 and int(response.headers.get("Retry-After", 0)) > 0
                ):
                    self.refusals.append(f"{what}: {response.status_code} {response.text}")
            return response
        return None


def _ask(
    gateway: str, what: str, *, trace_id: str, user_id: str, json: dict[str, Any] | None = None, key: str = ""
) -> requests.Response:
    method, path, headers = "POST", "/v1/purchases", client(user_id)
    match what:
        case "POST spends":
            path, headers = f"/v1/users/{user_id}/spends", server() | {"Idempotency-Key": key}
            json = {"currency": "gems", "amount": 30, "reference": key}
        case "GET wallet":
            method, path = "GET", "/v1/users/me/wallet"
    headers = headers | {"traceparent": f"00-{trace_id}-{'b' * 16}-01"}
    return requests.request(method, gateway + path, json=json, headers=headers, timeout=REQUEST_TIMEOUT_S)


def _was_refused(error: requests.RequestException) -> bool:
    return "Connection refused" in str(error)


@pytest.fixture
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def test_a_rolling_restart_under_load_loses_nothing_and_shows_nobody_an_error(system: System) -> None:
    with second_gateway(system) as second:
        traffic = Traffic(system, [system.gateway, second.url])
        with traffic.flowing():
            traffic.go_on_by(MEANWHILE)
            purser(system, "migrate")  # beside a system that runs; there is nothing to do, and nobody is held up
            for names in CONSUMERS_FIRST:
                restart(system, *names)
                traffic.go_on_by(MEANWHILE)
            restart(system, "gateway")
            traffic.go_on_by(MEANWHILE)
            second.restart()
            traffic.go_on_by(MEANWHILE)
        assert traffic.refusals == []
        assert traffic.closed > 0, "no gateway was ever closed: this shows nothing"
        assert len(traffic.cut_off) <= 2 * BUYERS, "each of them met each gateway's closing once at most"
        begun = "select count(*) from journal.event where trace_id = any(%(traces)s)"
        assert system.scalar(begun, traces=traffic.taken_in) >= len(traffic.accepted)
        assert system.scalar(begun, traces=traffic.cut_off) == 0, "a gateway that stops finishes what it has begun"
        assert traffic.answers["POST purchases", 503] == 0, "to take in a purchase nothing else is needed"
        everything_is_right(system, traffic)


def everything_is_right(system: System, traffic: Traffic) -> None:
    accepted = Counter(traffic.accepted.values())
    wait_for = "select count(*) from journal.delivery"
    system.eventually(lambda: system.scalar(wait_for) == 0, within_s=90, what="everything handled")
    for user_id, count in accepted.items():
        assert system.gems(user_id) == 100 * count - traffic.spent[user_id]
    for purchase_id, user_id in traffic.accepted.items():
        assert system.purchase(purchase_id, user_id=user_id)["status"] == "completed"
    assert system.scalar("select count(*) from ledger.transfer where kind = 'purchase'") == len(traffic.accepted)
    untold = "select count(*) from notifier.delivery where state <> 'delivered'"
    system.eventually(lambda: system.scalar(untold) == 0, within_s=120, what="every webhook delivered")
    told = Counter(each.body["type"] for each in {one.id: one for one in system.receiver.received}.values())
    assert {name: told[name] for name in TOLD} == dict.fromkeys(TOLD, len(traffic.accepted))
    purser(system, "audit")


def restart(system: System, *names: str) -> None:
    """They are told to stop, and their supervisor starts them anew."""
    before = {system.pid(name) for name in names}
    for pid in before:
        os.kill(pid, signal.SIGTERM)

    def are_back() -> bool:
        back = {one.name for one in system.stack.status() if one.state == "ready" and one.pid not in before}
        return back >= set(names)

    wait_until(are_back, within_s=90, what=f"{', '.join(names)} started again")


class SecondGateway:
    """Another gateway beside the system's own, at a port of its own."""

    def __init__(self, system: System, log: Path) -> None:
        self._port = free_port(bind="127.0.0.1", ids=system_ids(), besides=set())
        self._environment = (
            child_environment() | as_environment(system.settings) | {"PURSER_GATEWAY_PORT": str(self._port)}
        )
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        program = Path(sys.executable).parent / "purser"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([program, "run", "gateway"], env=self._environment, stdout=log, stderr=log)
        ready = lambda: answers_http(host="127.0.0.1", port=self._port, path="/readyz")  # noqa: E731
        wait_until(ready, within_s=60, what="the second gateway")

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=40)

    def restart(self) -> None:
        self.stop()
        self.start()


@contextmanager
def second_gateway(system: System) -> Iterator[SecondGateway]:
    gateway = SecondGateway(system, system.settings.data_dir / "second-gateway.log")
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
