"""The token itself (RFC 7515, compact): its three segments, its header, its signature, its dates. No certificates."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from shared.jws.errors import JwsMalformed, JwsUntrusted
from shared.nesting import DEPTH_MAX, is_too_deep

TOKEN_LENGTH_MAX: Final = 256 * 1024
"""Characters. A notification with its two inner JWS is about 22,000; Apple documents no maximum."""

_ES256: Final = ec.ECDSA(hashes.SHA256())
_ES256_SIGNATURE_BYTES: Final = 64  # r and s, 32 bytes each (RFC 7518, section 3.4)
_UNIX_MS_MAX: Final = 253_402_300_799_000  # the year 9999, where datetime ends
_JWT_TIME_CLAIMS: Final = ("exp", "nbf", "iat")
_JWT_CLAIMS: Final = frozenset({*_JWT_TIME_CLAIMS, "aud", "sub", "jti"})

# base64url to base64; what base64url does not have becomes `*`, which strict decoding refuses
_FROM_BASE64URL: Final = bytes.maketrans(b"-_+/=", b"+/***")
# A last character's bits beyond the last byte must be zero, or one signature would have many spellings
_LAST_OF_TWO: Final = frozenset(b"AQgw")
_LAST_OF_THREE: Final = frozenset(b"AEIMQUYcgkosw048")


class Segments(NamedTuple):
    """A token's three segments, still encoded."""

    header: bytes
    payload: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        return self.header + b"." + self.payload


class CertificateTexts(NamedTuple):
    """The header's certificates (`x5c`), still encoded."""

    leaf: str
    intermediate: str
    root: str


def split_token(token: str) -> Segments:
    """Raises JwsMalformed when the token is not three segments of ASCII, or too long."""
    if len(token) > TOKEN_LENGTH_MAX:
        raise JwsMalformed("the token is too long")
    try:
        segments = token.encode("ascii").split(b".", 3)
    except UnicodeEncodeError as error:
        raise JwsMalformed("the token is not ASCII") from error
    if len(segments) != 3:
        raise JwsMalformed("the token is not three segments separated by dots")
    return Segments(*segments)


def read_payload(segment: bytes) -> dict[str, Any]:
    """The claims, whoever wrote them. Raises JwsMalformed."""
    return _json_object(segment, what="payload")


def read_header(segment: bytes) -> CertificateTexts:
    """What the header brings along. Raises JwsMalformed or JwsUntrusted for what it should not say."""
    header = _json_object(segment, what="header")
    if header.get("alg") != "ES256":
        raise JwsUntrusted("the algorithm is not ES256")
    if "crit" in header or "b64" in header:  # extensions of the form (RFC 7515, 4.1.11; RFC 7797): we know none
        raise JwsMalformed("the header asks for an extension")
    if not isinstance(header.get("kid", ""), str):
        raise JwsMalformed("the header's kid is not a string")
    match header.get("x5c"):
        case [str(leaf), str(intermediate), str(root)]:
            return CertificateTexts(leaf, intermediate, root)
    raise JwsMalformed("the header has no x5c of three certificates")


def check_signature(segments: Segments, *, key: ec.EllipticCurvePublicKey) -> None:
    """Raises JwsUntrusted when the key (on P-256) did not sign this, JwsMalformed when it is no base64url."""
    raw = _base64url(segments.signature, what="signature")
    if len(raw) != _ES256_SIGNATURE_BYTES:
        raise JwsUntrusted("the signature is not 64 bytes")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), segments.signed, _ES256)
    except InvalidSignature as error:
        raise JwsUntrusted("the signature does not match") from error


def signing_time_ms(claims: Mapping[str, Any]) -> float | None:
    """When the payload says that it was signed, in UNIX milliseconds; None if it does not say. Raises JwsMalformed.

    Apple writes it as `signedDate`, in an app transaction as `receiptCreationDate`; Xcode's are floats.
    """
    signed_ms = claims.get("signedDate")
    if signed_ms is None:
        signed_ms = claims.get("receiptCreationDate")
    if signed_ms is None:
        return None
    if type(signed_ms) not in (int, float) or not 0 <= signed_ms <= _UNIX_MS_MAX:
        raise JwsMalformed("the date of signing is not a time")
    return float(signed_ms)


def check_jwt_claims(claims: Mapping[str, Any], *, now_s: float) -> None:
    """The App Store's payloads have none of JWT's own claims (RFC 7519, 4.1); where there is one, it has to hold."""
    if _JWT_CLAIMS.isdisjoint(claims):
        return
    if "aud" in claims:
        raise JwsUntrusted("the token is meant for another audience")
    if not all(isinstance(claims.get(name, ""), str) for name in ("sub", "jti")):
        raise JwsMalformed("sub or jti is not a string")
    if any(name in claims and type(claims[name]) is not int for name in _JWT_TIME_CLAIMS):
        raise JwsMalformed("exp, nbf or iat is not a whole number")
    if claims.get("exp", now_s + 1) <= now_s or claims.get("nbf", now_s) > now_s or claims.get("iat", now_s) > now_s:
        raise JwsUntrusted("the token is not valid at this time")


def _json_object(segment: bytes, *, what: str) -> dict[str, Any]:
    text = _base64url(segment, what=what)
    if is_too_deep(text):
        raise JwsMalformed(f"the {what} is not JSON of at most {DEPTH_MAX} levels")
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise JwsMalformed(f"the {what} is not JSON") from error
    if not isinstance(value, dict):
        raise JwsMalformed(f"the {what} is not a JSON object")
    return value


def _base64url(segment: bytes, *, what: str) -> bytes:
    """Strict, unpadded base64url (RFC 7515, section 2): one text for one value."""
    beyond = len(segment) % 4
    if (beyond == 2 and segment[-1] not in _LAST_OF_TWO) or (beyond == 3 and segment[-1] not in _LAST_OF_THREE):
        raise JwsMalformed(f"the {what} is not base64url")
    try:
        return a2b_base64(segment.translate(_FROM_BASE64URL) + b"=" * (-beyond % 4), strict_mode=True)
    except ValueError as error:
        raise JwsMalformed(f"the {what} is not base64url") from error
