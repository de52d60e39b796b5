"""What the journal's adapter reads back."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing

import pytest

from gateway.domain.purchases import receipt_proof, transaction_proof
from gateway.handlers import receive_notification, submit_purchase
from gateway.store.journal import PostgresJournal
from shared.apps import load_apps
from shared.bus.wake import Sleeper, Waker
from shared.database import connect_engine
from shared.events import NotificationReceived, ReceiptSubmitted, TransactionSubmitted
from shared.ids import AppId, UserId, notification_subject, system_ids
from shared.jws import JwsVerifier, TrustAnchors
from tests.support.gateway import EXAMPLES, Gateway

GAME, ALICE = AppId("game"), UserId("alice")
TRACE = "0" * 31 + "1"


@pytest.fixture
def journal(module_database: str) -> Iterator[PostgresJournal]:
    engine = connect_engine(
        module_database, role="purser_gateway", pool_size=2, application_name="gateway", autocommit=True
    )
    waker = Waker(engine)
    yield PostgresJournal(engine=engine, waker=waker, ids=system_ids())
    waker.close()
    engine.dispose()


def test_proofs_stay_in_the_database(gateway: Gateway, journal: PostgresJournal) -> None:
    receipt = receipt_proof(
        store="apple", transaction_id="1", receipt=base64.b64encode(b"receipt").decode(), vouched=False
    )
    signed = transaction_proof(store="apple", signed_transaction=gateway.signed_transaction("2"), transaction_id=None)
    words = []
    for proof in (receipt, signed):
        submitted = submit_purchase(
            proof, app=GAME, user_id=ALICE, journal=journal, trace_id=TRACE, now=gateway.clock.now()
        )
        standing = journal.standing(app=GAME, purchase_id=submitted.id)
        assert standing is not None
        words.append(standing.word.payload)
    assert words == [
        ReceiptSubmitted(store="apple", transaction_id=receipt.transaction_id, receipt=""),
        TransactionSubmitted(store="apple", transaction_id=signed.transaction_id, signed_transaction=""),
    ]


def test_another_app_has_other_purchases(gateway: Gateway, journal: PostgresJournal) -> None:
    signed = transaction_proof(store="apple", signed_transaction=gateway.signed_transaction("3"), transaction_id=None)
    submitted = submit_purchase(
        signed, app=GAME, user_id=ALICE, journal=journal, trace_id=TRACE, now=gateway.clock.now()
    )
    other = AppId("other")
    assert journal.standing(app=other, purchase_id=submitted.id) is None
    assert list(journal.timeline(app=other, purchase_id=submitted.id)) == []
    assert list(journal.standings_of_user(app=other, user_id=ALICE, limit=10, before=None)) == []


def test_a_notification_is_recorded_as_it_was_signed(gateway: Gateway, journal: PostgresJournal) -> None:
    token = gateway.signed_notification(notificationUUID="n-1")
    receive_notification(
        token,
        apps=load_apps(EXAMPLES / "apps.toml"),
        signatures=JwsVerifier(anchors=TrustAnchors(certificates=(gateway.chain.root.der,))),
        journal=journal,
        trace_id=TRACE,
        now=gateway.clock.now(),
    )
    ((event_type, payload),) = gateway.events(notification_subject(app=GAME, store="apple", notification_id="n-1"))
    assert event_type == NotificationReceived.TYPE
    assert payload["signed_payload"] == token


def test_whoever_sleeps_on_the_journal_is_woken_by_what_is_recorded_and_by_that_alone(
    gateway: Gateway, journal: PostgresJournal
) -> None:
    engine = connect_engine(
        gateway.bus.engine.url.render_as_string(False), role=None, pool_size=1, application_name="t"
    )
    with closing(Sleeper(engine)) as sleeper:
        sleeper.wait(0)  # from here on it listens
        signed = transaction_proof(
            store="apple", signed_transaction=gateway.signed_transaction("4"), transaction_id=None
        )
        woken: list[bool] = []
        for _ in range(2):
            submit_purchase(signed, app=GAME, user_id=ALICE, journal=journal, trace_id=TRACE, now=gateway.clock.now())
            woken.append(sleeper.wait(10 if not woken else 0.2))
    engine.dispose()
    assert woken == [True, False]
