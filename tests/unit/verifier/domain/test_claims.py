"""Whether a statement is about this app, and whether a user may have what it is about."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.apps import AppleApp
from shared.catalog import Product
from shared.events import StoreTransaction
from shared.ids import AppId, EntitlementId, TransactionId, UserId
from verifier.domain import (
    AppleNotification,
    AppleTransaction,
    KnownTransaction,
    ReceiptValid,
    Rejected,
    Verified,
    check_app,
    decide_claim,
    shows_owner,
)

ALICE, BOB = UserId("alice"), UserId("bob")
UNCLAIMED = KnownTransaction(owner=None, refunded=False)
THEN = datetime(2026, 1, 1, tzinfo=UTC)
TRANSACTION = StoreTransaction(
    store="apple",
    environment="production",
    transaction_id=TransactionId("2000000277760217"),
    original_transaction_id=TransactionId("2000000277760217"),
    product_id="com.example.game.gems100",
    product_type="consumable",
    quantity=1,
    purchased_at=THEN,
    signed_at=THEN,
)
STATEMENT = AppleTransaction(
    transaction=TRANSACTION,
    bundle_id="com.example.game",
    app_account_token=None,
    in_app_ownership_type="PURCHASED",
    revocation=None,
)
NOTIFICATION = AppleNotification(
    notification_id="1",
    notification_type="TEST",
    subtype=None,
    signed_at=THEN,
    environment="production",
    bundle_id="com.example.game",
    app_apple_id=1234567890,
    signed_transaction=None,
    signed_renewal_info=None,
    subscription_status=None,
)
RECEIPT = ReceiptValid((), "production", "com.example.game", 1234567890)
APP = AppleApp(bundle_id="com.example.game", app_apple_id=1234567890)


def sandboxed(statement: Any) -> Any:
    if isinstance(statement, AppleTransaction):
        return replace(statement, transaction=replace(statement.transaction, environment="sandbox"))
    return replace(statement, environment="sandbox", app_apple_id=None)


EACH = pytest.mark.parametrize(
    "statement", [STATEMENT, NOTIFICATION, RECEIPT], ids=["transaction", "notification", "receipt"]
)


@EACH
def test_a_statement_about_this_app_passes(statement: Any) -> None:
    assert check_app(statement, app=APP) is None


@EACH
def test_a_statement_about_another_bundle_is_of_the_wrong_app_whatever_its_environment(statement: Any) -> None:
    for stated in (statement, sandboxed(statement)):
        assert code(check_app(replace(stated, bundle_id="com.example.other"), app=APP)) == "wrong_app"


@pytest.mark.parametrize("statement", [NOTIFICATION, RECEIPT], ids=["notification", "receipt"])
@pytest.mark.parametrize("stated", [None, 0, 5])
def test_in_production_the_app_id_has_to_be_ours(statement: Any, stated: int | None) -> None:
    assert code(check_app(replace(statement, app_apple_id=stated), app=APP)) == "wrong_app"


@pytest.mark.parametrize("statement", [NOTIFICATION, RECEIPT], ids=["notification", "receipt"])
def test_an_app_id_that_is_not_configured_matches_nothing_in_production(statement: Any) -> None:
    nameless = AppleApp(bundle_id="com.example.game")
    for stated in (None, 1234567890):
        assert code(check_app(replace(statement, app_apple_id=stated), app=nameless)) == "wrong_app"


@EACH
def test_the_sandbox_is_taken_or_refused_as_the_app_says(statement: Any) -> None:
    assert check_app(sandboxed(statement), app=APP) is None
    refusing = AppleApp(bundle_id="com.example.game", app_apple_id=1234567890, sandbox="refuse")
    assert code(check_app(sandboxed(statement), app=refusing)) == "wrong_environment"
    assert check_app(statement, app=refusing) is None


def test_a_notification_of_no_known_environment_is_refused() -> None:
    assert code(check_app(replace(NOTIFICATION, environment=None), app=APP)) == "wrong_environment"


def decide(**changes: Any) -> Verified | Rejected:
    asked: dict[str, Any] = {
        "transaction": TRANSACTION,
        "product": None,
        "claimed_id": TRANSACTION.transaction_id,
        "claimant": BOB,
        "known": UNCLAIMED,
        "token_holder": None,
        **changes,
    }
    return decide_claim(**asked)


def code(outcome: Verified | Rejected | None) -> str | None:
    return outcome.code if isinstance(outcome, Rejected) else None


def test_the_first_to_claim_a_transaction_has_it() -> None:
    assert decide() == Verified(TRANSACTION)


def test_the_owner_may_claim_again() -> None:
    assert decide(known=KnownTransaction(owner=BOB, refunded=False)) == Verified(TRANSACTION)


def test_nobody_else_may_and_the_owner_is_not_named() -> None:
    rejected = decide(known=KnownTransaction(owner=ALICE, refunded=False), token_holder=ALICE)
    assert isinstance(rejected, Rejected)
    assert rejected.code == "claimed_by_another_user"
    assert ALICE not in rejected.detail


def test_that_somebody_else_owns_it_comes_before_what_became_of_it() -> None:
    """Else a stranger could learn of other users' refunds."""
    assert code(decide(known=KnownTransaction(owner=ALICE, refunded=True))) == "claimed_by_another_user"


def test_a_purchase_made_for_another_account_is_not_his_and_that_account_is_not_named() -> None:
    rejected = decide(token_holder=ALICE)
    assert isinstance(rejected, Rejected)
    assert rejected.code == "account_token_mismatch"
    assert ALICE not in rejected.detail


def test_a_purchase_made_for_his_account_is_his_and_so_is_one_with_a_token_of_nobody() -> None:
    assert decide(token_holder=BOB) == Verified(TRANSACTION)
    assert decide(token_holder=None) == Verified(TRANSACTION)


def test_who_owns_a_subscription_has_all_its_periods_whatever_token_one_was_bought_with() -> None:
    """Somebody else used the app on the same device: the store charges the same account for the same subscription."""
    known = KnownTransaction(owner=BOB, refunded=False)
    assert decide(known=known, token_holder=ALICE) == Verified(TRANSACTION)


def test_another_transaction_than_the_one_claimed_is_not_taken_for_it() -> None:
    assert code(decide(claimed_id=TransactionId("1"))) == "transaction_not_found"


def product(**changes: Any) -> Product:
    fields = {"id": TRANSACTION.product_id, "app": AppId("game"), "type": "non_consumable", "name": "No ads"}
    return Product(**fields | changes)


def shared(product_type: Any) -> StoreTransaction:
    return replace(TRANSACTION, product_type=product_type, family_shared=True)


USEFUL = product(entitlements=(EntitlementId("adfree"),))


@pytest.mark.parametrize("product_type", ["auto_renewable", "non_consumable"])
def test_what_a_family_member_shares_may_be_used(product_type: str) -> None:
    assert decide(transaction=shared(product_type), product=USEFUL) == Verified(shared(product_type))


@pytest.mark.parametrize(
    ("product_type", "given"),
    [
        ("auto_renewable", product(grants={"gems": 300})),
        ("non_consumable", None),
        ("consumable", USEFUL),
        ("non_renewing", USEFUL),
        (None, USEFUL),
    ],
)
def test_what_a_family_member_shares_is_nothing_else(product_type: str | None, given: Product | None) -> None:
    assert code(decide(transaction=shared(product_type), product=given)) == "not_granted_family_shared"


@pytest.mark.parametrize("owner", [None, BOB])
def test_a_refunded_purchase_grants_nothing(owner: UserId | None) -> None:
    assert code(decide(known=KnownTransaction(owner=owner, refunded=True))) == "already_refunded"


def test_whoever_is_rejected_only_because_it_was_refunded_is_whose_it_is() -> None:
    assert shows_owner(decide())
    assert shows_owner(decide(known=KnownTransaction(owner=None, refunded=True)))
    for stranger in ({"token_holder": ALICE}, {"proven": False}, {"claimed_id": TransactionId("1")}):
        assert not shows_owner(decide(known=KnownTransaction(owner=None, refunded=True), **stranger))


@pytest.mark.parametrize(("quantity", "expected"), [(-1, False), (0, False), (1, True), (10, True), (11, False)])
def test_a_quantity_is_from_one_to_ten(quantity: int, expected: bool) -> None:
    outcome = decide(transaction=replace(TRANSACTION, quantity=quantity))
    assert isinstance(outcome, Verified) is expected
    assert code(outcome) == (None if expected else "receipt_malformed")


class TestUnproven:
    """The claimant knows the transaction's id, and no more: somebody else has to say that it is his."""

    def test_it_is_his_when_the_account_token_says_so(self) -> None:
        assert decide(proven=False, token_holder=BOB) == Verified(TRANSACTION)

    def test_it_is_his_when_it_was_before(self) -> None:
        assert decide(proven=False, known=KnownTransaction(owner=BOB, refunded=False)) == Verified(TRANSACTION)

    @pytest.mark.parametrize("token_holder", [None, ALICE])
    def test_it_is_not_his_otherwise(self, token_holder: UserId | None) -> None:
        assert code(decide(proven=False, token_holder=token_holder)) == "account_token_mismatch"

    @pytest.mark.parametrize(
        ("changes", "known"),
        [
            ({}, KnownTransaction(owner=ALICE, refunded=False)),
            ({}, KnownTransaction(owner=None, refunded=True)),
            ({"family_shared": True}, UNCLAIMED),
        ],
    )
    def test_whoever_guessed_an_id_learns_nothing_of_what_became_of_it(
        self, changes: dict[str, Any], known: KnownTransaction
    ) -> None:
        guessed = decide(proven=False, transaction=replace(TRANSACTION, **changes), known=known)
        assert guessed == decide(proven=False)
