"""How the events of a purchase are shown."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from uuid import UUID

from gateway.domain.purchases import Delivery
from gateway.domain.timelines import PROOFS, entries, missing_causes
from shared.events import (
    PAYLOADS,
    AccountTokenIssued,
    Event,
    NotificationReceived,
    Payload,
    PurchaseRejected,
    ReceiptSubmitted,
    TransactionSubmitted,
    UnreadEvent,
)
from shared.ids import AppId, EventId, PurchaseId, TransactionId

NOW = datetime(2026, 11, 22, tzinfo=UTC)
FIRST, SECOND, ELSEWHERE = (EventId(UUID(int=number)) for number in (1, 2, 99))
REJECTED = PurchaseRejected(
    purchase_id=PurchaseId("pur_1"),
    store="apple",
    transaction_id=TransactionId("1"),
    code="wrong_app",
    detail="another app's",
)


def event(event_id: EventId, payload: Payload, *, cause: EventId | None = None) -> Event[Payload]:
    return Event(
        id=event_id,
        app=AppId("game"),
        subject="pur_1",
        user_id=None,
        payload=payload,
        trace_id="0" * 32,
        causation_id=cause,
        occurred_at=NOW,
        recorded_at=NOW,
    )


RECEIPT = event(FIRST, ReceiptSubmitted(store="apple", transaction_id=TransactionId("1"), receipt="c2VjcmV0"))


def test_events_are_shown_oldest_first_with_what_led_to_what() -> None:
    first, second = entries([event(SECOND, REJECTED, cause=FIRST), RECEIPT], [])
    assert (first.id, first.caused_by, list(first.led_to)) == (FIRST, None, [SECOND])
    assert (second.id, second.caused_by, list(second.led_to)) == (SECOND, FIRST, [])
    assert second.data["code"] == "wrong_app"


def test_each_event_has_the_deliveries_that_are_open() -> None:
    open_delivery = Delivery(
        consumer="notifier", event_id=SECOND, state="waiting", due_at=NOW, handovers=1, attempts=2, error="503"
    )
    first, second = entries([RECEIPT, event(SECOND, REJECTED)], [open_delivery])
    assert (list(first.deliveries), list(second.deliveries)) == ([], [open_delivery])


def test_an_event_that_cannot_be_read_has_its_place_and_says_nothing() -> None:
    unread = UnreadEvent(
        id=SECOND,
        type="purchase.blessed",
        version=3,
        app=AppId("game"),
        subject="pur_1",
        user_id=None,
        trace_id="0" * 32,
        causation_id=FIRST,
        occurred_at=NOW,
        recorded_at=NOW,
    )
    assert missing_causes([unread]) == [FIRST]
    first, second = entries([unread, RECEIPT], [])
    assert list(first.led_to) == [SECOND]
    assert (second.type, second.data, second.recorded_at) == ("purchase.blessed", {}, NOW)


def test_no_proof_is_shown() -> None:
    payloads = [
        RECEIPT.payload,
        TransactionSubmitted(store="apple", transaction_id=TransactionId("1"), signed_transaction="secret"),
        AccountTokenIssued(token=UUID(int=7)),
        NotificationReceived(
            store="apple", notification_id="1", notification_type="TEST", subtype=None, signed_payload="secret"
        ),
    ]
    for payload in payloads:
        (shown,) = entries([event(FIRST, payload)], [])
        hidden = {field.name for field in fields(payload)} - set(shown.data)
        assert len(hidden) == 1
        assert hidden <= PROOFS


def test_every_field_that_could_hold_a_proof_is_known_as_one() -> None:
    suspicious = {
        field.name
        for payload in PAYLOADS.values()
        for field in fields(payload)
        if any(word in field.name for word in ("receipt", "signed_", "token", "secret"))
    }
    assert suspicious - {"signed_at"} == PROOFS


def test_the_causes_that_are_elsewhere_are_named_once() -> None:
    events = [event(FIRST, REJECTED, cause=ELSEWHERE), event(SECOND, REJECTED, cause=ELSEWHERE)]
    assert missing_causes(events) == [ELSEWHERE]
    assert missing_causes([RECEIPT, event(SECOND, REJECTED, cause=FIRST)]) == []
