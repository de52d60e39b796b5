"""Users' requests for refunds, as they are asked and shown by the internal API."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from ledger.domain.refund_requests import Advice, NotEligible, RefundRequestView
from shared.ids import PurchaseId, RefundRequestId, TransactionId
from shared.money import Amount
from tests.support.ledger import ALICE, GAME, GEMS, NOW
from tests.support.ledger_api import TRACE, Ports, client_of, headers

PURCHASE = "pur_" + "a" * 26
ID = UUID(int=1)
ASK = f"/v1/purchases/{PURCHASE}/refund-requests"
SHOW = f"/v1/refund-requests/rfr_{ID.hex}"
REQUEST = RefundRequestView(
    id=RefundRequestId(f"rfr_{ID.hex}"),
    purchase_id=PurchaseId(PURCHASE),
    user_id=ALICE,
    environment="production",
    status="open",
    reason="by mistake",
    spent_percentage_milli=10_000,
    held=[Amount(GEMS, 90)],
    advice=Advice("apple", "present_refund_sheet", TransactionId("1")),
    created_at=NOW,
    updated_at=NOW,
    expires_at=NOW + timedelta(days=14),
)
SHOWN = {
    "id": f"rfr_{ID.hex}",
    "purchase_id": PURCHASE,
    "user_id": "alice",
    "environment": "production",
    "status": "open",
    "reason": "by mistake",
    "spent_percentage_milli": 10_000,
    "held": [{"currency": "gems", "amount": 90}],
    "advice": {"store": "apple", "action": "present_refund_sheet", "transaction_id": "1"},
    "created_at": "2026-11-22T12:00:00.000Z",
    "updated_at": "2026-11-22T12:00:00.000Z",
    "expires_at": "2026-12-06T12:00:00.000Z",
}


@pytest.fixture
def ports() -> Ports:
    return Ports(request=REQUEST)


@pytest.fixture
def client(ports: Ports) -> FlaskClient:
    return client_of(ports)


@pytest.mark.parametrize(("is_new", "status"), [(True, 201), (False, 200)])
def test_a_request_that_is_open_already_is_shown_and_not_made_again(
    client: FlaskClient, ports: Ports, is_new: bool, status: int
) -> None:
    ports.request = replace(REQUEST, is_new=is_new)
    response = client.post(ASK, json={"reason": "by mistake"}, headers=headers())
    assert (response.status_code, response.json) == (status, SHOWN)


@pytest.mark.parametrize(("caller", "only_user"), [("client:alice", ALICE), ("server:admin", None)])
def test_it_is_asked_by_its_user_or_by_the_apps_backend(
    client: FlaskClient, ports: Ports, caller: str, only_user: str | None
) -> None:
    client.post(ASK, json={"reason": "by mistake"}, headers=headers(caller))
    assert ports.asked == [(GAME, PURCHASE, only_user, caller, "by mistake", TRACE)]


def test_no_reason_has_to_be_given(client: FlaskClient, ports: Ports) -> None:
    for response in (client.post(ASK, json={}, headers=headers()), client.post(ASK, headers=headers())):
        assert response.status_code == 200
    assert [reason for *_, reason, _trace in ports.asked] == [None, None]


@pytest.mark.parametrize("reason", ["", "x" * 501, "a\0b", 5])
def test_a_reason_that_is_none_is_malformed(client: FlaskClient, ports: Ports, reason: object) -> None:
    response = client.post(ASK, json={"reason": reason}, headers=headers())
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["detail"].startswith("reason: ")
    assert ports.asked == []


def test_why_a_refund_cannot_be_asked_for_is_said(client: FlaskClient, ports: Ports) -> None:
    ports.request = NotEligible("window_passed", "it was bought too long ago", {"window_days": 14})
    response = client.post(ASK, json={}, headers=headers())
    assert (response.status_code, response.content_type) == (422, "application/problem+json")
    assert response.json == {
        "type": "/problems/refund-not-eligible",
        "title": "Refund not eligible",
        "status": 422,
        "detail": "it was bought too long ago",
        "code": "refund-not-eligible",
        "trace_id": TRACE,
        "reason": "window_passed",
        "window_days": 14,
    }


@pytest.mark.parametrize(("caller", "only_user"), [("client:alice", ALICE), ("server:reader", None)])
def test_a_request_is_shown_to_its_user_and_to_the_apps_backend(
    client: FlaskClient, ports: Ports, caller: str, only_user: str | None
) -> None:
    response = client.get(SHOW, headers=headers(caller))
    assert (response.status_code, response.json) == (200, SHOWN)
    assert ports.asked == [(GAME, ID, only_user)]


def test_what_is_not_there_or_another_users_is_not_found(client: FlaskClient, ports: Ports) -> None:
    ports.request = None
    assert client.post(ASK, json={}, headers=headers()).status_code == 404
    assert client.get(SHOW, headers=headers()).status_code == 404
    assert len(ports.asked) == 2


@pytest.mark.parametrize(
    "purchase", ["1", "pur_1", f"pur_{'A' * 26}", f"pur_{'a' * 26}%00", f"pur_{'a' * 26}%0A", f"spd_{'a' * 26}"]
)
def test_an_id_that_is_no_purchases_is_not_found(client: FlaskClient, ports: Ports, purchase: str) -> None:
    response = client.post(f"/v1/purchases/{purchase}/refund-requests", json={}, headers=headers())
    assert (response.status_code, ports.asked) == (404, [])


@pytest.mark.parametrize("request_id", ["1", f"spd_{ID.hex}", f"rfr_{ID.hex[1:]}", f"rfr_{ID.hex}%00"])
def test_an_id_that_is_no_requests_is_not_found(client: FlaskClient, ports: Ports, request_id: str) -> None:
    assert client.get(f"/v1/refund-requests/{request_id}", headers=headers()).status_code == 404
    assert ports.asked == []
