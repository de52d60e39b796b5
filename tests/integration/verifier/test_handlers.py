"""The verifier's use-cases, on real records in Postgres: whatever the road and the order, one owner and one grant."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from shared.apps import Apps
from shared.events import (
    Draft,
    Payload,
    PurchaseRejected,
    PurchaseVerified,
    RefundDeclined,
    RefundReceived,
    RefundReversed,
)
from shared.outcome import Parked, Tried, TryLater
from tests.support.app_store import GEMS_100, AppStore, refunded
from tests.support.apple_pki import Chain
from tests.support.verifying import (
    NOW,
    TOKEN,
    Answers,
    Desk,
    ask_about,
    code,
    found,
    look_up,
    named,
    notified,
    posted,
    receipt,
    said,
    subject_of,
    submitted,
    token_issued,
    valid,
)
from verifier import handlers
from verifier.domain import (
    ReceiptRefused,
    ReceiptValid,
    StoreBusy,
    StoreMisconfigured,
    TransactionFound,
)

P = TypeVar("P", bound=Payload)


def signed_later(claims: dict[str, Any], after_s: float) -> dict[str, Any]:
    """The transaction as the App Store states it later, with no word of a refund."""
    return claims | {"signedDate": claims["signedDate"] + int(after_s * 1000)}


def untyped(claims: dict[str, Any]) -> ReceiptValid:
    """A receipt with the transaction, of a product that the catalogue does not know."""
    held = valid(claims)
    (stated,) = held.transactions
    return replace(held, transactions=(replace(stated, transaction=replace(stated.transaction, product_type=None)),))


def payload(draft: Draft, kind: type[P]) -> P:
    assert isinstance(draft.payload, kind)
    return draft.payload


def record_of(connection: Connection, claims: dict[str, Any]) -> Any:
    row = connection.exec_driver_sql(
        "select * from verifier.store_transaction where transaction_id = %(id)s", {"id": claims["transactionId"]}
    )
    return row.mappings().one()


@pytest.fixture
def desk(connection: Connection, store: AppStore, apps: Apps) -> Desk:
    return Desk(connection, store, apps)


@pytest.fixture
def with_key(connection: Connection, store: AppStore, apps_with_key: Apps) -> Desk:
    """Whose app may ask the Server API."""
    return Desk(connection, store, apps_with_key)


class TestClaims:
    def test_a_signed_transaction_is_verified_for_who_posts_it(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction(quantity=3)
        (draft,) = desk.handle(posted(store, "alice", claims))
        assert isinstance(draft.payload, PurchaseVerified)
        assert draft.payload.transaction.quantity == 3
        assert draft.payload.transaction.product_id == GEMS_100
        assert (draft.user_id, draft.subject) == ("alice", subject_of("alice", claims["transactionId"]))

    def test_the_same_transaction_is_verified_once_however_often_it_is_posted(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        events = [posted(store, "alice", claims) for _ in range(3)]
        assert said(list(desk.handled(*events).drafts)) == ["purchase.verified"]
        assert desk.handle(posted(store, "alice", claims)) == []

    def test_a_second_user_is_rejected_and_learns_no_name(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        (draft,) = desk.handle(posted(store, "mallory", claims))
        assert code([draft]) == "claimed_by_another_user"
        assert "alice" not in repr(draft)

    def test_a_forged_transaction_is_rejected_and_leaves_no_record(
        self, desk: Desk, store: AppStore, connection: Connection
    ) -> None:
        claims = store.transaction()
        forged = Chain().sign(claims)
        assert code(desk.handle(submitted("alice", forged, claims["transactionId"]))) == "receipt_unauthentic"
        assert code(desk.handle(submitted("alice", "not.a.jws", claims["transactionId"]))) == "receipt_malformed"
        assert connection.exec_driver_sql("select count(*) from verifier.store_transaction").scalar_one() == 0

    def test_a_forged_proof_does_not_reject_a_purchase_that_is_verified(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        assert desk.handle(submitted("alice", Chain().sign(claims), claims["transactionId"])) == []

    def test_a_good_proof_after_a_forged_one_is_verified(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        desk.handle(submitted("alice", Chain().sign(claims), claims["transactionId"]))
        assert said(desk.handle(posted(store, "alice", claims))) == ["purchase.verified"]

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"bundleId": "com.example.other"}, "wrong_app"),
            ({"environment": "Xcode"}, "wrong_environment"),
            ({"environment": "LocalTesting"}, "wrong_environment"),
            ({"inAppOwnershipType": "FAMILY_SHARED"}, "not_granted_family_shared"),
            ({"quantity": 0}, "receipt_malformed"),
            ({"quantity": 11}, "receipt_malformed"),
            ({"revocationDate": 1795348800000}, "already_refunded"),
        ],
    )
    def test_what_is_not_to_be_granted_is_rejected_with_its_reason(
        self, desk: Desk, store: AppStore, changes: dict[str, Any], expected: str
    ) -> None:
        drafts = desk.handle(posted(store, "alice", store.transaction(**changes)))
        assert code([draft for draft in drafts if isinstance(draft.payload, PurchaseRejected)]) == expected
        assert "purchase.verified" not in said(drafts)

    def test_sandbox_and_production_transactions_of_one_id_are_two(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        (first,) = desk.handle(posted(store, "alice", claims))
        (second,) = desk.handle(posted(store, "bob", claims | {"environment": "Sandbox"}))
        assert isinstance(first.payload, PurchaseVerified)
        assert isinstance(second.payload, PurchaseVerified)
        assert second.payload.transaction.environment == "sandbox"


class TestReceipts:
    def test_unfinished_consumables_of_one_receipt_are_all_verified(self, desk: Desk, store: AppStore) -> None:
        claimed, other = store.transaction(), store.transaction()
        drafts = desk.settle(receipt("alice", claimed["transactionId"]), valid(other, claimed))
        assert {draft.subject for draft in drafts} == {
            subject_of("alice", claimed["transactionId"]),
            subject_of("alice", other["transactionId"]),
        }

    def test_what_a_receipt_keeps_for_ever_is_not_claimed_by_the_way(self, desk: Desk, store: AppStore) -> None:
        claimed = store.transaction()
        kept = [store.period(), store.transaction(type="Non-Consumable", productId="com.example.game.adfree")]
        drafts = desk.settle(receipt("alice", claimed["transactionId"]), valid(claimed, *kept))
        assert [draft.subject for draft in drafts if draft.user_id] == [subject_of("alice", claimed["transactionId"])]

    def test_a_transaction_that_the_receipt_does_not_hold_is_not_credited(self, desk: Desk, store: AppStore) -> None:
        finished = store.transaction()
        drafts = desk.settle(receipt("alice", "1000000000000001"), valid(finished))
        rejected = [draft for draft in drafts if isinstance(draft.payload, PurchaseRejected)]
        assert code(rejected) == "transaction_not_found"

    def test_a_consumable_that_has_vanished_does_not_reject_its_verified_purchase(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        assert desk.settle(receipt("alice", claims["transactionId"]), valid()) == []

    def test_another_apps_receipt_is_rejected(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        drafts = desk.settle(receipt("alice", claims["transactionId"]), valid(claims, bundle_id="com.example.other"))
        assert code(drafts) == "wrong_app"

    def test_a_receipt_that_the_store_refuses_is_rejected_with_the_stores_status(
        self, desk: Desk, store: AppStore
    ) -> None:
        refused = ReceiptRefused(21003, "receipt_unauthentic", "the store cannot authenticate the receipt")
        (draft,) = desk.settle(receipt("alice", "1"), refused)
        assert code([draft]) == "receipt_unauthentic"
        assert "21003" in repr(draft.payload)

    def test_who_claims_what_somebody_has_is_told_so_also_when_the_receipt_no_longer_says_its_type(
        self, desk: Desk, store: AppStore
    ) -> None:
        """A receipt has the type from the catalogue, and the catalogue has lost the product since."""
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        drafts = desk.settle(receipt("bob", claims["transactionId"]), untyped(claims))
        assert code(drafts) == "claimed_by_another_user"


def test_a_purchase_of_an_app_that_has_left_the_file_is_parked(connection: Connection, store: AppStore) -> None:
    nobody = Apps.of(())
    with pytest.raises(Parked, match="game"):
        Desk(connection, store, nobody).handled(posted(store, "alice", store.transaction()))


class TestAskingTheStore:
    def test_a_busy_store_is_asked_again_when_it_says(self, apps: Apps, store: AppStore) -> None:
        busy = Answers(StoreBusy("busy", 21005, retry_after_s=7))
        with pytest.raises(TryLater, match="21005") as raised:
            ask_about(receipt("alice", "1"), apps, store, busy, Answers(None), Tried(99))
        assert raised.value.later.after_s == 7

    def test_21002_is_bounded(self, apps: Apps, store: AppStore) -> None:
        refused = ReceiptRefused(21002, "receipt_malformed", "the store cannot read the receipt")
        busy = Answers(StoreBusy("unreadable", 21002, refused))
        most = handlers.questions.UNREADABLE_TRIES_MAX
        with pytest.raises(TryLater) as raised:
            ask_about(receipt("a", "1"), apps, store, busy, Answers(None), Tried(most - 1))
        said = raised.value.later.reason
        with pytest.raises(TryLater):
            ask_about(receipt("a", "1"), apps, store, busy, Answers(None), Tried(most - 1, said))
        assert ask_about(receipt("a", "1"), apps, store, busy, Answers(None), Tried(most, said)).answer == refused

    @pytest.mark.parametrize("last_error", [None, "verifyReceipt 21005: the store is not available"])
    def test_one_21002_among_a_stores_other_troubles_says_nothing_of_the_receipt(
        self, apps: Apps, store: AppStore, last_error: str | None
    ) -> None:
        refused = ReceiptRefused(21002, "receipt_malformed", "the store cannot read the receipt")
        busy = Answers(StoreBusy("unreadable", 21002, refused))
        with pytest.raises(TryLater):
            ask_about(receipt("a", "1"), apps, store, busy, Answers(None), Tried(99, last_error))

    def test_our_own_misconfiguration_is_parked_and_never_the_users_fault(self, apps: Apps, store: AppStore) -> None:
        wrong = Answers(StoreMisconfigured(21004, "the shared secret is not that of the app's account"))
        with pytest.raises(Parked, match="21004"):
            ask_about(receipt("alice", "1"), apps, store, wrong, Answers(None))


class TestSecondOpinions:
    """A receipt loses a consumable once the app has finished it: the store is asked about that one by itself."""

    def test_a_vanished_consumable_is_credited_to_the_user_of_its_account_token(
        self, with_key: Desk, store: AppStore
    ) -> None:
        with_key.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN))
        drafts = with_key.settle(receipt("alice", claims["transactionId"]), valid(), looked_up=found(store, claims))
        assert said(drafts) == ["purchase.verified"]

    def test_nobody_else_gets_it(self, with_key: Desk, store: AppStore) -> None:
        with_key.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN))
        drafts = with_key.settle(receipt("mallory", claims["transactionId"]), valid(), looked_up=found(store, claims))
        assert code(drafts) == "account_token_mismatch"

    def test_the_apps_own_backend_says_whose_it_is(self, with_key: Desk, store: AppStore) -> None:
        claims = store.transaction()
        by_backend = receipt("alice", claims["transactionId"], vouched=True)
        assert said(with_key.settle(by_backend, valid(), looked_up=found(store, claims))) == ["purchase.verified"]

    def test_one_that_the_store_does_not_know_is_rejected(self, with_key: Desk) -> None:
        assert code(with_key.settle(receipt("alice", "1"), valid())) == "transaction_not_found"

    def test_what_the_receipt_holds_needs_no_second_opinion(self, apps_with_key: Apps, store: AppStore) -> None:
        claims, transactions = store.transaction(), Answers(None)
        given = receipt("alice", claims["transactionId"])
        ask_about(given, apps_with_key, store, Answers(valid(claims)), transactions)
        assert transactions.asked == 0

    def test_another_apps_receipt_is_not_worth_a_question(self, apps_with_key: Apps, store: AppStore) -> None:
        transactions = Answers(None)
        foreign = Answers(valid(bundle_id="com.example.other"))
        ask_about(receipt("alice", "1"), apps_with_key, store, foreign, transactions)
        assert transactions.asked == 0

    def test_a_refunded_one_is_not_granted_and_its_refund_is_on_record(self, with_key: Desk, store: AppStore) -> None:
        with_key.handle(token_issued("alice"))
        claims = refunded(store.transaction(appAccountToken=str(TOKEN)))
        drafts = with_key.settle(receipt("alice", claims["transactionId"]), valid(), looked_up=found(store, claims))
        assert said(drafts) == ["purchase.rejected", "refund.received"]


class TestBareIds:
    """A transaction id alone: true is what the store says of it, and whose it is has to be said by somebody else."""

    def test_it_is_verified_for_the_user_of_its_account_token(self, with_key: Desk, store: AppStore) -> None:
        with_key.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN).upper())
        drafts = with_key.look_up(named("alice", claims["transactionId"]), found(store, claims))
        assert said(drafts) == ["purchase.verified"]

    @pytest.mark.parametrize("token", [None, str(TOKEN), "not a uuid"])
    def test_whoever_only_names_it_does_not_get_it_and_does_not_learn_what_it_is(
        self, with_key: Desk, store: AppStore, token: str | None
    ) -> None:
        with_key.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=token)
        drafts = with_key.look_up(named("mallory", claims["transactionId"]), found(store, claims))
        assert code(drafts) == "account_token_mismatch"
        assert GEMS_100 not in repr(drafts)

    def test_the_apps_own_backend_may_name_it(self, with_key: Desk, store: AppStore) -> None:
        claims = store.transaction()
        drafts = with_key.look_up(named("alice", claims["transactionId"], vouched=True), found(store, claims))
        assert said(drafts) == ["purchase.verified"]

    def test_but_not_against_the_account_token(self, with_key: Desk, store: AppStore) -> None:
        with_key.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN))
        drafts = with_key.look_up(named("bob", claims["transactionId"], vouched=True), found(store, claims))
        assert code(drafts) == "account_token_mismatch"

    def test_an_app_may_give_it_to_whoever_names_it_first(
        self, connection: Connection, store: AppStore, apps_with_key: Apps
    ) -> None:
        (app,) = apps_with_key
        open_handed = app.apple.model_copy(update={"transaction_id_claims": "first_claimant"})
        desk = Desk(connection, store, Apps.of((app.model_copy(update={"apple": open_handed}),)))
        claims = store.transaction()
        first, second = (named(user, claims["transactionId"]) for user in ("alice", "bob"))
        assert said(desk.look_up(first, found(store, claims))) == ["purchase.verified"]
        assert code(desk.look_up(second, found(store, claims))) == "claimed_by_another_user"

    def test_whoever_owns_it_may_name_it_again(self, with_key: Desk, store: AppStore) -> None:
        claims = store.transaction()
        with_key.handle(posted(store, "alice", claims))
        assert with_key.look_up(named("alice", claims["transactionId"]), found(store, claims)) == []

    def test_a_refund_that_comes_to_light_by_it_is_not_on_record_as_that_of_whoever_named_it(
        self, with_key: Desk, store: AppStore
    ) -> None:
        claims = refunded(store.transaction())
        drafts = with_key.look_up(named("mallory", claims["transactionId"]), found(store, claims))
        assert [(draft.payload.TYPE, draft.user_id) for draft in drafts] == [
            ("purchase.rejected", "mallory"),
            ("refund.received", None),
        ]

    def test_one_that_was_named_too_early_gets_its_owner_when_the_token_is_known(
        self, with_key: Desk, store: AppStore
    ) -> None:
        claims = store.transaction(appAccountToken=str(TOKEN))
        with_key.look_up(named("alice", claims["transactionId"]), found(store, claims))
        assert said(with_key.handle(token_issued("alice"))) == ["purchase.verified"]

    def test_the_store_that_states_another_transaction_is_not_believed(self, with_key: Desk, store: AppStore) -> None:
        drafts = with_key.look_up(named("alice", "1", vouched=True), found(store, store.transaction()))
        assert code(drafts) == "transaction_not_found"

    def test_an_answer_that_the_store_did_not_sign_is_for_the_operator_to_see(
        self, apps_with_key: Apps, store: AppStore
    ) -> None:
        forged = TransactionFound(Chain().sign(store.transaction()), "production")
        with pytest.raises(Parked, match="its answer"):
            look_up(named("alice", "1"), apps_with_key, store, Answers(forged))

    def test_an_answer_from_the_other_environment_is_for_the_operator_to_see(
        self, apps_with_key: Apps, store: AppStore
    ) -> None:
        crossed = TransactionFound(store.sign(store.transaction()), "sandbox")
        with pytest.raises(Parked, match="sandbox"):
            look_up(named("alice", "1"), apps_with_key, store, Answers(crossed))

    def test_a_store_that_is_busy_is_asked_again(self, apps_with_key: Apps, store: AppStore) -> None:
        with pytest.raises(TryLater, match="4290000") as raised:
            look_up(named("alice", "1"), apps_with_key, store, Answers(StoreBusy("busy", 4290000, retry_after_s=9)))
        assert raised.value.later.after_s == 9

    def test_a_key_that_the_store_does_not_take_is_the_operators_business(
        self, apps_with_key: Apps, store: AppStore
    ) -> None:
        with pytest.raises(Parked, match="401"):
            look_up(named("alice", "1"), apps_with_key, store, Answers(StoreMisconfigured(401, "the key")))


class TestNotifications:
    def test_a_refund_follows_its_purchase(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        (draft,) = desk.handle(notified(store, "REFUND", refunded(claims)))
        assert isinstance(draft.payload, RefundReceived)
        assert (draft.user_id, draft.subject) == ("alice", subject_of("alice", claims["transactionId"]))
        assert (draft.payload.percentage_milli, draft.payload.reason) == (100_000, "app_issue")

    def test_a_refund_is_told_once_however_often_it_is_notified(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        desk.handle(notified(store, "REFUND", refunded(claims)))
        assert desk.handle(notified(store, "REFUND", refunded(claims, after_s=120))) == []

    def test_a_purchase_that_was_refunded_first_is_never_granted(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        (told,) = desk.handle(notified(store, "REFUND", refunded(claims)))
        assert told.user_id is None
        assert code(desk.handle(posted(store, "alice", claims))) == "already_refunded"

    def test_a_partial_refund_leaves_the_rest_to_be_claimed(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        partial = refunded(claims, revocationPercentage=40_000, revocationType="REFUND_PRORATED")
        (told,) = desk.handle(notified(store, "REFUND", partial))
        assert isinstance(told.payload, RefundReceived)
        assert told.payload.percentage_milli == 40_000
        assert said(desk.handle(posted(store, "alice", claims))) == ["purchase.verified"]

    def test_a_refund_that_tells_no_date_takes_back_what_it_is_the_first_to_tell_of(
        self, desk: Desk, store: AppStore
    ) -> None:
        """The account token would make it a purchase; it is none any more."""
        desk.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN))
        assert said(desk.handle(notified(store, "REFUND", claims))) == ["refund.received"]
        assert code(desk.handle(posted(store, "alice", claims))) == "already_refunded"

    def test_a_later_refund_tells_the_whole_that_is_refunded_by_then(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        told = [
            desk.handle(notified(store, "REFUND", refunded(claims, after_s=after_s, revocationPercentage=milli)))
            for after_s, milli in ((10, 30_000), (20, 60_000), (15, 45_000), (30, 50_000), (40, 50_000))
        ]
        assert [[payload(draft, RefundReceived).percentage_milli for draft in drafts] for drafts in told] == [
            [30_000],
            [60_000],
            [],
            [50_000],
            [],
        ]

    def test_a_reversed_refund_is_told_under_the_purchase_with_the_date_of_its_own_statement(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        desk.handle(notified(store, "REFUND", refunded(claims, after_s=60)))
        (draft,) = desk.handle(notified(store, "REFUND_REVERSED", signed_later(claims, 90)))
        reversal = payload(draft, RefundReversed)
        assert (draft.user_id, draft.subject) == ("alice", subject_of("alice", claims["transactionId"]))
        assert reversal.purchase_id == draft.subject
        assert reversal.transaction.signed_at == NOW + timedelta(seconds=90)

    def test_a_reversal_is_one_even_when_its_transaction_still_shows_the_refund(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        desk.handle(notified(store, "REFUND", refunded(claims)))
        assert said(desk.handle(notified(store, "REFUND_REVERSED", refunded(claims, after_s=90)))) == [
            "refund.reversed"
        ]

    def test_a_purchase_whose_refund_was_reversed_may_be_claimed_with_any_of_its_proofs(
        self, desk: Desk, store: AppStore
    ) -> None:
        """The one that shows the refund too: it is older than the reversal."""
        claims = store.transaction()
        desk.handle(notified(store, "REFUND", refunded(claims)))
        desk.handle(notified(store, "REFUND_REVERSED", signed_later(claims, 90)))
        assert said(desk.handle(posted(store, "alice", refunded(claims)))) == ["purchase.verified"]

    def test_a_reversal_gives_a_purchase_to_whom_only_the_refund_kept_it_from(
        self, desk: Desk, store: AppStore
    ) -> None:
        """He need not claim it again; and who came later, or only knew its id, does not get it."""
        claims = store.transaction()
        desk.handle(notified(store, "REFUND", refunded(claims)))
        for user in ("alice", "bob"):
            expected = {"alice": "already_refunded", "bob": "claimed_by_another_user"}[user]
            assert code(desk.handle(posted(store, user, claims))) == expected
        told, refund = desk.handle(notified(store, "REFUND_REVERSED", signed_later(claims, 90)))
        assert said([told, refund]) == ["purchase.verified", "refund.reversed"]
        assert (told.user_id, told.subject) == ("alice", subject_of("alice", claims["transactionId"]))
        assert desk.handle(posted(store, "alice", claims)) == []

    def test_who_was_erased_and_was_promised_a_purchase_gets_none_that_was_bought_for_another(
        self, desk: Desk, store: AppStore, connection: Connection
    ) -> None:
        claims = store.transaction()
        desk.handle(notified(store, "REFUND", refunded(claims)))
        desk.handle(posted(store, "alice", claims))
        connection.exec_driver_sql(
            "update verifier.store_transaction set promised_to = %(pseudonym)s where promised_to = 'alice'",
            {"pseudonym": f"erased:{claims['transactionId']}"},
        )
        desk.handle(token_issued("bob"))
        reversal = signed_later(claims, 90) | {"appAccountToken": str(TOKEN)}
        told, _ = desk.handle(notified(store, "REFUND_REVERSED", reversal))
        assert (told.payload.TYPE, told.user_id) == ("purchase.verified", "bob")

    def test_a_refund_is_taken_of_what_a_receipt_showed_before_the_catalogue_knew_it(
        self, desk: Desk, store: AppStore
    ) -> None:
        """A receipt does not say of what type a product is: it might have been a subscription."""
        claims = store.transaction()
        desk.settle(receipt("alice", claims["transactionId"]), untyped(claims))
        assert said(desk.handle(notified(store, "REFUND", refunded(claims)))) == ["refund.received"]
        reversal = notified(store, "REFUND_REVERSED", signed_later(claims, 90))
        assert said(desk.handle(reversal)) == ["refund.reversed"]

    def test_a_reversal_gives_it_to_whom_only_the_refund_kept_it_from_though_its_type_was_not_known_then(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        desk.handle(notified(store, "REFUND", refunded(claims)))
        drafts = desk.settle(receipt("alice", claims["transactionId"]), untyped(claims))
        assert code(drafts) == "already_refunded"
        told, _ = desk.handle(notified(store, "REFUND_REVERSED", signed_later(claims, 90)))
        assert (told.payload.TYPE, told.user_id) == ("purchase.verified", "alice")

    def test_a_reversal_gives_a_purchase_to_the_holder_of_its_token_whoever_claimed_it_while_it_was_refunded(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        desk.handle(notified(store, "REFUND", refunded(claims)))
        assert code(desk.handle(posted(store, "bob", claims))) == "already_refunded"
        desk.handle(token_issued("alice"))
        reversal = signed_later(claims, 90) | {"appAccountToken": str(TOKEN)}
        told, _ = desk.handle(notified(store, "REFUND_REVERSED", reversal))
        assert (told.payload.TYPE, told.user_id) == ("purchase.verified", "alice")

    def test_a_reversal_gives_a_purchase_to_the_user_of_its_account_token_who_could_not_have_it_before(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction(appAccountToken=str(TOKEN))
        desk.handle(notified(store, "REFUND", refunded(claims)))
        assert desk.handle(token_issued("alice")) == []
        drafts = desk.handle(notified(store, "REFUND_REVERSED", signed_later(claims, 90)))
        assert [(draft.payload.TYPE, draft.user_id) for draft in drafts] == [
            ("purchase.verified", "alice"),
            ("refund.reversed", "alice"),
        ]

    def test_a_reversal_that_overtakes_its_refund_is_told_and_the_refund_is_not(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        assert said(desk.handle(notified(store, "REFUND_REVERSED", signed_later(claims, 90)))) == ["refund.reversed"]
        assert desk.handle(notified(store, "REFUND", refunded(claims, after_s=60))) == []
        assert desk.handle(notified(store, "REFUND_REVERSED", signed_later(claims, 90))) == []

    def test_a_declined_refund_is_told_under_the_purchase_each_time_and_changes_nothing(
        self, desk: Desk, store: AppStore, connection: Connection
    ) -> None:
        claims = store.transaction()
        desk.handle(posted(store, "alice", claims))
        before = record_of(connection, claims)
        for after_s in (60, 120):
            (draft,) = desk.handle(notified(store, "REFUND_DECLINED", signed_later(claims, after_s)))
            declined = payload(draft, RefundDeclined)
            assert (draft.user_id, draft.subject) == ("alice", subject_of("alice", claims["transactionId"]))
            assert (declined.purchase_id, declined.transaction.transaction_id) == (
                draft.subject,
                claims["transactionId"],
            )
        assert record_of(connection, claims) == before

    def test_a_refund_declined_of_what_nobody_has_claimed_is_nobodys_and_takes_nothing_from_its_claimant(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        shows_a_part = refunded(claims, revocationPercentage=40_000)
        (draft,) = desk.handle(notified(store, "REFUND_DECLINED", shows_a_part))
        declined = payload(draft, RefundDeclined)
        assert (draft.user_id, draft.subject[:4], declined.purchase_id) == (None, "txn_", None)
        assert said(desk.handle(posted(store, "alice", claims))) == ["purchase.verified"]

    def test_a_refund_declined_in_the_batch_of_its_purchase_is_told_to_its_owner(
        self, desk: Desk, store: AppStore
    ) -> None:
        desk.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN))
        declined = notified(store, "REFUND_DECLINED", claims)
        drafts = desk.handled(declined, notified(store, "ONE_TIME_CHARGE", claims)).drafts
        assert [(draft.payload.TYPE, draft.user_id) for draft in drafts] == [
            ("purchase.verified", "alice"),
            ("refund.declined", "alice"),
        ]

    @pytest.mark.parametrize(
        ("kind", "stated"),
        [
            ("REVOKE", {}),
            ("REVOKE", {"revocationType": "REFUND_FULL"}),
            ("REFUND", {"revocationType": "FAMILY_REVOKE"}),
        ],
        ids=str,
    )
    def test_what_a_family_member_lost_is_taken_back_with_its_cause(
        self, desk: Desk, store: AppStore, kind: str, stated: dict[str, Any]
    ) -> None:
        shared = store.transaction(inAppOwnershipType="FAMILY_SHARED", type="Non-Consumable")
        (draft,) = desk.handle(notified(store, kind, refunded(shared) | stated))
        told = payload(draft, RefundReceived)
        assert (told.cause, told.percentage_milli) == ("family_sharing_ended", 100_000)

    def test_a_revocation_that_tells_no_date_is_one_all_the_same(self, desk: Desk, store: AppStore) -> None:
        shared = store.transaction(inAppOwnershipType="FAMILY_SHARED", type="Non-Consumable")
        (draft,) = desk.handle(notified(store, "REVOKE", shared))
        told = payload(draft, RefundReceived)
        assert (told.cause, told.revoked_at, told.reason) == ("family_sharing_ended", NOW, "unstated")

    def test_a_refund_is_not_taken_for_the_end_of_sharing(self, desk: Desk, store: AppStore) -> None:
        (draft,) = desk.handle(notified(store, "REFUND", refunded(store.transaction())))
        assert payload(draft, RefundReceived).cause == "refund"

    def test_a_charge_with_no_owner_waits_for_its_claimant(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        assert desk.handle(notified(store, "ONE_TIME_CHARGE", claims)) == []
        assert said(desk.handle(posted(store, "alice", claims))) == ["purchase.verified"]

    def test_a_charge_goes_to_the_user_of_its_account_token(self, desk: Desk, store: AppStore) -> None:
        desk.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN).upper())
        (draft,) = desk.handle(notified(store, "ONE_TIME_CHARGE", claims))
        assert (draft.payload.TYPE, draft.user_id) == ("purchase.verified", "alice")

    def test_a_charge_that_overtook_its_account_token_gets_its_owner(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction(appAccountToken=str(TOKEN))
        assert desk.handle(notified(store, "ONE_TIME_CHARGE", claims)) == []
        (draft,) = desk.handle(token_issued("alice"))
        assert (draft.payload.TYPE, draft.user_id) == ("purchase.verified", "alice")

    def test_another_users_account_token_is_no_ones_claim(self, desk: Desk, store: AppStore) -> None:
        desk.handle(token_issued("alice"))
        claims = store.transaction(appAccountToken=str(TOKEN))
        assert code(desk.handle(posted(store, "mallory", claims))) == "account_token_mismatch"

    def test_all_other_notifications_are_recorded_and_nothing_more(self, desk: Desk, store: AppStore) -> None:
        for kind in ("CONSUMPTION_REQUEST", "EXTERNAL_PURCHASE_TOKEN", "A_TYPE_OF_THE_FUTURE"):
            assert desk.handle(notified(store, kind, store.transaction())) == []
        assert desk.handle(notified(store, "TEST", None)) == []

    def test_a_charge_whose_inner_signature_is_forged_is_parked(self, desk: Desk, store: AppStore) -> None:
        claims = store.transaction()
        given = notified(store, "ONE_TIME_CHARGE", claims, signedTransactionInfo=Chain().sign(claims))
        assert given.id in desk.handled(given).parked

    @pytest.mark.parametrize("kind", ["ONE_TIME_CHARGE", "REFUND", "REFUND_REVERSED", "REFUND_DECLINED", "REVOKE"])
    def test_whatever_is_acted_on_is_parked_when_its_transaction_is_from_another_environment(
        self, desk: Desk, store: AppStore, kind: str
    ) -> None:
        given = notified(store, kind, store.transaction(), environment="Sandbox")
        assert "environment" in desk.handled(given).parked[given.id]

    def test_the_sandboxs_word_to_an_app_that_refuses_it_is_recorded_and_nothing_more(
        self, connection: Connection, store: AppStore, apps: Apps
    ) -> None:
        (game,) = apps
        strict = Apps.of((game.model_copy(update={"apple": game.apple.model_copy(update={"sandbox": "refuse"})}),))
        given = notified(store, "REFUND", refunded(store.transaction(environment="Sandbox")))
        handled = Desk(connection, store, strict).handled(given)
        assert (list(handled.drafts), dict(handled.parked)) == ([], {})

    def test_one_notification_that_is_parked_leaves_the_others_of_its_batch_alone(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.transaction()
        bad = notified(store, "REFUND", claims, signedTransactionInfo="a.b.c")
        handled = desk.handled(bad, notified(store, "REFUND", refunded(claims)))
        assert set(handled.parked) == {bad.id}
        assert said(list(handled.drafts)) == ["refund.received"]
