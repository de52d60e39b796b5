"""JWS as the App Store writes them: ES256, compact, the certificate chain in `x5c`."""

from __future__ import annotations

import base64
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from simulator.certificates import Authority

_COORDINATE_BYTES = 32  # RFC 7518, section 3.4: R and S of P-256, each 32 octets, big-endian
_ES256 = ec.ECDSA(hashes.SHA256())


class Signer:
    """Signs payloads with the leaf's key. Thread-safe: it keeps nothing between calls."""

    def __init__(self, authority: Authority) -> None:
        self._key = authority.key
        self._header = _header_segment(authority)

    def sign(self, payload: Mapping[str, Any]) -> str:
        """The compact JWS of a payload, which is written as JSON in the order of its keys."""
        signing_input = self._header + b"." + _base64url(msgspec.json.encode(payload))
        return (signing_input + b"." + _base64url(self._signature(signing_input))).decode("ascii")

    def _signature(self, signing_input: bytes) -> bytes:
        r, s = decode_dss_signature(self._key.sign(signing_input, _ES256))
        return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")


def _header_segment(authority: Authority) -> bytes:
    # RFC 7515, section 4.1.6: x5c is standard base64 of DER, not base64url
    chain = [
        base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode("ascii")
        for certificate in authority.chain
    ]
    return _base64url(msgspec.json.encode({"alg": "ES256", "x5c": chain}))


# ---- folding ----------------------------------------------------------------------------------------------------

_HEADER = b"\x00"
"""Stands for the header within a folded payload: JSON has no such octet."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A compact JWS with each of its certificate chains kept once: those that it carries within it have the same."""

    header: str
    payload: bytes
    signature: str


def fold(jws: str) -> Folded:
    """A JWS of ours, and all that are signed within it by the same chain, in a fraction of its size."""
    header, payload, signature = jws.split(".")
    return Folded(sys.intern(header), _from_base64url(payload).replace(header.encode(), _HEADER), signature)


def unfold(folded: Folded) -> str:
    """The very JWS that was folded."""
    payload = _base64url(folded.payload.replace(_HEADER, folded.header.encode()))
    return f"{folded.header}.{payload.decode()}.{folded.signature}"


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _base64url(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
