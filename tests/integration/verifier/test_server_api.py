"""The Server API's client against the simulated App Store, over HTTP: each understands the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.apps import App, Apps, parse_apps
from shared.clock import SystemClock
from shared.ids import TransactionId
from shared.jws import JwsVerifier, TrustAnchors
from simulator.app import Simulator, build, serve
from simulator.faults import ApiFaults, Faults
from simulator.telling import Statement
from tests.support.notification_receiver import Receiver, receiver
from tests.support.served import served
from tests.support.server_api_key import new_signing_key
from tests.support.shop import GEMS, MONTHLY, claims, example_catalog
from tests.support.stack import wait_until
from verifier.apple.keys import checked_signing_keys
from verifier.apple.lookups import TransactionLookups
from verifier.apple.pace import Pace
from verifier.apple.patience import PatientTransactionStore
from verifier.apple.refusals import ServerApiMisconfigured, ServerApiNotFound
from verifier.apple.server_api import ServerApi
from verifier.apple.transport import Transport, store_session
from verifier.domain import StoreBusy, StoreMisconfigured, TransactionFound, TransactionUnknown

CLOCK = SystemClock()
UNKNOWN = TransactionId("1000000000000001")
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


@dataclass(frozen=True)
class Store:
    """The simulator, where its notifications go, and our clients."""

    simulator: Simulator
    hook: Receiver
    apps: Apps
    url: str
    transport: Transport

    @property
    def app(self) -> App:
        (app,) = self.apps
        return app

    def api(self, apps: Apps | None = None, *, share: float = 1) -> ServerApi:
        return ServerApi(
            keys=checked_signing_keys(apps or self.apps),
            transport=self.transport,
            production_url=self.url,
            sandbox_url=f"{self.url}/sandbox",
            pace=Pace(share=share, clock=CLOCK),
            clock=CLOCK,
        )

    def lookups(self, apps: Apps | None = None) -> PatientTransactionStore:
        return PatientTransactionStore(TransactionLookups(self.api(apps)))

    def buy(self, **wanted: Any) -> Statement:
        sold: dict[str, Any] = {"product_id": GEMS, "notify": False} | wanted
        return self.simulator.store.buy(**sold)

    def wrong(self, **faults: Any) -> None:
        self.simulator.faults.put(Faults(api=ApiFaults(**faults)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "game.p8").write_bytes(new_signing_key().pem)
    apps = parse_apps(APPS, directory=tmp_path)
    with receiver() as hook:
        simulator = build(data_dir=tmp_path, apps=apps, catalog=example_catalog(), webhook_url=hook.url)
        with served(serve(simulator)) as url, store_session(connections=4) as session:
            transport = Transport(session=session, connect_timeout_s=5, read_timeout_s=5)
            yield Store(simulator, hook, apps, url, transport)
        simulator.close()


@pytest.mark.parametrize("environment", ["production", "sandbox"])
def test_a_transaction_is_found_where_it_is_and_verifies(store: Store, environment: Any) -> None:
    bought = store.buy(environment=environment).transaction.transaction_id
    found = store.lookups().find(TransactionId(bought), app=store.app)
    assert isinstance(found, TransactionFound)
    assert found.environment == environment
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[store.simulator.authority.root_pem]))
    assert verifier.verify(found.signed_transaction, now=CLOCK.now()).claims["transactionId"] == bought


def test_what_nobody_bought_is_unknown(store: Store) -> None:
    assert store.lookups().find(UNKNOWN, app=store.app) == TransactionUnknown()


def test_a_key_that_the_store_does_not_know_is_our_trouble(store: Store, tmp_path: Path) -> None:
    (tmp_path / "game.p8").write_bytes(new_signing_key().pem)
    changed = parse_apps(APPS, directory=tmp_path)
    bought = store.buy().transaction.transaction_id
    answer = store.lookups(changed).find(TransactionId(bought), app=store.app)
    assert isinstance(answer, StoreMisconfigured)
    assert answer.status == 401


@pytest.mark.parametrize("word", [4040002, 4040004, 4040006, 5000000, 5000001, "http_503", "cut", "not_json", "huge"])
def test_a_short_trouble_of_the_store_is_waited_out(store: Store, word: int | str) -> None:
    bought = store.buy().transaction.transaction_id
    store.wrong(statuses=(word, word))
    assert isinstance(store.lookups().find(TransactionId(bought), app=store.app), TransactionFound)


def test_a_long_one_is_told(store: Store) -> None:
    store.wrong(error_code=5000001)
    answer = store.lookups().find(UNKNOWN, app=store.app)
    assert isinstance(answer, StoreBusy)
    assert answer.status == 5000001


def test_when_to_come_back_is_told_in_seconds_and_kept_to(store: Store) -> None:
    store.wrong(error_code=4290000, retry_after_ms=60_000)
    lookups = store.lookups()
    answer = lookups.find(UNKNOWN, app=store.app)
    assert isinstance(answer, StoreBusy)
    assert answer.retry_after_s == pytest.approx(60, abs=2)
    store.wrong()
    again = lookups.find(UNKNOWN, app=store.app)
    assert isinstance(again, StoreBusy)
    assert "as often as Apple allows" in again.reason


def test_a_store_that_enforces_its_limits_has_nothing_to_enforce(store: Store) -> None:
    store.wrong(limit_rates=True)
    api = store.api()
    for _ in range(3):
        assert api.request_test_notification(app=store.app, environment="production")


def test_the_history_of_a_customer_is_read_page_by_page(store: Store) -> None:
    store.buy(customer="bob")
    bought = [store.buy(customer="alice").transaction.transaction_id for _ in range(45)]
    history = store.api().history(bought[7], app=store.app, environment="production")
    assert sorted(claims(signed)["transactionId"] for signed in history) == sorted(bought)


def test_refunds_are_read(store: Store) -> None:
    bought = store.buy().transaction.transaction_id
    api = store.api()
    assert list(api.refunds(bought, app=store.app, environment="production")) == []
    store.simulator.store.refund(bought, notify=False)
    (refunded,) = api.refunds(bought, app=store.app, environment="production")
    assert claims(refunded)["revocationDate"]


def test_statuses_of_subscriptions_are_read(store: Store) -> None:
    bought = store.buy(product_id=MONTHLY).transaction.transaction_id
    answer = store.api().statuses(bought, app=store.app, environment="production")
    assert answer.data is not None
    ((item,),) = [group.lastTransactions or [] for group in answer.data]
    assert (item.rawStatus, claims(item.signedTransactionInfo or "")["productId"]) == (1, MONTHLY)


def test_a_test_notification_is_sent_followed_and_remembered(store: Store) -> None:
    api = store.api()
    token = api.request_test_notification(app=store.app, environment="production")

    def outcome() -> list[str | None]:
        try:
            status = api.test_notification(token, app=store.app, environment="production")
        except ServerApiNotFound:  # not sent yet
            return []
        return [attempt.rawSendAttemptResult for attempt in status.sendAttempts or ()]

    wait_until(lambda: outcome() == ["SUCCESS"], what="the arrival of the test notification")
    now = CLOCK.now()
    remembered = list(
        api.notifications(app=store.app, environment="production", since=now - timedelta(hours=1), until=now)
    )
    assert [claims(item.signedPayload or "")["notificationType"] for item in remembered] == ["TEST"]
    missed = api.notifications(
        app=store.app, environment="production", since=now - timedelta(hours=1), until=now, only_failures=True
    )
    assert list(missed) == []


def test_an_app_that_the_store_has_no_release_of_is_our_trouble(store: Store) -> None:
    store.wrong(status=401)
    with pytest.raises(ServerApiMisconfigured, match="no release"):
        store.api().transaction("1", app=store.app, environment="production")
