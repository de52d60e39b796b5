"""What earlier releases left on record of webhooks, after the migrations of this one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError

from deploy.migrate import LOCK_TIMEOUT_MS, ROOT, SCHEMAS, migrate
from notifier.store.desk import DeskRecords
from shared.database import transact
from shared.ids import AppId, EventId
from tests.support.notifier import CREDITED, Notifier, apps_with, credited, endpoint, ids_of, notifying
from tests.support.receiver import Receiver
from tests.support.stack import Servers, wait_until

BEFORE = {"journal": "journal_0003", "notifier": "notifier_0001"}
STATES = ("waiting", "delivered", "exhausted", "parked")

DELIVERY = """
insert into notifier.delivery
       (app, endpoint_id, event_id, type, state, attempts, next_attempt_at, last_status, created_at, delivered_at)
values ('game', 'backend', %(event)s::uuid, 'wallet.credited', %(state)s, 3,
        case when %(state)s = 'waiting' then now() + interval '20 hours' end, 500, now() - interval '1 day',
        case when %(state)s = 'delivered' then timestamptz '2026-01-31 12:00Z' end)
"""
ATTEMPT = """
insert into notifier.attempt (app, endpoint_id, event_id, number, at, status, duration_ms, answer, error)
values ('game', 'backend', %(event)s::uuid, 3, now(), 500, 7, 'oh', 'answered 500')
"""
QUEUED = """
insert into journal.delivery (consumer, event_id, type) values ('webhooks', gen_random_uuid(), 'webhook.queued')
"""


def earlier_release(servers: Servers) -> str:
    """The URL of a database as the release before webhooks were sent from the record left it, with nothing in it."""
    url = servers.empty_database()
    owner = create_engine(url.replace("postgresql://", "postgresql+psycopg2://", 1))
    with owner.connect() as connection:
        connection.execute(text((ROOT / "deploy" / "roles.sql").read_text(encoding="utf-8")))
        for schema in SCHEMAS:
            _migrate(connection, schema, BEFORE.get(schema, "head"))
    owner.dispose()
    return url


def _migrate(connection: Connection, schema: str, revision: str) -> None:
    connection.execute(text(f"create schema {schema}"))
    connection.commit()
    _upgrade(connection, schema, revision)


def _upgrade(connection: Connection, schema: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "deploy" / "migrations"))
    config.set_main_option("version_locations", str(SCHEMAS[schema]))
    config.set_main_option("path_separator", "newline")
    config.attributes.update(schema=schema, connection=connection)
    command.upgrade(config, revision)
    connection.commit()


@pytest.fixture
def earlier(servers: Servers, receiver: Receiver) -> Iterator[Notifier]:
    with notifying(earlier_release(servers), apps_with(endpoint(receiver.url))) as notifier:
        yield notifier


@pytest.fixture
def told(earlier: Notifier) -> dict[str, EventId]:
    """An event for each state that its delivery may be in, and one that the notifier has not handled yet."""
    names = (*STATES, "unhandled")
    event_ids = dict(zip(names, earlier.record(*(credited(1 + n) for n in range(len(names)))), strict=True))
    for state in STATES:
        earlier.rows(DELIVERY, event=str(event_ids[state]), state=state)
        earlier.rows(ATTEMPT, event=str(event_ids[state]))
        earlier.rows("delete from journal.delivery where event_id = %(event)s::uuid", event=str(event_ids[state]))
    earlier.rows(QUEUED)
    return event_ids


def test_each_delivery_is_carried_over_and_what_was_parked_waits(earlier: Notifier, told: dict[str, EventId]) -> None:
    migrate(earlier.database_url)
    rows: dict[str, dict[str, Any]] = {state: earlier.delivery(told[state]) for state in STATES}
    assert [rows[state]["state"] for state in STATES] == ["waiting", "delivered", "exhausted", "waiting"]
    assert [rows[state]["due_at"] is not None for state in STATES] == [True, False, False, True]
    assert [rows[state]["settled_at"] is not None for state in STATES] == [False, True, True, False]
    assert rows["delivered"]["settled_at"].isoformat() == "2026-01-31T12:00:00+00:00"
    assert {(row["attempts"], row["attempts_before"]) for row in rows.values()} == {(3, 0)}
    assert len(earlier.rows("select from notifier.attempt")) == len(STATES)


def test_what_was_told_before_has_its_place_in_the_feed_and_the_bus_has_nothing_left_of_webhooks(
    earlier: Notifier, told: dict[str, EventId]
) -> None:
    migrate(earlier.database_url)
    feed = "select event_id, position, user_id from journal.outward order by position"
    assert [(row["event_id"], row["position"], row["user_id"]) for row in earlier.rows(feed)] == [
        (told[state], place, "alice") for place, state in enumerate(STATES, start=1)
    ]
    open_deliveries = earlier.rows("select consumer, event_id from journal.delivery")
    assert [(row["consumer"], row["event_id"]) for row in open_deliveries] == [("notifier", told["unhandled"])]
    earlier.consumer().handle(CREDITED.TYPE, [told["unhandled"]])
    assert earlier.rows(feed)[-1]["event_id"] == told["unhandled"]
    assert earlier.rows(feed)[-1]["position"] == len(STATES) + 1


def test_what_waited_is_sent_now_and_the_rest_is_not(
    earlier: Notifier, told: dict[str, EventId], receiver: Receiver
) -> None:
    migrate(earlier.database_url)
    with earlier.sending():
        earlier.settled("delivered", 3)
    assert {each.id for each in receiver.received} == set(ids_of([told["waiting"], told["parked"]]))
    assert earlier.delivery(told["waiting"])["attempts"] == 4


def test_what_waited_has_waited_since_it_was_queued(earlier: Notifier, told: dict[str, EventId]) -> None:
    migrate(earlier.database_url)
    queued = [earlier.delivery(told[state])["created_at"] for state in ("waiting", "parked")]
    (known,) = transact(earlier.engine, lambda connection: DeskRecords(connection, AppId("game")).endpoints())
    assert known.oldest_waiting_at == min(queued)


def test_an_index_whose_making_was_cut_off_is_made_anew(servers: Servers) -> None:
    url = earlier_release(servers)
    owner = create_engine(url.replace("postgresql://", "postgresql+psycopg2://", 1))
    with owner.connect() as connection:
        _upgrade(connection, "notifier", "notifier_0004")
        connection.execute(text("create index delivery_waiting on notifier.delivery (app)"))
        connection.commit()
        migrate(url)
        made = connection.execute(text("select pg_get_indexdef('notifier.delivery_waiting'::regclass)")).scalar_one()
    owner.dispose()
    assert "COALESCE(waiting_since, created_at)" in made


def test_a_disabled_endpoint_stays_disabled_until_it_has_another_url(
    earlier: Notifier, told: dict[str, EventId], receiver: Receiver, other_receiver: Receiver
) -> None:
    earlier.rows(
        "insert into notifier.endpoint values ('game', 'backend', now(), %(url)s, 'it answered 410 Gone')",
        url=receiver.url,
    )
    migrate(earlier.database_url)
    known = earlier.known()
    assert known is not None
    assert (known["disabled_url"], known["failing_since"], known["failures"]) == (receiver.url, None, 0)
    with earlier.sending():
        earlier.apps = apps_with(endpoint(other_receiver.url))
        with earlier.sending():
            earlier.settled("delivered", 3)
    assert receiver.received == []
    assert {each.id for each in other_receiver.received} == set(ids_of([told["waiting"], told["parked"]]))


@pytest.mark.parametrize(
    "change",
    [
        "state = 'waiting', due_at = null, settled_at = null",
        "state = 'delivered', settled_at = null",
        "state = 'delivered', due_at = now(), settled_at = now()",
        "state = 'queued'",
        "attempts_before = -1",
    ],
)
def test_a_delivery_is_due_or_settled_and_never_both_or_neither(notifier: Notifier, change: str) -> None:
    (event_id,) = notifier.tell(CREDITED)
    with pytest.raises(IntegrityError):
        notifier.rows(f"update notifier.delivery set {change}")  # noqa: S608  a test's own words
    assert notifier.delivery(event_id)["state"] == "waiting"


def test_an_index_is_made_beside_a_backup_and_takes_its_time(servers: Servers) -> None:
    url = servers.migrated_database()
    owner = create_engine(url.replace("postgresql://", "postgresql+psycopg2://", 1))
    held_up: list[str] = []
    with ThreadPoolExecutor(1) as pool, owner.connect() as backup, owner.connect() as watch:
        watch.execution_options(isolation_level="AUTOCOMMIT")
        watch.exec_driver_sql("drop index notifier.delivery_waiting")
        watch.exec_driver_sql("update notifier.schema_version set version_num = 'notifier_0004'")
        backup.exec_driver_sql("set transaction isolation level repeatable read")
        backup.exec_driver_sql("select count(*) from notifier.delivery")
        migrating = pool.submit(migrate, url, on_held_up=held_up.append)
        waiting = (
            "select count(*) from pg_stat_activity where wait_event = 'virtualxid' and query ~ 'create index'"
            "   and clock_timestamp() - query_start > make_interval(secs => %(seconds)s)"
        )
        limit = {"seconds": 2 * LOCK_TIMEOUT_MS / 1000}
        wait_until(
            lambda: watch.exec_driver_sql(waiting, limit).scalar_one() == 1, what="the index waiting for the backup"
        )
        backup.rollback()
        migrating.result(timeout=30)
    owner.dispose()
    assert held_up == []
