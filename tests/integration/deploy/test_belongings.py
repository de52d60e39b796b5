"""`purser subscriptions`, `purser entitlements` and a subscription's timeline, on a real database."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy import cli
from ledger.tables import tables_on
from ledger.tasks import postings
from shared.apps import load_apps
from shared.bus import journal
from shared.catalog import load_catalog
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.events import Draft, Period, StoreTransaction, SubscriptionChanged
from shared.ids import AppId, TransactionId, UserId, subscription_id, system_ids
from tests.support.seeded import seeded_ids

EXAMPLES = Path(__file__).resolve().parents[3] / "deploy" / "examples"
GAME = AppId("game")
MONTHLY = "com.example.game.vip.monthly"
ID = subscription_id(app=GAME, store="apple", environment="production", original_transaction_id="1")


@pytest.fixture(scope="module")
def subscribed(module_database: str) -> str:
    """A database in which `al[/i]ce` has a subscription; its URL."""
    clock, ids = SystemClock(), system_ids()
    engine = connect_engine(module_database, role=None, pool_size=1, application_name="test")
    began = clock.now() - timedelta(days=20)
    of = StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=TransactionId("1"),
        original_transaction_id=TransactionId("1"),
        product_id=MONTHLY,
        product_type="auto_renewable",
        quantity=1,
        purchased_at=began,
        signed_at=began,
        period=Period(expires_at=began + timedelta(days=30)),
    )
    draft = Draft(
        payload=SubscriptionChanged(ID, of),
        app=GAME,
        subject=ID,
        user_id=UserId("al[/i]ce"),
        occurred_at=began,
        trace_id="0" * 32,
    )
    handling = postings(
        tables_on=tables_on(seeded_ids(1)),
        catalog=load_catalog(EXAMPLES / "catalog.toml"),
        apps=load_apps(EXAMPLES / "apps.toml"),
        ids=ids,
        clock=clock,
    )[SubscriptionChanged.TYPE]

    def work(connection: Any) -> None:
        (id,) = journal.append(connection, [draft], ids=ids)
        (event,) = journal.load(connection, [id])
        handled = handling.apply(connection, [event])
        journal.append(connection, handled.drafts, ids=ids)

    transact(engine, work)
    engine.dispose()
    return module_database


@pytest.fixture(autouse=True)
def _configured(subscribed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", subscribed)
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(EXAMPLES / "catalog.toml"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert cli.run(list(arguments)) == code
    return capsys.readouterr().out


def test_a_users_subscriptions_are_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    header, row = printed(capsys, "subscriptions", "al[/i]ce").splitlines()
    assert header.split() == ["id", "product", "id", "status", "since", "until", "renews", "as"]
    assert row.split()[:3] == [ID, MONTHLY, "active"]
    assert row.endswith("not stated yet")


def test_for_programs_they_are_what_the_api_says(capsys: pytest.CaptureFixture[str]) -> None:
    (document,) = json.loads(printed(capsys, "subscriptions", "al[/i]ce", "--json"))
    assert (document["id"], document["status"], document["version"]) == (ID, "active", 1)
    assert document["renewal"] is None
    assert document["period"]["expires_at"] == document["access_until"]


def test_a_users_entitlements_say_until_when_and_from_what(capsys: pytest.CaptureFixture[str]) -> None:
    header, row = printed(capsys, "entitlements", "al[/i]ce").splitlines()
    assert header.split() == ["id", "name", "active", "until", "source", "version"]
    assert row.split()[:3] == ["vip", "VIP", "yes"]
    (document,) = json.loads(printed(capsys, "entitlements", "al[/i]ce", "--json"))
    assert (document["id"], document["active"], document["source"], document["version"]) == ("vip", True, ID, 1)


@pytest.mark.parametrize("command", ["subscriptions", "entitlements"])
def test_the_sandbox_is_apart_and_who_has_nothing_is_told_so(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, command, "al[/i]ce", "--environment", "sandbox", "--app", "game")
    assert said.startswith("al[/i]ce ")
    assert len(said.splitlines()) == 1
    assert json.loads(printed(capsys, command, "nobody", "--json")) == []


@pytest.mark.parametrize("command", ["subscriptions", "entitlements"])
def test_an_app_that_there_is_not_is_one_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([command, "alice", "--app", "quiz"]) == 1
    assert capsys.readouterr().err == "purser: there is no app 'quiz'; there are: game\n"


def test_a_subscription_has_a_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    lines = json.loads(printed(capsys, "timeline", ID, "--json"))["events"]
    assert [line["type"] for line in lines] == ["subscription.changed", "subscription.updated"]
    assert "ledger" in lines[0]["still_to"]


def test_a_subscriptions_timeline_says_what_the_store_stated_and_what_followed_from_what(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stated, told = json.loads(printed(capsys, "timeline", ID, "--json"))["events"]
    assert (stated["says"].split(",")[0], stated["after"]) == (MONTHLY, "")
    assert told["says"].startswith(f"active, {MONTHLY} until ")
    assert (told["says"].rsplit(", ", 1)[1], told["after"]) == ("version 1", "subscription.changed")
