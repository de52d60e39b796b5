"""The operator's commands on a database that does not answer in time: one sentence, as for one that is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from deploy import cli
from deploy.desk import database
from deploy.errors import StackUnavailable
from tests.support.bus import Bus, bus_in

EXAMPLES = Path(__file__).parents[3] / "deploy/examples"


@pytest.fixture(autouse=True)
def _a_second_is_long(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.database.STATEMENT_TIMEOUT_S", 1)
    monkeypatch.setenv("PURSER_DATABASE_URL", database)
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(EXAMPLES / "catalog.toml"))


@pytest.fixture
def bus(database: str) -> Iterator[Bus]:
    with bus_in(database) as running:
        yield running


def test_a_statement_that_takes_too_long_is_said_to_with_what_asks_for_less() -> None:
    with (
        pytest.raises(StackUnavailable, match=r"^the database did not answer within 1 s: a smaller --days asks it"),
        database(less="a smaller --days") as run,
    ):
        run(lambda connection: connection.exec_driver_sql("select pg_sleep(20)"))


@pytest.mark.parametrize(
    ("arguments", "helps"),
    [
        (["notifications", "--type", "REFUND"], "a smaller --days asks it for less"),
        (["timeline", "alice"], "a smaller --limit asks it for less"),
        (["parked", "list"], "--consumer asks it for less"),
        (["parked", "retry", "--all"], "--consumer asks it for less"),
        (["subscriptions", "alice"], "try again when it is less busy"),
        (["webhooks", "endpoints"], "try again when it is less busy"),
        (["audit"], "try again when it is less busy"),
    ],
)
def test_a_command_that_the_database_does_not_answer_ends_with_a_sentence(
    database: str, capsys: pytest.CaptureFixture[str], arguments: list[str], helps: str
) -> None:
    tables = "journal.event, journal.delivery, journal.timeline, ledger.subscription, notifier.endpoint, ledger.audit"
    holding = psycopg2.connect(database)
    try:
        with holding.cursor() as cursor:
            cursor.execute(f"lock table {tables} in access exclusive mode")
        assert cli.run(arguments) == 1
    finally:
        holding.close()
    assert capsys.readouterr().err == f"purser: the database did not answer within 1 s: {helps}\n"
