"""Which proofs are taken in, and what a purchase's newest word makes of it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.domain.purchases import (
    OPEN,
    OPEN_WORDS,
    Delivery,
    Proof,
    ProofInvalid,
    Purchase,
    PurchaseMalformed,
    Standing,
    parse_purchase_id,
    proof_text,
    purchase_of,
    receipt_proof,
    transaction_id_proof,
    transaction_proof,
)
from shared.apps import AppleApp
from shared.events import (
    WORD_RANK,
    AccountTokenIssued,
    Event,
    Payload,
    PurchaseCompleted,
    PurchaseParked,
    PurchaseRefunded,
    PurchaseRefundReversed,
    PurchaseRejected,
    PurchaseVerified,
    ReceiptSubmitted,
    StoreTransaction,
    TransactionIdSubmitted,
    TransactionSubmitted,
)
from shared.ids import AppId, EventId, Ids, PurchaseId, TransactionId, UserId, purchase_id
from shared.money import Amount, CurrencyId
from tests.support.apple_pki import segment
from tests.support.seeded import seeded_ids

NOW = datetime(2026, 11, 22, 12, 0, 0, 123_000, tzinfo=UTC)
PURCHASE = purchase_id(app="game", store="apple", transaction_id="1", user_id="alice")
GEMS = CurrencyId("gems")
TRANSACTION = StoreTransaction(
    store="apple",
    environment="sandbox",
    transaction_id=TransactionId("1"),
    original_transaction_id=TransactionId("0"),
    product_id="gems100",
    product_type="consumable",
    quantity=2,
    purchased_at=NOW,
    signed_at=NOW,
)
RECEIPT = ReceiptSubmitted(store="apple", transaction_id=TransactionId("1"), receipt="AAAA")
SIGNED = TransactionSubmitted(store="apple", transaction_id=TransactionId("1"), signed_transaction="a.b.c")
NAMED = TransactionIdSubmitted(store="apple", transaction_id=TransactionId("1"))
VERIFIED = PurchaseVerified(purchase_id=PURCHASE, transaction=TRANSACTION)
REJECTED = PurchaseRejected(
    purchase_id=PURCHASE,
    store="apple",
    transaction_id=TransactionId("1"),
    code="claimed_by_another_user",
    detail="it is taken",
)
PARKED = PurchaseParked(purchase_id=PURCHASE, transaction=TRANSACTION, reason="not in the catalogue")
WITH_KEY = AppleApp(bundle_id="com.example.game", issuer_id="issuer", key_id="key", private_key_file=Path("AuthKey.p8"))
COMPLETED = PurchaseCompleted(purchase_id=PURCHASE, transaction=TRANSACTION, granted=[Amount(GEMS, 200)])


def refunded(back: int, percentage_milli: int) -> PurchaseRefunded:
    return PurchaseRefunded(
        purchase_id=PURCHASE,
        transaction=TRANSACTION,
        granted=[Amount(GEMS, 200)],
        refunded=[Amount(GEMS, back)],
        percentage_milli=percentage_milli,
    )


def reversed_to(back: int, percentage_milli: int) -> PurchaseRefundReversed:
    """A refund is reversed, and so much is still refunded."""
    return PurchaseRefundReversed(
        purchase_id=PURCHASE,
        transaction=TRANSACTION,
        granted=[Amount(GEMS, 200)],
        refunded=[Amount(GEMS, back)] if back else [],
        percentage_milli=percentage_milli,
    )


def delivery(**changes: Any) -> Delivery:
    fields: dict[str, Any] = {
        "consumer": "verifier",
        "event_id": EventId(UUID(int=1)),
        "state": "waiting",
        "due_at": NOW,
        "handovers": 0,
        "attempts": 0,
        "error": None,
    }
    return Delivery(**fields | changes)


def standing(word: Payload, *deliveries: Delivery, ids: Ids | None = None) -> Standing:
    ids = ids or seeded_ids(1)
    first = ids.event_id()
    event = Event(
        id=ids.event_id(),
        app=AppId("game"),
        subject=PURCHASE,
        user_id=UserId("alice"),
        payload=word,
        trace_id="0" * 32,
        causation_id=None,
        occurred_at=NOW,
        recorded_at=NOW,
    )
    return Standing(
        purchase_id=PURCHASE, user_id=UserId("alice"), first_event_id=first, word=event, deliveries=deliveries
    )


def shown(word: Payload, *deliveries: Delivery) -> Purchase:
    return purchase_of(standing(word, *deliveries))


@pytest.mark.parametrize(
    ("word", "deliveries", "status"),
    [
        (RECEIPT, [delivery()], "accepted"),
        (SIGNED, [delivery()], "accepted"),
        (NAMED, [delivery(consumer="verifier-store")], "accepted"),
        (NAMED, [delivery(consumer="verifier-store", attempts=1, error="the store is busy")], "verifying"),
        (NAMED, [delivery(consumer="verifier-store", state="parked")], "parked"),
        (SIGNED, [delivery(state="handed", handovers=1)], "verifying"),
        (RECEIPT, [delivery(attempts=3, error="the store is busy")], "verifying"),
        (RECEIPT, [], "verifying"),
        (RECEIPT, [delivery(state="dead", attempts=20)], "parked"),
        (VERIFIED, [delivery(consumer="ledger")], "verifying"),
        (VERIFIED, [], "verifying"),
        (VERIFIED, [delivery(consumer="ledger", state="parked")], "parked"),
        (REJECTED, [], "rejected"),
        (PARKED, [], "parked"),
        (COMPLETED, [], "completed"),
        (COMPLETED, [delivery(consumer="notifier", state="dead")], "completed"),
        (refunded(50, 25_000), [], "partially_refunded"),
        (refunded(200, 100_000), [], "refunded"),
        (PurchaseRefunded(purchase_id=PURCHASE, transaction=TRANSACTION), [], "refunded"),
        (reversed_to(0, 0), [], "completed"),
        (reversed_to(1, 1), [], "partially_refunded"),
        (reversed_to(200, 100_000), [], "refunded"),
        (replace(refunded(200, 100_000), cause="family_sharing_ended"), [], "revoked"),
        (replace(refunded(50, 25_000), cause="family_sharing_ended"), [], "revoked"),
    ],
)
def test_the_newest_word_and_who_has_it_say_the_status(word: Payload, deliveries: list[Delivery], status: str) -> None:
    assert shown(word, *deliveries).status == status


def test_a_purchase_is_final_unless_it_goes_on_by_itself() -> None:
    assert not shown(RECEIPT, delivery()).is_final
    assert not shown(VERIFIED).is_final
    assert shown(VERIFIED, delivery(state="parked")).is_final
    assert shown(REJECTED).is_final


def test_the_words_that_leave_a_purchase_open_are_those_with_an_open_status() -> None:
    words = [RECEIPT, SIGNED, NAMED, VERIFIED, REJECTED, PARKED, COMPLETED, refunded(1, 1), reversed_to(0, 0)]
    assert {word.TYPE for word in words} == set(WORD_RANK)
    assert {word.TYPE for word in words if shown(word, delivery()).status in OPEN} == OPEN_WORDS


def test_a_completed_purchase_tells_what_the_store_confirmed_and_what_was_granted() -> None:
    purchase = shown(COMPLETED)
    assert purchase.environment == "sandbox"
    assert (purchase.transaction_id, purchase.original_transaction_id) == ("1", "0")
    assert (purchase.product_id, purchase.quantity) == ("gems100", 2)
    assert list(purchase.granted) == [Amount(GEMS, 200)]
    assert list(purchase.refunded) == []
    assert purchase.rejection is None


def test_a_refund_keeps_what_was_granted_beside_what_went_back() -> None:
    purchase = shown(refunded(50, 25_000))
    assert (list(purchase.granted), list(purchase.refunded)) == ([Amount(GEMS, 200)], [Amount(GEMS, 50)])


def test_a_reversed_refund_leaves_what_was_granted_and_what_is_still_refunded() -> None:
    purchase = shown(reversed_to(50, 25_000))
    assert (list(purchase.granted), list(purchase.refunded)) == ([Amount(GEMS, 200)], [Amount(GEMS, 50)])
    assert (purchase.environment, purchase.product_id, purchase.transaction_id) == ("sandbox", "gems100", "1")


def test_what_the_store_has_not_confirmed_is_not_told() -> None:
    for proof in (SIGNED, RECEIPT, NAMED):
        purchase = shown(proof, delivery())
        assert purchase.transaction_id == "1"
        assert (purchase.environment, purchase.product_id, purchase.quantity) == (None, None, None)
        assert list(purchase.granted) == []


def test_a_rejection_has_its_code_and_its_detail() -> None:
    rejection = shown(REJECTED).rejection
    assert rejection is not None
    assert (rejection.code, rejection.detail) == ("claimed_by_another_user", "it is taken")


def test_the_moments_are_those_of_the_first_event_and_of_the_word() -> None:
    known = standing(COMPLETED)
    purchase = purchase_of(known)
    assert purchase.created_at.timestamp() * 1000 == known.first_event_id.int >> 80
    assert purchase.updated_at.timestamp() * 1000 == known.word.id.int >> 80


def test_a_word_about_something_else_is_a_fault_of_ours() -> None:
    with pytest.raises(PurchaseMalformed, match=r"account_token\.issued"):
        shown(AccountTokenIssued(token=UUID(int=0)))


# ---- proofs -----------------------------------------------------------------------------------------------------


def jws(payload: dict[str, Any]) -> str:
    return f"{segment({'alg': 'ES256'})}.{segment(payload)}.{segment(b'signature')}"


def test_a_receipt_is_taken_with_the_transaction_that_is_claimed_from_it() -> None:
    receipt = base64.b64encode(b"receipt").decode()
    proof = receipt_proof(store="apple", transaction_id="1000.A-b_c", receipt=receipt, vouched=False)
    assert (proof.transaction_id, proof.receipt, proof.vouched) == ("1000.A-b_c", receipt, False)
    assert proof_text(proof) == receipt


@pytest.mark.parametrize("receipt", ["", "====", "a", "not base64!", "AAAA\n", "AA AA", "_-_-", "ÄÖÜ=", "AAAA\x00"])
def test_a_receipt_that_is_not_base64_is_refused(receipt: str) -> None:
    with pytest.raises(ProofInvalid, match="receipt"):
        receipt_proof(store="apple", transaction_id="1", receipt=receipt, vouched=False)


@pytest.mark.parametrize("transaction_id", ["", "1" * 65, "1 2", "1\n", "1/2", "\x00", "٣"])
def test_a_transaction_id_that_no_store_gives_is_refused(transaction_id: str) -> None:
    with pytest.raises(ProofInvalid, match="transaction_id"):
        receipt_proof(store="apple", transaction_id=transaction_id, receipt="AAAA", vouched=True)
    with pytest.raises(ProofInvalid, match="transaction_id"):
        transaction_id_proof(store="apple", transaction_id=transaction_id, vouched=True, app=WITH_KEY)
    with pytest.raises(ProofInvalid, match="signed_transaction"):
        transaction_proof(store="apple", signed_transaction=jws({"transactionId": transaction_id}), transaction_id=None)


def test_a_signed_transaction_says_itself_which_it_is() -> None:
    token = jws({"transactionId": "42"})
    proof = transaction_proof(store="apple", signed_transaction=token, transaction_id=None)
    assert (proof.transaction_id, proof.signed_transaction) == ("42", token)
    assert transaction_proof(store="apple", signed_transaction=token, transaction_id="42") == proof
    assert proof_text(proof) == token


def test_a_claim_that_differs_from_the_signed_transaction_is_refused() -> None:
    with pytest.raises(ProofInvalid, match="transaction_id"):
        transaction_proof(store="apple", signed_transaction=jws({"transactionId": "42"}), transaction_id="43")


@pytest.mark.parametrize("vouched", [True, False])
def test_a_name_is_taken_when_the_app_has_a_key_to_ask_with(vouched: bool) -> None:
    proof = transaction_id_proof(store="apple", transaction_id="42", vouched=vouched, app=WITH_KEY)
    assert proof == TransactionIdSubmitted(store="apple", transaction_id=TransactionId("42"), vouched=vouched)


def test_a_name_is_refused_by_its_field_when_the_app_has_no_key() -> None:
    with pytest.raises(ProofInvalid, match=r"^transaction_id: .* no key"):
        transaction_id_proof(
            store="apple", transaction_id="42", vouched=True, app=AppleApp(bundle_id="com.example.game")
        )


def test_no_two_different_proofs_have_one_text() -> None:
    one = TransactionId("AAAA")
    proofs: list[Proof] = [
        ReceiptSubmitted(store="apple", transaction_id=one, receipt="AAAA"),
        ReceiptSubmitted(store="apple", transaction_id=one, receipt="AAAA", vouched=True),
        TransactionIdSubmitted(store="apple", transaction_id=one),
        TransactionIdSubmitted(store="apple", transaction_id=one, vouched=True),
        TransactionSubmitted(store="apple", transaction_id=one, signed_transaction="a.b.c"),
    ]
    assert len({proof_text(proof) for proof in proofs}) == len(proofs)


NUL_IN_HEADER = f"\x00{jws({'transactionId': '42'})}"
NUL_IN_SIGNATURE = f"{jws({'transactionId': '42'})}\x00"


@pytest.mark.parametrize(
    "token",
    ["", "a", "a.b", "a.b.c", "a.b.c.d", jws({}), jws({"transactionId": 42}), NUL_IN_HEADER, NUL_IN_SIGNATURE],
)
def test_a_token_without_a_transaction_is_refused_by_the_name_of_its_field(token: str) -> None:
    with pytest.raises(ProofInvalid, match="signed_transaction"):
        transaction_proof(store="apple", signed_transaction=token, transaction_id=None)


def test_only_what_can_be_a_purchase_id_is_looked_up() -> None:
    assert parse_purchase_id(PURCHASE) == PURCHASE
    wrong = ["", "pur_", PURCHASE[:-1], PURCHASE + "a", PURCHASE.upper(), PURCHASE[:-1] + "\x00", "txn_" + PURCHASE[4:]]
    assert [parse_purchase_id(text) for text in wrong] == [None] * len(wrong)
    assert PurchaseId(PURCHASE).startswith("pur_")
