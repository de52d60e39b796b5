"""What one event of the store comes to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ledger.domain.books import UNKNOWN, Amounts, KnownTransaction
from ledger.domain.decisions import Decision, decide, key_of
from shared.catalog import Catalog
from shared.events import Event, PurchaseCompleted, PurchaseParked, PurchaseRefunded, PurchaseRefundReversed
from shared.ids import AppId
from shared.money import Amount
from tests.support.ledger import (
    ALICE,
    APPS,
    BOB,
    CATALOG,
    COINS,
    EMPTY_CATALOG,
    GEMS,
    NOW,
    refund_declined,
    refund_reversed,
    refunded,
    transaction,
    verified,
)


def decided(event: Event[Any], known: KnownTransaction = UNKNOWN, *, catalog: Catalog = CATALOG) -> Decision:
    decisions = decide(events=[event], known={key_of(event): known}, catalog=catalog, apps=APPS)
    return decisions.steps[0][1]


def test_a_purchase_gives_the_catalogues_grants_times_its_quantity() -> None:
    decision = decided(verified(transaction(product="bundle", quantity=3)))
    assert decision.movement is not None
    assert decision.movement.amounts == {GEMS: 1653, COINS: 21}
    (completed,) = decision.words
    assert isinstance(completed, PurchaseCompleted)
    assert completed.granted == [Amount(COINS, 21), Amount(GEMS, 1653)]


def test_a_purchase_without_currency_completes_and_moves_nothing() -> None:
    decision = decided(verified(transaction(product="adfree")))
    assert decision.movement is None
    assert [type(word) for word in decision.words] == [PurchaseCompleted]
    assert decision.known.state == "granted"


def test_of_a_granted_purchase_it_is_kept_what_was_bought_when_and_what_it_gives() -> None:
    event = verified(transaction(product="bundle", quantity=2))
    known = decided(event).known
    assert (known.product_id, known.purchased_at, known.purchase_id) == ("bundle", NOW, event.payload.purchase_id)
    assert known.due == known.granted == known.left == {GEMS: 1102, COINS: 14}


def test_a_purchase_that_is_verified_again_changes_nothing() -> None:
    granted = decided(verified(transaction())).known
    assert decided(verified(transaction()), granted) == Decision(granted)


def test_a_purchase_that_another_user_has_moves_nothing() -> None:
    granted = decided(verified(transaction(), user=ALICE)).known
    assert decided(verified(transaction(), user=BOB), granted) == Decision(granted, contested=True)


def test_a_parked_purchase_is_not_another_users_for_the_taking() -> None:
    parked = decided(verified(transaction(), user=ALICE), catalog=EMPTY_CATALOG).known
    assert decided(verified(transaction(), user=BOB), parked) == Decision(parked, contested=True)


def test_a_verified_purchase_without_a_user_is_parked() -> None:
    assert decided(verified(transaction(), user=None)).parked == (
        "a verified purchase names its user; this one does not"
    )


def test_an_event_of_an_app_that_is_gone_is_parked() -> None:
    elsewhere = replace(refunded(transaction()), app=AppId("gone"))
    assert decided(elsewhere).parked == "the app 'gone' is not in the apps file"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (verified(transaction(product="gone")), "the product 'gone' is not in the catalogue"),
        (
            verified(transaction(product_type="non_consumable")),
            "the product 'gems100' is consumable in the catalogue, non_consumable in the store",
        ),
        (verified(transaction(quantity=0)), "a quantity of 0 is not within 1 and 10"),
        (verified(transaction(quantity=11)), "a quantity of 11 is not within 1 and 10"),
    ],
)
def test_what_cannot_be_granted_is_parked_with_its_reason(event: Event[Any], reason: str) -> None:
    decision = decided(event)
    assert decision.parked == reason
    assert decision.movement is None
    assert decision.words == (PurchaseParked(event.payload.purchase_id, event.payload.transaction, reason),)


@pytest.mark.parametrize("product", ["gems100", "adfree"])
def test_what_was_parked_for_want_of_its_product_is_granted_once_the_catalogue_has_it(product: str) -> None:
    """Of a product that the catalogue did not know, the verifier knew no type."""
    event = verified(replace(transaction(product=product), product_type=None))
    parked = decided(event, catalog=EMPTY_CATALOG)
    completed, *others = decided(event, parked.known).words
    assert isinstance(completed, PurchaseCompleted)
    assert not others


def test_that_a_purchase_is_parked_is_said_once_for_each_reason() -> None:
    event = verified(transaction(product_type="non_consumable"))
    first = decided(event, catalog=EMPTY_CATALOG)
    again = decided(event, first.known, catalog=EMPTY_CATALOG)
    assert (again.parked, again.words, again.known) == (first.parked, (), first.known)
    other_reason = decided(event, again.known)
    assert len(other_reason.words) == 1
    assert other_reason.parked != first.parked


def test_a_parked_purchase_is_granted_when_the_catalogue_knows_its_product() -> None:
    event = verified(transaction())
    parked = decided(event, catalog=EMPTY_CATALOG).known
    retried = decided(event, parked)
    assert retried.parked is None
    assert [type(word) for word in retried.words] == [PurchaseCompleted]
    assert retried.known == decided(event).known


def test_a_refund_takes_back_what_was_granted_whatever_the_catalogue_says_now() -> None:
    granted = decided(verified(transaction(product="bundle"))).known
    decision = decided(refunded(transaction(product="bundle")), granted, catalog=EMPTY_CATALOG)
    assert decision.movement is not None
    assert decision.movement.amounts == {GEMS: 551, COINS: 7}
    assert decision.movement.wallet.user_id == ALICE
    (word,) = decision.words
    assert isinstance(word, PurchaseRefunded)
    assert (word.granted, word.refunded) == ([Amount(COINS, 7), Amount(GEMS, 551)],) * 2


def test_a_part_that_is_refunded_is_rounded_down() -> None:
    granted = decided(verified(transaction(product="bundle"))).known
    decision = decided(refunded(transaction(product="bundle"), milli=33_333), granted)
    assert decision.movement is not None
    assert decision.movement.amounts == {GEMS: 183, COINS: 2}  # 183.66… and 2.33…


def test_the_parts_of_a_refund_never_take_more_than_was_granted() -> None:
    known = decided(verified(transaction(product="bundle"))).known
    taken: dict[str, int] = {}
    for milli in (33_333, 10_000, 66_666, 66_666, 100_000, 99_999):
        decision = decided(refunded(transaction(product="bundle"), milli=milli), known)
        known = decision.known
        for currency, amount in decision.movement.amounts.items() if decision.movement else ():
            taken[currency] = taken.get(currency, 0) + amount
    assert taken == {GEMS: 551, COINS: 7}
    assert known.sequence == 3


def test_a_refund_of_no_more_than_is_refunded_already_changes_nothing() -> None:
    granted = decided(verified(transaction())).known
    half = decided(refunded(transaction(), milli=50_000), granted).known
    for milli in (1, 49_999, 50_000):
        assert decided(refunded(transaction(), milli=milli), half) == Decision(half)


def test_a_refund_too_small_to_take_a_unit_is_said_and_moves_nothing() -> None:
    granted = decided(verified(transaction())).known
    decision = decided(refunded(transaction(), milli=999), granted)
    assert decision.movement is None
    assert [type(word) for word in decision.words] == [PurchaseRefunded]
    assert decision.known.sequence == 0


# ---- the statement that was signed last ---------------------------------------------------------------------------


def moved(decision: Decision) -> tuple[str, Amounts, Amounts] | None:
    """The kind of the movement, what was taken or is given back, and what is granted now for the first time."""
    movement = decision.movement
    return None if movement is None else (movement.kind, movement.amounts, movement.fresh)


def test_a_refund_that_is_reversed_is_given_back_whole() -> None:
    granted = decided(verified(transaction(product="bundle"))).known
    half = decided(refunded(transaction(product="bundle"), milli=50_000), granted).known
    decision = decided(refund_reversed(transaction(product="bundle", after_s=1)), half)
    assert moved(decision) == ("refund_reversal", {GEMS: 275, COINS: 3}, {})
    (word,) = decision.words
    assert isinstance(word, PurchaseRefundReversed)
    assert (word.granted, word.refunded, word.percentage_milli) == ([Amount(COINS, 7), Amount(GEMS, 551)], [], 0)
    assert decision.known.refunded == {}
    assert decision.known.sequence == 2


def test_a_reversed_refund_may_be_refunded_again() -> None:
    known = decided(verified(transaction())).known
    kinds = []
    for event in (
        refunded(transaction(after_s=1)),
        refund_reversed(transaction(after_s=2)),
        refunded(transaction(after_s=3)),
    ):
        decision = decided(event, known)
        known = decision.known
        kinds.append(moved(decision))
    assert kinds == [
        ("refund", {GEMS: 100}, {}),
        ("refund_reversal", {GEMS: 100}, {}),
        ("refund", {GEMS: 100}, {}),
    ]
    assert known.sequence == 3


def test_a_later_statement_of_a_smaller_refund_gives_the_difference_back() -> None:
    granted = decided(verified(transaction())).known
    most = decided(refunded(transaction(after_s=1), milli=80_000), granted).known
    assert moved(decided(refunded(transaction(after_s=2), milli=30_000), most)) == ("refund_reversal", {GEMS: 50}, {})


@pytest.mark.parametrize("older", [refunded(transaction(after_s=1)), refund_reversed(transaction(after_s=1))])
def test_a_statement_that_was_signed_before_the_last_one_changes_nothing(older: Event[Any]) -> None:
    granted = decided(verified(transaction())).known
    for newer in (refunded(transaction(after_s=2), milli=40_000), refund_reversed(transaction(after_s=2))):
        known = decided(newer, granted).known
        assert decided(older, known) == Decision(known)


def test_of_two_statements_of_one_moment_the_larger_refund_counts() -> None:
    statements = [refunded(transaction(), milli=70_000), refunded(transaction(), milli=30_000)]
    for order in (statements, statements[::-1], [refund_reversed(transaction()), *statements]):
        known = decided(verified(transaction())).known
        for statement in order:
            known = decided(statement, known).known
        assert known.refunded_milli == 70_000


def test_a_reversal_before_its_refund_leaves_the_refund_nothing_to_take() -> None:
    granted = decided(verified(transaction())).known
    reversed_ = decided(refund_reversed(transaction(after_s=2)), granted)
    assert (reversed_.movement, reversed_.words) == (None, ())
    assert decided(refunded(transaction(after_s=1)), reversed_.known).movement is None


def test_a_reversal_before_its_purchase_lets_the_purchase_be_granted_whole() -> None:
    tombstone = decided(refunded(transaction(after_s=1))).known
    reversed_ = decided(refund_reversed(transaction(after_s=2)), tombstone)
    assert (reversed_.movement, reversed_.words) == (None, ())
    granted = decided(verified(transaction()), reversed_.known)
    assert moved(granted) == ("purchase", {GEMS: 100}, {})
    assert [type(word) for word in granted.words] == [PurchaseCompleted]


def test_what_was_refunded_before_it_could_be_granted_is_granted_by_the_reversal() -> None:
    """40 of 100 were refunded before the purchase came, and 30 after: 30 are given back, and 40 are new."""
    tombstone = decided(refunded(transaction(), milli=40_000)).known
    granted = decided(verified(transaction()), tombstone).known
    more = decided(refunded(transaction(after_s=1), milli=70_000), granted).known
    decision = decided(refund_reversed(transaction(after_s=2)), more)
    assert moved(decision) == ("refund_reversal", {GEMS: 30}, {GEMS: 40})
    assert decision.known.granted == decision.known.due == {GEMS: 100}


def test_what_was_taken_is_given_back_before_anything_is_granted_anew() -> None:
    tombstone = decided(refunded(transaction(), milli=40_000)).known
    granted = decided(verified(transaction()), tombstone).known
    more = decided(refunded(transaction(after_s=1), milli=70_000), granted).known
    assert moved(decided(refunded(transaction(after_s=2), milli=60_000), more)) == ("refund_reversal", {GEMS: 10}, {})
    less = decided(refunded(transaction(after_s=2), milli=35_000), more)
    assert moved(less) == ("refund_reversal", {GEMS: 30}, {GEMS: 5})
    assert less.known.left == {GEMS: 65}


def test_a_refund_that_was_declined_changes_nothing() -> None:
    granted = decided(verified(transaction())).known
    half = decided(refunded(transaction(), milli=50_000), granted).known
    for known in (UNKNOWN, granted, half):
        assert decided(refund_declined(transaction(after_s=1)), known) == Decision(known)


def test_why_the_store_took_it_back_is_said() -> None:
    granted = decided(verified(transaction())).known
    event = refunded(transaction())
    ended = replace(event, payload=replace(event.payload, cause="family_sharing_ended"))
    (word,) = decided(ended, granted).words
    assert isinstance(word, PurchaseRefunded)
    assert word.cause == "family_sharing_ended"


# ---- what is not granted, or not there ---------------------------------------------------------------------------


def test_a_percentage_that_cannot_be_is_parked() -> None:
    granted = decided(verified(transaction())).known
    for milli in (-1, 0, 100_001):
        decision = decided(refunded(transaction(), milli=milli), granted)
        assert decision.known is granted
        assert decision.parked == f"{milli} thousandths of a percent cannot be refunded"


def test_a_refund_of_a_purchase_that_is_not_there_is_remembered_and_not_spoken_of() -> None:
    decision = decided(refunded(transaction(), milli=40_000))
    assert decision == Decision(replace(UNKNOWN, refunded_milli=40_000, revoked_signed_at=NOW))


def test_a_purchase_that_was_refunded_before_it_came_grants_nothing_and_says_that_it_is_refunded() -> None:
    tombstone = decided(refunded(transaction())).known
    decision = decided(verified(transaction()), tombstone)
    assert decision.movement is None
    (word,) = decision.words
    assert isinstance(word, PurchaseRefunded)
    assert (word.granted, word.refunded, word.percentage_milli) == ([], [], 100_000)


def test_a_purchase_that_was_refunded_in_part_before_it_came_grants_the_rest() -> None:
    tombstone = decided(refunded(transaction(), milli=40_000)).known
    decision = decided(verified(transaction()), tombstone)
    assert decision.movement is not None
    assert decision.movement.amounts == {GEMS: 60}
    completed, refund = decision.words
    assert isinstance(completed, PurchaseCompleted)
    assert isinstance(refund, PurchaseRefunded)
    assert (refund.granted, refund.refunded, refund.percentage_milli) == ([Amount(GEMS, 60)], [], 40_000)


def test_the_rest_is_what_a_later_refund_of_all_takes() -> None:
    tombstone = decided(refunded(transaction(), milli=40_000)).known
    granted = decided(verified(transaction()), tombstone).known
    decision = decided(refunded(transaction()), granted)
    assert decision.movement is not None
    assert decision.movement.amounts == {GEMS: 60}


def test_a_refund_of_a_parked_purchase_lessens_the_grant_that_comes() -> None:
    parked = decided(verified(transaction()), catalog=EMPTY_CATALOG).known
    refund = decided(refunded(transaction(), milli=25_000), parked)
    assert (refund.movement, refund.words, refund.known.state) == (None, (), "parked")
    granted = decided(verified(transaction()), refund.known)
    assert granted.movement is not None
    assert granted.movement.amounts == {GEMS: 75}


def test_the_same_transaction_id_in_the_sandbox_is_another_transaction() -> None:
    production, sandbox = verified(transaction()), verified(transaction(environment="sandbox"))
    decisions = decide(events=[production, sandbox], known={}, catalog=CATALOG, apps=APPS)
    wallets = {movement.wallet for movement in decisions.movements()}
    assert {wallet.environment for wallet in wallets} == {"production", "sandbox"}


def test_events_of_one_batch_see_what_those_before_them_did() -> None:
    of = transaction()
    decisions = decide(events=[verified(of), verified(of), refunded(of)], known={}, catalog=CATALOG, apps=APPS)
    assert [movement.kind for movement in decisions.movements()] == ["purchase", "refund"]
