"""What is told, signed and answered of subscriptions: the same truth by every road, and later each time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from random import Random  # noqa: TID251 - seeded: each life is the same in every run
from typing import Any

import pytest

from shared.clock import from_unix_ms, to_unix_ms
from shared.ids import TransactionId
from simulator import choices, lives, state
from simulator.agenda import Setting
from simulator.domain import FieldInvalid, Offer, SimulatorError, TransactionUnknown
from simulator.lengths import WEEK
from simulator.notifications import SenderUnavailable
from simulator.records import Caller, HistoryFilter
from simulator.subscriptions import Status
from simulator.telling import AppAddress, Statement
from tests.support.shop import (
    APP_APPLE_ID,
    BUNDLE_ID,
    GEMS,
    MONTHLY,
    NEWS,
    SHARED_SECRET,
    WEEKLY,
    YEARLY,
    Shop,
    claims,
)

GAME = Caller(BUNDLE_ID, APP_APPLE_ID, "production")
DAY_S = 86_400
TRIAL = Offer("introductory", "free_trial", WEEK)


def subscribed(shop: Shop, product_id: str = MONTHLY, **wanted: Any) -> TransactionId:
    """A new subscription's id."""
    return shop.store.buy(product_id=product_id, **wanted).transaction.original_transaction_id


def told(shop: Shop) -> list[tuple[str, str | None]]:
    return [(each.type, each.subtype) for each in shop.sender.sent]


def newest(shop: Shop) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The newest notification: its `data`, its transaction and its renewal."""
    data = claims(shop.sender.sent[-1].signed_payload)["data"]
    return data, claims(data["signedTransactionInfo"]), claims(data["signedRenewalInfo"])


def age(shop: Shop, days: float) -> None:
    """Time goes on, and what comes due happens by itself."""
    end = shop.clock.now() + timedelta(days=days)
    for _ in range(200):
        due = min(filter(None, (each.due_at() for each in shop.state.subscriptions())), default=end)
        if due >= end:
            break
        shop.clock.advance(max(0.0, (due - shop.clock.now()).total_seconds()))
        for each in shop.state.subscriptions():
            shop.subscribers.advance(each.id)
    else:
        pytest.fail("it stays due for ever")
    shop.clock.advance((end - shop.clock.now()).total_seconds())


# ---- what is signed ---------------------------------------------------------------------------------------------


def test_a_renewal_states_its_period_and_the_next_renewal_in_apples_fields(shop: Shop) -> None:
    original = subscribed(shop)
    age(shop, 31)
    data, transaction, renewal = newest(shop)
    assert told(shop)[-1] == ("DID_RENEW", None)
    assert (data["status"], transaction["transactionReason"]) == (1, "RENEWAL")
    assert (transaction["originalTransactionId"], transaction["transactionId"] != original) == (original, True)
    assert renewal == {
        "originalTransactionId": original,
        "autoRenewProductId": MONTHLY,
        "productId": MONTHLY,
        "autoRenewStatus": 1,
        "isInBillingRetryPeriod": False,
        "renewalPrice": transaction["price"],
        "currency": "USD",
        "signedDate": transaction["signedDate"],
        "environment": "Production",
        "recentSubscriptionStartDate": transaction["originalPurchaseDate"],
        "renewalDate": transaction["expiresDate"],
        "appTransactionId": transaction["appTransactionId"],
    }
    shop.apple.verify_and_decode_notification(shop.sender.sent[-1].signed_payload)


def test_a_trial_is_stated_as_an_offer_that_costs_nothing(shop: Shop) -> None:
    subscribed(shop, offer=TRIAL)
    _, transaction, renewal = newest(shop)
    offer = {name: value for name, value in transaction.items() if name.startswith("offer")}
    assert offer == {"offerType": 1, "offerDiscountType": "FREE_TRIAL", "offerPeriod": "P1W"}
    assert transaction["price"] == 0
    assert renewal["renewalPrice"] > 0
    assert "offerType" not in renewal


def test_a_grace_period_and_what_follows_it_are_stated(shop: Shop) -> None:
    original = subscribed(shop)
    shop.subscribers.fail_billing(original, grace=True, now=False)
    age(shop, 31)
    data, transaction, renewal = newest(shop)
    assert (data["status"], renewal["isInBillingRetryPeriod"], "expirationIntent" in renewal) == (4, True, False)
    assert renewal["gracePeriodExpiresDate"] == transaction["expiresDate"] + 16 * DAY_S * 1000
    age(shop, 16)
    data, _, renewal = newest(shop)
    assert (data["status"], renewal["expirationIntent"]) == (3, 2)
    age(shop, 50)
    data, _, renewal = newest(shop)
    assert (data["status"], renewal["expirationIntent"], renewal["isInBillingRetryPeriod"]) == (2, 2, False)
    assert told(shop)[1:] == [
        ("DID_FAIL_TO_RENEW", "GRACE_PERIOD"),
        ("GRACE_PERIOD_EXPIRED", None),
        ("EXPIRED", "BILLING_RETRY"),
    ]


def test_without_renewal_there_is_no_price_of_it(shop: Shop) -> None:
    shop.subscribers.befall(subscribed(shop), choices.cancel)
    _, _, renewal = newest(shop)
    assert renewal["autoRenewStatus"] == 0
    assert not {"renewalPrice", "currency"} & renewal.keys()


@pytest.mark.parametrize(("accepted", "status"), [(False, 0), (True, 1)])
def test_a_price_increase_is_stated_with_its_answer(shop: Shop, accepted: bool, status: int) -> None:
    shop.subscribers.befall(subscribed(shop), lambda it, moment: lives.increase_price(it, moment, accepted=accepted))
    _, transaction, renewal = newest(shop)
    assert (renewal["priceIncreaseStatus"], renewal["renewalPrice"]) == (status, transaction["price"] * 6 // 5)


def test_after_an_upgrade_the_old_transaction_says_so_and_nothing_was_refunded(shop: Shop) -> None:
    original = subscribed(shop)
    shop.subscribers.befall_with_product(original, choices.upgrade, product_id=YEARLY)
    old = claims(shop.store.transaction(original).signed_transaction)
    assert (old["isUpgraded"], "revocationDate" in old) == (True, False)
    assert "isUpgraded" not in newest(shop)[1]


def test_a_refund_of_an_older_period_is_about_that_and_says_how_the_subscription_stands(shop: Shop) -> None:
    original = subscribed(shop)
    age(shop, 31)
    renewed = newest(shop)[1]["transactionId"]
    shop.store.refund(original, percent=50)
    data, transaction, renewal = newest(shop)
    assert (transaction["transactionId"], transaction["revocationPercentage"], data["status"]) == (original, 50_000, 1)
    assert renewal["autoRenewStatus"] == 1
    shop.store.refund(TransactionId(renewed))
    data, transaction, renewal = newest(shop)
    assert (transaction["transactionId"], data["status"], renewal["autoRenewStatus"]) == (renewed, 5, 0)


def test_a_reversed_refund_restores_the_status_and_keeps_the_dates(shop: Shop) -> None:
    original = subscribed(shop)
    expires = newest(shop)[1]["expiresDate"]
    shop.store.refund(original)
    shop.store.reverse_refund(original)
    data, transaction, renewal = newest(shop)
    assert (data["status"], transaction["expiresDate"], renewal["renewalDate"]) == (1, expires, expires)


def test_an_account_token_stays_with_every_renewal(shop: Shop) -> None:
    token = "00000000-0000-0000-0000-000000000005"
    subscribed(shop, app_account_token=token)
    age(shop, 31)
    _, transaction, renewal = newest(shop)
    assert transaction["appAccountToken"] == renewal["appAccountToken"] == token


def test_a_family_members_renewal_is_shared_and_has_no_price(shop: Shop) -> None:
    subscribed(shop, family_shared=True)
    age(shop, 31)
    _, transaction, renewal = newest(shop)
    assert transaction["inAppOwnershipType"] == "FAMILY_SHARED"
    assert not {"price", "currency"} & transaction.keys()
    assert "renewalPrice" not in renewal


# ---- every road says the same -----------------------------------------------------------------------------------


def commands(shop: Shop, original: TransactionId) -> list[Callable[[], Statement]]:
    """Everything that can befall a subscription."""
    befall, with_product = shop.subscribers.befall, shop.subscribers.befall_with_product
    current = shop.state.subscription(original).period.transaction_id
    half = Offer("offer_code", "pay_as_you_go", WEEK, "half")
    return [
        lambda: befall(original, lives.renew),
        lambda: befall(original, lives.expire),
        lambda: befall(original, lives.end_grace),
        lambda: befall(original, lives.recover),
        lambda: befall(original, choices.cancel),
        lambda: befall(original, choices.resume),
        lambda: befall(original, lambda it, at: lives.extend(it, at, days=7)),
        lambda: befall(original, lambda it, at: lives.increase_price(it, at, accepted=False)),
        lambda: befall(original, lambda it, at: lives.increase_price(it, at, accepted=True)),
        lambda: shop.subscribers.fail_billing(original, grace=True, now=True),
        lambda: shop.subscribers.fail_billing(original, grace=False, now=False),
        lambda: with_product(original, choices.upgrade, product_id=YEARLY),
        lambda: with_product(original, choices.downgrade, product_id=WEEKLY),
        lambda: with_product(original, choices.revert_downgrade),
        lambda: with_product(original, choices.resubscribe, product_id=WEEKLY),
        lambda: with_product(
            original, lambda it, at, *, to: choices.redeem_offer(it, at, offer=half, to=to, effect=None)
        ),
        lambda: shop.store.refund(current),
        lambda: shop.store.refund(original, percent=40),
        lambda: shop.store.reverse_refund(current),
        lambda: shop.store.reverse_refund(original),
        lambda: shop.store.request_refund(current),
        lambda: shop.store.decline_refund(original),
        lambda: shop.store.finish(current),
    ]


@pytest.mark.parametrize("seed", range(30))
def test_in_any_life_statements_get_later_and_the_newest_is_what_every_road_answers(shop: Shop, seed: int) -> None:
    chance = Random(seed)
    original = subscribed(shop, chance.choice((MONTHLY, WEEKLY, YEARLY)))
    happened = 0
    for _ in range(60):
        try:
            chance.choice(commands(shop, original))()
            happened += 1
        except SimulatorError:
            age(shop, chance.choice((0, 0, 3, 20, 70)))
    assert happened >= 10
    _assert_each_statement_is_later(shop)
    _assert_all_roads_agree(shop, original)


def _assert_each_statement_is_later(shop: Shop) -> None:
    dates: dict[str, list[int]] = defaultdict(list)
    for each in shop.sender.sent:
        payload = claims(each.signed_payload)
        renewal = claims(payload["data"]["signedRenewalInfo"])
        transaction = claims(payload["data"]["signedTransactionInfo"])
        assert payload["signedDate"] == renewal["signedDate"] == transaction["signedDate"]
        assert renewal["originalTransactionId"] == transaction["originalTransactionId"]
        dates[renewal["originalTransactionId"]].append(payload["signedDate"])
    assert all(each == sorted(set(each)) for each in dates.values())


def _assert_all_roads_agree(shop: Shop, original: TransactionId) -> None:
    truth = shop.subscribers.truth(original)
    (last,) = shop.records.subscriptions(GAME, original, statuses=frozenset())
    transaction, renewal = claims(last.signed_transaction), claims(last.signed_renewal)
    assert last.status == truth.status
    assert transaction["transactionId"] == truth.subscription.period.transaction_id
    page = shop.records.history(GAME, original, wanted=HistoryFilter(), newest_first=False, after=None)
    assert len(page.signed_transactions) == min(20, len(truth.periods))
    answer = shop.store.verify_receipt(
        receipt_data=shop.store.transaction(original).receipt,
        password=SHARED_SECRET,
        exclude_old=False,
        asked="production",
    )
    rows = {row["transaction_id"]: row for row in answer["latest_receipt_info"]}
    assert rows.keys() == {each.transaction_id for each in truth.periods}
    current = rows[transaction["transactionId"]]
    assert current["expires_date_ms"] == str(transaction["expiresDate"])
    assert ("cancellation_date_ms" in current) == (truth.status is Status.REVOKED)
    (pending,) = answer["pending_renewal_info"]
    assert pending["auto_renew_status"] == str(renewal["autoRenewStatus"])
    assert pending["auto_renew_product_id"] == renewal["autoRenewProductId"]
    assert pending.get("expiration_intent") == (
        str(renewal["expirationIntent"]) if "expirationIntent" in renewal else None
    )
    assert pending.get("is_in_billing_retry_period", "0") == str(int(renewal["isInBillingRetryPeriod"]))


# ---- commands ---------------------------------------------------------------------------------------------------


def test_a_failing_card_strikes_now_unless_subscriptions_live_by_themselves(shop: Shop) -> None:
    by_hand, by_clock = subscribed(shop), subscribed(shop)
    shop.subscribers.fail_billing(by_hand)
    shop.agenda.put(Setting(running=True))
    shop.subscribers.fail_billing(by_clock)
    assert [shop.subscribers.truth(each).status for each in (by_hand, by_clock)] == [Status.RETRY, Status.ACTIVE]


@pytest.mark.parametrize("product_id", [NEWS, GEMS, "unheard.of"])
def test_only_subscriptions_of_the_group_can_be_changed_to(shop: Shop, product_id: str) -> None:
    with pytest.raises(FieldInvalid, match="product_id"):
        shop.subscribers.befall_with_product(subscribed(shop), choices.upgrade, product_id=product_id)


def test_nobody_is_told_when_notify_is_false(shop: Shop) -> None:
    original = subscribed(shop, notify=False)
    assert shop.subscribers.befall(original, lives.renew, notify=False).notification_id is None
    assert told(shop) == []


def test_a_full_queue_refuses_the_command_before_it_is_done(shop: Shop) -> None:
    original = subscribed(shop)
    shop.sender.has_room = False
    with pytest.raises(SenderUnavailable):
        shop.subscribers.befall(original, lives.renew)
    assert len(shop.subscribers.truth(original).periods) == 1


def test_an_unknown_subscription_is_unknown(shop: Shop) -> None:
    with pytest.raises(TransactionUnknown, match="no subscription"):
        shop.subscribers.befall(TransactionId("1"), lives.renew)


def test_all_of_a_product_are_extended_and_a_summary_says_how_many(shop: Shop) -> None:
    active, unpaid, over, other = (subscribed(shop, each) for each in (MONTHLY, MONTHLY, MONTHLY, YEARLY))
    sandbox = subscribed(shop, environment="sandbox")
    shop.subscribers.fail_billing(unpaid, grace=True)
    shop.subscribers.befall(over, lives.expire)
    ends = {each: shop.state.subscription(each).expires_at for each in (active, unpaid, over, other, sandbox)}
    done = shop.subscribers.extend_all(AppAddress(BUNDLE_ID, APP_APPLE_ID, "production"), product_id=MONTHLY, days=3)
    moved = [each for each in ends if shop.state.subscription(each).expires_at != ends[each]]
    assert (moved, done.succeeded, done.failed) == ([active], 1, 1)
    assert told(shop)[-3:] == [
        ("RENEWAL_EXTENDED", None),
        ("RENEWAL_EXTENSION", "FAILURE"),
        ("RENEWAL_EXTENSION", "SUMMARY"),
    ]
    payload = claims(shop.sender.sent[-1].signed_payload)
    assert "data" not in payload
    assert payload["summary"] == {
        "appAppleId": APP_APPLE_ID,
        "bundleId": BUNDLE_ID,
        "environment": "Production",
        "requestIdentifier": str(done.request_id),
        "productId": MONTHLY,
        "storefrontCountryCodes": ["USA"],
        "succeededCount": 1,
        "failedCount": 1,
    }
    shop.apple.verify_and_decode_notification(shop.sender.sent[-1].signed_payload)


def test_a_product_that_nobody_subscribes_to_is_not_extended(shop: Shop) -> None:
    with pytest.raises(FieldInvalid, match="nobody"):
        shop.subscribers.extend_all(AppAddress(BUNDLE_ID, APP_APPLE_ID, "production"), product_id=MONTHLY, days=3)


# ---- by itself --------------------------------------------------------------------------------------------------


def test_what_is_not_due_does_not_happen(shop: Shop) -> None:
    original = subscribed(shop)
    shop.subscribers.advance(original)
    assert len(told(shop)) == 1


def test_what_was_missed_is_caught_up_with_period_by_period(shop: Shop) -> None:
    original = subscribed(shop)
    began = shop.state.subscription(original).period.purchased_at
    shop.clock.advance(100 * DAY_S)
    for _ in range(5):
        shop.subscribers.advance(original)
    periods = shop.subscribers.truth(original).periods
    starts = [each.purchased_at for each in periods]
    assert starts == [began, *(each.expires_at for each in periods[:-1])]
    assert len(starts) == 4


def test_while_there_is_no_room_to_tell_it_nothing_happens_and_it_stays_due(shop: Shop) -> None:
    original = subscribed(shop)
    shop.agenda.put(Setting(running=True))
    shop.clock.advance(32 * DAY_S)
    shop.sender.has_room = False
    assert shop.agenda.take() == original
    shop.subscribers.advance(original)
    assert len(shop.subscribers.truth(original).periods) == 1
    shop.sender.has_room = True
    assert shop.agenda.take() == original
    shop.subscribers.advance(original)
    assert len(shop.subscribers.truth(original).periods) == 2


def test_who_has_as_many_transactions_as_one_can_have_is_renewed_no_more(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = subscribed(shop)
    monkeypatch.setattr(state, "CUSTOMER_TRANSACTIONS_MAX", 2)
    age(shop, 100)
    assert told(shop)[1:] == [("DID_RENEW", None), ("EXPIRED", None)]
    assert newest(shop)[2]["expirationIntent"] == 5
    assert shop.subscribers.truth(original).subscription.due_at() is None


# ---- the truth --------------------------------------------------------------------------------------------------


def test_the_truth_is_listed_oldest_first_page_by_page_and_by_customer_and_status(shop: Shop) -> None:
    first, second, third = (subscribed(shop, customer=each) for each in ("ann", "bob", "cid"))
    shop.subscribers.befall(second, lives.expire)

    def listed(**wanted: Any) -> list[TransactionId]:
        query: dict[str, Any] = {"limit": 10, "after": None, "customer": None, "status": None} | wanted
        return [each.subscription.id for each in shop.subscribers.truths(**query)]

    assert listed() == [first, second, third]
    assert (listed(limit=2), listed(after=second)) == ([first, second], [third])
    assert (listed(customer="bob"), listed(status=Status.EXPIRED)) == ([second], [second])


def test_a_customer_has_a_subscription_of_each_group_and_the_familys_beside_the_own(shop: Shop) -> None:
    vip, news = (subscribed(shop, each, customer="ann") for each in (MONTHLY, NEWS))
    shop.subscribers.befall(vip, lives.expire)
    shared = subscribed(shop, customer="ann", family_shared=True)
    assert len({vip, news, shared}) == 3
    found = shop.records.subscriptions(GAME, news, statuses=frozenset())
    assert [(each.group, each.status) for each in found] == [("news", 1), ("vip", 2), ("vip", 1)]


def test_a_subscription_of_which_only_a_receipt_is_left_renews_as_long_as_it_runs(shop: Shop) -> None:
    runs, over = shop.store.buy(product_id=MONTHLY), shop.store.buy(product_id=WEEKLY)
    other = state.State(shop.clock)
    shop.clock.advance(10 * DAY_S)
    other.adopt([runs.transaction, over.transaction])
    remembered = [other.subscription(each.transaction.transaction_id) for each in (runs, over)]
    assert [(each.auto_renew, each.status(shop.clock.now())) for each in remembered] == [
        (True, Status.ACTIVE),
        (False, Status.EXPIRED),
    ]


def test_a_period_that_is_the_last_to_be_remembered_takes_its_subscription_along(shop: Shop) -> None:
    first, second = (shop.store.buy(product_id=MONTHLY).transaction for _ in range(2))
    small = state.State(shop.clock, transactions_max=1)
    small.adopt([first])
    small.adopt([second])
    assert [each.id for each in small.subscriptions()] == [second.transaction_id]


def test_dates_are_of_whole_milliseconds_and_real(shop: Shop) -> None:
    subscribed(shop)
    _, transaction, _ = newest(shop)
    assert transaction["purchaseDate"] == to_unix_ms(from_unix_ms(transaction["purchaseDate"]))
    assert abs(from_unix_ms(transaction["purchaseDate"]) - shop.clock.now()) < timedelta(milliseconds=2)
