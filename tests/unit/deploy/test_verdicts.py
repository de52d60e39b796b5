"""Why a purchase has given nothing yet, or what it gave: one sentence that names who has to do what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from deploy.verdicts import TAKEN_UP_WITHIN, verdict
from gateway.domain.purchases import Delivery, Standing
from shared.events import (
    Event,
    Payload,
    PurchaseCompleted,
    PurchaseParked,
    PurchaseRefunded,
    PurchaseRejected,
    PurchaseVerified,
    ReceiptSubmitted,
    StoreTransaction,
)
from shared.ids import AppId, EventId, PurchaseId, TransactionId, UserId
from shared.money import Amount, CurrencyId

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG_AGO = NOW - TAKEN_UP_WITHIN - timedelta(seconds=1)
LATER = NOW + timedelta(minutes=5)
PURCHASE = PurchaseId("pur_1")
WORD = EventId(UUID("019a0000-0000-7000-8000-000000000001"))
GEMS = [Amount(CurrencyId("gems"), 100)]
BOUGHT = StoreTransaction(
    store="apple",
    environment="production",
    transaction_id=TransactionId("1"),
    original_transaction_id=TransactionId("1"),
    product_id="gems100",
    product_type="consumable",
    quantity=1,
    purchased_at=NOW,
    signed_at=NOW,
)
RECEIPT = ReceiptSubmitted(store="apple", transaction_id=TransactionId("1"), receipt="AAAA")
COMPLETED = PurchaseCompleted(purchase_id=PURCHASE, transaction=BOUGHT, granted=GEMS)


def standing(word: Payload, *deliveries: Delivery, recorded_at: datetime = NOW) -> Standing:
    event: Event[Any] = Event(
        id=WORD,
        app=AppId("game"),
        subject=PURCHASE,
        user_id=UserId("alice"),
        payload=word,
        trace_id="0" * 32,
        causation_id=None,
        occurred_at=recorded_at,
        recorded_at=recorded_at,
    )
    return Standing(PURCHASE, UserId("alice"), WORD, event, deliveries)


def delivery(consumer: str = "verifier-store", **changes: Any) -> Delivery:
    known: dict[str, Any] = {"state": "waiting", "due_at": NOW, "handovers": 0, "attempts": 0, "error": None}
    return Delivery(consumer=consumer, event_id=WORD, **known | changes)


def says(word: Payload, *deliveries: Delivery, recorded_at: datetime = NOW, untold: Sequence[str] = ()) -> str:
    return verdict(standing(word, *deliveries, recorded_at=recorded_at), untold=untold, now=NOW)


def test_a_purchase_that_was_just_taken_in_is_nobodys_fault() -> None:
    assert says(RECEIPT, delivery()) == "receipt.submitted waits for verifier-store"


def test_what_was_handed_to_nobody_names_the_courier_and_the_broker() -> None:
    said = says(RECEIPT, delivery(), recorded_at=LONG_AGO)
    assert "handed to nobody: does the courier run, and does the broker answer?" in said


def test_what_was_handed_over_in_vain_names_its_consumer() -> None:
    said = says(RECEIPT, delivery(state="handed", handovers=3), recorded_at=LONG_AGO)
    assert said.endswith("handed over 3 times without an answer: does verifier-store run?")


@pytest.mark.parametrize(("attempts", "times"), [(1, "once"), (4, "4 times")])
def test_what_failed_says_how_often_and_why_and_when_it_comes_again(attempts: int, times: str) -> None:
    waiting = delivery(attempts=attempts, due_at=LATER, error="verifyReceipt 21005")
    said = says(RECEIPT, waiting, recorded_at=LONG_AGO)
    assert f"has failed {times}, the next at 2026-11-22T12:05:00.000Z: verifyReceipt 21005" in said


def test_what_is_parked_says_who_parked_it_and_the_command_that_frees_it() -> None:
    said = says(
        PurchaseVerified(purchase_id=PURCHASE, transaction=BOUGHT),
        delivery("ledger", state="parked", error="no such product"),
    )
    assert said == f"parked, ledger says: no such product: mend that, then `purser parked retry {WORD}`"


def test_what_the_ledger_has_parked_gives_its_reason() -> None:
    said = says(PurchaseParked(purchase_id=PURCHASE, transaction=BOUGHT, reason="not in the catalogue"))
    assert said.startswith("parked: not in the catalogue: mend that")


def test_a_rejection_gives_its_code_and_its_detail() -> None:
    rejected = PurchaseRejected(
        purchase_id=PURCHASE,
        store="apple",
        transaction_id=TransactionId("1"),
        code="claimed_by_another_user",
        detail="another user has it",
    )
    assert says(rejected) == "rejected, claimed_by_another_user: another user has it"


def test_what_is_completed_says_what_was_granted() -> None:
    assert says(COMPLETED) == "completed: 100 gems granted"


def test_a_purchase_that_gives_no_currency_says_so() -> None:
    assert (
        says(PurchaseCompleted(purchase_id=PURCHASE, transaction=BOUGHT, granted=[]))
        == "completed: no currency granted"
    )


def test_what_was_refunded_in_part_says_what_is_left_to_see() -> None:
    refunded = PurchaseRefunded(
        purchase_id=PURCHASE,
        transaction=BOUGHT,
        granted=GEMS,
        refunded=[Amount(CurrencyId("gems"), 40)],
        percentage_milli=40_000,
    )
    assert says(refunded) == "partially refunded: 100 gems granted, 40 gems taken back"


def test_what_webhooks_have_not_taken_is_said_beside_it() -> None:
    said = says(COMPLETED, untold=["wallet.credited by webhook backend (waiting)"])
    assert said == "completed: 100 gems granted; not taken yet: wallet.credited by webhook backend (waiting)"
