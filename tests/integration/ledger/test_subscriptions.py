"""Subscriptions and entitlements on a real database: what stores say becomes what users may use, once each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from ledger.domain.entitlements import FOR_EVER, Entitlement, Holder
from ledger.domain.subscriptions import SubscriptionKey
from ledger.handlers.entitlements import end_entitlements
from ledger.handlers.facts import apply_facts
from ledger.handlers.subscriptions import hear_subscriptions, lapse_subscriptions
from shared.catalog import Catalog
from shared.events import (
    EntitlementChanged,
    Event,
    PurchaseCompleted,
    PurchaseRefunded,
    StoreTransaction,
    SubscriptionChanged,
    SubscriptionState,
    SubscriptionUpdated,
)
from shared.ids import EntitlementId, TransactionId, UserId, subscription_id
from shared.outcome import Handled
from tests.support.ledger import (
    ALICE,
    APPS,
    BOB,
    EMPTY_CATALOG,
    GAME,
    GEMS,
    NOW,
    balances_of,
    faults,
    refund_reversed,
    refunded,
    said,
    verified,
)
from tests.support.ledger_subscriptions import (
    DAY,
    FREE_TRIAL,
    MONTH,
    SHOP,
    at,
    changed,
    period,
    renewal,
    taken_back,
)
from tests.support.ledger_tables import tables_on
from tests.support.seeded import seeded_ids

ids = seeded_ids(5)
VIP, GOLD, ADFREE, SEASON = map(EntitlementId, ("vip", "gold", "adfree", "season"))
KEY = SubscriptionKey(GAME, "apple", "production", TransactionId("1"))
HOLDER = Holder(GAME, "production", ALICE)


def tell(connection: Connection, *events: Event[Any], now: datetime = NOW, catalog: Catalog = SHOP) -> Handled:
    """Each by itself, as the worker takes events of different types."""
    handled = [_tell(connection, event, now, catalog) for event in events]
    return Handled(
        drafts=[draft for each in handled for draft in each.drafts],
        parked={id: reason for each in handled for id, reason in each.parked.items()},
    )


def _tell(connection: Connection, event: Event[Any], now: datetime, catalog: Catalog) -> Handled:
    tables = tables_on(connection)
    if isinstance(event.payload, SubscriptionChanged):
        return hear_subscriptions([event], tables=tables, catalog=catalog, now=now)
    return apply_facts([event], tables=tables, catalog=catalog, apps=APPS, new_id=ids.event_id, now=now)


def state(connection: Connection, original: str = "1") -> SubscriptionState | None:
    key = KEY._replace(original_transaction_id=TransactionId(original))
    return tables_on(connection).subscriptions.lock([key])[key].told


def entitlements(connection: Connection, user: UserId = ALICE) -> dict[EntitlementId, Entitlement]:
    """What the user may use, as was told."""
    holder = HOLDER._replace(user_id=user)
    told = tables_on(connection).entitlements.lock([holder])[holder].told
    return {id: entitlement for id, entitlement in told.items() if entitlement.active}


def until(connection: Connection, entitlement: EntitlementId = VIP) -> datetime | None:
    held = entitlements(connection).get(entitlement)
    return held.until if held else None


def words(handled: Handled) -> list[str]:
    return sorted(said(handled.drafts))


def non_consumable(transaction_id: str = "1", *, charge: str | None = None, **of: Any) -> StoreTransaction:
    return plain("adfree", "non_consumable", transaction_id, charge=charge, **of)


def plain(
    product: str,
    product_type: Any,
    transaction_id: str,
    *,
    charge: str | None = None,
    bought: timedelta = timedelta(),
    family_shared: bool = False,
    quantity: int = 1,
) -> StoreTransaction:
    return StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=TransactionId(transaction_id),
        original_transaction_id=TransactionId(charge or transaction_id),
        product_id=product,
        product_type=product_type,
        quantity=quantity,
        purchased_at=at(bought),
        signed_at=at(bought),
        charge_id=None if charge is None else TransactionId(charge),
        family_shared=family_shared,
    )


# ---- a purchase is complete with all that it gives --------------------------------------------------------------


def test_a_period_that_is_bought_credits_its_currency_and_gives_its_entitlements_at_once(
    connection: Connection,
) -> None:
    handled = tell(connection, verified(period()))
    assert words(handled) == ["entitlement.changed", "purchase.completed", "subscription.updated", "wallet.credited"]
    assert balances_of(connection, ALICE) == {GEMS: 300}
    assert until(connection) == at(MONTH)
    told = state(connection)
    assert told is not None
    assert (told.status, told.auto_renew, told.version, told.price_milli) == ("active", None, 1, 9_990)
    assert faults(connection) == []


def test_the_events_name_the_subscription_and_the_user(connection: Connection) -> None:
    handled = tell(connection, verified(period()))
    updated = next(draft for draft in handled.drafts if isinstance(draft.payload, SubscriptionUpdated))
    given = next(draft for draft in handled.drafts if isinstance(draft.payload, EntitlementChanged))
    assert (updated.subject, updated.user_id) == (KEY.id, ALICE)
    assert isinstance(given.payload, EntitlementChanged)
    assert (given.payload.source, given.payload.until, given.payload.active) == (KEY.id, at(MONTH), True)
    assert given.subject.startswith("ent_")


def test_what_is_said_twice_is_heard_once(connection: Connection) -> None:
    statement = changed(period(), renewal=renewal())
    tell(connection, verified(period()), statement)
    assert said(tell(connection, statement).drafts) == []
    assert said(tell(connection, changed(period(), renewal=renewal())).drafts) == []


def test_what_is_signed_again_and_says_the_same_is_no_news(connection: Connection) -> None:
    tell(connection, verified(period()), changed(period(), renewal=renewal()))
    again = changed(period(signed=DAY), renewal=renewal(signed=DAY))
    assert said(tell(connection, again, now=at(DAY)).drafts) == []


def test_each_paid_period_is_granted_once(connection: Connection) -> None:
    tell(connection, verified(period(1)))
    tell(connection, verified(period(2, starts=MONTH)), now=at(MONTH))
    tell(connection, verified(period(2, starts=MONTH)), now=at(MONTH))
    assert balances_of(connection, ALICE) == {GEMS: 600}
    assert until(connection) == at(2 * MONTH)


def test_a_restored_copy_of_a_period_completes_and_grants_nothing_more(connection: Connection) -> None:
    tell(connection, verified(period(1)))
    copy = verified(period(1, shown_as="900", signed=DAY))
    (told,) = (each for each in tell(connection, copy).drafts if each.payload.TYPE == PurchaseCompleted.TYPE)
    assert told.payload == PurchaseCompleted(copy.payload.purchase_id, copy.payload.transaction)
    assert (told.subject, told.user_id) == (copy.payload.purchase_id, ALICE)
    assert balances_of(connection, ALICE) == {GEMS: 300}
    assert faults(connection) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_refund_takes_the_period_back_under_whichever_id_the_store_names_it(
    connection: Connection, order: Sequence[int]
) -> None:
    facts: list[Event[Any]] = [
        verified(period(1)),
        verified(period(1, shown_as="900", signed=DAY)),
        refunded(period(1, shown_as="900", signed=2 * DAY)),
    ]
    handled = [tell(connection, facts[index], now=at(2 * DAY)) for index in order]
    assert balances_of(connection, ALICE) == {}
    assert entitlements(connection) == {}
    told = state(connection)
    assert told is not None
    assert told.status == "refunded"
    subjects = {fact.payload.purchase_id for fact in facts[:2]}
    refunds = [
        draft.payload.purchase_id
        for each in handled
        for draft in each.drafts
        if isinstance(draft.payload, PurchaseRefunded)
    ]
    assert refunds
    assert set(refunds) <= subjects
    assert faults(connection) == []


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (period(offer=FREE_TRIAL), "a free trial"),
        (period(family_shared=True), "shared by a family member"),
        (period(product="legacy", starts=-DAY), "granted by the system before"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_paid_to_us_is_used_and_grants_no_currency(
    connection: Connection, of: StoreTransaction, why: str
) -> None:
    handled = tell(connection, verified(of))
    assert words(handled) == ["entitlement.changed", "purchase.completed", "subscription.updated"], why
    assert balances_of(connection, ALICE) == {}
    assert VIP in entitlements(connection)


def test_a_paid_offer_grants_as_any_period(connection: Connection) -> None:
    tell(connection, verified(period(product="legacy")))
    assert balances_of(connection, ALICE) == {GEMS: 300}


def test_a_period_refunded_in_part_loses_that_part_and_the_subscription_ends(connection: Connection) -> None:
    tell(connection, verified(period()), refunded(period(signed=DAY), milli=40_000), now=at(DAY))
    assert balances_of(connection, ALICE) == {GEMS: 180}
    assert entitlements(connection) == {}


def test_a_refund_of_an_old_period_leaves_the_newer_one_alone(connection: Connection) -> None:
    tell(connection, verified(period(1)), verified(period(2, starts=MONTH)), now=at(MONTH))
    tell(connection, refunded(period(1, signed=MONTH + DAY)), now=at(MONTH + DAY))
    assert balances_of(connection, ALICE) == {GEMS: 300}
    told = state(connection)
    assert told is not None
    assert told.status == "active"
    assert until(connection) == at(2 * MONTH)


def test_a_refund_that_is_taken_back_gives_all_of_it_again(connection: Connection) -> None:
    tell(connection, verified(period()), refunded(period(signed=DAY)), now=at(DAY))
    handled = tell(connection, refund_reversed(period(signed=2 * DAY)), now=at(2 * DAY))
    assert "entitlement.changed" in words(handled)
    assert balances_of(connection, ALICE) == {GEMS: 300}
    assert until(connection) == at(MONTH)


def test_a_refund_that_comes_first_leaves_nothing_to_use(connection: Connection) -> None:
    handled = tell(connection, refunded(period(signed=DAY)), verified(period()), now=at(DAY))
    assert "entitlement.changed" not in words(handled)
    assert balances_of(connection, ALICE) == {}


# ---- what is said beside purchases ------------------------------------------------------------------------------


def test_what_nobody_has_claimed_is_remembered_and_told_to_nobody(connection: Connection) -> None:
    assert said(tell(connection, changed(period(), user=None, renewal=renewal())).drafts) == []
    assert state(connection) is None
    handled = tell(connection, verified(period()))
    updated = next(draft.payload for draft in handled.drafts if isinstance(draft.payload, SubscriptionUpdated))
    assert updated.subscription.auto_renew is True  # what was said before somebody claimed it


def test_a_renewal_that_is_switched_off_changes_what_is_told_and_not_what_may_be_used(connection: Connection) -> None:
    tell(connection, verified(period()))
    off = changed(period(signed=DAY), renewal=renewal(signed=DAY, auto_renew=False))
    assert said(tell(connection, off, now=at(DAY)).drafts) == ["subscription.updated"]
    assert until(connection) == at(MONTH)


def test_a_period_of_grace_lengthens_what_may_be_used(connection: Connection) -> None:
    tell(connection, verified(period()))
    failed = renewal(signed=MONTH, in_billing_retry=True, grace_until=MONTH + 16 * DAY)
    handled = tell(connection, changed(period(signed=MONTH), renewal=failed), now=at(MONTH))
    assert words(handled) == ["entitlement.changed", "subscription.updated"]
    assert until(connection) == at(MONTH + 16 * DAY)
    told = state(connection)
    assert told is not None
    assert told.status == "in_grace_period"
    assert balances_of(connection, ALICE) == {GEMS: 300}  # nobody has paid for it yet


def test_what_was_said_of_an_earlier_period_says_nothing_of_this_one(connection: Connection) -> None:
    failed = renewal(signed=MONTH, in_billing_retry=True, grace_until=4 * MONTH)
    tell(connection, verified(period(2, starts=MONTH + DAY)), changed(period(), renewal=failed), now=at(2 * MONTH))
    assert until(connection) == at(2 * MONTH + DAY)
    assert lapse(connection, at(2 * MONTH + DAY)) == ["subscription.updated", "entitlement.changed"]
    told = state(connection)
    assert told is not None
    assert (told.status, told.expiration_reason) == ("expired", None)


def test_an_upgrade_gives_what_the_new_product_gives_instead(connection: Connection) -> None:
    tell(connection, verified(period()))
    tell(connection, verified(period(2, product="gold", starts=10 * DAY)), now=at(10 * DAY))
    assert {id: held.until for id, held in entitlements(connection).items()} == {
        GOLD: at(10 * DAY + MONTH),
        VIP: at(10 * DAY + MONTH),
    }
    assert balances_of(connection, ALICE) == {GEMS: 1_300}
    tell(connection, verified(period(3, starts=10 * DAY + MONTH)), now=at(10 * DAY + MONTH))
    assert entitlements(connection).keys() == {VIP}


def test_of_two_subscriptions_the_one_that_lasts_longer_counts(connection: Connection) -> None:
    tell(connection, verified(period()), verified(period(original="7", lasts=2 * MONTH)))
    assert until(connection) == at(2 * MONTH)
    tell(connection, refunded(period(original="7", lasts=2 * MONTH, signed=DAY)), now=at(DAY))
    assert until(connection) == at(MONTH)


def test_what_another_user_has_stays_his(connection: Connection) -> None:
    tell(connection, verified(period()))
    assert said(tell(connection, changed(period(2, starts=DAY), user=BOB), now=at(DAY)).drafts) == []
    assert until(connection) == at(MONTH)
    assert entitlements(connection, BOB) == {}


def test_a_product_that_the_catalogue_does_not_know_is_told_and_waits_for_the_operator(
    connection: Connection,
) -> None:
    bought = verified(period())
    handled = tell(connection, bought, catalog=EMPTY_CATALOG)
    assert words(handled) == ["purchase.parked", "subscription.updated"]
    assert handled.parked.keys() == {bought.id}
    assert words(tell(connection, bought)) == ["entitlement.changed", "purchase.completed", "wallet.credited"]
    assert until(connection) == at(MONTH)


def test_a_product_that_leaves_the_catalogue_takes_nothing_from_who_has_it(connection: Connection) -> None:
    tell(connection, verified(period()), verified(non_consumable("9")))
    tell(connection, changed(period(signed=DAY), renewal=renewal(signed=DAY)), now=at(DAY), catalog=EMPTY_CATALOG)
    assert entitlements(connection).keys() == {VIP, ADFREE}
    tell(connection, refunded(period(signed=2 * DAY)), refunded(non_consumable("9")), catalog=EMPTY_CATALOG)
    assert entitlements(connection) == {}


def test_a_family_member_loses_what_is_shared_no_more(connection: Connection) -> None:
    tell(connection, verified(period(family_shared=True)))
    ended = taken_back(signed=DAY, family=True)
    tell(connection, changed(period(family_shared=True, signed=DAY), revoked=ended), now=at(DAY))
    told = state(connection)
    assert told is not None
    assert (told.status, told.revoked_at, told.access_until) == ("revoked", at(DAY), None)
    assert entitlements(connection) == {}


# ---- what is no subscription ------------------------------------------------------------------------------------


def test_a_non_consumable_is_for_ever_and_its_restored_copy_is_the_same(connection: Connection) -> None:
    tell(connection, verified(non_consumable("1")))
    assert until(connection, ADFREE) == FOR_EVER
    copy = verified(non_consumable("2", charge="1", bought=DAY))
    (completed,) = tell(connection, copy).drafts
    assert (completed.payload.TYPE, completed.subject) == ("purchase.completed", copy.payload.purchase_id)
    tell(connection, refunded(non_consumable("2", charge="1", bought=2 * DAY)))
    assert entitlements(connection) == {}


def test_passes_that_are_bought_while_one_runs_are_used_up_one_after_the_other(connection: Connection) -> None:
    first, second = plain("season", "non_renewing", "1"), plain("season", "non_renewing", "2", bought=10 * DAY)
    tell(connection, verified(second), verified(first))
    assert until(connection, SEASON) == at(60 * DAY)
    tell(connection, refunded(first, milli=50_000))
    assert until(connection, SEASON) == at(45 * DAY)
    tell(connection, refunded(second, milli=100_000))
    assert until(connection, SEASON) == at(15 * DAY)


def test_a_pass_that_was_bought_twice_at_once_lasts_twice_as_long(connection: Connection) -> None:
    tell(connection, verified(plain("season", "non_renewing", "1", quantity=2)))
    assert until(connection, SEASON) == at(60 * DAY)


# ---- time alone -------------------------------------------------------------------------------------------------


def lapse(connection: Connection, now: datetime) -> list[str]:
    """What the scheduler does, and what it said."""
    tables = tables_on(connection)
    due = tables.subscriptions.due(now=now, limit=10)
    drafts = lapse_subscriptions(due, subscriptions=tables.subscriptions, new_trace=ids.trace_id, now=now)
    holders = tables.entitlements.due(now=now, limit=10)
    ended = end_entitlements(holders, entitlements=tables.entitlements, new_trace=ids.trace_id, now=now)
    return said([*drafts, *ended])


def test_a_period_that_ends_without_a_word_ends_what_it_gave(connection: Connection) -> None:
    tell(connection, verified(period()))
    assert lapse(connection, at(MONTH - DAY)) == []
    assert lapse(connection, at(MONTH)) == ["subscription.updated", "entitlement.changed"]
    assert lapse(connection, at(MONTH)) == []
    told = state(connection)
    assert told is not None
    assert (told.status, told.version) == ("expired", 2)
    assert entitlements(connection) == {}


def test_grace_and_retry_end_by_themselves(connection: Connection) -> None:
    failed = renewal(signed=MONTH, in_billing_retry=True, grace_until=MONTH + 16 * DAY)
    tell(connection, verified(period()), changed(period(signed=MONTH), renewal=failed), now=at(MONTH))
    assert lapse(connection, at(MONTH + 16 * DAY)) == ["subscription.updated", "entitlement.changed"]
    told = state(connection)
    assert told is not None
    assert told.status == "in_billing_retry"
    assert lapse(connection, at(MONTH + 59 * DAY)) == []
    assert lapse(connection, at(MONTH + 60 * DAY)) == ["subscription.updated"]
    told = state(connection)
    assert told is not None
    assert (told.status, told.expiration_reason) == ("expired", "billing_error")


def test_what_somebody_else_gives_longer_does_not_end(connection: Connection) -> None:
    tell(connection, verified(period()), verified(period(original="7", lasts=2 * MONTH)))
    assert lapse(connection, at(MONTH)) == ["subscription.updated"]
    assert until(connection) == at(2 * MONTH)


def test_a_renewal_that_comes_late_gives_it_back(connection: Connection) -> None:
    tell(connection, verified(period()))
    lapse(connection, at(MONTH + DAY))
    handled = tell(connection, verified(period(2, starts=MONTH)), now=at(MONTH + DAY))
    given = [draft.payload for draft in handled.drafts if isinstance(draft.payload, EntitlementChanged)]
    assert [(each.active, each.version) for each in given] == [(True, 3)]


def test_nobody_is_told_of_the_end_of_what_nobody_has(connection: Connection) -> None:
    tell(connection, changed(period(), user=None))
    assert lapse(connection, at(2 * MONTH)) == []


def test_the_public_id_is_the_one_that_everybody_computes() -> None:
    assert KEY.id == subscription_id(
        app=GAME, store="apple", environment="production", original_transaction_id=TransactionId("1")
    )
