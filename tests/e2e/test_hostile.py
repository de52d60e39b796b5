"""What strangers send: each a clear refusal, no stack trace, nothing that grows."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.support.app_store import AppStore
from tests.support.apple_pki import LEAF, Chain, sign_hs256
from tests.support.system import System, client

pytestmark = pytest.mark.slow

NOW = datetime.now(UTC)  # noqa: TID251  the running system has the real clock


def _rejection(system: System, token: str) -> tuple[int, str]:
    """The HTTP status, and the code of the refusal: a problem's, or a rejection's."""
    response = system.post("stranger", {"signed_transaction": token}, Prefer="wait=20")
    assert "Traceback" not in response.text
    body = response.json()
    return response.status_code, body.get("code") or body["rejection"]["code"]


def test_a_self_signed_transaction_is_rejected(system: System) -> None:
    store = AppStore(now=NOW)
    assert _rejection(system, store.sign(store.transaction())) == (200, "receipt_unauthentic")


def test_a_chain_without_the_marker_is_rejected(system: System) -> None:
    from dataclasses import replace

    store = AppStore(now=NOW)
    chain = Chain(leaf_recipe=replace(LEAF, marker=None))
    assert _rejection(system, chain.sign(store.transaction())) == (200, "receipt_unauthentic")


def test_hs256_keyed_with_the_certificate_is_rejected(system: System) -> None:
    store = AppStore(now=NOW)
    genuine = system.buy()["signed_transaction"]
    header = json.loads(base64.urlsafe_b64decode(genuine.split(".")[0] + "=="))
    leaf = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))
    pem = leaf.public_bytes(serialization.Encoding.PEM)
    forged = sign_hs256(pem, header | {"alg": "HS256"}, store.transaction())
    status, code = _rejection(system, forged)
    assert (status, code) in {(200, "receipt_malformed"), (200, "receipt_unauthentic")}


def test_another_apps_transaction_is_rejected(system: System) -> None:
    # Genuinely signed, but the payload was changed afterwards: whatever it then says, the signature does not hold.
    head, payload, signature = system.buy()["signed_transaction"].split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = base64.urlsafe_b64encode(json.dumps(claims | {"bundleId": "com.example.other"}).encode()).rstrip(b"=")
    assert _rejection(system, f"{head}.{other.decode()}.{signature}") == (200, "receipt_unauthentic")


def test_a_truncated_token_is_refused(system: System) -> None:
    token = system.buy()["signed_transaction"]
    assert _rejection(system, token[:-40])[1] in {"receipt_malformed", "receipt_unauthentic"}
    status, code = _rejection(system, token[: len(token) // 2])
    assert (status, code) == (400, "malformed-request")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * (2 * 1024 * 1024), 413),
        (b"[]", 400),
        (b'"text"', 400),
        (b"null", 400),
        (b"{", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (b'{"store": "apple"}', 400),
        (b'{"store": "nowhere", "signed_transaction": "a.b.c"}', 400),
        (b'{"store": "apple", "signed_transaction": 5}', 400),
        (b'{"store": "apple", "transaction_id": "1\\u0000", "receipt": "AA=="}', 400),
        (b"[" * 100_000, 400),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_body_that_is_no_purchase_is_a_clear_problem(system: System, body: bytes, status: int) -> None:
    before = _events(system)
    headers = client("stranger") | {"Content-Type": "application/json"}
    response = requests.post(f"{system.gateway}/v1/purchases", data=body, headers=headers, timeout=20)
    assert response.status_code == status
    problem = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["code"]
    assert "Traceback" not in response.text
    assert _events(system) == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"signedPayload": "a.b.c"}, 400),
        ({"signedPayload": 7}, 400),
        ({}, 400),
    ],
)
def test_a_webhook_that_is_no_notification_is_refused(system: System, body: dict[str, Any], status: int) -> None:
    assert requests.post(f"{system.gateway}/webhooks/apple", json=body, timeout=20).status_code == status


def test_a_webhook_by_a_stranger_is_not_recorded(system: System) -> None:
    store = AppStore(now=NOW)
    payload = store.notification("REFUND", store.transaction(), notification_id="6f8d4f5e-0000-4000-8000-000000000001")
    before = _events(system)
    response = requests.post(f"{system.gateway}/webhooks/apple", json={"signedPayload": payload}, timeout=20)
    assert response.status_code == 401
    assert _events(system) == before


def test_the_same_rejected_proof_again_is_not_recorded_again(system: System) -> None:
    store = AppStore(now=NOW)
    token = store.sign(store.transaction())
    assert _rejection(system, token)[1] == "receipt_unauthentic"
    before = _events(system)
    for _ in range(20):
        assert _rejection(system, token)[1] == "receipt_unauthentic"
    assert _events(system) == before


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x.y.z", "Basic eDp5", "Bearer sk_wrong"])
def test_nobody_gets_in_without_a_good_credential(system: System, authorization: str) -> None:
    response = requests.get(
        f"{system.gateway}/v1/users/me/wallet", headers={"Authorization": authorization}, timeout=10
    )
    assert response.status_code == 401
    assert "WWW-Authenticate" in response.headers


def _events(system: System) -> int:
    """How many things from outside were recorded so far."""
    types = "'receipt.submitted', 'transaction.submitted', 'notification.received'"
    count: int = system.scalar(f"select count(*) from journal.event where type in ({types})")  # noqa: S608
    return count
