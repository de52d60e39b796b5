"""What everybody outside is told of an event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from shared.events import (
    OUTWARD,
    AccountTokenIssued,
    EntitlementChanged,
    Event,
    Offer,
    OutwardEventUnknown,
    Payload,
    PurchaseCompleted,
    PurchaseRefunded,
    PurchaseRefundReversed,
    PurchaseRejected,
    RefundRequestUpdated,
    RevocationCause,
    StoreTransaction,
    SubscriptionState,
    SubscriptionUpdated,
    WalletChange,
    WalletCredited,
    WalletDebited,
    outward_document,
)
from shared.ids import (
    AppId,
    EntitlementId,
    EventId,
    GrantId,
    PurchaseId,
    RefundRequestId,
    SpendId,
    SubscriptionId,
    TransactionId,
    UserId,
)
from shared.money import Amount, CurrencyId

AT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
EVENT_ID = EventId(UUID("0194b8d4-0000-7000-8000-000000000001"))
GEMS = CurrencyId("gems")
TRANSACTION = StoreTransaction(
    store="apple",
    environment="sandbox",
    transaction_id=TransactionId("2000000277760217"),
    original_transaction_id=TransactionId("2000000277760200"),
    product_id="com.example.game.gems100",
    product_type="consumable",
    quantity=2,
    purchased_at=AT,
    signed_at=AT,
)
PURCHASE = PurchaseId("pur_1")
ENTRY = WalletChange(
    entry_id="ent_1",
    environment="production",
    currency=GEMS,
    amount=-30,
    balance_after=70,
    version=9,
    kind="refund",
    purchase_id=PURCHASE,
)
REJECTED = PurchaseRejected(
    purchase_id=PURCHASE,
    store="apple",
    transaction_id=TransactionId("7"),
    code="wrong_product",
    detail="not sold here",
)
REQUEST = RefundRequestUpdated(
    refund_request_id=RefundRequestId("rfr_1"),
    purchase_id=PURCHASE,
    environment="production",
    status="open",
    spent_percentage_milli=12_500,
    expires_at=AT + timedelta(days=2),
    held=[Amount(GEMS, 175)],
    reason="the wrong pack",
)
SUBSCRIPTION = SubscriptionState(
    id=SubscriptionId("sub_1"),
    store="apple",
    environment="sandbox",
    status="in_grace_period",
    product_id="com.example.game.vip.monthly",
    original_transaction_id=TransactionId("1"),
    transaction_id=TransactionId("2"),
    period_starts_at=AT,
    expires_at=AT + timedelta(days=28),
    access_until=AT + timedelta(days=44),
    version=3,
    group="vip",
    offer=Offer(type="introductory", discount_type="pay_as_you_go", period="P1M"),
    price_milli=4990,
    currency="EUR",
    auto_renew=True,
    renewal_product_id="com.example.game.vip.yearly",
    renews_at=AT + timedelta(days=28),
    renewal_price_milli=79990,
    renewal_currency="EUR",
    grace_period_expires_at=AT + timedelta(days=44),
)
ENTITLEMENT = EntitlementChanged(
    entitlement=EntitlementId("vip"),
    environment="production",
    active=True,
    until=AT + timedelta(days=28),
    version=4,
    source=SubscriptionId("sub_1"),
)
EXAMPLES: list[Payload] = [
    PurchaseCompleted(PURCHASE, TRANSACTION, [Amount(GEMS, 200)]),
    PurchaseRefunded(PURCHASE, TRANSACTION, [Amount(GEMS, 200)], [Amount(GEMS, 200)]),
    PurchaseRefundReversed(PURCHASE, TRANSACTION, [Amount(GEMS, 200)]),
    REJECTED,
    WalletCredited(ENTRY),
    WalletDebited(ENTRY),
    REQUEST,
    SubscriptionUpdated(SUBSCRIPTION),
    ENTITLEMENT,
]


def event(payload: Payload, *, user_id: str = "alice") -> Event[Payload]:
    return Event(
        id=EVENT_ID,
        app=AppId("game"),
        subject="pur_1",
        user_id=UserId(user_id),
        payload=payload,
        trace_id="0" * 32,
        causation_id=None,
        occurred_at=AT,
        recorded_at=AT + timedelta(seconds=1),
    )


def body_of(payload: Payload) -> dict[str, Any]:
    """What comes out of it at the other end."""
    body: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(outward_document(event(payload))))
    return body


class TestOutwardDocument:
    def test_it_has_a_type_a_time_and_data_and_the_time_is_when_the_fact_occurred(self) -> None:
        document = body_of(WalletDebited(ENTRY))
        assert list(document) == ["type", "timestamp", "data"]
        assert (document["type"], document["timestamp"]) == ("wallet.debited", "2026-01-31T12:00:00.123Z")

    def test_there_is_an_example_here_of_every_outward_event(self) -> None:
        assert {example.TYPE for example in EXAMPLES} == set(OUTWARD)

    @pytest.mark.parametrize("payload", EXAMPLES, ids=lambda payload: payload.TYPE)
    def test_every_outward_event_names_its_user_and_its_environment(self, payload: Payload) -> None:
        data = body_of(payload)["data"]
        assert data["user_id"] == "alice"
        assert data["environment"] in {"production", "sandbox", None}

    @pytest.mark.parametrize(
        "payload",
        [payload for payload in EXAMPLES if not payload.TYPE.startswith(("purchase.", "refund_request."))],
        ids=lambda payload: payload.TYPE,
    )
    def test_what_has_a_state_that_changes_often_says_which_version_of_it_this_is(self, payload: Payload) -> None:
        assert body_of(payload)["data"]["version"] > 0

    def test_an_event_that_is_not_outward_is_told_to_nobody(self) -> None:
        with pytest.raises(OutwardEventUnknown, match=r"account_token\.issued"):
            body_of(AccountTokenIssued(UUID(int=1)))


class TestOutwardData:
    def test_a_completed_purchase_is_the_purchase_of_the_contract(self) -> None:
        assert body_of(PurchaseCompleted(PURCHASE, TRANSACTION, [Amount(GEMS, 200)]))["data"] == {
            "user_id": "alice",
            "environment": "sandbox",
            "id": "pur_1",
            "store": "apple",
            "status": "completed",
            "transaction_id": "2000000277760217",
            "original_transaction_id": "2000000277760200",
            "product_id": "com.example.game.gems100",
            "quantity": 2,
            "granted": [{"currency": "gems", "amount": 200}],
            "refunded": [],
            "rejection": None,
        }

    @pytest.mark.parametrize(
        ("percentage_milli", "status"),
        [(100_000, "refunded"), (99_999, "partially_refunded"), (1, "partially_refunded")],
    )
    def test_a_refund_of_less_than_all_is_a_partial_one(self, percentage_milli: int, status: str) -> None:
        refunded = [Amount(GEMS, 50)]
        payload = PurchaseRefunded(PURCHASE, TRANSACTION, [Amount(GEMS, 200)], refunded, percentage_milli)
        data = body_of(payload)["data"]
        assert (data["status"], data["granted"]) == (status, [{"currency": "gems", "amount": 200}])
        assert data["refunded"] == [{"currency": "gems", "amount": 50}]

    @pytest.mark.parametrize(
        ("cause", "percentage_milli", "status"),
        [
            ("family_sharing_ended", 100_000, "revoked"),
            ("family_sharing_ended", 40_000, "revoked"),
            ("refund", 100_000, "refunded"),
        ],
    )
    def test_what_a_family_member_lost_is_revoked_and_not_refunded(
        self, cause: RevocationCause, percentage_milli: int, status: str
    ) -> None:
        payload = PurchaseRefunded(PURCHASE, TRANSACTION, percentage_milli=percentage_milli, cause=cause)
        assert body_of(payload)["data"]["status"] == status

    @pytest.mark.parametrize(("left_milli", "status"), [(0, "completed"), (40_000, "partially_refunded")])
    def test_a_reversed_refund_leaves_the_purchase_completed_or_the_part_that_is_refunded_still(
        self, left_milli: int, status: str
    ) -> None:
        left = [Amount(GEMS, 80)] if left_milli else []
        payload = PurchaseRefundReversed(PURCHASE, TRANSACTION, [Amount(GEMS, 200)], left, left_milli)
        data = body_of(payload)["data"]
        assert set(data) == set(body_of(EXAMPLES[0])["data"])
        assert (data["id"], data["status"], data["granted"]) == ("pur_1", status, [{"currency": "gems", "amount": 200}])
        assert data["refunded"] == [{"currency": "gems", "amount": amount.amount} for amount in left]

    def test_a_refund_request_is_that_of_the_contract_as_far_as_its_event_says(self) -> None:
        assert body_of(REQUEST)["data"] == {
            "user_id": "alice",
            "environment": "production",
            "id": "rfr_1",
            "purchase_id": "pur_1",
            "status": "open",
            "reason": "the wrong pack",
            "spent_percentage_milli": 12_500,
            "held": [{"currency": "gems", "amount": 175}],
            "expires_at": "2026-02-02T12:00:00.123Z",
        }

    def test_a_subscription_is_that_of_the_contract(self) -> None:
        assert body_of(SubscriptionUpdated(SUBSCRIPTION))["data"] == {
            "user_id": "alice",
            "id": "sub_1",
            "store": "apple",
            "environment": "sandbox",
            "status": "in_grace_period",
            "product_id": "com.example.game.vip.monthly",
            "group": "vip",
            "original_transaction_id": "1",
            "transaction_id": "2",
            "period": {
                "starts_at": "2026-01-31T12:00:00.123Z",
                "expires_at": "2026-02-28T12:00:00.123Z",
                "trial": False,
                "offer": {
                    "type": "introductory",
                    "identifier": None,
                    "discount_type": "pay_as_you_go",
                    "period": "P1M",
                },
                "price_milli": 4990,
                "currency": "EUR",
            },
            "renewal": {
                "auto_renew": True,
                "product_id": "com.example.game.vip.yearly",
                "renews_at": "2026-02-28T12:00:00.123Z",
                "price_milli": 79990,
                "currency": "EUR",
                "offer": None,
                "price_increase": None,
            },
            "access_until": "2026-03-16T12:00:00.123Z",
            "grace_period_expires_at": "2026-03-16T12:00:00.123Z",
            "expiration_reason": None,
            "revoked_at": None,
            "family_shared": False,
            "version": 3,
        }

    def test_of_a_renewal_that_the_store_has_not_spoken_of_nothing_is_said(self) -> None:
        silent = replace(SUBSCRIPTION, auto_renew=None)
        assert body_of(SubscriptionUpdated(silent))["data"]["renewal"] is None

    @pytest.mark.parametrize(
        ("until", "shown"), [(AT, "2026-01-31T12:00:00.123Z"), (None, None)], ids=["for a time", "for ever"]
    )
    def test_an_entitlement_says_whether_it_is_active_until_when_and_what_gives_it(
        self, until: datetime | None, shown: str | None
    ) -> None:
        assert body_of(replace(ENTITLEMENT, until=until))["data"] == {
            "user_id": "alice",
            "environment": "production",
            "id": "vip",
            "active": True,
            "until": shown,
            "source": "sub_1",
            "version": 4,
        }

    def test_an_entitlement_that_has_ended_says_when_and_has_no_source(self) -> None:
        data = body_of(replace(ENTITLEMENT, active=False, until=AT, source=None))["data"]
        assert (data["active"], data["until"], data["source"]) == (False, "2026-01-31T12:00:00.123Z", None)

    def test_a_rejection_says_why_and_has_the_shape_of_any_purchase(self) -> None:
        data = body_of(REJECTED)["data"]
        assert data["rejection"] == {"code": "wrong_product", "detail": "not sold here"}
        assert data["status"] == "rejected"
        assert (data["granted"], data["refunded"]) == ([], [])
        assert set(data) == set(body_of(EXAMPLES[0])["data"])

    def test_a_wallet_event_carries_the_balance_after_and_the_wallets_version(self) -> None:
        assert body_of(WalletDebited(ENTRY))["data"] == {
            "user_id": "alice",
            "environment": "production",
            "entry_id": "ent_1",
            "kind": "refund",
            "currency": "gems",
            "amount": -30,
            "balance_after": 70,
            "version": 9,
            "purchase_id": "pur_1",
        }

    @pytest.mark.parametrize(
        "reason",
        [{"spend_id": SpendId("spd_1"), "reference": "order 7"}, {"grant_id": GrantId("grt_1")}],
        ids=["spend", "grant"],
    )
    def test_a_wallet_event_names_what_moved_the_currency_and_nothing_else(self, reason: dict[str, Any]) -> None:
        moved = body_of(WalletDebited(replace(ENTRY, purchase_id=None, **reason)))["data"]
        by_purchase = body_of(WalletDebited(ENTRY))["data"]
        assert moved == by_purchase | {"purchase_id": None} | reason
