"""PostgreSQL goes away and comes back: clear answers meanwhile, and no restart afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.migrate import migrate
from deploy.ports import free_port
from deploy.postgres import PostgresServer, prepare_postgres
from deploy.supervisor import Supervisor
from shared.clock import SystemClock
from shared.ids import purchase_id, system_ids
from tests.support.gateway import Gateway, gateway_on
from tests.support.stack import child_environment, reachable_directory, wait_until


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of its own, not yet running."""
    with reachable_directory() as directory:
        yield prepare_postgres(
            data_dir=directory,
            choice="auto",
            port=free_port(bind="127.0.0.1", ids=system_ids()),
            password="test",
            env=child_environment(),
            durable=False,
        )


@contextlib.contextmanager
def running(server: PostgresServer, log_dir: Path) -> Iterator[None]:
    with Supervisor(log_dir=log_dir, clock=SystemClock(), on_event=lambda _: None) as supervisor:
        supervisor.start([server.spec(env=child_environment())])
        yield


def statuses(gateway: Gateway, transaction_id: str) -> dict[str, int]:
    """The status of every call that needs the database."""
    client, user = gateway.client(), gateway.as_user()
    purchase = purchase_id(app="game", store="apple", transaction_id=transaction_id, user_id="alice")
    notification = {"signedPayload": gateway.signed_notification(notificationUUID=transaction_id)}
    answers = {
        "submit": gateway.submit(transaction_id),
        "show": client.get(f"/v1/purchases/{purchase}", headers=user),
        "wait": client.get(f"/v1/purchases/{purchase}?wait=1", headers=user),
        "list": client.get("/v1/users/me/purchases", headers=user),
        "token": client.get("/v1/users/me/account-token", headers=user),
        "webhook": client.post("/webhooks/apple", json=notification),
        "readyz": client.get("/readyz"),
    }
    for name, answer in answers.items():
        assert (answer.status_code == 503) == ("Retry-After" in answer.headers), name
    return {name: answer.status_code for name, answer in answers.items()}


def test_without_postgres_it_is_503_and_with_it_all_goes_on(server: PostgresServer, tmp_path: Path) -> None:
    with running(server, tmp_path / "first"):
        url = server.create_database("purser")
        migrate(url)
    good = dict.fromkeys(("show", "wait", "list", "token", "webhook", "readyz"), 200) | {"submit": 202}
    with gateway_on(url, tmp_path) as gateway:
        assert set(statuses(gateway, "1").values()) == {503}  # it starts without a database, too
        with running(server, tmp_path / "second"):
            wait_until(lambda: gateway.client().get("/readyz").status_code == 200, what="readiness")
            assert statuses(gateway, "2") == good
        assert set(statuses(gateway, "3").values()) == {503}
        assert gateway.client().get("/healthz").status_code == 200
        assert gateway.client().get("/v1/products", headers=gateway.as_user()).status_code == 200
        with running(server, tmp_path / "third"):
            wait_until(lambda: gateway.client().get("/readyz").status_code == 200, what="readiness")
            assert statuses(gateway, "3") == good
            rows = gateway.bus.execute("select payload->>'transaction_id' from journal.event where user_id is not null")
            assert sorted(row[0] for row in rows if row[0]) == ["2", "3"]
