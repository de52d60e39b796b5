"""What the tests of the App Store's signatures start from: one good chain, one good payload, and both verifiers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from appstoreserverlibrary.models.Environment import Environment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier, VerificationException

from shared.clock import to_unix_ms
from shared.jws import JwsError, JwsVerifier, TrustAnchors
from tests.support.apple_pki import Chain

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SIGNED_MS = to_unix_ms(NOW - timedelta(minutes=1))
BUNDLE = "com.example.game"
CLAIMS = {
    "transactionId": "2000000000000001",
    "bundleId": BUNDLE,
    "productId": "com.example.game.gems100",
    "environment": "Sandbox",
    "signedDate": SIGNED_MS,
}


@cache
def good() -> Chain:
    return Chain()


@cache
def foreign() -> Chain:
    """As good as ours, under another root."""
    return Chain()


def anchored(chain: Chain) -> JwsVerifier:
    return JwsVerifier(anchors=TrustAnchors.of(files=[chain.root.der]))


def pinned(chain: Chain) -> JwsVerifier:
    return JwsVerifier(anchors=TrustAnchors.of(pins=[chain.root_sha256]))


def signed(**changes: Any) -> str:
    """Our good chain's signature over the claims, changed; `...` takes a claim out."""
    return good().sign(claims(**changes))


def claims(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}


Verdict = type[JwsError] | None


def verdict(verifier: JwsVerifier, token: str) -> Verdict:
    """What we say to a token; a message is short, since it may be shown and logged."""
    try:
        verifier.verify(token, now=NOW)
    except JwsError as error:
        refusal = error
    else:
        return None
    assert 0 < len(str(refusal)) < 100
    return type(refusal)


def apple_takes(chain: Chain, token: str) -> bool:
    oracle = SignedDataVerifier([chain.root.der], False, Environment.SANDBOX, BUNDLE)
    try:
        oracle.verify_and_decode_signed_transaction(token)
    except VerificationException:
        return False
    return True
