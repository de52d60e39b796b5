"""What each outcome of a command looks like to its caller."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args
from uuid import UUID

import pytest

from ledger.api import render
from ledger.api.answers import REFUSALS
from ledger.domain.books import WalletKey
from ledger.domain.commands import (
    CaptureHold,
    Command,
    Grant,
    GrantDone,
    HoldDone,
    PlaceHold,
    RefusalCode,
    Refused,
    ReleaseHold,
    Request,
    ReverseSpend,
    Spend,
    SpendDone,
    WalletAfter,
)
from ledger.domain.statements import Funds
from shared.ids import GrantId, HoldId, SpendId
from tests.support.ledger import ALICE, GAME, GEMS, NOW
from tests.support.ledger_api import TRACE

ID = UUID(int=1)
ALICES = WalletKey(GAME, "production", ALICE)
AFTER = WalletAfter(7, Funds(95, 60, 35, 0))
SHOWN_AFTER = {"version": 7, "funds": {"balance": 95, "available": 60, "held": 35, "debt": 0}}
SPEND = SpendDone(SpendId("spd_1"), ALICE, "production", GEMS, 5, 0, "order-1", "sword", NOW, AFTER)
HOLD = HoldDone(HoldId("hld_1"), ALICE, "production", GEMS, 5, 0, "open", NOW + timedelta(minutes=15), None, NOW, AFTER)
GRANT = GrantDone(GrantId("grt_1"), ALICE, "sandbox", GEMS, 5, "an outage", "server:backend", NOW, AFTER)


def shown(outcome: SpendDone | HoldDone | GrantDone | Refused, request: Request) -> tuple[int, Any]:
    answer = render(Command(request, actor="server:backend", trace_id=TRACE), outcome)
    assert not answer.replayed
    return answer.status, json.loads(answer.document)


def test_a_spend_is_created_and_shown() -> None:
    assert shown(SPEND, Spend(ALICES, GEMS, 5)) == (
        201,
        {
            "id": "spd_1",
            "user_id": "alice",
            "environment": "production",
            "currency": "gems",
            "amount": 5,
            "reversed": 0,
            "reference": "order-1",
            "item": "sword",
            "hold_id": None,
            "created_at": "2026-11-22T12:00:00.000Z",
            "wallet": SHOWN_AFTER,
        },
    )


def test_a_reversed_spend_is_the_spend_as_it_stands() -> None:
    reversed_spend = replace(SPEND, reversed=5, hold_id=HoldId("hld_1"))
    status, document = shown(reversed_spend, ReverseSpend(GAME, ID))
    assert (status, document["id"], document["reversed"], document["hold_id"]) == (200, "spd_1", 5, "hld_1")


def test_a_hold_is_created_and_shown() -> None:
    assert shown(HOLD, PlaceHold(ALICES, GEMS, 5, 900)) == (
        201,
        {
            "id": "hld_1",
            "user_id": "alice",
            "environment": "production",
            "currency": "gems",
            "amount": 5,
            "captured": 0,
            "state": "open",
            "expires_at": "2026-11-22T12:15:00.000Z",
            "reference": None,
            "created_at": "2026-11-22T12:00:00.000Z",
            "spend_id": None,
            "wallet": SHOWN_AFTER,
        },
    )


def test_a_captured_and_a_released_hold_are_the_hold_as_it_stands() -> None:
    captured = replace(HOLD, state="captured", captured=3, spend_id=SpendId("spd_1"))
    status, document = shown(captured, CaptureHold(GAME, ID, 3))
    assert (status, document["state"], document["captured"], document["spend_id"]) == (200, "captured", 3, "spd_1")
    status, document = shown(replace(HOLD, state="released"), ReleaseHold(GAME, ID))
    assert (status, document["state"], document["spend_id"]) == (200, "released", None)


def test_a_grant_says_why_and_by_whom() -> None:
    assert shown(GRANT, Grant(ALICES, GEMS, 5, "an outage")) == (
        201,
        {
            "id": "grt_1",
            "user_id": "alice",
            "environment": "sandbox",
            "currency": "gems",
            "amount": 5,
            "reason": "an outage",
            "granted_by": "server:backend",
            "created_at": "2026-11-22T12:00:00.000Z",
            "wallet": SHOWN_AFTER,
        },
    )


def test_a_refusal_is_a_problem_with_its_members_and_the_trace_of_who_was_refused() -> None:
    refused = Refused("insufficient-funds", "there are 3 gems to spend", {"currency": "gems", "available": 3})
    assert shown(refused, Spend(ALICES, GEMS, 5)) == (
        422,
        {
            "type": "/problems/insufficient-funds",
            "title": "Insufficient funds",
            "status": 422,
            "detail": "there are 3 gems to spend",
            "code": "insufficient-funds",
            "trace_id": TRACE,
            "currency": "gems",
            "available": 3,
        },
    )


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("insufficient-funds", 422),
        ("spend-not-reversible", 422),
        ("hold-not-open", 409),
        ("hold-too-small", 422),
        ("balance-out-of-range", 422),
        ("idempotency-key-reused", 409),
        ("not-found", 404),
    ],
)
def test_each_refusal_has_its_status(code: RefusalCode, status: int) -> None:
    assert shown(Refused(code, "no"), ReleaseHold(GAME, ID))[0] == status


def test_there_is_no_refusal_without_a_status() -> None:
    assert set(REFUSALS) == set(get_args(RefusalCode))
