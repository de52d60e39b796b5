"""Subscriptions and what can be restored, on real records in Postgres: one owner of all that belongs together, and what
is news is told once, whatever the road and the order.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any
from uuid import uuid5

import pytest
from sqlalchemy import Connection

from shared.apps import Apps
from shared.events import (
    Draft,
    PurchaseVerified,
    RefundReceived,
    RefundReversed,
    Renewal,
    SubscriptionChanged,
)
from shared.ids import TransactionId
from tests.support.app_store import MONTH, VIP_MONTHLY, AppStore, refunded
from tests.support.apple_pki import Chain
from tests.support.verifying import (
    NOW,
    TOKEN,
    Desk,
    code,
    found,
    named,
    notified,
    posted,
    receipt,
    reported,
    said,
    subject_of,
    subscription_of,
    token_issued,
    valid,
)

SUBSCRIPTION_TYPES = (
    "SUBSCRIBED",
    "DID_RENEW",
    "DID_CHANGE_RENEWAL_PREF",
    "DID_CHANGE_RENEWAL_STATUS",
    "OFFER_REDEEMED",
    "DID_FAIL_TO_RENEW",
    "GRACE_PERIOD_EXPIRED",
    "EXPIRED",
    "PRICE_INCREASE",
    "RENEWAL_EXTENDED",
    "RENEWAL_EXTENSION",
    "METADATA_UPDATE",
    "MIGRATION",
    "PRICE_CHANGE",
)


A_YEAR_ON = NOW + 12 * MONTH
"""When all of it has happened: what is signed in the future is refused."""


@pytest.fixture
def desk(connection: Connection, store: AppStore, apps: Apps) -> Desk:
    return Desk(connection, store, apps, now=A_YEAR_ON)


@pytest.fixture
def with_key(connection: Connection, store: AppStore, apps_with_key: Apps) -> Desk:
    """Whose app may ask the Server API."""
    return Desk(connection, store, apps_with_key, now=A_YEAR_ON)


def told(store: AppStore, kind: str, claims: dict[str, Any], renewal: dict[str, Any] | None = None, **data: Any) -> Any:
    """A notification about a period, with its renewal info."""
    signed = {} if renewal is None else {"signedRenewalInfo": store.sign(renewal)}
    return notified(store, kind, claims, **signed | data)


def later(claims: dict[str, Any], seconds: float, **changes: Any) -> dict[str, Any]:
    return claims | {"signedDate": claims["signedDate"] + int(seconds * 1000)} | changes


def verified(drafts: Iterable[Draft]) -> set[tuple[str, str | None]]:
    """Which transactions are told to be verified, and whose."""
    return {
        (draft.payload.transaction.transaction_id, draft.user_id)
        for draft in drafts
        if isinstance(draft.payload, PurchaseVerified)
    }


def changed(drafts: Iterable[Draft]) -> list[tuple[SubscriptionChanged, str | None]]:
    return [(draft.payload, draft.user_id) for draft in drafts if isinstance(draft.payload, SubscriptionChanged)]


def the_change(drafts: Iterable[Draft]) -> SubscriptionChanged:
    ((payload, _),) = changed(drafts)
    return payload


def ids(*claims: dict[str, Any], user: str | None) -> set[tuple[str, str | None]]:
    return {(each["transactionId"], user) for each in claims}


def origin_of(connection: Connection, claims: dict[str, Any]) -> Any:
    row = connection.exec_driver_sql(
        "select * from verifier.origin where original_transaction_id = %(id)s", {"id": claims["originalTransactionId"]}
    )
    return row.mappings().one()


class TestStatements:
    @pytest.mark.parametrize("kind", SUBSCRIPTION_TYPES)
    def test_every_notification_about_a_subscription_tells_its_period_and_its_renewal(
        self, desk: Desk, store: AppStore, kind: str
    ) -> None:
        claims = store.period()
        (draft,) = desk.handle(told(store, kind, claims, store.renewal(claims)))
        change = the_change([draft])
        original_id = claims["originalTransactionId"]
        assert (draft.subject, draft.user_id) == (subscription_of(original_id), None)
        assert change.subscription_id == draft.subject
        assert change.transaction.charge_id == f"{original_id}/{claims['webOrderLineItemId']}"
        assert change.transaction.period is not None
        assert change.transaction.period.expires_at == NOW + MONTH
        assert change.renewal == Renewal(
            signed_at=NOW,
            auto_renew=True,
            product_id=VIP_MONTHLY,
            renews_at=NOW + MONTH,
            price_milli=9990,
            currency="USD",
        )
        assert change.revoked is None

    @pytest.mark.parametrize("kind", ["CONSUMPTION_REQUEST", "A_TYPE_OF_THE_FUTURE"])
    def test_what_is_only_recorded_tells_nothing(self, desk: Desk, store: AppStore, kind: str) -> None:
        claims = store.period()
        assert desk.handle(told(store, kind, claims, store.renewal(claims))) == []

    def test_the_same_said_again_is_told_once(self, desk: Desk, store: AppStore) -> None:
        claims = store.period()
        again = later(claims, 5)
        drafts = [
            desk.handle(told(store, "SUBSCRIBED", claims, store.renewal(claims))),
            desk.handle(told(store, "SUBSCRIBED", claims, store.renewal(claims))),
            desk.handle(told(store, "DID_RENEW", again, store.renewal(again))),
        ]
        assert [len(each) for each in drafts] == [1, 0, 0]

    def test_what_is_said_of_the_renewal_is_told_when_it_is_another_thing(self, desk: Desk, store: AppStore) -> None:
        claims = store.period()
        desk.handle(told(store, "SUBSCRIBED", claims, store.renewal(claims)))
        off = store.renewal(later(claims, 5), autoRenewStatus=0)
        change = the_change(desk.handle(told(store, "DID_CHANGE_RENEWAL_STATUS", later(claims, 5), off)))
        assert change.renewal is not None
        assert not change.renewal.auto_renew
        late = store.renewal(later(claims, 3), autoRenewStatus=1)
        assert desk.handle(told(store, "DID_CHANGE_RENEWAL_STATUS", later(claims, 3), late)) == []

    def test_a_renewal_date_that_was_moved_is_told(self, desk: Desk, store: AppStore) -> None:
        claims = store.period()
        desk.handle(told(store, "SUBSCRIBED", claims, store.renewal(claims)))
        extended = later(claims, 5, expiresDate=claims["expiresDate"] + 1000)
        change = the_change(desk.handle(told(store, "RENEWAL_EXTENDED", extended)))
        assert change.transaction.period is not None
        assert change.transaction.period.expires_at == NOW + MONTH + timedelta(seconds=1)

    def test_what_is_told_is_all_that_is_known_by_then(self, desk: Desk, store: AppStore) -> None:
        """A late word about a period comes with the newest about the renewal, and with what became of the period."""
        claims = store.period()
        second = store.period(2, of=claims)
        desk.handle(told(store, "DID_RENEW", second, store.renewal(second, autoRenewStatus=0)))
        desk.handle(told(store, "REFUND", refunded(claims)))
        change = the_change(desk.handle(told(store, "RENEWAL_EXTENDED", later(claims, 120, price=1))))
        assert change.renewal is not None
        assert not change.renewal.auto_renew
        assert change.revoked is not None

    def test_a_refund_tells_of_the_subscription_too(self, desk: Desk, store: AppStore) -> None:
        claims = store.period()
        desk.handle(posted(store, "alice", claims))
        taken = refunded(claims, revocationPercentage=40_000)
        drafts = desk.handle(told(store, "REFUND", taken, store.renewal(taken, autoRenewStatus=0)))
        assert said(drafts) == ["refund.received", "subscription.changed"]
        change = the_change(drafts)
        assert change.revoked is not None
        assert (change.revoked.percentage_milli, change.revoked.cause) == (40_000, "refund")
        assert change.revoked.at == change.revoked.signed_at == NOW + timedelta(seconds=60)
        reversal = desk.handle(told(store, "REFUND_REVERSED", later(claims, 90), None))
        back = the_change(reversal).revoked
        assert back is not None
        assert (back.percentage_milli, back.signed_at) == (0, NOW + timedelta(seconds=90))

    def test_a_subscription_without_its_transaction_is_parked(self, desk: Desk, store: AppStore) -> None:
        given = notified(store, "DID_RENEW", None)
        assert "without its signed transaction" in desk.handled(given).parked[given.id]

    @pytest.mark.parametrize("kind", ["RENEWAL_EXTENSION", "METADATA_UPDATE"])
    def test_what_is_not_about_one_subscription_is_recorded_only(self, desk: Desk, store: AppStore, kind: str) -> None:
        assert desk.handle(notified(store, kind, None)) == []

    def test_a_new_period_and_a_refund_are_never_told_with_the_last_word_on_the_renewal(
        self, desk: Desk, store: AppStore
    ) -> None:
        first = store.period()
        second = store.period(2, of=first)
        desk.handle(posted(store, "alice", first))
        desk.handle(told(store, "DID_CHANGE_RENEWAL_STATUS", first, store.renewal(first, autoRenewStatus=0)))
        renewed = desk.handle(told(store, "DID_RENEW", second, store.renewal(second)))
        assert [(type(draft.payload), draft.payload.renewal.auto_renew) for draft in renewed] == [  # type: ignore[attr-defined]
            (PurchaseVerified, True),
            (SubscriptionChanged, True),
        ]
        taken = refunded(second)
        refund = desk.handle(told(store, "REFUND", taken, store.renewal(taken, autoRenewStatus=0)))
        assert [draft.payload.renewal.auto_renew for draft in refund] == [False, False]  # type: ignore[attr-defined]


class TestOwners:
    def test_a_renewal_goes_to_whoever_claimed_an_earlier_period(self, desk: Desk, store: AppStore) -> None:
        first = store.period()
        second = store.period(2, of=first)
        desk.handle(posted(store, "alice", first))
        drafts = desk.handle(told(store, "DID_RENEW", second, store.renewal(second)))
        assert verified(drafts) == ids(second, user="alice")
        ((_, user),) = changed(drafts)
        assert user == "alice"

    def test_what_came_before_its_owner_is_his_with_the_first_claim(self, desk: Desk, store: AppStore) -> None:
        first = store.period()
        second, third = store.period(2, of=first), store.period(3, of=first)
        for claims in (first, third):
            desk.handle(told(store, "DID_RENEW", claims, store.renewal(claims)))
        drafts = desk.handle(posted(store, "alice", second))
        assert verified(drafts) == ids(first, second, third, user="alice")
        newest = [(change.transaction.transaction_id, user) for change, user in changed(drafts)]
        assert set(newest) == ids(second, third, user="alice")
        assert all(change.renewal is not None for change, _ in changed(drafts))

    def test_who_claims_what_is_known_already_is_told_of_it_by_its_newest_period(
        self, desk: Desk, store: AppStore
    ) -> None:
        first = store.period()
        second = store.period(2, of=first)
        for claims in (second, first):
            desk.handle(told(store, "DID_RENEW", claims, store.renewal(claims)))
        ((change, user),) = changed(desk.handle(posted(store, "alice", first)))
        assert (change.transaction.transaction_id, user) == (second["transactionId"], "alice")

    def test_nobody_else_may_claim_any_of_its_periods(self, desk: Desk, store: AppStore) -> None:
        """And what he brings is its owner's: the store has charged for it."""
        first = store.period()
        second = store.period(2, of=first)
        desk.handle(posted(store, "alice", first))
        drafts = desk.handle(posted(store, "mallory", second))
        rejected = [draft for draft in drafts if draft.user_id == "mallory"]
        assert code(rejected) == "claimed_by_another_user"
        assert "alice" not in repr(rejected)
        assert verified(drafts) == ids(second, user="alice")

    def test_the_account_token_of_one_period_tells_whose_all_are(self, desk: Desk, store: AppStore) -> None:
        desk.handle(token_issued("alice"))
        first = store.period(appAccountToken=None)
        second = store.period(2, of=first, appAccountToken=str(TOKEN))
        assert verified(desk.handle(told(store, "SUBSCRIBED", first))) == set()
        assert verified(desk.handle(told(store, "DID_RENEW", second))) == ids(first, second, user="alice")

    def test_an_account_token_that_comes_last_tells_it_too(self, desk: Desk, store: AppStore) -> None:
        first = store.period()
        second, third = store.period(2, of=first, appAccountToken=str(TOKEN)), store.period(3, of=first)
        for claims in (first, second, third):
            desk.handle(told(store, "DID_RENEW", claims, store.renewal(claims)))
        drafts = desk.handle(token_issued("alice"))
        assert verified(drafts) == ids(first, second, third, user="alice")
        ((change, user),) = changed(drafts)
        assert (change.transaction.transaction_id, user) == (third["transactionId"], "alice")

    def test_another_users_token_does_not_take_a_subscription_from_its_owner(self, desk: Desk, store: AppStore) -> None:
        """Somebody else used the app on the same device: the store charges the same account for the same thing."""
        desk.handle(token_issued("bob"))
        first = store.period()
        second = store.period(2, of=first, appAccountToken=str(TOKEN))
        desk.handle(posted(store, "alice", first))
        assert verified(desk.handle(told(store, "DID_RENEW", second))) == ids(second, user="alice")
        assert code(desk.handle(posted(store, "bob", second))) == "claimed_by_another_user"

    def test_who_bought_what_was_refunded_owns_what_comes_after_it(self, desk: Desk, store: AppStore) -> None:
        """The purchase is refused, and that it is his is not."""
        first = store.period()
        second = store.period(2, of=first)
        desk.handle(told(store, "REFUND", refunded(first)))
        drafts = desk.handle(posted(store, "alice", first))
        assert code([draft for draft in drafts if draft.payload.TYPE == "purchase.rejected"]) == "already_refunded"
        assert [user for _, user in changed(drafts)] == ["alice"]
        assert verified(desk.handle(told(store, "DID_RENEW", second))) == ids(second, user="alice")

    def test_a_period_that_was_refunded_before_it_had_an_owner_is_his_once_that_is_reversed(
        self, desk: Desk, store: AppStore
    ) -> None:
        first = store.period()
        second = store.period(2, of=first)
        desk.handle(told(store, "REFUND", refunded(first)))
        assert verified(desk.handle(posted(store, "alice", second))) == ids(second, user="alice")
        assert verified(desk.handle(told(store, "REFUND_REVERSED", later(first, 90)))) == ids(first, user="alice")

    def test_whoever_only_names_a_transaction_does_not_get_the_subscription(
        self, with_key: Desk, store: AppStore
    ) -> None:
        claims = store.period()
        drafts = with_key.look_up(named("mallory", claims["transactionId"]), found(store, claims))
        assert verified(drafts) == set()
        assert verified(with_key.handle(posted(store, "alice", claims))) == ids(claims, user="alice")

    def test_its_owner_may_name_any_of_its_periods(self, with_key: Desk, store: AppStore) -> None:
        first = store.period()
        second = store.period(2, of=first)
        with_key.handle(posted(store, "alice", first))
        drafts = with_key.look_up(named("alice", second["transactionId"]), found(store, second))
        assert verified(drafts) == ids(second, user="alice")

    def test_a_restored_copy_of_a_period_is_the_same_charge_of_the_same_owner(
        self, desk: Desk, store: AppStore
    ) -> None:
        first = store.period()
        copy = first | {"transactionId": store.transaction()["transactionId"]}
        drafts = desk.handle(posted(store, "alice", first)) + desk.handle(told(store, "DID_RENEW", copy))
        charges = {draft.payload.transaction.charge for draft in drafts if isinstance(draft.payload, PurchaseVerified)}
        assert verified(drafts) == ids(first, copy, user="alice")
        assert len(charges) == 1

    def test_a_restored_copy_of_what_is_bought_once_for_ever_is_its_owners(self, desk: Desk, store: AppStore) -> None:
        bought = store.transaction(type="Non-Consumable", productId="com.example.game.adfree")
        copy = store.transaction(**bought | {"transactionId": None}) | {
            "transactionId": store.transaction()["transactionId"],
            "originalTransactionId": bought["originalTransactionId"],
        }
        desk.handle(posted(store, "alice", bought))
        rejected = desk.handle(posted(store, "mallory", copy))
        assert code([draft for draft in rejected if draft.user_id == "mallory"]) == "claimed_by_another_user"
        (draft,) = [draft for draft in rejected if isinstance(draft.payload, PurchaseVerified)]
        assert isinstance(draft.payload, PurchaseVerified)
        assert draft.payload.transaction.charge == bought["transactionId"]
        assert changed(rejected) == []

    def test_sandbox_and_production_subscriptions_of_one_id_are_two(self, desk: Desk, store: AppStore) -> None:
        claims = store.period()
        desk.handle(posted(store, "alice", claims))
        sandbox = claims | {"environment": "Sandbox"}
        assert verified(desk.handle(posted(store, "bob", sandbox))) == ids(claims, user="bob")


class TestFamilies:
    def test_what_a_family_member_shares_is_verified_as_shared(self, desk: Desk, store: AppStore) -> None:
        shared = store.period(inAppOwnershipType="FAMILY_SHARED", price=None, currency=None)
        (draft, _) = desk.handle(posted(store, "alice", shared))
        assert isinstance(draft.payload, PurchaseVerified)
        assert draft.payload.transaction.family_shared

    def test_what_gives_nothing_to_use_is_refused(self, desk: Desk, store: AppStore) -> None:
        shared = store.period(inAppOwnershipType="FAMILY_SHARED", productId="com.example.game.unknown")
        drafts = desk.handle(posted(store, "alice", shared))
        assert code([draft for draft in drafts if draft.user_id]) == "not_granted_family_shared"
        assert [user for _, user in changed(drafts)] == [None]

    def test_what_is_shared_no_more_is_told_as_such(self, desk: Desk, store: AppStore) -> None:
        shared = store.period(inAppOwnershipType="FAMILY_SHARED")
        desk.handle(posted(store, "alice", shared))
        drafts = desk.handle(told(store, "REVOKE", later(shared, 60)))
        assert said(drafts) == ["refund.received", "subscription.changed"]
        revoked = the_change(drafts).revoked
        assert revoked is not None
        assert revoked.cause == "family_sharing_ended"

    def test_the_buyers_account_token_does_not_tell_who_shares_it(self, desk: Desk, store: AppStore) -> None:
        desk.handle(token_issued("alice"))
        shared = store.period(inAppOwnershipType="FAMILY_SHARED", appAccountToken=str(TOKEN))
        assert verified(desk.handle(told(store, "SUBSCRIBED", shared))) == set()
        assert verified(desk.handle(posted(store, "bob", shared))) == ids(shared, user="bob")


class TestReceipts:
    def test_all_that_belongs_to_the_claimed_transaction_is_claimed_with_it(self, desk: Desk, store: AppStore) -> None:
        first = store.period()
        second, third = store.period(2, of=first), store.period(3, of=first)
        off = {TransactionId(first["originalTransactionId"]): Renewal(NOW + 2 * MONTH, auto_renew=False)}
        answer = valid(third, first, second, renewals=off)
        drafts = desk.settle(receipt("alice", second["transactionId"]), answer)
        assert verified(drafts) == ids(first, second, third, user="alice")
        assert {user for _, user in changed(drafts)} == {"alice"}
        assert all(change.renewal == Renewal(NOW + 2 * MONTH, auto_renew=False) for change, _ in changed(drafts))

    def test_another_subscription_of_it_is_heard_and_not_claimed(self, desk: Desk, store: AppStore) -> None:
        claimed, other = store.period(), store.period()
        adfree = store.transaction(type="Non-Consumable", productId="com.example.game.adfree")
        drafts = desk.settle(receipt("alice", claimed["transactionId"]), valid(claimed, other, adfree))
        assert verified(drafts) == ids(claimed, user="alice")
        whose = {change.transaction.transaction_id: user for change, user in changed(drafts)}
        assert whose == {claimed["transactionId"]: "alice", other["transactionId"]: None}

    def test_what_it_tells_of_somebody_elses_subscription_is_told_to_its_owner(
        self, desk: Desk, store: AppStore
    ) -> None:
        first, gems = store.period(), store.transaction()
        second = store.period(2, of=first)
        desk.handle(posted(store, "bob", first))
        drafts = desk.settle(receipt("alice", gems["transactionId"]), valid(gems, first, second))
        assert verified(drafts) == ids(gems, user="alice") | ids(second, user="bob")

    def test_the_same_receipt_again_tells_nothing(self, desk: Desk, store: AppStore) -> None:
        """It is answered later, with the same words."""
        first = store.period()
        second = store.period(2, of=first)
        again = [later(claims, 60) for claims in (first, second)]
        key = TransactionId(first["originalTransactionId"])
        answers = [
            valid(first, second, renewals={key: Renewal(NOW + MONTH, auto_renew=True)}),
            valid(*again, renewals={key: Renewal(NOW + MONTH + timedelta(seconds=60), auto_renew=True)}),
        ]
        drafts = [desk.settle(receipt("alice", second["transactionId"]), answer) for answer in answers]
        assert len(drafts[0]) == 4
        assert drafts[1] == []

    def test_a_cancelled_period_of_it_is_a_refund(self, desk: Desk, store: AppStore) -> None:
        first = store.period()
        second = store.period(2, of=first)
        drafts = desk.settle(receipt("alice", second["transactionId"]), valid(refunded(first), second))
        assert verified(drafts) == ids(second, user="alice")
        (refund,) = [draft.payload for draft in drafts if isinstance(draft.payload, RefundReceived)]
        assert refund.transaction.transaction_id == first["transactionId"]
        assert refund.transaction.charge_id is not None
        assert refund.transaction.period is not None

    def test_a_receipt_of_five_hundred_periods_is_settled_in_seconds(self, desk: Desk, store: AppStore) -> None:
        """Ten years of weeks. All are written in a few statements."""
        first = store.period()
        periods = [first, *(store.period(number, of=first) for number in range(2, 501))]
        begun = time.monotonic()
        drafts = desk.settle(receipt("alice", periods[250]["transactionId"]), valid(*periods))
        assert verified(drafts) == ids(*periods, user="alice")
        assert time.monotonic() - begun < 5

    def test_five_hundred_periods_that_waited_for_their_owner_are_his_in_seconds(
        self, desk: Desk, store: AppStore
    ) -> None:
        first, gems = store.period(), store.transaction()
        periods = [first, *(store.period(number, of=first) for number in range(2, 501))]
        desk.settle(receipt("bob", gems["transactionId"]), valid(gems, *periods))
        begun = time.monotonic()
        assert verified(desk.handle(posted(store, "alice", periods[7]))) == ids(*periods, user="alice")
        assert time.monotonic() - begun < 5


class TestReports:
    """The store was asked how a subscription stands."""

    def test_what_it_states_is_heard_like_a_notification(self, desk: Desk, store: AppStore) -> None:
        first = store.period()
        second = store.period(2, of=first)
        desk.handle(posted(store, "alice", first))
        drafts = desk.handle(reported(store, second, store.renewal(second), status=1))
        assert said(drafts) == ["purchase.verified", "subscription.changed"]
        assert verified(drafts) == ids(second, user="alice")
        assert the_change(drafts).renewal is not None

    def test_a_status_that_is_not_revoked_takes_back_a_refund_whose_reversal_never_came(
        self, desk: Desk, store: AppStore
    ) -> None:
        claims = store.period()
        desk.handle(posted(store, "alice", claims))
        desk.handle(told(store, "REFUND", refunded(claims)))
        drafts = desk.handle(reported(store, later(claims, 90), None, status=1))
        assert said(drafts) == ["refund.reversed", "subscription.changed"]
        assert isinstance(drafts[0].payload, RefundReversed)
        assert drafts[0].user_id == "alice"

    def test_a_refund_that_was_signed_before_such_a_status_counts_no_more(self, desk: Desk, store: AppStore) -> None:
        claims = store.period()
        desk.handle(posted(store, "alice", claims))
        assert "refund.reversed" not in said(desk.handle(reported(store, later(claims, 90), None, status=1)))
        assert "refund.received" not in said(desk.handle(told(store, "REFUND", refunded(claims))))

    @pytest.mark.parametrize("status", [1, 5])
    def test_a_refund_that_it_shows_is_one(self, desk: Desk, store: AppStore, status: int) -> None:
        claims = store.period()
        desk.handle(posted(store, "alice", claims))
        assert "refund.received" in said(desk.handle(reported(store, refunded(claims), None, status=status)))

    @pytest.mark.parametrize(
        ("claims", "renewal", "changes", "complaint"),
        [
            ({}, {}, {"original_transaction_id": TransactionId("1")}, "another subscription"),
            ({}, {"originalTransactionId": "1"}, {}, "another subscription"),
            ({}, {"environment": "Sandbox"}, {}, "environment"),
            ({"environment": "Sandbox"}, {"environment": "Sandbox"}, {}, "sandbox"),
            ({"bundleId": "com.example.other"}, {}, {}, "another app"),
            ({}, {}, {"signed_transaction": "a.b.c"}, "transaction"),
            ({}, {}, {"signed_transaction": Chain().sign({"transactionId": "1"})}, "transaction"),
            ({}, {}, {"signed_renewal_info": Chain().sign({"autoRenewStatus": 1})}, ""),
            ({}, {"autoRenewStatus": "on"}, {}, "renewal info"),
        ],
    )
    def test_what_does_not_hold_is_for_the_operator_to_see(
        self,
        desk: Desk,
        store: AppStore,
        claims: dict[str, Any],
        renewal: dict[str, Any],
        changes: dict[str, Any],
        complaint: str,
    ) -> None:
        period = store.period()
        given = reported(store, period | claims, store.renewal(period) | renewal, status=1, **changes)
        handled = desk.handled(given)
        assert list(handled.drafts) == []
        assert complaint in handled.parked[given.id]

    def test_the_sandboxs_word_to_an_app_that_refuses_it_by_now_is_passed_over(
        self, connection: Connection, store: AppStore, apps: Apps
    ) -> None:
        (game,) = apps
        strict = Apps.of((game.model_copy(update={"apple": game.apple.model_copy(update={"sandbox": "refuse"})}),))
        given = reported(store, store.period(environment="Sandbox"), None, status=1, environment="sandbox")
        handled = Desk(connection, store, strict).handled(given)
        assert (list(handled.drafts), dict(handled.parked)) == ([], {})


class TestChecks:
    """When the store is to be asked, if nothing was heard by then."""

    LATE = timedelta(minutes=5)

    def test_it_is_asked_when_a_renewal_should_have_come(
        self, desk: Desk, store: AppStore, connection: Connection
    ) -> None:
        claims = store.period()
        desk.handle(told(store, "SUBSCRIBED", claims, store.renewal(claims)))
        origin = origin_of(connection, claims)
        assert (origin["check_at"], origin["checks"]) == (NOW + MONTH + self.LATE, 0)
        assert (origin["period_at"], origin["renewal_signed_at"]) == (NOW, NOW)

    def test_it_is_not_asked_about_what_has_expired_or_was_bought_for_ever(
        self, desk: Desk, store: AppStore, connection: Connection
    ) -> None:
        claims = store.period()
        end = later(claims, MONTH.total_seconds())
        over = store.renewal(end, autoRenewStatus=0, expirationIntent=1)
        desk.handle(told(store, "EXPIRED", end, over, status=2))
        assert origin_of(connection, claims)["check_at"] is None
        adfree = store.transaction(type="Non-Consumable", productId="com.example.game.adfree")
        desk.handle(posted(store, "alice", adfree))
        assert origin_of(connection, adfree)["check_at"] is None

    def test_an_answer_that_it_is_over_is_the_last_even_if_it_says_no_more(
        self, desk: Desk, store: AppStore, connection: Connection
    ) -> None:
        claims = store.period()
        desk.handle(posted(store, "alice", claims))
        desk.now = NOW + 2 * MONTH
        desk.handle(reported(store, later(claims, MONTH.total_seconds() * 2), None, status=2))
        assert origin_of(connection, claims)["check_at"] is None

    def test_an_answer_puts_no_question_that_was_put_off(
        self, desk: Desk, store: AppStore, connection: Connection
    ) -> None:
        claims = store.period()
        desk.handle(posted(store, "alice", claims))
        desk.now = NOW + 2 * MONTH
        put_off = desk.now + timedelta(hours=1)
        connection.exec_driver_sql(
            "update verifier.origin set check_at = %(at)s, checks = 1 where original_transaction_id = %(id)s",
            {"at": put_off, "id": claims["originalTransactionId"]},
        )
        retried = later(claims, MONTH.total_seconds() * 2)
        failing = store.renewal(retried, isInBillingRetryPeriod=True, expirationIntent=2)
        desk.handle(reported(store, retried, failing, status=3))
        origin = origin_of(connection, claims)
        assert (origin["check_at"], origin["checks"]) == (put_off, 1)


# ---- orders ------------------------------------------------------------------------------------------------------

Happens = Callable[[Desk], list[Draft]]


def facts(store: AppStore, token: Any) -> dict[str, Happens]:
    """A subscription with two periods and a restored copy; the first period is refunded in part, the renewal is
    switched off. Alice claims it by several roads."""
    first = store.period(appAccountToken=str(token))
    second = store.period(2, of=first, appAccountToken=None)
    copy = second | {"transactionId": store.transaction()["transactionId"]}
    off = later(second, 60)
    taken = refunded(first, revocationPercentage=40_000)
    events = {
        "subscribed": told(store, "SUBSCRIBED", first, store.renewal(first)),
        "renewed": told(store, "DID_RENEW", second, store.renewal(second)),
        "switched off": told(store, "DID_CHANGE_RENEWAL_STATUS", off, store.renewal(off, autoRenewStatus=0)),
        "refunded": told(store, "REFUND", taken, store.renewal(taken)),
        "claimed": posted(store, "alice", first),
        "restored": posted(store, "alice", copy),
        "token": token_issued("alice", token),
    }
    held = valid(later(first, 1, price=None, currency=None), later(copy, 1, price=None, currency=None))
    asked = receipt("alice", copy["transactionId"])
    return {name: (lambda desk, event=event: desk.handle(event)) for name, event in events.items()} | {
        "receipt": lambda desk: desk.settle(asked, held)
    }


NAMES = ("subscribed", "renewed", "switched off", "refunded", "claimed", "restored", "token", "receipt")


@pytest.mark.parametrize("missing", [{"claimed", "token"}, {"receipt", "restored"}, {"restored", "claimed", "receipt"}])
def test_any_order_of_the_same_facts_ends_in_the_same_owner_and_the_same_words(
    connection: Connection, store: AppStore, apps: Apps, missing: set[str]
) -> None:
    """Some two dozen orders of five or six facts: whoever keeps of each part what was signed last ends with the same,
    and each transaction is verified once for the one owner."""
    names = [name for name in NAMES if name not in missing]
    ends = set()
    orders = list(itertools.permutations(names))
    for order in orders[:: len(orders) // 24]:
        happens = facts(store, uuid5(TOKEN, repr(order)))
        desk = Desk(connection, store, apps, now=A_YEAR_ON)
        drafts = [draft for name in order for draft in happens[name](desk)]
        drafts += [draft for name in order for draft in happens[name](desk)]
        granted = [draft.payload for draft in drafts if isinstance(draft.payload, PurchaseVerified)]
        assert len(granted) == len({payload.transaction.transaction_id for payload in granted}), order
        assert {draft.user_id for draft in drafts if isinstance(draft.payload, PurchaseVerified)} == {"alice"}, order
        ends.add(_heard(drafts))
        connection.rollback()
    assert len(ends) == 1


def _heard(drafts: Iterable[Draft]) -> tuple[Any, ...]:
    """What somebody knows who heard all of it: of each part the newest, ids aside."""
    changes = [change for change, _ in changed(drafts)]
    charges: dict[str, Any] = {}
    for change in changes:
        charges.setdefault(change.transaction.purchased_at.isoformat(), []).append(change)
    periods = tuple(
        (begun, _newest(each.transaction.period.expires_at for each in said_of if each.transaction.period),
         _newest(each.transaction.period.price_milli or 0 for each in said_of if each.transaction.period),
         _newest((each.revoked.signed_at, each.revoked.percentage_milli) for each in said_of if each.revoked))
        for begun, said_of in sorted(charges.items())
    )  # fmt: skip
    renewal = _newest((each.renewal.signed_at, each.renewal.auto_renew) for each in changes if each.renewal)
    newest = max(changes, key=lambda each: each.transaction.purchased_at)
    users = {user for change, user in changed(drafts) if user is not None}
    return periods, renewal, newest.subscription_id is not None, tuple(users)


def _newest(values: Iterable[Any]) -> Any:
    return max(values, default=None)


def test_a_claim_of_a_stranger_at_any_moment_changes_nothing_for_the_owner(
    connection: Connection, store: AppStore, apps: Apps
) -> None:
    """Mallory brings a copy of a signed transaction that is alice's."""
    for place in range(4):
        first = store.period()
        second = store.period(2, of=first)
        stolen = posted(store, "mallory", second)
        steps = [
            posted(store, "alice", first),
            told(store, "DID_RENEW", second),
            told(store, "REFUND", refunded(first)),
        ]
        desk = Desk(connection, store, apps, now=A_YEAR_ON)
        drafts = [
            draft
            for event in [steps[0], *steps[1:place], stolen, *steps[max(place, 1) :]]
            for draft in desk.handle(event)
        ]
        assert verified(drafts) == ids(first, second, user="alice")
        assert {draft.subject for draft in drafts if draft.user_id == "mallory"} == {
            subject_of("mallory", second["transactionId"])
        }
        connection.rollback()
