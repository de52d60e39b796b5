"""What checking a notification's signatures costs: here, by Apple's library, and by bare ES256 over the same bytes.

    python -m tests.benchmarks.signatures [--rounds N] [--json]

One notification is three JWS: itself, its transaction, its renewal info. All contestants check the same ones on the
same core in turns, so that whatever else the machine does hits all of them; of the rounds, the median counts.

- here: `shared.jws.JwsVerifier` as the processes run it, its chain known; and the same with revocation confirmed
- Apple's: `SignedDataVerifier` as most people use it, strict, without online checks; it also fills its models
- bare: the three ECDSA checks by `cryptography`, their key known and everything decoded: what nobody can go below
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from appstoreserverlibrary.models.Environment import Environment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from shared.clock import Clock, SystemClock, to_unix_ms
from shared.jws import CertificateChain, JwsUnconfirmed, JwsVerifier, TrustAnchors
from tests.support.apple_pki import INTERMEDIATE, LEAF, Certificate, Chain, ocsp_answer, raw_signature
from tests.support.stack import wait_until
from verifier.apple.ocsp import OcspRegistry
from verifier.apple.transport import Answer, Transport, store_session

BUNDLE_ID, APP_APPLE_ID = "com.example.game", 1234567890
TIMES_APPLES_MIN, TIMES_BARE_MAX = 25.0, 2.0
BATCH = 20
"""Notifications between two looks at the clock (Apple's library: one)."""


@dataclass(frozen=True, slots=True)
class Notification:
    """Its three JWS, the outer one first."""

    payload: str
    transaction: str
    renewal: str

    @property
    def tokens(self) -> tuple[str, str, str]:
        return self.payload, self.transaction, self.renewal


@dataclass(frozen=True, slots=True)
class Costs:
    """Microseconds for one notification."""

    here_us: float
    here_with_revocation_us: float
    apples_us: float
    bare_us: float

    @property
    def times_apples(self) -> float:
        return self.apples_us / self.here_us

    @property
    def times_bare(self) -> float:
        return self.here_us / self.bare_us


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    costs = measure(rounds=options.rounds)
    if options.json:
        ratios = {"times_apples": costs.times_apples, "times_bare": costs.times_bare}
        print(json.dumps({**asdict(costs), **ratios}, indent=2))
    else:
        show(costs)


def show(costs: Costs) -> None:
    rows = [
        ("bare ES256", costs.bare_us),
        ("here, chain known", costs.here_us),
        ("here, revocation confirmed", costs.here_with_revocation_us),
        ("Apple's library", costs.apples_us),
    ]
    print(f"{'one notification (three JWS)':<30}{'µs':>10}{'to bare':>10}")
    for what, cost_us in rows:
        print(f"{what:<30}{cost_us:>10,.0f}{cost_us / costs.bare_us:>9.2f}x")
    print(f"Apple's library takes {costs.times_apples:.1f} times as long (goal: at least {TIMES_APPLES_MIN:g})")
    print(f"the bare checks are {costs.times_bare:.2f} times as fast (goal: at most {TIMES_BARE_MAX:g})")


def measure(*, rounds: int) -> Costs:
    """All four, in turns, on one chain that names a responder for its certificates."""
    clock = SystemClock()
    chain = Chain(intermediate_recipe=_with_responder(INTERMEDIATE), leaf_recipe=_with_responder(LEAF))
    notification = sign(chain, now=clock.now())
    registry = _confirmed(chain, clock)
    try:
        contestants = {
            "here": _by_us(chain, notification, now=clock.now()),
            "revocation": _by_us(chain, notification, now=clock.now(), revocation=registry),
            "apples": _by_apple(chain, notification),
            "bare": _bare(chain, notification),
        }
        costs_us = _in_turns(contestants, rounds=rounds, clock=clock)
    finally:
        registry.close()
    return Costs(costs_us["here"], costs_us["revocation"], costs_us["apples"], costs_us["bare"])


def sign(chain: Chain, *, now: datetime) -> Notification:
    """A renewal of a subscription, with about as much to say as the App Store says."""
    common = {"bundleId": BUNDLE_ID, "environment": "Production", "signedDate": to_unix_ms(now)}
    ids = {"originalTransactionId": "2000000000000001", "productId": "com.example.game.monthly"}
    transaction = chain.sign(
        {
            **ids,
            **common,
            "transactionId": "2000000000000009",
            "webOrderLineItemId": "2000000000000042",
            "subscriptionGroupIdentifier": "20000001",
            "purchaseDate": to_unix_ms(now),
            "originalPurchaseDate": to_unix_ms(now - timedelta(days=90)),
            "expiresDate": to_unix_ms(now + timedelta(days=30)),
            "quantity": 1,
            "type": "Auto-Renewable Subscription",
            "appAccountToken": "7e3fb204-2ab5-4f0c-9a8a-6b6b4b7f3a11",
            "inAppOwnershipType": "PURCHASED",
            "transactionReason": "RENEWAL",
            "storefront": "USA",
            "storefrontId": "143441",
            "price": 9990,
            "currency": "USD",
            "appTransactionId": "704289572311513293",
        }
    )
    renewal = chain.sign(
        {
            **ids,
            "environment": "Production",
            "signedDate": to_unix_ms(now),
            "autoRenewProductId": ids["productId"],
            "autoRenewStatus": 1,
            "recentSubscriptionStartDate": to_unix_ms(now - timedelta(days=90)),
            "renewalDate": to_unix_ms(now + timedelta(days=30)),
            "renewalPrice": 9990,
            "currency": "USD",
            "appTransactionId": "704289572311513293",
        }
    )
    payload = chain.sign(
        {
            "notificationType": "DID_RENEW",
            "notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20",
            "version": "2.0",
            "signedDate": to_unix_ms(now),
            "data": {
                "appAppleId": APP_APPLE_ID,
                "bundleId": BUNDLE_ID,
                "bundleVersion": "1.2.3",
                "environment": "Production",
                "status": 1,
                "signedTransactionInfo": transaction,
                "signedRenewalInfo": renewal,
            },
        }
    )
    return Notification(payload, transaction, renewal)


# ---- the contestants -----------------------------------------------------------------------------------------------

Check = Callable[[], None]


def _by_us(chain: Chain, notification: Notification, *, now: datetime, revocation: OcspRegistry | None = None) -> Check:
    anchors = TrustAnchors.of(pins=[chain.root_sha256], simulators=False)
    verifier = JwsVerifier(anchors=anchors, revocation=revocation)

    def check() -> None:
        for token in notification.tokens:
            verifier.verify(token, now=now)

    return check


def _by_apple(chain: Chain, notification: Notification) -> Check:
    verifier = SignedDataVerifier([chain.root.der], False, Environment.PRODUCTION, BUNDLE_ID, APP_APPLE_ID)

    def check() -> None:
        verifier.verify_and_decode_notification(notification.payload)
        verifier.verify_and_decode_signed_transaction(notification.transaction)
        verifier.verify_and_decode_renewal_info(notification.renewal)

    return check


def _bare(chain: Chain, notification: Notification) -> Check:
    key, algorithm = chain.leaf.certificate.public_key(), ec.ECDSA(hashes.SHA256())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    decoded = [(_der_signature(token), token.rpartition(".")[0].encode()) for token in notification.tokens]

    def check() -> None:
        for signature, signed in decoded:
            key.verify(signature, signed, algorithm)

    return check


def _der_signature(token: str) -> bytes:
    raw = raw_signature(token)
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def _in_turns(contestants: Mapping[str, Check], *, rounds: int, clock: Clock) -> dict[str, float]:
    taken_us: dict[str, list[float]] = {name: [] for name in contestants}
    for check in contestants.values():
        check()
    for _ in range(rounds):
        for name, check in contestants.items():
            times = 1 if name == "apples" else BATCH
            started = clock.monotonic()
            for _ in range(times):
                check()
            taken_us[name].append((clock.monotonic() - started) / times * 1e6)
    return {name: statistics.median(taken) for name, taken in taken_us.items()}


# ---- revocation, answered without a network ------------------------------------------------------------------------


def _with_responder(recipe: Certificate) -> Certificate:
    return replace(recipe, ocsp_url="http://ocsp.example/")


class _Answering(Transport):
    """Answers for a chain's certificates as their issuers, each in turn, as the registry asks: leaf, intermediate."""

    def __init__(self, chain: Chain, *, now: datetime) -> None:
        super().__init__(session=store_session(connections=1), connect_timeout_s=1, read_timeout_s=1)
        pairs = [(chain.leaf, chain.intermediate), (chain.intermediate, chain.root)]
        self._answers = [
            ocsp_answer(about, issuer=issuer, this_update=now, next_update=now + timedelta(days=1))
            for about, issuer in pairs
        ]

    def exchange(self, *_: Any, **__: Any) -> Answer:
        return Answer(200, {}, self._answers.pop(0))


def _confirmed(chain: Chain, clock: Clock) -> OcspRegistry:
    registry = OcspRegistry(transport=_Answering(chain, now=clock.now()), clock=clock)
    certificates = CertificateChain(*(each.certificate for each in (chain.leaf, chain.intermediate, chain.root)))

    def is_confirmed() -> bool:
        try:
            registry.check(certificates, now=clock.now())
        except JwsUnconfirmed:
            return False
        return True

    wait_until(is_confirmed, what="that the chain is confirmed")
    return registry


if __name__ == "__main__":
    main(sys.argv[1:])
