"""The whole system for tests: what `purser up` runs, on free ports, in a directory of its own, with a receiver."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import requests
from sqlalchemy import Engine, create_engine

from deploy.settings import PROJECT, StackSettings
from deploy.stack import Parts, Stack
from shared.clock import SystemClock
from shared.ids import system_ids
from tests.support.receiver import Receiver, receiving
from tests.support.stack import as_environment, child_environment, own_settings, reachable_directory, wait_until

CLIENT_KEY = "example-only-client-token-key-change-me"
SERVER_KEY = "sk_example_only_change_me"
WEBHOOK_SECRET = "whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh"
GEMS_100 = "com.example.game.gems100"
FINAL = {"completed", "rejected", "parked", "partially_refunded", "refunded", "revoked"}
REQUEST_TIMEOUT_S = 35


class Reached(ABC):
    """A running system seen from outside: what a client, a server and the App Store can do with it."""

    __slots__ = ()

    @property
    @abstractmethod
    def gateway(self) -> str:
        """The gateway's URL."""

    @property
    @abstractmethod
    def simulator(self) -> str:
        """The simulator's URL."""

    # ---- the App Store ------------------------------------------------------------------------------------------

    def buy(self, product_id: str = GEMS_100, *, notify: bool = False, **fields: Any) -> dict[str, Any]:
        """A customer buys: `{transaction_id, original_transaction_id, signed_transaction, receipt}`."""
        return self._control("POST", "/_sim/purchases", {"product_id": product_id, "notify": notify, **fields})

    def refund(self, transaction_id: str, **fields: Any) -> dict[str, Any]:
        return self._control("POST", f"/_sim/transactions/{transaction_id}/refund", fields)

    def reverse_refund(self, transaction_id: str) -> dict[str, Any]:
        return self._control("POST", f"/_sim/transactions/{transaction_id}/reverse-refund", {})

    def decline_refund(self, transaction_id: str) -> dict[str, Any]:
        return self._control("POST", f"/_sim/transactions/{transaction_id}/decline-refund", {})

    def finish(self, transaction_id: str) -> None:
        """The app finishes the transaction: a consumable is in no receipt any more."""
        self._control("POST", f"/_sim/transactions/{transaction_id}/finish", {})

    def faults(self, **faults: Any) -> None:
        self._control("PUT", "/_sim/faults", faults)

    def faults_now(self) -> dict[str, Any]:
        """The faults in force; of those for one call each only what is still to come."""
        return self._control("GET", "/_sim/faults", {})

    def _control(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = requests.request(method, self.simulator + path, json=body, timeout=REQUEST_TIMEOUT_S)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer

    # ---- the app ------------------------------------------------------------------------------------------------

    def post(self, user_id: str, body: dict[str, Any], **headers: str) -> requests.Response:
        """`POST /v1/purchases` as a user."""
        return requests.post(
            f"{self.gateway}/v1/purchases",
            json={"store": "apple", **body},
            headers=client(user_id) | headers,
            timeout=REQUEST_TIMEOUT_S,
        )

    def post_until_accepted(self, user_id: str, body: dict[str, Any]) -> str:
        """As an app does: again and again while there is no answer, 503, or 429. The purchase's id."""
        accepted: list[str] = []

        def attempt() -> bool:
            try:
                response = self.post(user_id, body)
            except requests.RequestException:  # refused, too late, or cut off within its answer
                return False
            if response.status_code in (429, 503):
                return False
            assert response.status_code in (200, 202), response.text
            accepted.append(response.json()["id"])
            return True

        wait_until(attempt, within_s=120, what="an accepted purchase")
        return accepted[0]

    def get(self, path: str, *, user_id: str | None = None) -> requests.Response:
        """As a user, or with the server's key."""
        headers = server() if user_id is None else client(user_id)
        return requests.get(self.gateway + path, headers=headers, timeout=REQUEST_TIMEOUT_S)

    def order(self, path: str, body: dict[str, Any], *, key: str | None = None) -> requests.Response:
        """As the app's backend, with an Idempotency-Key."""
        keyed = {} if key is None else {"Idempotency-Key": key}
        return requests.post(self.gateway + path, json=body, headers=server() | keyed, timeout=REQUEST_TIMEOUT_S)

    def funds(self, user_id: str) -> dict[str, int]:
        """The user's gems: balance, available, held, debt."""
        wallet = self.get("/v1/users/me/wallet", user_id=user_id).json()
        funds: dict[str, int] = wallet["balances"]["gems"]
        return funds

    def purchase(self, purchase_id: str, *, user_id: str, status: str | None = None) -> dict[str, Any]:
        """The purchase once its status is this one (or a final one)."""
        seen: dict[str, Any] = {}

        def arrived() -> bool:
            seen.clear()
            seen.update(self.get(f"/v1/purchases/{purchase_id}?wait=5", user_id=user_id).json())
            return seen["status"] == status if status else seen["status"] in FINAL

        wait_until(arrived, within_s=60, what=f"{purchase_id} being {status or 'final'}")
        return seen

    def gems(self, user_id: str, *, environment: str = "production") -> int:
        wallet = self.get(f"/v1/users/me/wallet?environment={environment}", user_id=user_id).json()
        balance: int = wallet["balances"]["gems"]["balance"]
        return balance


@dataclass(frozen=True, slots=True)
class System(Reached):
    """A system that this session runs, and what an operator can do with it besides."""

    stack: Stack
    settings: StackSettings
    receiver: Receiver
    events: list[Any]
    engine: Engine

    @property
    def gateway(self) -> str:
        return self.stack.addresses.gateway

    @property
    def simulator(self) -> str:
        assert self.stack.addresses.simulator is not None
        return self.stack.addresses.simulator

    # ---- the operator -------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int:
        """The process id of one process, once it runs."""
        found: list[int] = []

        def running() -> bool:
            found[:] = [one.pid for one in self.stack.status() if one.name == name and one.pid is not None]
            return bool(found)

        wait_until(running, what=f"{name} running")
        return found[0]

    def processes(self) -> list[str]:
        return [one.name for one in self.stack.status()]

    def hasten(self, *, attempts: int) -> None:
        """What has failed so often comes again now, as if the minutes or hours that it is to wait had passed."""
        with self.engine.begin() as connection:
            connection.exec_driver_sql(
                "update journal.delivery set due_at = clock_timestamp() where state = 'waiting'"
                "   and attempts >= %(attempts)s and due_at > clock_timestamp()",
                {"attempts": attempts},
            )

    def eventually(self, condition: Callable[[], bool], *, within_s: float, what: str) -> None:
        """Waits for it; a test that fails says what is left over."""
        try:
            wait_until(condition, within_s=within_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.left_over()}") from error

    def left_over(self) -> str:
        """What is not handled, and what the purchases' words are: for a test that fails."""
        with self.engine.connect() as connection:
            stuck = connection.exec_driver_sql(
                "select consumer, type, state, attempts, handovers, error, min(due_at)::text, clock_timestamp()::text,"
                "       count(*)"
                "  from journal.delivery group by 1, 2, 3, 4, 5, 6 order by 1, 2"
            )
            words = connection.exec_driver_sql(
                "select word_type, count(*) from journal.timeline where subject like 'pur\\_%%' group by 1"
            )
            processes = [(one.name, one.state, one.restarts) for one in self.stack.status()]
            return "\n".join(str(row) for row in [*stuck, *words, *processes])

    def scalar(self, sql: str, **parameters: Any) -> Any:
        """One value from the database, read as its owner."""
        with self.engine.connect() as connection:
            return connection.exec_driver_sql(sql, parameters).scalar_one()


def purser(system: System, *arguments: str, code: int = 0, within_s: float = 60) -> str:
    """What a command prints, called beside the running system; it has to end with this code."""
    program = Path(sys.executable).parent / "purser"
    ended = subprocess.run(
        [program, *arguments],
        env=child_environment() | as_environment(system.settings),
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def client(user_id: str) -> dict[str, str]:
    """The headers of a user of the example app."""
    expires = SystemClock().now() + timedelta(hours=1)
    token = jwt.encode({"aud": "game", "sub": user_id, "exp": expires}, CLIENT_KEY, algorithm="HS256")
    return {"Authorization": f"Bearer {token}"}


def server() -> dict[str, str]:
    """The headers of the example app's own backend."""
    return {"Authorization": f"Bearer {SERVER_KEY}"}


@contextlib.contextmanager
def running_system(
    *, webhooks: bool = True, hooks_url: str | None = None, durable: bool = False, **changes: Any
) -> Iterator[System]:
    """The whole system, started and stopped. `changes` are of its settings.

    Without `webhooks` nobody wants to be told; with a `hooks_url` it is not our receiver who is told.

    Volatile by default (PostgreSQL does not wait for the disk): its data is thrown away.
    """
    with reachable_directory() as directory, receiving(WEBHOOK_SECRET) as receiver:
        settings = _settings(directory, (hooks_url or receiver.url) if webhooks else None, changes)
        events: list[Any] = []
        stack = Stack(
            settings=settings,
            parts=Parts(),
            clock=SystemClock(),
            ids=system_ids(),
            tell=events.append,
            durable=durable,
        )
        with stack:
            stack.start()
            engine = create_engine(stack.addresses.database_url.replace("postgresql://", "postgresql+psycopg2://", 1))
            yield System(stack, settings, receiver, events, engine)
            engine.dispose()


def _settings(directory: Path, hooks_url: str | None, changes: dict[str, Any]) -> StackSettings:
    settings = own_settings(directory, **changes)
    apps = (PROJECT / "deploy/examples/apps.toml").read_text(encoding="utf-8")
    told = apps.index("[[apps.webhooks]]") if hooks_url is None else None
    settings.apps_file.write_text(apps[:told].replace("http://127.0.0.1:8091/hooks", hooks_url or ""), encoding="utf-8")
    return settings


def at_once(work: Any, arguments: list[Any], *, threads: int = 16) -> list[Any]:
    """Runs `work` for each argument, so many at a time; the results in the arguments' order."""
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, arguments))
