"""Purchases come in: durable before the answer, once, whoever sends what."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.events import PurchaseCompleted, PurchaseRejected, StoreTransaction
from shared.ids import PurchaseId, TransactionId, UserId, purchase_id
from shared.jws import TOKEN_LENGTH_MAX
from tests.support.apple_pki import Chain, segment, sign_hs256
from tests.support.gateway import Gateway, transaction_claims

RECEIPT = base64.b64encode(b"a receipt").decode()


def id_of(transaction_id: str, user_id: str = "alice") -> PurchaseId:
    return purchase_id(app="game", store="apple", transaction_id=transaction_id, user_id=user_id)


def completed(transaction_id: str, gateway: Gateway) -> PurchaseCompleted:
    now = gateway.clock.now()
    transaction = StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=TransactionId(transaction_id),
        original_transaction_id=TransactionId(transaction_id),
        product_id="com.example.game.gems100",
        product_type="consumable",
        quantity=1,
        purchased_at=now,
        signed_at=now,
    )
    return PurchaseCompleted(purchase_id=id_of(transaction_id), transaction=transaction)


def test_a_signed_transaction_is_in_the_journal_when_it_is_answered(gateway: Gateway) -> None:
    token = gateway.signed_transaction("101")
    body = {"store": "apple", "signed_transaction": token}
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = gateway.as_user() | {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    response = gateway.client().post("/v1/purchases", json=body, headers=headers)
    purchase = id_of("101")
    assert response.status_code == 202
    assert response.headers["Location"] == f"/v1/purchases/{purchase}"
    assert response.json == {
        "id": purchase,
        "status": "accepted",
        "store": "apple",
        "transaction_id": "101",
        "user_id": "alice",
    }
    payload = {"store": "apple", "transaction_id": "101", "signed_transaction": token}
    assert gateway.events(purchase) == [("transaction.submitted", payload)]
    rows = gateway.bus.execute(
        "select e.app, e.user_id, e.trace_id, d.consumer"
        "  from journal.event e join journal.delivery d on d.event_id = e.id where subject = %(subject)s",
        subject=purchase,
    )
    assert [tuple(row) for row in rows] == [("game", "alice", trace, "verifier")]


def test_a_receipt_is_recorded_for_whoever_asks_the_store(gateway: Gateway) -> None:
    body = {"store": "apple", "transaction_id": "102", "receipt": RECEIPT}
    response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_user())
    assert response.status_code == 202
    payload = {"store": "apple", "transaction_id": "102", "receipt": RECEIPT}
    assert gateway.events(id_of("102")) == [("receipt.submitted", payload)]


def test_a_server_submits_for_the_user_that_it_names(gateway: Gateway) -> None:
    body = {"store": "apple", "signed_transaction": gateway.signed_transaction("103"), "user_id": "bob"}
    response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_server())
    assert (response.status_code, (response.json or {})["id"]) == (202, id_of("103", "bob"))


def test_two_users_with_one_transaction_have_two_purchases(gateway: Gateway) -> None:
    alice, bob = gateway.submit("104"), gateway.submit("104", user_id="bob")
    assert ((alice.json or {})["id"], (bob.json or {})["id"]) == (id_of("104"), id_of("104", "bob"))


def test_fifty_at_once_are_one_purchase_and_one_event(gateway: Gateway) -> None:
    body = {"store": "apple", "signed_transaction": gateway.signed_transaction("105")}
    headers = gateway.as_user()

    def post(_: int) -> tuple[int, str]:
        response = gateway.client().post("/v1/purchases", json=body, headers=headers)
        return response.status_code, (response.json or {})["id"]

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(post, range(50)))
    assert answers == {(202, id_of("105"))}
    assert len(gateway.events(id_of("105"))) == 1


def test_another_proof_of_an_open_purchase_is_recorded_too(gateway: Gateway) -> None:
    gateway.submit("106")
    assert gateway.submit("106").status_code == 202  # signed anew, so another proof
    assert len(gateway.events(id_of("106"))) == 2


def test_a_repeat_is_answered_with_the_status_that_the_purchase_has(gateway: Gateway) -> None:
    gateway.submit("107")
    gateway.tell(id_of("107"), completed("107", gateway))
    response = gateway.submit("107")
    assert (response.status_code, (response.json or {})["status"]) == (202, "completed")
    assert [event_type for event_type, _ in gateway.events(id_of("107"))] == [
        "transaction.submitted",
        "purchase.completed",
    ]


def test_a_rejected_purchase_is_looked_at_again_with_another_proof_alone(gateway: Gateway) -> None:
    token = gateway.signed_transaction("108")
    body = {"store": "apple", "signed_transaction": token}
    client, headers = gateway.client(), gateway.as_user()
    client.post("/v1/purchases", json=body, headers=headers)
    rejected = PurchaseRejected(
        purchase_id=id_of("108"),
        store="apple",
        transaction_id=TransactionId("108"),
        code="receipt_unauthentic",
        detail="not signed by the App Store",
    )
    gateway.tell(id_of("108"), rejected)
    again = client.post("/v1/purchases", json=body, headers=headers)
    assert (again.json or {})["status"] == "rejected"
    assert len(gateway.events(id_of("108"))) == 2
    another = gateway.submit("108")
    assert (another.json or {})["status"] == "accepted"
    assert len(gateway.events(id_of("108"))) == 3


def test_what_is_signed_by_nobody_is_for_the_verifier_to_reject(gateway: Gateway) -> None:
    claims = transaction_claims("109", now=gateway.clock.now())
    chain = Chain()
    forged = [chain.sign(claims), sign_hs256(chain.leaf.der, chain.header(alg="HS256"), claims)]
    for token in forged:
        body = {"store": "apple", "signed_transaction": token}
        response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_user())
        assert (response.status_code, (response.json or {})["status"]) == (202, "accepted")


# ---- what is not taken in ---------------------------------------------------------------------------------------

JWS = f"{segment({'alg': 'ES256'})}.{segment({'transactionId': '1'})}.{segment(b'signature')}"
HOSTILE: list[tuple[Any, str]] = [
    ([], "JSON object"),
    ("text", "JSON object"),
    ({}, "store"),
    ({"store": "apple"}, "receipt, signed_transaction"),
    ({"store": "apple", "transaction_id": "1"}, "receipt, signed_transaction"),
    ({"store": "google", "signed_transaction": JWS}, "store"),
    ({"store": "apple", "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1", "receipt": RECEIPT, "signed_transaction": JWS}, "not both"),
    ({"store": "apple", "transaction_id": 1, "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "", "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1\x00", "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1", "receipt": "no base64"}, "receipt"),
    ({"store": "apple", "transaction_id": "1", "receipt": ["x"]}, "receipt"),
    ({"store": "apple", "signed_transaction": JWS[:-20].rpartition(".")[0]}, "signed_transaction"),
    ({"store": "apple", "signed_transaction": "x" * (TOKEN_LENGTH_MAX + 1)}, "signed_transaction"),
    ({"store": "apple", "signed_transaction": JWS, "transaction_id": "2"}, "transaction_id"),
    ({"store": "apple", "signed_transaction": {"alg": "none"}}, "signed_transaction"),
    ({"store": "apple", "signed_transaction": JWS, "user_id": 5}, "user_id"),
]


@pytest.mark.parametrize(("body", "named"), HOSTILE)
def test_a_hostile_body_is_refused_by_the_name_of_its_field_and_leaves_no_row(
    gateway: Gateway, body: Any, named: str
) -> None:
    before = gateway.bus.execute("select count(*) from journal.event")[0][0]
    response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_user())
    assert response.status_code == 400
    assert (response.json or {})["code"] == "malformed-request"
    assert named in (response.json or {})["detail"]
    assert gateway.bus.execute("select count(*) from journal.event")[0][0] == before


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\x00b", "\x7f"])
def test_a_user_that_cannot_be_is_refused(gateway: Gateway, user_id: str) -> None:
    body = {"store": "apple", "signed_transaction": JWS, "user_id": user_id}
    response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_server())
    assert (response.status_code, "user_id" in (response.json or {})["detail"]) == (400, True)


def test_a_server_that_names_no_user_is_refused(gateway: Gateway) -> None:
    body = {"store": "apple", "signed_transaction": JWS}
    response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_server())
    assert (response.status_code, "user_id" in (response.json or {})["detail"]) == (400, True)


def test_a_client_that_names_another_user_is_refused(gateway: Gateway) -> None:
    body = {"store": "apple", "signed_transaction": JWS, "user_id": "bob"}
    response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_user())
    assert (response.status_code, (response.json or {})["code"]) == (403, "forbidden")


@pytest.mark.parametrize("content", [b"", b"{", b'{"store": "apple"', b"\xff\xfe", b"[" * 200_000])
def test_what_is_not_json_is_refused(gateway: Gateway, content: bytes) -> None:
    response = gateway.client().post("/v1/purchases", data=content, headers=gateway.as_user())
    assert (response.status_code, (response.json or {})["code"]) == (400, "malformed-request")


def test_two_mebibytes_are_too_large(gateway: Gateway) -> None:
    body = json.dumps({"store": "apple", "transaction_id": "1", "receipt": "A" * 2 * 1024 * 1024})
    response = gateway.client().post("/v1/purchases", data=body, headers=gateway.as_user())
    assert (response.status_code, (response.json or {})["code"]) == (413, "body-too-large")


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer x.y.z", "Bearer sk_wrong", "Basic eDp5"])
def test_without_a_good_credential_nothing_is_even_read(gateway: Gateway, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    response = gateway.client().post("/v1/purchases", data=b"{", headers=headers)
    assert (response.status_code, (response.json or {})["code"]) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def test_an_expired_token_is_refused(gateway: Gateway) -> None:
    expired = gateway.token(exp=int(gateway.clock.now().timestamp()) - 60)
    response = gateway.client().post("/v1/purchases", json={}, headers={"Authorization": f"Bearer {expired}"})
    assert response.status_code == 401


def test_user_ids_are_any_text(gateway: Gateway) -> None:
    for user in ("漢字", "auth0|a/b", "x" * 128):
        response = gateway.submit("110", user_id=user)
        assert (response.json or {})["id"] == id_of("110", UserId(user))
