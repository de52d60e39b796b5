"""Purchases come in: durable before the answer, once, whoever sends what."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from shared.events import Payload, PurchaseCompleted, PurchaseRejected, PurchaseVerified, StoreTransaction
from shared.ids import PurchaseId, TransactionId, UserId, purchase_id
from shared.jws import TOKEN_LENGTH_MAX
from tests.support.apple_pki import Chain, segment, sign_hs256
from tests.support.gateway import Gateway, apps_file, gateway_on, transaction_claims

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


def rejected(transaction_id: str) -> PurchaseRejected:
    return PurchaseRejected(
        purchase_id=id_of(transaction_id),
        store="apple",
        transaction_id=TransactionId(transaction_id),
        code="receipt_unauthentic",
        detail="not signed by the App Store",
    )


def named(
    gateway: Gateway, transaction_id: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> TestResponse:
    """Posts a transaction's id, by itself or with more, as alice unless the headers say otherwise."""
    body = {"store": "apple", "transaction_id": transaction_id, **more}
    return gateway.client().post("/v1/purchases", json=body, headers=headers or gateway.as_user())


def a_minute_later(gateway: Gateway, purchase: str) -> None:
    gateway.bus.execute(
        "update journal.timeline set updated_at = updated_at - interval '61 s' where subject = %(subject)s",
        subject=purchase,
    )


@pytest.fixture
def keyless(module_database: str, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose app has no key of the App Store Server API."""
    with gateway_on(module_database, tmp_path, changes={"apps_file": apps_file(tmp_path, api_key=False)}) as running:
        yield running


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
    payload = {"store": "apple", "transaction_id": "102", "receipt": RECEIPT, "vouched": False}
    assert gateway.events(id_of("102")) == [("receipt.submitted", payload)]


def test_a_transaction_that_is_only_named_is_recorded_for_whoever_asks_the_store(gateway: Gateway) -> None:
    response = named(gateway, "120")
    assert (response.status_code, (response.json or {})["status"]) == (202, "accepted")
    assert response.headers["Location"] == f"/v1/purchases/{id_of('120')}"
    payload = {"store": "apple", "transaction_id": "120", "vouched": False}
    assert gateway.events(id_of("120")) == [("transaction_id.submitted", payload)]
    rows = gateway.bus.execute("select consumer from journal.delivery where type = 'transaction_id.submitted'")
    assert {row[0] for row in rows} == {"verifier-lookups"}


@pytest.mark.parametrize("proof", [{}, {"receipt": RECEIPT}], ids=["named", "receipt"])
def test_a_server_vouches_for_the_user_that_it_names_and_a_client_for_nobody(
    gateway: Gateway, proof: dict[str, Any]
) -> None:
    transaction_id = f"121{len(proof)}"
    named(gateway, transaction_id, **proof)
    by_server = named(gateway, transaction_id, headers=gateway.as_server(), user_id="alice", **proof)
    assert (by_server.json or {})["id"] == id_of(transaction_id)
    assert [payload["vouched"] for _, payload in gateway.events(id_of(transaction_id))] == [False, True]
    named(gateway, transaction_id, headers=gateway.as_server(), user_id="alice", **proof)
    assert len(gateway.events(id_of(transaction_id))) == 2


def test_a_named_transaction_is_the_same_purchase_as_a_proven_one(gateway: Gateway) -> None:
    proven = gateway.submit("122")
    only_named, again = named(gateway, "122"), named(gateway, "122")
    assert {(response.json or {})["id"] for response in (proven, only_named, again)} == {id_of("122")}
    types = [event_type for event_type, _ in gateway.events(id_of("122"))]
    assert types == ["transaction.submitted", "transaction_id.submitted"]
    gateway.tell(id_of("122"), completed("122", gateway))
    assert (named(gateway, "122").json or {})["status"] == "completed"
    assert len(gateway.events(id_of("122"))) == 3


def test_a_name_that_was_rejected_may_be_sent_again_after_a_while(gateway: Gateway) -> None:
    named(gateway, "123")
    gateway.tell(id_of("123"), rejected("123"))
    assert (named(gateway, "123").json or {})["status"] == "rejected"
    a_minute_later(gateway, id_of("123"))
    assert (named(gateway, "123").json or {})["status"] == "accepted"
    types = [event_type for event_type, _ in gateway.events(id_of("123"))]
    assert types == ["transaction_id.submitted", "purchase.rejected", "transaction_id.submitted"]


@pytest.mark.parametrize("verdicts", [["rejected", "verified"], ["verified", "rejected"]])
def test_a_proof_that_is_rejected_does_not_undo_the_one_that_was_found_good(
    gateway: Gateway, verdicts: list[str]
) -> None:
    transaction_id = f"124{verdicts[0]}"
    purchase = id_of(transaction_id)
    gateway.submit(transaction_id)
    named(gateway, transaction_id)
    done = completed(transaction_id, gateway)
    words: dict[str, Payload] = {
        "rejected": rejected(transaction_id),
        "verified": PurchaseVerified(purchase_id=purchase, transaction=done.transaction),
    }
    for verdict in verdicts:
        gateway.tell(purchase, words[verdict])
    assert (gateway.submit(transaction_id).json or {})["status"] == "verifying"
    gateway.tell(purchase, done)
    gateway.tell(purchase, rejected(transaction_id))
    assert (named(gateway, transaction_id).json or {})["status"] == "completed"


def test_without_a_key_of_the_server_api_a_name_is_refused_with_what_to_do(keyless: Gateway) -> None:
    response = named(keyless, "125")
    assert (response.status_code, (response.json or {})["code"]) == (400, "malformed-request")
    detail = (response.json or {})["detail"]
    assert detail.startswith("transaction_id: ")
    for word in ("receipt", "signed_transaction", "issuer_id", "key_id", "private_key_file"):
        assert word in detail
    assert keyless.events(id_of("125")) == []
    assert keyless.submit("125").status_code == 202


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
    gateway.tell(id_of("108"), rejected("108"))
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
    ({"store": "apple"}, "signed_transaction, receipt, transaction_id"),
    ({"store": "apple", "transaction_id": ""}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1/2"}, "transaction_id"),
    ({"store": "apple", "transaction_id": None}, "transaction_id"),
    ({"store": "apple", "receipt": RECEIPT, "signed_transaction": JWS}, "not both"),
    ({"store": "google", "signed_transaction": JWS}, "store"),
    ({"store": "apple", "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1", "receipt": RECEIPT, "signed_transaction": JWS}, "not both"),
    ({"store": "apple", "transaction_id": 1, "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "", "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1\x00", "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1\ud800", "receipt": RECEIPT}, "transaction_id"),
    ({"store": "apple", "transaction_id": "1", "receipt": "no base64"}, "receipt"),
    ({"store": "apple", "transaction_id": "1", "receipt": RECEIPT + "\x00"}, "receipt"),
    ({"store": "apple", "transaction_id": "1", "receipt": "\udfffAAA"}, "receipt"),
    ({"store": "apple", "signed_transaction": f"\x00{JWS}"}, "signed_transaction"),
    ({"store": "apple", "signed_transaction": f"{JWS}\x00"}, "signed_transaction"),
    ({"store": "apple", "signed_transaction": f"{JWS}\ud800"}, "signed_transaction"),
    ({"store": "apple", "signed_transaction": JWS, "user_id": "alice\udfff"}, "user_id"),
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


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\x00b", "\x7f", "\ud800", ".", "..", "me", "erased:alice"])
def test_a_user_that_cannot_be_is_refused(gateway: Gateway, user_id: str) -> None:
    body = {"store": "apple", "signed_transaction": JWS, "user_id": user_id}
    response = gateway.client().post("/v1/purchases", json=body, headers=gateway.as_server())
    assert (response.status_code, "user_id" in (response.json or {})["detail"]) == (400, True)


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\x00b", ".", "..", "me", "erased:alice"])
def test_a_token_of_a_user_that_cannot_be_is_refused_by_its_claim(gateway: Gateway, user_id: str) -> None:
    response = gateway.submit("111", user_id=user_id)
    assert (response.status_code, (response.json or {})["code"]) == (401, "unauthorized")
    assert "token's sub: " in (response.json or {})["detail"]


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
    for user in ("漢字", "auth0|a/b", "x" * 128, "...", "Me", "a/../b"):
        response = gateway.submit("110", user_id=user)
        assert (response.json or {})["id"] == id_of("110", UserId(user))
