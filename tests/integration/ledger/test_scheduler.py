"""The scheduler as a process of its own, and the command that audits, on a real database."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from deploy import cli
from ledger.store.audit import PostgresAudits, audits_alone
from shared.database import connect_engine, transact
from shared.ids import UserId
from tests.support.audited import AuditedBooks, audited, post_of_everything, season_pass, today
from tests.support.ledger import BOB, NOW, verified
from tests.support.ledger_subscriptions import DAY, MONTH, SHOP, period
from tests.support.processes import killed_in_the_end
from tests.support.stack import child_environment, wait_until

STOPS_WITHIN_S = 10.0
"""Much less than its supervisor allows (30 s)."""


@contextlib.contextmanager
def scheduler(database_url: str, heartbeat: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """`purser run ledger-scheduler`, as the supervisor starts it."""
    env = child_environment() | {
        "PURSER_DATABASE_URL": database_url,
        "PURSER_HEARTBEAT_FILE": str(heartbeat),
        **variables,
    }
    process = subprocess.Popen([sys.executable, "-m", "deploy.call", "ledger.app:run_scheduler"], env=env)
    with killed_in_the_end(process):
        yield process


@pytest.fixture
def own(database: str) -> Iterator[Engine]:
    """A database of the test's own, as its owner."""
    engine = connect_engine(database, role=None, pool_size=4, application_name="test-owner")
    yield engine
    engine.dispose()


def started(condition: Callable[[], bool], *, what: str) -> None:
    """Waits for the first that a scheduler does: its start takes seconds where others are busy too."""
    wait_until(condition, within_s=60, what=what)


def one(engine: Engine, query: str) -> Any:
    return transact(engine, lambda connection: connection.exec_driver_sql(query).scalar_one())


def test_a_scheduler_expires_audits_forgets_survives_its_database_and_stops_in_time(
    database: str, own: Engine, tmp_path: Path
) -> None:
    post_of_everything(AuditedBooks(own))
    transact(own, _make_work)
    with scheduler(database, tmp_path / "heartbeat", PURSER_AUDIT_INTERVAL_S="60") as process:
        started(lambda: one(own, "select count(*) from ledger.hold where state = 'open'") == 0, what="expiry")
        assert one(
            own, "select count(*) from journal.event where type = 'hold.ended' and payload ->> 'state' = 'expired'"
        )
        wait_until(lambda: PostgresAudits(partial(transact, own)).newest() is not None, what="an audit")
        newest = PostgresAudits(partial(transact, own)).newest()
        assert newest is not None
        assert newest.problems == 0
        wait_until(lambda: one(own, "select count(*) from ledger.answer") == 1, what="old answers forgotten")
        wait_until((tmp_path / "heartbeat").exists, what="a heartbeat")

        _cut_off(own)
        (tmp_path / "heartbeat").unlink()
        wait_until((tmp_path / "heartbeat").exists, what="a heartbeat after its connections were cut")

        process.send_signal(signal.SIGTERM)
        assert process.wait(STOPS_WITHIN_S) == 0


def _make_work(connection: Any) -> None:
    """The open hold is over, one answer is old and one is not."""
    connection.exec_driver_sql("update ledger.hold set expires_at = now() - interval '1 second' where state = 'open'")
    connection.exec_driver_sql(
        "insert into ledger.answer (app, user_id, call, key, body_sha256, status, document, created_at)"
        " select 'game', 'alice', 'spend', age, '', 201, '{}', now() - age::interval"
        "   from unnest(array['31 days', '29 days']) as age"
    )


def _cut_off(engine: Engine) -> None:
    cut = one(
        engine,
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name = 'ledger-scheduler' and datname = current_database()",
    )
    assert cut > 0


def test_a_scheduler_that_is_told_never_to_audit_does_not(database: str, own: Engine, tmp_path: Path) -> None:
    transact(
        own,
        lambda connection: connection.exec_driver_sql(
            "insert into ledger.audit (started_at) values (now() - interval '91 days')"
        ),
    )
    with scheduler(database, tmp_path / "heartbeat", PURSER_AUDIT_INTERVAL_S="0"):
        started(lambda: one(own, "select count(*) from ledger.audit") == 0, what="the old audit forgotten")
        wait_until((tmp_path / "heartbeat").exists, what="a heartbeat")
        assert one(own, "select count(*) from ledger.audit") == 0


def test_what_ends_without_a_word_of_the_store_is_told_within_a_minute(
    database: str, own: Engine, tmp_path: Path
) -> None:
    """A damaged subscription, which is due as well, keeps no other from it."""
    books = AuditedBooks(own)
    books.tell(verified(period(original="3", starts=today() - MONTH - DAY)), catalog=SHOP, ago=2 * DAY)
    transact(own, _damage_the_third)
    with scheduling(database, tmp_path / "heartbeat"):
        ends = today() + timedelta(seconds=2)
        books.tell(verified(period(starts=ends - MONTH)), catalog=SHOP)
        books.tell(verified(season_pass("2", ends - MONTH), user=BOB), catalog=SHOP)
        wait_until(lambda: one(own, f"select count(*) {ENDED}") == 3, within_s=60, what="all entitlements to end")
        wait_until(lambda: one(own, f"select count(*) {EXPIRED}") == 1, within_s=60, what="the subscription to expire")
    told_at = f"select max(recorded_at) {ENDED} and (payload ->> 'until')::timestamptz = '{NOW + ends}'"
    assert NOW + ends <= one(own, told_at) < NOW + ends + timedelta(seconds=60)
    assert one(own, "select original_transaction_id from ledger.subscription where due_at < now()") == "3"


def test_of_a_thousand_that_end_at_once_two_schedulers_tell_each_once_and_soon(
    database: str, own: Engine, tmp_path: Path
) -> None:
    books = AuditedBooks(own)
    with scheduling(database, tmp_path / "one"), scheduling(database, tmp_path / "other"):
        ends = today() + timedelta(seconds=5)
        bought = [
            verified(period(original=str(number), starts=ends - MONTH), user=UserId(f"user-{number}"))
            for number in range(1, 1_001)
        ]
        books.tell_together(bought, catalog=SHOP)
        wait_until(lambda: one(own, f"select count(*) {ENDED}") >= 1_000, within_s=60, what="all entitlements to end")
        wait_until(lambda: one(own, f"select count(*) {EXPIRED}") >= 1_000, within_s=60, what="all to expire")
        wait_until(lambda: one(own, DUE) == 0, what="nothing more to be due")
    for ended in (ENDED, EXPIRED):
        assert one(own, f"select array[count(*), count(distinct subject)] {ended}") == [1_000, 1_000]
        assert one(own, f"select max(recorded_at) {ended}") < NOW + ends + timedelta(seconds=60)
    assert audited(partial(transact, own)).clean


ENDED = "from journal.event where type = 'entitlement.changed' and not (payload ->> 'active')::boolean"
EXPIRED = "from journal.event where type = 'subscription.updated' and payload #>> '{subscription,status}' = 'expired'"
DUE = (
    "select (select count(*) from ledger.subscription where due_at <= now())"
    " + (select count(*) from ledger.entitlement where active and until <= now())"
)


@contextlib.contextmanager
def scheduling(database_url: str, heartbeat: Path) -> Iterator[None]:
    """A scheduler that has begun to work, and never audits."""
    with scheduler(database_url, heartbeat, PURSER_AUDIT_INTERVAL_S="0"):
        wait_until(heartbeat.exists, within_s=60, what="a heartbeat")
        yield


def _damage_the_third(connection: Any) -> None:
    connection.exec_driver_sql(
        "update ledger.subscription set heard = '{}', due_at = now() where original_transaction_id = '3'"
    )


def test_one_scheduler_at_a_time_audits(own: Engine) -> None:
    with audits_alone(own) as first, audits_alone(own) as second:
        assert (first, second) == (True, False)
    with audits_alone(own) as later:
        assert later


# ---- purser audit ------------------------------------------------------------------------------------------------


@pytest.fixture
def _configured(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", database)
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))


@pytest.mark.usefixtures("_configured")
def test_the_command_says_that_sound_books_are_sound(own: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    post_of_everything(AuditedBooks(own))
    capsys.readouterr()
    assert cli.run(["audit"]) == 0
    said = capsys.readouterr().out
    assert "the books are sound" in said
    assert "1 refunds wait" in said
    assert "game apple production unclaimed: 50 %" in said
    assert one(own, "select count(*) from ledger.audit where finished_at is not null") == 1


@pytest.mark.usefixtures("_configured")
def test_the_command_names_what_is_off_and_fails(own: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    transact(
        own,
        lambda connection: connection.exec_driver_sql(
            "insert into ledger.wallet (app, environment, user_id, version)"
            " select 'game', 'sandbox', '[bold]x-' || number, 5 from generate_series(1, 101) as number"
        ),
    )
    assert cli.run(["audit"]) == 1
    said = capsys.readouterr().out
    assert "user_id=[bold]x-1" in said
    assert "a wallet's version is the number of its entries" in said
    assert "… and 1 more" in said
    assert said.endswith("101 of the books' promises are broken\n")

    assert cli.run(["audit", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["clean"], document["problems"], len(document["findings"])) == (False, 101, 100)
    finding = document["findings"][0]
    assert (finding["check"], finding["found"], finding["expected"]) == ("wallet-version", "5", "0")
    assert document["checked"]["wallets"] == 101


@pytest.mark.usefixtures("_configured")
def test_the_command_leaves_out_what_is_older_than_asked_for(own: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    post_of_everything(AuditedBooks(own))
    capsys.readouterr()
    assert cli.run(["audit", "--json", "--since", "2099-01-01"]) == 0
    checked = json.loads(capsys.readouterr().out)["checked"]
    assert checked["transfers"] == checked["facts"] == checked["spends"] == 0
    assert checked["accounts"] > 0
