"""Reconciliation on a real database, against the simulated App Store: what was lost on its way is found, once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, Engine

from deploy import cli
from deploy.doctor.reconciliation import check_reconciliation
from shared.apps import App, Apps, parse_apps
from shared.bus import journal
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.events import Draft, NotificationReceived, SubscriptionReported
from shared.ids import AppId, system_ids
from shared.jws import JwsVerifier, TrustAnchors, peek_claims
from shared.notifications import draft_of, notification_of
from simulator.app import Simulator, build, serve
from simulator.faults import ApiFaults, Faults, NotificationFaults
from tests.support.ledger import somebody_waits
from tests.support.notification_receiver import receiver
from tests.support.processes import killed_in_the_end
from tests.support.served import served
from tests.support.server_api_key import new_signing_key
from tests.support.shop import GEMS, MONTHLY, example_catalog
from tests.support.stack import child_environment, wait_until
from verifier.app import reconciler_on, reconciliations_watched
from verifier.domain.reconciliation import DueOrigin, Found, Key
from verifier.domain.records import OriginKey
from verifier.handlers.reconciling import Errand, Reconciler, Run
from verifier.settings import ReconcilerSettings, StoreSettings
from verifier.store import PostgresReconciliations, PostgresRecords, reconciles_alone

CLOCK = SystemClock()
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GAME = AppId("game")
NOTIFICATIONS = Key(GAME, "production", "notifications")
SUBSCRIPTIONS = Key(GAME, "production", "subscriptions")
APPS = """
[[apps]]
id = "game"
name = "Game"
[apps.apple]
bundle_id = "com.example.game"
app_apple_id = 1234567890
issuer_id = "57246542-96fe-1a63-e053-0824d011072a"
key_id = "GAME000000"
private_key_file = "game.p8"
"""


@dataclass
class Site:
    """The simulated store, whose notifications are lost, and a database as the reconciler sees it."""

    simulator: Simulator
    apps: Apps
    engine: Engine
    url: str
    environment: dict[str, str]

    @property
    def app(self) -> App:
        (app,) = self.apps
        return app

    def lose(self, count: int) -> set[str]:
        """So many purchases of which nobody hears; their transactions' ids."""
        bought = [self.simulator.store.buy(product_id=GEMS) for _ in range(count)]
        return {statement.transaction.transaction_id for statement in bought}

    def reconciler(self) -> AbstractContextManager[Reconciler]:
        root = self.simulator.authority.root_pem
        return reconciler_on(
            self.engine,
            apps=self.apps,
            settings=StoreSettings(apple_api_url=self.url, apple_api_sandbox_url=f"{self.url}/sandbox"),
            signatures=JwsVerifier(anchors=TrustAnchors.of(files=[root])),
            clock=CLOCK,
        )

    def run(self, reconciler: Reconciler, **wanted: Any) -> Run:
        errand = Errand(**{"since": CLOCK.now() - timedelta(hours=1)} | wanted)
        (run,) = reconciler.run("notifications", app=self.app, environments=["production"], errand=errand)
        return run

    def heard_of(self) -> list[str]:
        """The transactions that the journal's notifications are about."""
        rows = transact(
            self.engine,
            lambda connection: (
                connection.exec_driver_sql(
                    "select payload ->> 'signed_payload' from journal.event where type = %(type)s",
                    {"type": NotificationReceived.TYPE},
                )
                .scalars()
                .all()
            ),
        )
        bodies = [peek_claims(signed)["data"] for signed in rows]
        return [peek_claims(body["signedTransactionInfo"])["transactionId"] for body in bodies]


@pytest.fixture
def site(database: str, tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "game.p8").write_bytes(new_signing_key().pem)
    (tmp_path / "apps.toml").write_text(APPS)
    apps = parse_apps(APPS, directory=tmp_path)
    engine = connect_engine(database, role="purser_verifier", pool_size=8, application_name="test")
    with receiver() as hook:
        simulator = build(data_dir=tmp_path, apps=apps, catalog=example_catalog(), webhook_url=hook.url)
        simulator.faults.put(Faults(notifications=NotificationFaults(drop=1)))
        (tmp_path / "root.pem").write_bytes(simulator.authority.root_pem)
        with served(serve(simulator)) as url:
            environment = {
                "PURSER_DATABASE_URL": database,
                "PURSER_BROKER_URL": "redis://127.0.0.1:1/0",
                "PURSER_DATA_DIR": str(tmp_path / "no stack"),
                "PURSER_APPS_FILE": str(tmp_path / "apps.toml"),
                "PURSER_APPLE_ROOT_FILES": str(tmp_path / "root.pem"),
                "PURSER_APPLE_API_URL": url,
                "PURSER_APPLE_API_SANDBOX_URL": f"{url}/sandbox",
            }
            yield Site(simulator, apps, engine, url, environment)
        simulator.close()
    engine.dispose()


def read(site: Site, key: Key) -> Any:
    return site_records(site).read(key)


def site_records(site: Site) -> PostgresReconciliations:
    return PostgresReconciliations(partial(transact, site.engine), ids=system_ids(), appended=lambda: None)


# ---- notifications -----------------------------------------------------------------------------------------------


def test_what_was_lost_is_recorded_over_several_pages_and_goes_to_the_verifier(site: Site) -> None:
    lost = site.lose(45)
    with site.reconciler() as reconciler:
        run = site.run(reconciler)
        again = site.run(reconciler)
    assert (run.looked_at, run.recorded, run.unreadable, run.error) == (45, 45, 0, None)
    assert sorted(site.heard_of()) == sorted(lost)
    assert (again.looked_at, again.recorded) == (45, 0)
    waiting = transact(
        site.engine,
        lambda connection: connection.exec_driver_sql(
            "select count(*) from journal.delivery where consumer = 'verifier'"
        ).scalar_one(),
    )
    assert waiting == 45
    state = read(site, NOTIFICATIONS)
    assert state.cursor_at is not None
    assert state.cursor_at <= state.checked_at
    assert state.error is None


def test_many_who_record_the_same_at_once_make_one_event_of_each(site: Site) -> None:
    """Whoever comes first records it: the others wait for its transaction, and then know it."""
    site.lose(10)
    records = site_records(site)
    with site.reconciler() as reconciler:
        site.run(reconciler)
    events = transact(
        site.engine,
        lambda connection: [
            (row[0], row[1])
            for row in connection.exec_driver_sql(
                "select subject, payload ->> 'signed_payload' from journal.event where type = 'notification.received'"
            )
        ],
    )
    found = []
    for number, (_, signed) in enumerate(events):
        notification = notification_of(
            dict(peek_claims(signed)) | {"notificationUUID": f"again-{number}"}, signed_payload=signed
        )
        found.append(Found(draft_of(notification, app=site.app, trace_id="0" * 32, now=NOW), missed=True))
    recorded: list[int] = []
    gate = threading.Barrier(6)

    def race() -> None:
        gate.wait(10)
        recorded.append(len(records.record_notifications(NOTIFICATIONS, found, now=NOW)))

    threads = [threading.Thread(target=race) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(recorded) == [0, 0, 0, 0, 0, 10]
    assert len(site.heard_of()) == 20


def test_missed_is_counted_in_the_transaction_that_records_it(site: Site) -> None:
    records = site_records(site)
    records.begin(NOTIFICATIONS, now=NOW)
    notification = notification_of({"notificationUUID": "1", "notificationType": "TEST"}, signed_payload="a.b.c")
    found = [Found(draft_of(notification, app=site.app, trace_id="0" * 32, now=NOW), missed=True)]
    for _ in range(3):
        records.record_notifications(NOTIFICATIONS, found, now=NOW)
    state = read(site, NOTIFICATIONS)
    assert (state.missed, state.missed_at) == (1, NOW)


def test_a_cursor_never_goes_back_and_an_error_keeps_its_beginning(site: Site) -> None:
    records = site_records(site)
    records.begin(NOTIFICATIONS, now=NOW)
    records.advance(NOTIFICATIONS, cursor_at=NOW)
    records.advance(NOTIFICATIONS, cursor_at=NOW - timedelta(days=1))
    records.fail(NOTIFICATIONS, error="first", now=NOW)
    records.fail(NOTIFICATIONS, error="second", now=NOW + timedelta(hours=1))
    state = read(site, NOTIFICATIONS)
    assert (state.cursor_at, state.error, state.failing_since) == (NOW, "second", NOW)
    records.finish(NOTIFICATIONS, now=NOW + timedelta(hours=2))
    state = read(site, NOTIFICATIONS)
    assert (state.error, state.failing_since, state.checked_at) == (None, None, NOW + timedelta(hours=2))


def test_short_trouble_of_the_store_is_waited_out_and_long_trouble_is_noted(site: Site) -> None:
    lost = site.lose(3)
    lossy = NotificationFaults(drop=1)
    with site.reconciler() as reconciler:
        site.simulator.faults.put(Faults(api=ApiFaults(statuses=(5000001, "http_503")), notifications=lossy))
        assert site.run(reconciler).error is None
        assert set(site.heard_of()) == lost
        site.simulator.faults.put(Faults(api=ApiFaults(status=401), notifications=lossy))
        assert (site.run(reconciler).error or "").startswith("401")
        limited = ApiFaults(error_code=4290000, retry_after_ms=90_000)
        site.simulator.faults.put(Faults(api=limited, notifications=lossy))
        assert "as often as Apple allows" in (site.run(reconciler).error or "")
    assert read(site, NOTIFICATIONS).failing_since is not None


def test_one_reconciler_is_at_it_at_a_time_for_each_app_and_road(site: Site) -> None:
    alone = partial(reconciles_alone, site.engine)
    with alone(GAME, "notifications") as ours, site.reconciler() as reconciler:
        assert ours
        assert site.run(reconciler).skipped
        with alone(GAME, "subscriptions") as other_road, alone(AppId("quiz"), "notifications") as other_app:
            assert (other_road, other_app) == (True, True)
    with site.reconciler() as reconciler:
        assert not site.run(reconciler).skipped


def test_who_has_patience_waits_for_the_one_that_is_at_it(site: Site) -> None:
    got: list[bool] = []

    def wait() -> None:
        with reconciles_alone(site.engine, GAME, "notifications", patience_s=20) as ours:
            got.append(ours)

    with reconciles_alone(site.engine, GAME, "notifications"):
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.5)
        assert got == []
    waiting.join(20)
    assert got == [True]


# ---- subscriptions -----------------------------------------------------------------------------------------------


def put_origin(connection: Connection, number: str, **columns: Any) -> None:
    row = {"app": GAME, "store": "apple", "environment": "production", "original_transaction_id": number} | columns
    names = ", ".join(row)
    values = ", ".join(f"%({name})s" for name in row)
    connection.exec_driver_sql(f"insert into verifier.origin ({names}) values ({values})", row)  # noqa: S608


def due(site: Site, *, until: datetime = NOW) -> Sequence[DueOrigin]:
    return site_records(site).due_origins(SUBSCRIPTIONS, until=until, spoken_before=NOW - timedelta(hours=1), limit=10)


def test_what_is_due_comes_oldest_first_unless_the_store_has_just_spoken_of_its_end(site: Site) -> None:
    ended = {"period_at": NOW - timedelta(days=30), "expires_at": NOW - timedelta(hours=3)}

    def put(connection: Connection) -> None:
        put_origin(connection, "newer", check_at=NOW - timedelta(minutes=1))
        put_origin(connection, "older", check_at=NOW - timedelta(minutes=2), **ended)
        put_origin(connection, "later", check_at=NOW + timedelta(minutes=1))
        put_origin(connection, "never")
        put_origin(connection, "sandbox", check_at=NOW, environment="sandbox")
        for name, minutes in (("spoken lately", 30), ("spoken long ago", 90), ("spoken before its end", 200)):
            at = NOW - timedelta(minutes=minutes)
            put_origin(connection, name, check_at=NOW, period_signed_at=at, **ended)

    transact(site.engine, put)
    assert [each.original_transaction_id for each in due(site)][:2] == ["older", "newer"]
    assert {each.original_transaction_id for each in due(site)} == {
        "older",
        "newer",
        "spoken long ago",
        "spoken before its end",
    }


def test_a_check_in_vain_is_counted_and_put_off_but_what_was_heard_meanwhile_counts(site: Site) -> None:
    transact(site.engine, lambda connection: put_origin(connection, "1", check_at=NOW))
    records = site_records(site)
    records.begin(SUBSCRIPTIONS, now=NOW)
    (found,) = due(site)
    later = NOW + timedelta(hours=1)
    records.settle_origin(SUBSCRIPTIONS, found, [], check_at=later, now=NOW)
    (again,) = due(site, until=later)
    assert (again.check_at, again.checks) == (later, 1)
    said = SubscriptionReported("apple", "production", found.original_transaction_id, 1, "signed")
    news = [Draft(payload=said, app=GAME, subject="sub_1", user_id=None, occurred_at=NOW, trace_id="0" * 32)]
    assert not records.settle_origin(SUBSCRIPTIONS, found, news, check_at=None, now=NOW)  # of a moment that is over
    assert due(site, until=later) == [again]
    assert read(site, SUBSCRIPTIONS).missed == 0
    assert transact(site.engine, lambda connection: journal.heads(connection, app=GAME, subjects=["sub_1"])) == []
    records.put_off_origin(SUBSCRIPTIONS, again, until=later + timedelta(minutes=10))
    assert due(site, until=later) == []
    (put_off,) = due(site, until=later + timedelta(minutes=10))
    assert put_off.checks == 1


def test_who_finds_what_was_missed_and_who_handles_the_same_never_wait_for_each_other_in_a_circle(
    site: Site, database: str
) -> None:
    """A worker holds the origin of a subscription before it writes to its timeline."""
    transact(site.engine, lambda connection: put_origin(connection, "1", check_at=NOW))
    records = site_records(site)
    records.begin(SUBSCRIPTIONS, now=NOW)
    (found,) = due(site)
    said = SubscriptionReported("apple", "production", found.original_transaction_id, 1, "signed")
    draft = Draft(payload=said, app=GAME, subject="sub_1", user_id=None, occurred_at=NOW, trace_id="0" * 32)
    owner = connect_engine(database, role=None, pool_size=1, application_name="test-owner")
    with ThreadPoolExecutor(1) as pool, site.engine.begin() as worker:
        PostgresRecords(worker).lock_origins([OriginKey(GAME, "apple", "production", found.original_transaction_id)])
        settling = pool.submit(records.settle_origin, SUBSCRIPTIONS, found, [draft], check_at=None, now=NOW)
        wait_until(lambda: transact(owner, somebody_waits), what="that the other waits")
        journal.append(worker, [draft], ids=system_ids())
        worker.commit()
        settling.result(timeout=20)
    owner.dispose()
    assert read(site, SUBSCRIPTIONS).missed == 1


def test_a_subscription_that_the_store_does_not_know_is_asked_about_over_http(site: Site) -> None:
    unknown = "1000000000000001"
    transact(site.engine, lambda connection: put_origin(connection, unknown, check_at=CLOCK.now()))
    with site.reconciler() as reconciler:
        (run,) = reconciler.run("subscriptions", app=site.app, environments=["production"])
    assert (run.looked_at, run.recorded, run.finished) == (1, 0, True)
    later = CLOCK.now() + timedelta(hours=2)
    assert [each.checks for each in due(site, until=later)] == [1]


def test_how_a_subscription_stands_is_asked_over_http_and_recorded_as_it_is_signed(site: Site) -> None:
    bought = site.simulator.store.buy(product_id=MONTHLY).transaction
    original = bought.original_transaction_id
    transact(site.engine, lambda connection: put_origin(connection, original, check_at=CLOCK.now()))
    with site.reconciler() as reconciler:
        (run,) = reconciler.run("subscriptions", app=site.app, environments=["production"])
    assert (run.looked_at, run.missed, run.finished) == (1, 1, True)
    (event_id,) = transact(
        site.engine,
        lambda connection: (
            connection.exec_driver_sql(
                "select id from journal.event where type = %(type)s", {"type": SubscriptionReported.TYPE}
            )
            .scalars()
            .all()
        ),
    )
    (event,) = transact(site.engine, lambda connection: journal.load(connection, [event_id]))
    assert isinstance(event.payload, SubscriptionReported)
    assert (event.payload.original_transaction_id, event.payload.status) == (original, 1)
    assert peek_claims(event.payload.signed_transaction)["transactionId"] == bought.transaction_id
    assert peek_claims(event.payload.signed_renewal_info or "")["originalTransactionId"] == original


# ---- the command, the process, the doctor ------------------------------------------------------------------------


class Terminal:
    """An operator's environment, and what `purser reconcile` writes."""

    def __init__(self, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
        self.site = site
        self._capsys = capsys

    def run(self, *arguments: str, code: int = 0) -> str:
        """What it writes, to stderr if it is to end with another code than 0."""
        assert cli.run(["reconcile", *arguments]) == code
        written = self._capsys.readouterr()
        return written.out + written.err if code else written.out


@pytest.fixture
def terminal(site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    for name, value in site.environment.items():
        monkeypatch.setenv(name, value)
    return Terminal(site, capsys)


def test_the_command_reconciles_and_shows_what_it_found(terminal: Terminal) -> None:
    lost = terminal.site.lose(3)
    found = json.loads(terminal.run("--since", "1h", "--environment", "production", "--json"))
    rows = {row["road"]: row for row in found}
    assert (rows["notifications"]["looked_at"], rows["notifications"]["recorded"]) == (3, 3)
    assert rows["subscriptions"]["error"] is None
    assert set(terminal.site.heard_of()) == lost
    shown = {(row["road"], row["error"]) for row in json.loads(terminal.run("--status", "--json"))}
    assert shown == {("notifications", None), ("subscriptions", None)}


def look_through(site: Site, *keys: Key) -> None:
    """Notes that all there was has been looked through."""
    records = PostgresReconciliations(partial(transact, site.engine), ids=system_ids(), appended=lambda: None)
    for key in keys:
        records.begin(key, now=NOW)
        records.finish(key, now=NOW)


TAKEN_OUT = (replace(NOTIFICATIONS, environment="sandbox"), replace(NOTIFICATIONS, app=AppId("chess")))
"""Of an environment that the app refuses now, and of an app that is gone."""


def test_the_status_is_of_what_is_asked_about_whatever_was_once(terminal: Terminal) -> None:
    Path(terminal.site.environment["PURSER_APPS_FILE"]).write_text(APPS + 'sandbox = "refuse"\n')
    look_through(terminal.site, NOTIFICATIONS, *TAKEN_OUT)
    shown = [
        (row["app"], row["environment"], row["road"], row["checked_at"])
        for row in json.loads(terminal.run("--status", "--json"))
    ]
    assert shown == [
        ("game", "production", "notifications", "2026-11-22T12:00:00.000Z"),
        ("game", "production", "subscriptions", None),
    ]


def watched(site: Site, *, interval_s: float) -> dict[str, dict[tuple[str, ...], float]]:
    """What a reconciler with that interval tells, by metric and labels, of an app that refuses the sandbox."""
    settings = ReconcilerSettings(
        database_url=SecretStr(site.environment["PURSER_DATABASE_URL"]), reconcile_interval_s=interval_s
    )
    app = site.app.model_copy(update={"apple": site.app.apple.model_copy(update={"sandbox": "refuse"})})
    families = reconciliations_watched(settings, engine=site.engine, apps=Apps.of((app,)))
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples} for family in families
    }


def test_the_metrics_are_of_what_is_asked_about_whatever_was_once(site: Site) -> None:
    look_through(site, NOTIFICATIONS, *TAKEN_OUT)
    assert watched(site, interval_s=900) == {
        "purser_reconciliation_missed": {
            ("game", "production", "notifications"): 0,
            ("game", "production", "subscriptions"): 0,
        },
        "purser_reconciliation_looked_timestamp_seconds": {("game", "production", "notifications"): NOW.timestamp()},
    }


def test_where_only_the_command_asks_nobody_is_late_to_look(site: Site) -> None:
    look_through(site, NOTIFICATIONS)
    told = watched(site, interval_s=0)
    assert told["purser_reconciliation_looked_timestamp_seconds"] == {}
    assert len(told["purser_reconciliation_missed"]) == 2


def test_the_command_ends_with_1_when_the_store_does_not_answer_and_says_so(terminal: Terminal) -> None:
    terminal.site.simulator.faults.put(Faults(api=ApiFaults(status=401)))
    assert "401" in terminal.run("--since", "2026-11-01T00:00:00Z", "--environment", "sandbox", code=1)


def test_the_command_ends_with_1_when_no_app_has_a_key(terminal: Terminal) -> None:
    apps_file = Path(terminal.site.environment["PURSER_APPS_FILE"])
    apps_file.write_text(APPS.partition("issuer_id")[0])
    assert "no API key for game" in terminal.run(code=1)


@pytest.mark.parametrize(
    ("arguments", "complaint", "code"),
    [(("--app", "chess"), "there is no app 'chess'", 1), (("--since", "soon"), "neither like 7d", 2)],
)
def test_the_command_says_what_is_wrong_with_the_question(
    terminal: Terminal, arguments: tuple[str, ...], complaint: str, code: int
) -> None:
    assert complaint in terminal.run(*arguments, code=code)


def test_the_process_finds_what_is_lost_by_itself_shows_life_and_stops_in_time(site: Site, tmp_path: Path) -> None:
    Path(site.environment["PURSER_APPS_FILE"]).write_text(APPS + 'sandbox = "refuse"\n')
    lost = site.lose(2)
    heartbeat = tmp_path / "heartbeat"
    env = child_environment() | site.environment
    env |= {"PURSER_HEARTBEAT_FILE": str(heartbeat), "PURSER_RECONCILE_INTERVAL_S": "1"}
    process = subprocess.Popen([sys.executable, "-m", "deploy.call", "verifier.app:run_reconciler"], env=env)
    with killed_in_the_end(process):
        wait_until(lambda: set(site.heard_of()) == lost, within_s=60, what="what was lost")
        wait_until(heartbeat.exists, what="a heartbeat")
        more = site.lose(1)
        wait_until(lambda: set(site.heard_of()) == lost | more, within_s=60, what="what was lost since")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_the_doctor_says_how_much_was_missed_and_what_is_wrong(site: Site) -> None:
    def look() -> tuple[str, str]:
        url = site.environment["PURSER_DATABASE_URL"]
        (finding,) = check_reconciliation(site.apps, database_url=url, clock=CLOCK)
        return finding.outcome, finding.found

    assert look()[0] == "warning"
    with site.reconciler() as reconciler:
        for road in ("notifications", "subscriptions"):
            errand = Errand(since=CLOCK.now() - timedelta(hours=1))
            reconciler.run(road, app=site.app, environments=["production", "sandbox"], errand=errand)
    assert look() == ("ok", "0 missed, last checked just now")
