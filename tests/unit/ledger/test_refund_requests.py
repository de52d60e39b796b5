"""When a user's request for a refund is taken, what it says, and which word of the store ends it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from ledger.apple import AppleRefunds
from ledger.domain.books import UNKNOWN, KnownTransaction, TransactionKey
from ledger.domain.decisions import Decision, decide, key_of
from ledger.domain.refund_requests import (
    CLOCKS_APART,
    RefundRequest,
    ended,
    outcome,
    spent_milli,
    view_of,
    why_not,
    word_of,
)
from shared.catalog import RefundPolicy
from shared.events import Event, RefundDeclined, RefundReversed, StoreTransaction
from shared.ids import PurchaseId, TransactionId
from shared.money import Amount
from tests.support.ledger import (
    ALICE,
    APPS,
    CATALOG,
    COINS,
    GAME,
    GEMS,
    NOW,
    refunded,
    transaction,
    verified,
)

POLICY = RefundPolicy(window_days=14, spent_percent_max=20)
BOUGHT = KnownTransaction(
    state="granted",
    user_id=ALICE,
    purchase_id=PurchaseId("pur_1"),
    product_id="gems100",
    purchased_at=NOW,
    due={GEMS: 100},
    granted={GEMS: 100},
)
REQUEST = RefundRequest(
    id=UUID(int=7),
    transaction=TransactionKey(GAME, "apple", "production", TransactionId("1/900")),
    stated_as=TransactionId("1"),
    purchase_id=PurchaseId("pur_1"),
    user_id=ALICE,
    status="open",
    reason="bought by mistake",
    spent_percentage_milli=10_000,
    held={GEMS: 90},
    created_at=NOW,
    updated_at=NOW,
    expires_at=NOW + timedelta(days=14),
)


def reason_against(
    known: KnownTransaction = BOUGHT, *, policy: RefundPolicy | None = POLICY, spent: int = 0, days: float = 0
) -> str | None:
    refusal = why_not(known=known, policy=policy, spent=spent, now=NOW + timedelta(days=days))
    return None if refusal is None else refusal.reason


class TestWhenItIsTaken:
    def test_a_purchase_within_its_window_and_little_spent_may_be_asked_back(self) -> None:
        assert reason_against() is None

    @pytest.mark.parametrize("state", ["parked", "awaited"])
    def test_what_was_not_granted_is_not_asked_back(self, state: Any) -> None:
        assert reason_against(replace(BOUGHT, state=state)) == "not_completed"

    def test_a_product_without_a_policy_is_not_asked_back_in_the_app(self) -> None:
        assert reason_against(policy=None) == "not_offered"

    def test_a_purchase_whose_day_is_not_known_is_not_asked_back_in_the_app(self) -> None:
        assert reason_against(replace(BOUGHT, purchased_at=None)) == "not_offered"

    @pytest.mark.parametrize(("milli", "reason"), [(99_999, None), (100_000, "already_refunded")])
    def test_a_part_that_is_refunded_leaves_the_rest_to_ask_for(self, milli: int, reason: str | None) -> None:
        assert reason_against(replace(BOUGHT, refunded_milli=milli)) == reason

    @pytest.mark.parametrize(("days", "reason"), [(14, None), (14.00001, "window_passed")])
    def test_the_window_ends_so_many_days_after_the_purchase_to_the_moment(
        self, days: float, reason: str | None
    ) -> None:
        assert reason_against(days=days) == reason

    @pytest.mark.parametrize(("spent", "reason"), [(20_000, None), (20_001, "spent_too_much")])
    def test_the_share_that_may_be_spent_is_the_policys_and_no_more(self, spent: int, reason: str | None) -> None:
        assert reason_against(spent=spent) == reason

    def test_a_refusal_tells_programs_by_how_much(self) -> None:
        late = why_not(known=BOUGHT, policy=POLICY, spent=0, now=NOW + timedelta(days=15))
        assert late is not None
        assert late.members == {"window_days": 14, "purchased_at": "2026-11-22T12:00:00.000Z"}
        spent = why_not(known=BOUGHT, policy=POLICY, spent=21_000, now=NOW)
        assert spent is not None
        assert spent.members == {"spent_percent_max": 20, "spent_percentage_milli": 21_000}


class TestTheShareThatIsSpent:
    @pytest.mark.parametrize(
        ("due", "spent", "milli"),
        [
            ({}, {}, 0),
            ({GEMS: 100}, {}, 0),
            ({GEMS: 100}, {GEMS: 20}, 20_000),
            ({GEMS: 100}, {GEMS: 100}, 100_000),
            ({GEMS: 3}, {GEMS: 1}, 33_334),
            ({GEMS: 3}, {GEMS: 2}, 66_667),
            ({GEMS: 2**53 - 1}, {GEMS: 1}, 1),
            ({GEMS: 550, COINS: 50}, {GEMS: 55, COINS: 25}, 50_000),
            ({GEMS: 550, COINS: 50}, {GEMS: 550}, 100_000),
        ],
    )
    def test_it_is_that_of_the_currency_of_which_most_is_spent_and_rounded_up(
        self, due: Any, spent: Any, milli: int
    ) -> None:
        assert spent_milli(due=due, spent=spent) == milli


def declined(of: StoreTransaction) -> Event[Any]:
    event: Event[Any] = refunded(of)
    return replace(event, payload=RefundDeclined(of))


def given_back(of: StoreTransaction) -> Event[Any]:
    event: Event[Any] = refunded(of)
    return replace(event, payload=RefundReversed(of))


def _answered(event: Event[Any], known: KnownTransaction, request: RefundRequest = REQUEST) -> str | None:
    return outcome(request, event, _decided(event, known))


def _decided(event: Event[Any], known: KnownTransaction) -> Decision:
    return decide(events=[event], known={key_of(event): known}, catalog=CATALOG, apps=APPS).steps[0][1]


class TestWhatEndsIt:
    @pytest.mark.parametrize("milli", [100_000, 1])
    def test_a_refund_in_whole_or_in_part_does(self, milli: int) -> None:
        assert _answered(refunded(transaction(), milli=milli), BOUGHT) == "refunded"

    def test_a_refund_of_a_purchase_that_gave_no_currency_does(self) -> None:
        bought = _decided(verified(transaction(product="adfree")), UNKNOWN).known
        assert _answered(refunded(transaction(product="adfree")), bought) == "refunded"

    def test_an_earlier_refund_that_is_told_again_does_not(self) -> None:
        known = _decided(refunded(transaction(), milli=30_000), BOUGHT).known
        assert _answered(refunded(transaction(), milli=30_000), known) is None
        again = replace(transaction(), signed_at=NOW + timedelta(hours=8))
        assert _answered(refunded(again, milli=30_000), known) is None

    def test_a_further_refund_does(self) -> None:
        known = _decided(refunded(transaction(), milli=30_000), BOUGHT).known
        later = replace(transaction(), signed_at=NOW + timedelta(hours=8))
        assert _answered(refunded(later, milli=60_000), known) == "refunded"

    def test_a_refund_that_is_taken_back_does_not(self) -> None:
        known = _decided(refunded(transaction(), milli=30_000), BOUGHT).known
        later = replace(transaction(), signed_at=NOW + timedelta(hours=8))
        assert _answered(given_back(later), known) is None

    def test_the_purchase_verified_again_does_not(self) -> None:
        assert _answered(verified(transaction()), BOUGHT) is None

    @pytest.mark.parametrize(
        ("after", "answered"),
        [(timedelta(hours=8), "declined"), (-CLOCKS_APART, "declined"), (-CLOCKS_APART - timedelta(seconds=1), None)],
    )
    def test_a_refusal_does_unless_it_is_older_than_the_request(self, after: timedelta, answered: str | None) -> None:
        signed: StoreTransaction = replace(transaction(), signed_at=NOW + after)
        assert _answered(declined(signed), BOUGHT) == answered


class TestWhatIsTold:
    def test_while_it_is_open_it_tells_what_is_held_and_what_the_app_is_to_do(self) -> None:
        view = view_of(REQUEST, advice=AppleRefunds().advice(REQUEST.stated_as), is_new=True)
        assert (view.id, view.status, view.held) == (f"rfr_{7:032x}", "open", [Amount(GEMS, 90)])
        assert (view.advice.store, view.advice.action, view.advice.transaction_id) == (
            "apple",
            "present_refund_sheet",
            "1",
        )
        assert word_of(REQUEST).held == [Amount(GEMS, 90)]

    def test_at_its_end_it_holds_nothing_and_says_when(self) -> None:
        over = ended(REQUEST, "declined", now=NOW + timedelta(days=1))
        assert (over.status, over.held, over.updated_at) == ("declined", {}, NOW + timedelta(days=1))
        assert (word_of(over).status, word_of(over).held) == ("declined", [])
        assert over.created_at == NOW
