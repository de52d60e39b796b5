"""How subscriptions and entitlements are read by the internal API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from ledger.api.belongings import EPOCH, read_place, write_place
from ledger.domain.belongings import EntitlementStatement, SubscriptionPlace
from ledger.domain.entitlements import Holder
from shared.ids import EntitlementId, SubscriptionId, TransactionId
from tests.support.ledger import ALICE, GAME, NOW
from tests.support.ledger_api import Ports, client_of, headers

PLACE = SubscriptionPlace(NOW + timedelta(microseconds=1), "apple", TransactionId("2000000000000001"))
ALICES = Holder(GAME, "production", ALICE)


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def client(ports: Ports) -> FlaskClient:
    return client_of(ports)


def test_a_user_without_any_has_empty_lists(client: FlaskClient) -> None:
    whose = {"user_id": "alice", "environment": "production"}
    response = client.get("/v1/users/alice/subscriptions", headers=headers())
    assert response.json == {**whose, "subscriptions": [], "next": None}
    response = client.get("/v1/users/alice/entitlements", headers=headers())
    assert response.json == {**whose, "entitlements": []}


def test_an_entitlement_is_shown_with_its_end_and_its_source(client: FlaskClient, ports: Ports) -> None:
    ports.owned = [
        EntitlementStatement(EntitlementId("vip"), "VIP", True, NOW, SubscriptionId("sub_1"), 3),
        EntitlementStatement(EntitlementId("adfree"), "No ads", True, None, None, 1),
    ]
    response = client.get("/v1/users/alice/entitlements", headers=headers())
    assert response.json is not None
    assert response.json["entitlements"] == [
        {
            "id": "vip",
            "name": "VIP",
            "active": True,
            "until": "2026-11-22T12:00:00.000Z",
            "source": "sub_1",
            "version": 3,
        },
        {"id": "adfree", "name": "No ads", "active": True, "until": None, "source": None, "version": 1},
    ]


def test_the_next_page_is_asked_for_with_what_the_page_before_said(client: FlaskClient, ports: Ports) -> None:
    ports.following = PLACE
    page = client.get("/v1/users/alice/subscriptions?limit=7&environment=sandbox", headers=headers())
    assert page.json is not None
    following = page.json["next"]
    assert client.get(f"/v1/users/alice/subscriptions?after={following}", headers=headers()).status_code == 200
    assert ports.asked == [(Holder(GAME, "sandbox", ALICE), None, 7), (ALICES, PLACE, 50)]


@given(
    began_at=st.datetimes(min_value=EPOCH.replace(tzinfo=None), timezones=st.just(UTC)),
    transaction_id=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128),
)
def test_a_place_is_read_back_as_it_was_written(began_at: datetime, transaction_id: str) -> None:
    place = SubscriptionPlace(began_at, "apple", TransactionId(transaction_id))
    assert read_place(write_place(place)) == place


@pytest.mark.parametrize(
    "query",
    [
        "environment=xcode",
        "limit=0",
        "limit=201",
        "after=",
        "after=x",
        "after=1.apple",
        "after=1.apple.",
        "after=-1.apple.1",
        "after=1.apple.a%20b",
        "after=1.apple.a%00b",
        "after=1.apple.1%0a",
        f"after={'9' * 18}.apple.1",
        f"after={'9' * 19}.apple.1",
        f"after=1.apple.{'1' * 129}",
    ],
)
def test_a_query_that_makes_no_sense_is_malformed_and_the_answer_names_the_field(
    client: FlaskClient, ports: Ports, query: str
) -> None:
    response = client.get(f"/v1/users/alice/subscriptions?{query}", headers=headers())
    assert (response.status_code, (response.json or {})["code"]) == (400, "malformed-request")
    assert (response.json or {})["detail"].startswith(query.partition("=")[0])
    assert ports.asked == []


def test_an_environment_that_there_is_not_is_malformed_for_entitlements_too(client: FlaskClient, ports: Ports) -> None:
    assert client.get("/v1/users/alice/entitlements?environment=xcode", headers=headers()).status_code == 400
    assert client.get("/v1/users/alice/entitlements?environment=sandbox", headers=headers()).status_code == 200
    assert ports.asked == [Holder(GAME, "sandbox", ALICE)]
