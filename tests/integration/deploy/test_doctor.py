"""The doctor, and what the App Store told us, on a real database and a real broker; then on the whole system."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid5

import pytest
from redis import Redis

from deploy.doctor.arrival import MEANINGS, check_arrival
from deploy.doctor.broker import check_broker, check_workers
from deploy.doctor.database import check_database
from deploy.doctor.findings import Finding
from deploy.settings import PROJECT
from deploy.told import Told, told
from shared.apps import load_apps
from shared.bus.courier import Message
from shared.bus.routes import CONSUMERS, VERIFIER
from shared.bus.worker import CeleryPublisher, celery_app
from shared.clock import SystemClock
from shared.database import transact
from shared.events import AccountTokenIssued, Environment, NotificationReceived
from shared.ids import (
    AppId,
    EventId,
    TransactionId,
    notification_subject,
    purchase_id,
    subscription_id,
    system_ids,
)
from tests.support.app_store import AppStore, refunded
from tests.support.bus import NOW, Bus, bus_in
from tests.support.scripted_store import Reply, ScriptedStore, says, serving
from tests.support.stack import PASSWORD, Servers, as_environment, child_environment
from tests.support.system import System, running_system
from verifier.settings import StoreSettings

PURSER = Path(sys.executable).with_name("purser")
GAME = AppId("game")


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.fixture
def bus(database: str) -> Iterator[Bus]:
    with bus_in(database) as opened:
        yield opened


# ---- the database -----------------------------------------------------------------------------------------------


def test_a_migrated_database_without_processes_is_well_but_for_those_that_it_sees(database: str) -> None:
    found = by_check(check_database(database))
    assert {name: finding.outcome for name, finding in found.items()} == {
        "database": "ok",
        "migrations": "ok",
        "roles": "ok",
        "courier": "failed",
        "deliveries": "ok",
        "parked": "ok",
        "notifications": "unchecked",
        "ledger-scheduler": "failed",
        "books": "unchecked",
    }


def test_an_empty_database_wants_to_be_migrated_and_what_it_lacks_is_unchecked(servers: Servers) -> None:
    found = by_check(check_database(servers.empty_database()))
    assert found["migrations"].outcome == "failed"
    assert found["migrations"].remedy == "purser migrate"
    assert "journal at nothing" in found["migrations"].found
    assert (found["deliveries"].outcome, found["notifications"].outcome) == ("unchecked", "unchecked")


def test_a_schema_that_is_behind_is_named(bus: Bus, database: str) -> None:
    bus.execute("update ledger.schema_version set version_num = 'ledger_0000'")
    migrations = by_check(check_database(database))["migrations"]
    assert migrations.outcome == "failed"
    assert migrations.found.startswith("ledger at ledger_0000")
    assert "journal" not in migrations.found


def test_a_role_that_the_login_may_not_act_as_is_named(bus: Bus, database: str) -> None:
    bus.execute("drop role if exists doctors_login")
    bus.execute(f"create role doctors_login login password '{PASSWORD}'")
    bus.execute("grant purser_gateway to doctors_login")
    try:
        roles = by_check(check_database(database.replace("//purser:", "//doctors_login:")))["roles"]
    finally:
        bus.execute("drop role doctors_login")
    assert roles.outcome == "failed"
    assert "purser_ledger" in roles.found
    assert "purser_gateway" not in roles.found


def test_a_courier_that_is_connected_is_seen(database: str) -> None:
    from shared.bus.wake import Sleeper
    from shared.database import connect_engine

    engine = connect_engine(database, role="purser_courier", pool_size=1, application_name="courier")
    sleeper = Sleeper(engine)
    sleeper.wait(0.01)
    try:
        assert by_check(check_database(database))["courier"].outcome == "ok"
    finally:
        sleeper.close()
        engine.dispose()


def test_a_scheduler_that_is_connected_is_seen_and_so_is_one_that_stands_still(bus: Bus, database: str) -> None:
    from shared.database import connect_engine

    bus.execute(
        "insert into ledger.account (app, environment, kind, currency, shard)"
        " values ('game', 'production', 'sink', 'gems', 0)"
    )
    bus.execute(
        "insert into ledger.hold (id, account_id, amount, expires_at, created_at)"
        " select gen_random_uuid(), id, 1, clock_timestamp() + interval '1 minute', clock_timestamp()"
        "   from ledger.account"
    )
    engine = connect_engine(database, role="purser_ledger", pool_size=1, application_name="ledger-scheduler")
    try:
        with engine.connect():
            assert by_check(check_database(database))["ledger-scheduler"].outcome == "ok"
            bus.execute("update ledger.hold set expires_at = clock_timestamp() - interval '2 minutes'")
            stands_still = by_check(check_database(database))["ledger-scheduler"]
    finally:
        engine.dispose()
    assert stands_still.outcome == "warning"
    assert stands_still.found.startswith("1 holds or requests for refunds should have expired, the oldest 12")


def test_the_newest_audit_that_was_finished_says_whether_the_books_were_right(bus: Bus, database: str) -> None:
    bus.execute("insert into ledger.audit (started_at, finished_at) values ('2026-11-22T10:00Z', '2026-11-22T10:01Z')")
    sound = by_check(check_database(database))["books"]
    assert (sound.outcome, sound.found) == ("ok", "sound at 2026-11-22T10:01:00.000Z")
    bus.execute("insert into ledger.audit (started_at, finished_at, problems) values (now(), now(), 3)")
    bus.execute("insert into ledger.audit (started_at) values (now())")
    broken = by_check(check_database(database))["books"]
    assert broken.outcome == "failed"
    assert broken.found.startswith("3 promises were broken at ")


def test_what_is_overdue_warns_and_what_is_parked_warns_with_its_reasons(bus: Bus, database: str) -> None:
    tokens = bus.tokens(3)
    assert by_check(check_database(database))["deliveries"].outcome == "ok"
    bus.set(tokens, "due_at = clock_timestamp() - interval '2 minutes'")
    overdue = by_check(check_database(database))["deliveries"]
    assert overdue.outcome == "warning"
    assert overdue.found.startswith("3 overdue, the oldest by 12")
    bus.set(tokens[:2], "state = 'parked', due_at = 'infinity', error = 'verifyReceipt 21004'")
    bus.set(tokens[2:], "state = 'dead', due_at = 'infinity', error = 'no more tries'")
    found = by_check(check_database(database))
    assert found["deliveries"].outcome == "ok"
    assert found["parked"].outcome == "warning"
    assert found["parked"].found == "3 parked or dead: verifier, 2: verifyReceipt 21004; verifier, 1: no more tries"


def test_what_is_parked_does_not_hide_that_the_rest_stands_still(bus: Bus, database: str) -> None:
    stuck, late = bus.tokens(2)
    bus.set([stuck], "state = 'parked', due_at = 'infinity', error = 'verifyReceipt 21004'")
    bus.set([late], "due_at = clock_timestamp() - interval '2 minutes'")
    found = by_check(check_database(database))
    assert found["parked"].found == "1 parked or dead: verifier, 1: verifyReceipt 21004"
    assert (found["deliveries"].outcome, found["deliveries"].found[:9]) == ("warning", "1 overdue")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://purser:hunter2@127.0.0.1:1/purser",
        "postgresql://purser:hunter2@hunter2@127.0.0.1:1/purser",
        "postgresql://purser:hunter2:hunter2@127.0.0.1:x/purser",
        "hunter2",
    ],
)
def test_a_database_that_is_away_fails_and_its_password_is_not_said(url: str) -> None:
    first, *others = check_database(url)
    assert first.outcome == "failed"
    assert {other.outcome for other in others} <= {"unchecked"}
    assert "hunter2" not in str([first, *others])


# ---- the broker -------------------------------------------------------------------------------------------------


def test_a_broker_without_workers_is_well_and_each_consumer_is_missed(redis_url: str) -> None:
    found = by_check(check_broker(redis_url))
    assert (found["broker"].outcome, found["queues"].outcome) == ("ok", "ok")
    assert all(name in found["queues"].found for name in CONSUMERS)
    missing = check_workers(redis_url)
    assert [finding.remedy for finding in missing] == [f"purser run {name}" for name in CONSUMERS]
    assert {finding.outcome for finding in missing} == {"failed"}


def test_the_depth_of_each_queue_is_told(redis_url: str) -> None:
    ids = system_ids()
    with Redis.from_url(redis_url) as broker:
        broker.flushall()
        messages = [Message(VERIFIER, AccountTokenIssued.TYPE, (ids.event_id(),)) for _ in range(3)]
        CeleryPublisher(celery_app(name="courier", broker_url=redis_url), ids).publish(messages)
        found = by_check(check_broker(redis_url))["queues"].found
        broker.flushall()
    assert found == ", ".join(f"{name} {3 if name == VERIFIER else 0}" for name in CONSUMERS)


def test_a_broker_that_throws_away_what_it_holds_warns(redis_url: str) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            warned = [finding for finding in check_broker(redis_url) if finding.outcome == "warning"]
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert [finding.remedy for finding in warned] == ["maxmemory-policy noeviction"]


def test_a_broker_whose_password_is_another_is_told_from_one_that_is_away(redis_url: str) -> None:
    refused, _ = check_broker(re.sub(r":[^:@/]*@", ":hunter2@", redis_url))
    assert (refused.outcome, refused.found) == ("failed", "it cannot be used: AuthenticationError")
    away, _ = check_broker("redis://:hunter2@127.0.0.1:1/0")
    assert away.found == "it cannot be used: ConnectionError"


def test_a_broker_that_is_away_fails_once_and_leaves_the_rest_unchecked() -> None:
    url = "redis://:hunter2@127.0.0.1:1/0"
    findings = [*check_broker(url), *check_workers(url)]
    assert [finding.outcome for finding in findings] == ["failed", "unchecked", "unchecked"]
    assert "hunter2" not in str(findings)


# ---- what the App Store told us ---------------------------------------------------------------------------------


class Store:
    """An App Store that tells the journal directly, with what the verifier would write beside it."""

    def __init__(self, bus: Bus) -> None:
        self.store = AppStore(now=NOW)
        self.bus = bus

    def tell(self, kind: str, transaction: dict[str, Any] | None = None, *, subtype: str | None = None) -> EventId:
        notification_id = str(self.bus.ids.uuid())
        payload = NotificationReceived(
            store="apple",
            notification_id=notification_id,
            notification_type=kind,
            subtype=subtype,
            signed_payload=self.store.notification(kind, transaction, notification_id=notification_id),
        )
        subject = notification_subject(app=GAME, store="apple", notification_id=notification_id)
        (event_id,) = self.bus.record(self.bus.draft(payload, subject=subject, user_id=None))
        return event_id

    def handled(self, event_id: EventId) -> None:
        self.bus.execute("delete from journal.delivery where event_id = %(id)s", id=event_id)

    def claimed(self, transaction: dict[str, Any], *, user_id: str) -> str:
        """The purchase of whoever claimed the transaction, as the verifier records it."""
        transaction_id = TransactionId(transaction["transactionId"])
        purchase = purchase_id(app=GAME, store="apple", transaction_id=transaction_id, user_id=user_id)
        self.bus.execute(
            "insert into verifier.store_transaction (app, store, environment, transaction_id, user_id, purchase_id)"
            " values ('game', 'apple', 'production', %(transaction)s, %(user)s, %(purchase)s)",
            transaction=transaction_id,
            user=user_id,
            purchase=purchase,
        )
        return purchase

    def told(self, **filters: Any) -> list[Told]:
        return transact(self.bus.engine, lambda connection: told(connection, **{"limit": 100, **filters}))


@pytest.fixture
def store(bus: Bus) -> Store:
    return Store(bus)


def test_what_was_told_is_listed_newest_first_with_what_became_of_it(bus: Bus, store: Store) -> None:
    test, extension, future, waits, parked = (
        store.tell(kind, subtype=subtype)
        for kind, subtype in [
            ("TEST", None),
            ("RENEWAL_EXTENSION", "SUMMARY"),
            ("MOON_PHASE", None),
            ("TEST", None),
            ("REFUND", None),
        ]
    )
    for event_id in (test, extension, future):
        store.handled(event_id)
    bus.set([parked], "state = 'parked', due_at = 'infinity', error = 'REFUND: no transaction'")
    rows = store.told()
    assert [row.event_id for row in rows] == [parked, waits, future, extension, test]
    assert [row.became for row in rows] == [
        "parked: REFUND: no transaction",
        "waiting",
        "unknown: recorded as it came",
        "recorded: extension",
        "recorded: test",
    ]
    assert rows[3].subtype == "SUMMARY"
    assert {row.environment for row in rows} == {"production"}


def test_a_refund_shows_what_followed_from_it_and_its_repeat_that_nothing_did(bus: Bus, store: Store) -> None:
    bought = store.store.transaction()
    purchase = store.claimed(bought, user_id="alice")
    first, second = store.tell("REFUND", refunded(bought)), store.tell("REFUND", refunded(bought))
    (token,) = bus.tokens(1)
    (followed,) = bus.record(replace(bus.draft(_any_payload(bus)), subject=purchase, causation_id=first))
    for event_id in (first, second, token, followed):
        store.handled(event_id)
    newest, oldest = store.told(notification_type="REFUND")
    assert oldest.event_id == first
    assert oldest.became == f"acted on: {_any_payload(bus).TYPE}"
    assert oldest.transaction_id == bought["transactionId"]
    assert newest.became == "acted on: nothing new, or nobody's yet"


def test_a_renewal_shows_what_followed_from_it_under_its_subscription(bus: Bus, store: Store) -> None:
    period = store.store.period()
    renewed = store.tell("DID_RENEW", period)
    subject = subscription_id(
        app=GAME, store="apple", environment="production", original_transaction_id=period["originalTransactionId"]
    )
    (followed,) = bus.record(replace(bus.draft(_any_payload(bus)), subject=subject, causation_id=renewed))
    for event_id in (renewed, followed):
        store.handled(event_id)
    (row,) = store.told()
    assert row.became == f"acted on: {_any_payload(bus).TYPE}"


def _any_payload(bus: Bus) -> Any:
    from shared.events import AccountTokenIssued

    return AccountTokenIssued(token=uuid5(bus.ids.uuid(), "any"))


def test_the_list_is_narrowed_by_app_type_number_and_days(bus: Bus, store: Store) -> None:
    store.tell("TEST")
    store.tell("REFUND", store.store.transaction())
    newest = store.tell("TEST")
    assert {row.type for row in store.told(notification_type="TEST")} == {"TEST"}
    assert [row.event_id for row in store.told(limit=1)] == [newest]
    assert store.told(app="another") == []
    assert len(store.told(app="game", days=1)) == 3


# ---- a test notification ----------------------------------------------------------------------------------------

TEST_PATH = "/inApps/v1/notifications/test"


def arrival(database_url: str, *replies: tuple[str, Reply], environment: Environment = "production") -> Finding:
    """What is found of a store that gives these replies, when nothing arrives here."""
    store = ScriptedStore()
    for path, reply in replies:
        store.tell(path, reply)
    app = next(iter(load_apps(PROJECT / "deploy/examples/apps.toml")))
    with serving(store) as url:
        settings = StoreSettings(apple_api_url=url)
        (finding,) = check_arrival(
            "test",
            app,
            environment,
            settings=settings,
            database_url=database_url,
            wait_s=3,
            clock=SystemClock(),
        )
    return finding


def sent(*results: str) -> Reply:
    return says({"sendAttempts": [{"attemptDate": 1_800_000_000_000, "sendAttemptResult": word} for word in results]})


@pytest.fixture
def _asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.doctor.arrival.STATUS_ASKED_AFTER_S", 0.0)


@pytest.mark.usefixtures("_asked_at_once")
def test_a_failed_attempt_is_said_in_the_stores_word_with_what_it_means(database: str) -> None:
    token = (TEST_PATH, says({"testNotificationToken": "token"}))
    finding = arrival(database, token, (f"{TEST_PATH}/token", sent("TLS_ISSUE")))
    assert finding.outcome == "failed"
    assert "TLS_ISSUE at 2027-01-15T08:00:00.000Z" in finding.found
    assert finding.remedy == MEANINGS["TLS_ISSUE"]


@pytest.mark.usefixtures("_asked_at_once")
def test_an_attempt_that_reached_another_installation_is_told_from_one_that_reached_nobody(database: str) -> None:
    token = (TEST_PATH, says({"testNotificationToken": "token"}))
    unsent = says({"errorCode": 4040008, "errorMessage": "not yet"}, status=404)
    finding = arrival(database, token, (f"{TEST_PATH}/token", unsent), (f"{TEST_PATH}/token", sent("SUCCESS")))
    assert finding.outcome == "failed"
    assert "another installation" in (finding.remedy or "")


@pytest.mark.usefixtures("_asked_at_once")
def test_one_that_arrived_before_is_not_taken_for_the_one_asked_for(store: Store, database: str) -> None:
    store.handled(store.tell("TEST"))
    token = (TEST_PATH, says({"testNotificationToken": "token"}))
    assert arrival(database, token, (f"{TEST_PATH}/token", sent("NO_RESPONSE"))).outcome == "failed"


def test_a_url_that_is_not_set_in_app_store_connect_is_said_to_be_that(database: str) -> None:
    unset = says({"errorCode": 4040007, "errorMessage": "No App Store Server Notification URL"}, status=404)
    finding = arrival(database, (TEST_PATH, unset))
    assert finding.outcome == "failed"
    assert finding.found == "App Store Connect has no URL for it"


def test_without_a_database_nothing_is_asked_for() -> None:
    assert arrival("postgresql://nobody@127.0.0.1:1/nothing").outcome == "unchecked"


# ---- the whole system -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def purser(system: System, *arguments: str, code: int = 0, **changes: str) -> str:
    """What a command prints, called as the operator of this `purser up` calls it; it has to end with this code."""
    environment = {**child_environment(), **as_environment(system.settings), **changes}
    ended = subprocess.run(
        [PURSER, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in ended.stderr
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
def test_a_laptops_system_is_well_and_a_test_notification_goes_all_the_way_in_both_environments(
    system: System,
) -> None:
    purser(system, "reconcile")  # or the reconciler may not have begun yet
    shown = json.loads(purser(system, "doctor", "--strict", "--test-notification", "--wait", "40", "--json"))
    assert shown["well"]
    findings = {finding["check"]: finding for finding in shown["findings"]}
    for environment in ("production", "sandbox"):
        arrival = findings.pop(f"test notification game {environment}")
        assert arrival["outcome"] == "ok", arrival
        assert "recorded: test; the App Store says SUCCESS" in arrival["found"]
    findings.pop("notifications")  # looked at before, or after, the first arrived
    assert {finding["outcome"] for finding in findings.values()} == {"ok"}
    rows = json.loads(purser(system, "notifications", "--type", "TEST", "--json"))
    assert [(row["type"], row["became"]) for row in rows] == [("TEST", "recorded: test")] * 2
    assert {row["environment"] for row in rows} == {"production", "sandbox"}
    assert "newest at" in purser(system, "doctor")


@pytest.mark.slow
def test_a_purchase_that_the_store_tells_of_shows_what_followed(system: System) -> None:
    bought = system.buy(notify=False)
    accepted = system.post("told", {"signed_transaction": bought["signed_transaction"]}, Prefer="wait=20").json()
    assert accepted["status"] == "completed"
    system.refund(bought["transaction_id"])
    system.purchase(accepted["id"], user_id="told", status="refunded")
    (row,) = json.loads(purser(system, "notifications", "--type", "REFUND", "--limit", "1", "--json"))
    assert row["became"] == "acted on: refund.received"
    assert row["transaction_id"] == bought["transaction_id"]


@pytest.mark.slow
def test_a_doctor_that_reaches_no_gateway_fails_with_one_line_for_it_and_the_rest_well(system: System) -> None:
    shown = json.loads(purser(system, "doctor", "--gateway", "http://127.0.0.1:1", "--json", code=1))
    failed = {finding["check"] for finding in shown["findings"] if finding["outcome"] == "failed"}
    assert failed == {"gateway", "notification URL"}
    assert not shown["well"]
