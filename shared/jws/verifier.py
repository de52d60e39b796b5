"""The verifier: one token in, what the App Store signed out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from shared.clock import from_unix_ms
from shared.jws.anchors import TrustAnchors
from shared.jws.chain import CertificateChain, ChainCache, TrustedChain, names_simulator, walk
from shared.jws.errors import JwsUntrusted
from shared.jws.token import (
    check_jwt_claims,
    check_signature,
    read_header,
    read_payload,
    signing_time_ms,
    split_token,
)

FUTURE_SKEW_S_MAX: Final = 300
"""How far `signedDate` may lie ahead of our clock: two clocks that disagree, no more."""

EXPIRED_CHAIN_WINDOW_S: Final = 60 * 86_400
"""How long an expired chain still vouches for what it signed before. The App Store repeats a notification for a week,
and a device posts its unfinished purchases when its app is next opened. Apple's server API signs anew what is older."""

CHAIN_TTL_S: Final = 15 * 60
"""How long a chain that was walked is kept; Apple's library keeps one as long."""

CHAIN_CACHE_SIZE: Final = 32
"""Chains; Apple's library keeps as many. The App Store uses a couple at a time."""


@dataclass(frozen=True, slots=True)
class SignedPayload:
    """What the App Store signed, and when it says that it did (`signedDate`, if the payload has one)."""

    claims: Mapping[str, Any]
    signed_at: datetime | None


class Revocation(Protocol):
    """Knows which certificates were revoked. Asked for each token, so it answers from memory."""

    def check(self, chain: CertificateChain, *, now: datetime) -> None:
        """Returns when leaf and intermediate are known to be good, by an answer that is still fresh.

        Raises JwsUntrusted when one was revoked, JwsUnconfirmed when it is not known (yet, or any more).
        """
        ...


class JwsVerifier:
    """Verifies the App Store's JWS against given trust anchors. Thread-safe: one serves a whole process.

    A chain is kept for `chain_ttl_s` at the longest (0: walked each time) and never beyond the end of one of its
    certificates; of more than `chain_cache_size` the least recently used goes.

    With `revocation` the certificates have to be valid now, not just when they signed: nobody answers for those that
    have expired. Without it, an expired chain vouches for its past during `expired_chain_window_s` (0: never).
    """

    def __init__(
        self,
        *,
        anchors: TrustAnchors,
        chain_cache_size: int = CHAIN_CACHE_SIZE,
        chain_ttl_s: float = CHAIN_TTL_S,
        expired_chain_window_s: float = EXPIRED_CHAIN_WINDOW_S,
        revocation: Revocation | None = None,
    ) -> None:
        self._roots = anchors.roots()
        self._pins = anchors.sha256_pins
        self._simulators = anchors.simulators
        self._chains = ChainCache(size=chain_cache_size, ttl_s=chain_ttl_s)
        self._expired_chain_window_s = 0.0 if revocation else expired_chain_window_s
        self._revocation = revocation

    def verify(self, token: str, *, now: datetime) -> SignedPayload:
        """The payload that the App Store signed.

        Raises JwsMalformed or JwsUntrusted; with `revocation`, JwsUnconfirmed too. Nothing else.
        """
        segments = split_token(token)
        now_s = now.timestamp()
        cached = self._chains.get(segments.header, now_s=now_s)
        chain = cached or self._walk(segments.header)
        check_signature(segments, key=chain.key)
        claims = read_payload(segments.payload)
        signed_ms = signing_time_ms(claims)
        self._check_dates(chain, signed_s=now_s if signed_ms is None else signed_ms / 1000, now_s=now_s)
        check_jwt_claims(claims, now_s=now_s)
        if cached is None:
            self._chains.put(segments.header, chain, now_s=now_s)
        if self._revocation is not None:
            self._revocation.check(chain.certificates, now=now)
        return SignedPayload(claims, None if signed_ms is None else from_unix_ms(signed_ms))

    def cached_chains(self) -> int:
        """How many chains are kept."""
        return len(self._chains)

    def _walk(self, header: bytes) -> TrustedChain:
        chain = walk(read_header(header), roots=self._roots, pins=self._pins)
        if not self._simulators and any(names_simulator(each) for each in chain.certificates):
            raise JwsUntrusted("a simulator signed it, and in production none is trusted")
        return chain

    def _check_dates(self, chain: TrustedChain, *, signed_s: float, now_s: float) -> None:
        if signed_s > now_s + FUTURE_SKEW_S_MAX:
            raise JwsUntrusted("signedDate is in the future")
        if not (chain.not_before_s <= min(signed_s, now_s) and signed_s < chain.not_after_s):
            raise JwsUntrusted("a certificate was not valid at the time of signing")
        if now_s >= chain.not_after_s + self._expired_chain_window_s:
            raise JwsUntrusted("a certificate expired too long ago")


def peek_claims(token: str) -> Mapping[str, Any]:
    """What a token says, **unverified**: to find out where it belongs before its signature is checked.

    Anybody can have written it: any JSON type under any name, any text. Raises JwsMalformed.
    """
    return read_payload(split_token(token).payload)
