"""What an endpoint is told, and what its answer means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain import (
    RETRY_AFTER_S_MAX,
    RETRY_DELAYS_S,
    Answer,
    AttemptNumber,
    Delivery,
    OutwardEventUnknown,
    SwitchedOff,
    Verdict,
    endpoint_problems,
    judge,
    message_of,
    read_retry_after,
)
from shared.apps import Apps, parse_apps
from shared.events import (
    OUTWARD,
    AccountTokenIssued,
    EntitlementChanged,
    Event,
    Offer,
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
    body: dict[str, Any] = msgspec.json.decode(message_of(event(payload)).body)
    return body


class TestMessage:
    def test_its_id_is_the_events_and_its_time_is_when_the_fact_occurred(self) -> None:
        message = message_of(event(WalletDebited(ENTRY)))
        body = msgspec.json.decode(message.body)
        assert message.id == str(EVENT_ID)
        assert list(body) == ["type", "timestamp", "data"]
        assert (body["type"], body["timestamp"]) == ("wallet.debited", "2026-01-31T12:00:00.123Z")

    def test_it_is_the_same_bytes_each_time_it_is_made(self) -> None:
        assert message_of(event(EXAMPLES[0])).body == message_of(event(EXAMPLES[0])).body

    def test_there_is_an_example_here_of_every_outward_event(self) -> None:
        assert {example.TYPE for example in EXAMPLES} == set(OUTWARD)

    @pytest.mark.parametrize("payload", EXAMPLES, ids=lambda payload: payload.TYPE)
    def test_every_outward_event_names_its_user_and_its_environment(self, payload: Payload) -> None:
        data = body_of(payload)["data"]
        assert data["user_id"] == "alice"
        assert data["environment"] in {"production", "sandbox", None}

    def test_an_event_that_is_not_outward_is_told_to_nobody(self) -> None:
        with pytest.raises(OutwardEventUnknown, match=r"account_token\.issued"):
            message_of(event(AccountTokenIssued(UUID(int=1))))


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


def answer(status: int | None, *, retry_after_s: float | None = None, trouble: str | None = None) -> Answer:
    return Answer(at=AT, duration_ms=7, status=status, retry_after_s=retry_after_s, trouble=trouble)


def judged(what: Answer, *, number: int = 1, jitter: float = 1.0, probing: bool = False) -> Verdict:
    return judge(what, number=AttemptNumber(number), jitter=jitter, probing=probing)


class TestJudge:
    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    def test_any_2xx_is_delivered(self, status: int) -> None:
        assert judged(answer(status)) == Verdict("delivered")

    @pytest.mark.parametrize("status", [199, 300, 301, 302, 307, 400, 401, 404, 409, 429, 500, 503, None])
    def test_anything_else_is_tried_again(self, status: int | None) -> None:
        assert judged(answer(status)).state == "waiting"

    def test_the_delays_are_those_of_the_contract_and_then_it_is_exhausted(self) -> None:
        verdicts = [judged(answer(500), number=number) for number in range(1, 11)]
        hours = [2, 5, 10, 14, 20, 24]
        assert [verdict.delay_s for verdict in verdicts[:-1]] == [5, 300, 1800, *(hour * 3600 for hour in hours)]
        assert verdicts[-1].state == "exhausted"
        assert verdicts[-1].reason == "not taken in 10 attempts, the last one: answered 500"

    def test_an_attempt_beyond_the_schedule_that_fails_is_exhausted_again(self) -> None:
        assert judged(answer(500), number=11).state == "exhausted"

    @pytest.mark.parametrize(("asked_s", "delay_s"), [(60, 60), (2, 5), (0, 5)])
    def test_retry_after_puts_the_next_attempt_off_but_never_brings_it_forward(
        self, asked_s: float, delay_s: float
    ) -> None:
        assert judged(answer(429, retry_after_s=asked_s)).delay_s == delay_s

    @given(
        number=st.integers(1, len(RETRY_DELAYS_S)),
        asked_s=st.none() | st.floats(0, RETRY_AFTER_S_MAX),
        jitter=st.floats(1.0, 1.2),
    )
    def test_jitter_never_makes_a_retry_come_sooner(self, number: int, asked_s: float | None, jitter: float) -> None:
        delay_s = judged(answer(503, retry_after_s=asked_s), number=number, jitter=jitter).delay_s
        least_s = max(RETRY_DELAYS_S[number - 1], asked_s or 0)
        assert delay_s is not None
        assert least_s <= delay_s <= least_s * 1.2

    @pytest.mark.parametrize("number", [1, 10, 11])
    def test_410_switches_the_endpoint_off_at_any_attempt(self, number: int) -> None:
        verdict = judged(answer(410), number=number)
        assert (verdict.state, verdict.endpoint, verdict.delay_s) == ("parked", "switch off", None)

    def test_a_probe_that_is_taken_switches_the_endpoint_on(self) -> None:
        assert judged(answer(204), probing=True) == Verdict("delivered", endpoint="switch on")

    def test_a_probe_that_fails_parks_its_delivery_again(self) -> None:
        verdict = judged(answer(500), probing=True)
        assert (verdict.state, verdict.reason) == ("parked", "the endpoint stays switched off: answered 500")

    def test_no_answer_is_told_with_its_trouble(self) -> None:
        assert judged(answer(None, trouble="no answer within 15 s")).reason == "no answer within 15 s"


class TestDelivery:
    def test_an_endpoint_that_was_switched_off_is_on_again_under_another_url(self) -> None:
        delivery = Delivery("waiting", event(EXAMPLES[0]), SwitchedOff(url="https://old.example/", reason="gone"))
        assert delivery.switched_off_at("https://old.example/") is not None
        assert delivery.switched_off_at("https://new.example/") is None


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120.0),
            (" 7 ", 7.0),
            ("0", 0.0),
            ("Sat, 31 Jan 2026 12:01:00 GMT", 60.0),
            ("Saturday, 31-Jan-26 12:01:00 GMT", 60.0),
            ("Sat Jan 31 12:01:00 2026", 60.0),
            ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
            ("99999999999", RETRY_AFTER_S_MAX),
            ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_S_MAX),
            (None, None),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("²", None),
        ],
    )
    def test_seconds_and_dates_are_read_and_capped(self, value: str | None, seconds: float | None) -> None:
        assert read_retry_after(value, now=AT.replace(microsecond=0)) == seconds

    @given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d+:\d+:\d+ [-+A-Z0-9]{0,6}"))
    def test_no_header_whatever_it_holds_is_an_error(self, value: str) -> None:
        seconds = read_retry_after(value, now=AT)
        assert seconds is None or 0 <= seconds <= RETRY_AFTER_S_MAX


GOOD_SECRET = "whsec_" + "QUJD" * 8


def apps_with(*, url: str = "https://backend.example/hooks", secret: str = GOOD_SECRET) -> Apps:
    return parse_apps(f"""
        [[apps]]
        id = "game"
        name = "Game"
        [apps.apple]
        bundle_id = "com.example.game"
        [[apps.webhooks]]
        id = "backend"
        url = "{url}"
        secret = "{secret}"
    """)


def problems(apps: Apps, *, production: bool) -> list[str]:
    return endpoint_problems(apps, production=production)


class TestEndpointProblems:
    def test_https_and_a_secret_of_ones_own_are_fit_for_production(self) -> None:
        assert problems(apps_with(), production=True) == []

    def test_plain_http_is_refused_in_production_only(self) -> None:
        apps = apps_with(url="http://127.0.0.1:8091/hooks")
        assert problems(apps, production=False) == []
        assert problems(apps, production=True) == [
            "app 'game': webhook 'backend': url has to be https://… in production"
        ]

    @pytest.mark.parametrize(
        "url", ["", "backend.example/hooks", "ftp://backend.example/", "https://", "http://[::1", "http://h:99999/"]
    )
    def test_what_is_no_url_is_refused(self, url: str) -> None:
        assert problems(apps_with(url=url), production=False) == [
            "app 'game': webhook 'backend': url has to be http(s)://host[:port]/path"
        ]

    @pytest.mark.parametrize(
        "secret", ["", "QUJD" * 8, "whsec_", "whsec_QUJD", "whsec_" + "*" * 32, "whsec_" + "QUJD" * 40, "whsec_ü" * 9]
    )
    def test_a_secret_that_is_no_secret_of_the_standard_is_refused_and_not_quoted(self, secret: str) -> None:
        (problem,) = problems(apps_with(secret=secret), production=False)
        assert "secret has to be whsec_" in problem
        assert not secret or secret not in problem.removeprefix(
            "app 'game': webhook 'backend': secret has to be whsec_"
        )
