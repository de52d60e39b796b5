"""The App Store's signatures: what is signed by it, and what is not.

The one place where Apple's JWS (RFC 7515, compact) are verified: the gateway authenticates webhooks with it, the
verifier everything else. It knows certificates and signatures; what the claims mean is the business of who reads them.

The rules are those of Apple's own library, and some more. Whatever the input, only JwsError comes out of here.

- Three segments of strict base64url; the header says `alg` ES256 and carries three certificates (`x5c`).
- The leaf was issued by the intermediate, that by a root which we trust: one that is configured, or the third
  certificate if its SHA-256 is pinned. The third certificate is trusted for nothing else.
- Leaf and intermediate carry Apple's marker extensions: many certificates end at Apple's root, every developer's too,
  and only those with the markers sign receipts.
- All three certificates were valid when the payload says that it was signed (`signedDate`), or now if it does not say.
  A date in the future is refused, and a chain that has expired vouches for its past only within a stated window,
  because whoever finds an old key could sign for the past for ever.

The chain is walked from the root down, so that no key is used before the one above it has vouched for it. Chains that
were walked are kept for a while, by the exact text of the header that holds them, and only after the signature over
that header was found good: a stranger can neither fill the cache nor empty it.
"""

from __future__ import annotations

import hashlib
import threading
from binascii import a2b_base64
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import ExtensionOID

from shared.clock import from_unix_ms

TOKEN_LENGTH_MAX = 256 * 1024
"""Characters. A notification with its two inner JWS is about 22,000; Apple documents no maximum."""

FUTURE_SKEW_S_MAX = 300
"""How far `signedDate` may lie ahead of our clock: two clocks that disagree, no more."""

EXPIRED_CHAIN_WINDOW_S = 60 * 86_400
"""How long an expired chain still vouches for what it signed before. The App Store repeats a notification for a week,
and a device posts its unfinished purchases when its app is next opened. Apple's server API signs anew what is older."""

LEAF_MARKER = x509.ObjectIdentifier("1.2.840.113635.100.6.11.1")
INTERMEDIATE_MARKER = x509.ObjectIdentifier("1.2.840.113635.100.6.2.1")
"""Apple's "receipt signing" and "Worldwide Developer Relations" markers; their presence counts, not their value."""

SIMULATOR_NAME = "Purser Simulator"
"""What the subject of the simulator's certificates says."""

_ES256 = ec.ECDSA(hashes.SHA256())
_ES256_SIGNATURE_BYTES = 64  # r and s, 32 bytes each (RFC 7518, section 3.4)
_CRITICAL_UNDERSTOOD = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})
_SIGNATURE_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNIX_MS_MAX = 253_402_300_799_000  # the year 9999, where datetime ends
_JWT_TIME_CLAIMS = ("exp", "nbf", "iat")
_JWT_CLAIMS = frozenset({*_JWT_TIME_CLAIMS, "aud", "sub", "jti"})

# base64url to base64; what base64url does not have becomes `*`, which strict decoding refuses
_FROM_BASE64URL = bytes.maketrans(b"-_+/=", b"+/***")
# A last character's bits beyond the last byte must be zero, or one signature would have many spellings
_LAST_OF_TWO = frozenset(b"AQgw")
_LAST_OF_THREE = frozenset(b"AEIMQUYcgkosw048")

# What the X.509 parser raises on certificates that are damaged
_CERTIFICATE_ERRORS = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class JwsError(Exception):
    """The token is refused for good. The message is short, quotes nothing of the token, and may be shown."""


class JwsMalformed(JwsError):
    """It is not a JWS of the App Store's form; whoever sent it sent something else, or half of it."""


class JwsUntrusted(JwsError):
    """It has the form, but the App Store did not sign it, or we cannot rely on that any more."""


class TrustAnchorInvalid(ValueError):
    """A configured pin or root certificate cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """Whom a chain must end at: root certificates (DER), and SHA-256 digests of further ones that tokens bring along.

    Raises TrustAnchorInvalid when there is none, or when one of them is not a root certificate or not a SHA-256 digest.
    """

    certificates: tuple[bytes, ...] = ()
    sha256_pins: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if not self.certificates and not self.sha256_pins:
            raise TrustAnchorInvalid("no trust anchor: a root certificate or the SHA-256 of one is needed")
        if any(len(pin) != hashlib.sha256().digest_size for pin in self.sha256_pins):
            raise TrustAnchorInvalid("a SHA-256 pin is 32 bytes")
        for certificate in self.certificates:
            _configured_root(certificate)

    @classmethod
    def of(cls, *, pins: Iterable[str] = (), files: Iterable[bytes] = ()) -> TrustAnchors:
        """Anchors as an operator writes them: pins in hexadecimal (colons allowed), contents of PEM or DER files.

        A PEM file may hold several certificates. Raises TrustAnchorInvalid.
        """
        return cls(
            certificates=tuple(certificate for content in files for certificate in _certificates_of(content)),
            sha256_pins=frozenset(_pin(text) for text in pins),
        )

    def name_simulator(self) -> bool:
        """Whether one of the certificates is a simulator's own. What a pin stands for cannot be told."""
        subjects = (x509.load_der_x509_certificate(der).subject.rfc4514_string() for der in self.certificates)
        return any(SIMULATOR_NAME in subject for subject in subjects)


def _pin(text: str) -> bytes:
    try:
        pin = bytes.fromhex(text.replace(":", ""))
    except ValueError as error:
        raise TrustAnchorInvalid(f"the pin {text!r} is not hexadecimal") from error
    if len(pin) != hashlib.sha256().digest_size:
        raise TrustAnchorInvalid(f"the pin {text!r} is not a SHA-256 digest (64 hexadecimal digits)")
    return pin


def _certificates_of(content: bytes) -> list[bytes]:
    if b"-----BEGIN" not in content:
        return [content]
    try:
        return [_der(certificate) for certificate in x509.load_pem_x509_certificates(content)]
    except _CERTIFICATE_ERRORS as error:
        raise TrustAnchorInvalid(f"a root file is not a PEM certificate: {error}") from error


def _configured_root(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        _require_issuer(certificate, path_length=1)
    except (*_CERTIFICATE_ERRORS, JwsUntrusted) as error:
        raise TrustAnchorInvalid(f"a trust anchor is not a root certificate: {error}") from error
    return certificate


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True, slots=True)
class SignedPayload:
    """What the App Store signed, and when it says that it did (`signedDate`, if the payload has one)."""

    claims: Mapping[str, Any]
    signed_at: datetime | None


class JwsVerifier:
    """Verifies the App Store's JWS against given trust anchors. Thread-safe: one serves a whole process.

    A chain is kept for `chain_ttl_s` at the longest and never beyond the end of one of its certificates; of more than
    `chain_cache_size` the least recently used goes (the App Store uses a couple at a time).
    """

    def __init__(
        self,
        *,
        anchors: TrustAnchors,
        chain_cache_size: int = 32,
        chain_ttl_s: float = 900,
        expired_chain_window_s: float = EXPIRED_CHAIN_WINDOW_S,
    ) -> None:
        self._roots = tuple(_configured_root(certificate) for certificate in anchors.certificates)
        self._pins = anchors.sha256_pins
        self._chains = _ChainCache(size=chain_cache_size, ttl_s=chain_ttl_s)
        self._expired_chain_window_s = expired_chain_window_s

    def verify(self, token: str, *, now: datetime) -> SignedPayload:
        """The payload that the App Store signed. Raises JwsMalformed or JwsUntrusted, nothing else."""
        header, payload, signature = _segments(token)
        now_s = now.timestamp()
        cached = self._chains.get(header, now_s=now_s)
        chain = cached or _walk(_certificate_texts(header), roots=self._roots, pins=self._pins)
        _check_signature(chain.key, signature=signature, signed=header + b"." + payload)
        claims = _json_object(payload, what="payload")
        signed_ms = _signed_ms(claims)
        self._check_dates(chain, signed_s=None if signed_ms is None else signed_ms / 1000, now_s=now_s)
        _check_jwt_claims(claims, now_s=now_s)
        if cached is None:
            self._chains.put(header, chain, now_s=now_s)
        return SignedPayload(claims, None if signed_ms is None else from_unix_ms(signed_ms))

    def cached_chains(self) -> int:
        """How many chains are kept."""
        return len(self._chains)

    def _check_dates(self, chain: _Chain, *, signed_s: float | None, now_s: float) -> None:
        effective_s = now_s if signed_s is None else signed_s
        if effective_s > now_s + FUTURE_SKEW_S_MAX:
            raise JwsUntrusted("signedDate is in the future")
        if not chain.not_before_s <= effective_s < chain.not_after_s:
            raise JwsUntrusted("a certificate was not valid at the time of signing")
        if now_s >= chain.not_after_s + self._expired_chain_window_s:
            raise JwsUntrusted("a certificate expired too long ago")


def peek_claims(token: str) -> Mapping[str, Any]:
    """What a token says, **unverified**: to find out where it belongs before its signature is checked.

    Anybody can have written it: any JSON type under any name, any text. Raises JwsMalformed.
    """
    _, payload, _ = _segments(token)
    return _json_object(payload, what="payload")


# ---- the token --------------------------------------------------------------------------------------------------


def _segments(token: str) -> tuple[bytes, bytes, bytes]:
    """Header, payload and signature, still encoded."""
    if len(token) > TOKEN_LENGTH_MAX:
        raise JwsMalformed("the token is too long")
    try:
        segments = token.encode("ascii").split(b".", 3)
    except UnicodeEncodeError as error:
        raise JwsMalformed("the token is not ASCII") from error
    if len(segments) != 3:
        raise JwsMalformed("the token is not three segments separated by dots")
    header, payload, signature = segments
    return header, payload, signature


def _base64url(segment: bytes, *, what: str) -> bytes:
    """Strict, unpadded base64url (RFC 7515, section 2): one text for one value."""
    beyond = len(segment) % 4
    if (beyond == 2 and segment[-1] not in _LAST_OF_TWO) or (beyond == 3 and segment[-1] not in _LAST_OF_THREE):
        raise JwsMalformed(f"the {what} is not base64url")
    try:
        return a2b_base64(segment.translate(_FROM_BASE64URL) + b"=" * (-beyond % 4), strict_mode=True)
    except ValueError as error:
        raise JwsMalformed(f"the {what} is not base64url") from error


def _json_object(segment: bytes, *, what: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(_base64url(segment, what=what))
    except (ValueError, RecursionError) as error:
        raise JwsMalformed(f"the {what} is not JSON") from error
    if not isinstance(value, dict):
        raise JwsMalformed(f"the {what} is not a JSON object")
    return value


def _certificate_texts(segment: bytes) -> tuple[str, str, str]:
    """The three certificates of a header, leaf first, still encoded. Refuses what the header should not say."""
    header = _json_object(segment, what="header")
    if header.get("alg") != "ES256":
        raise JwsUntrusted("the algorithm is not ES256")
    if "crit" in header or "b64" in header:  # extensions of the form (RFC 7515, 4.1.11; RFC 7797): we know none
        raise JwsMalformed("the header asks for an extension")
    if not isinstance(header.get("kid", ""), str):
        raise JwsMalformed("the header's kid is not a string")
    match header.get("x5c"):
        case [str(leaf), str(intermediate), str(root)]:
            return leaf, intermediate, root
    raise JwsMalformed("the header has no x5c of three certificates")


def _check_signature(key: ec.EllipticCurvePublicKey, *, signature: bytes, signed: bytes) -> None:
    raw = _base64url(signature, what="signature")
    if len(raw) != _ES256_SIGNATURE_BYTES:
        raise JwsUntrusted("the signature is not 64 bytes")
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, _ES256)
    except InvalidSignature as error:
        raise JwsUntrusted("the signature does not match") from error


def _signed_ms(claims: Mapping[str, Any]) -> float | None:
    """`signedDate`: UNIX milliseconds, a float from Xcode. Absent (or null): None."""
    signed_ms = claims.get("signedDate")
    if signed_ms is None:
        return None
    if type(signed_ms) not in (int, float) or not 0 <= signed_ms <= _UNIX_MS_MAX:
        raise JwsMalformed("signedDate is not a time")
    return float(signed_ms)


def _check_jwt_claims(claims: Mapping[str, Any], *, now_s: float) -> None:
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


# ---- the chain --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain that ends at an anchor: the leaf's key, and when (UNIX seconds) all its certificates are valid."""

    key: ec.EllipticCurvePublicKey
    not_before_s: float
    not_after_s: float


class _ChainCache:
    """Chains by the header segment that holds them: bounded, least recently used first out, each with an end."""

    def __init__(self, *, size: int, ttl_s: float) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[_Chain, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, header: bytes, *, now_s: float) -> _Chain | None:
        with self._lock:
            entry = self._entries.get(header)
            if entry is None:
                return None
            chain, until_s = entry
            if now_s >= until_s:
                del self._entries[header]
                return None
            self._entries.move_to_end(header)
            return chain

    def put(self, header: bytes, chain: _Chain, *, now_s: float) -> None:
        until_s = min(now_s + self._ttl_s, chain.not_after_s)
        if now_s >= until_s:
            return
        with self._lock:
            self._entries[header] = (chain, until_s)
            self._entries.move_to_end(header)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


def _walk(texts: tuple[str, str, str], *, roots: tuple[x509.Certificate, ...], pins: frozenset[bytes]) -> _Chain:
    """The chain, from the root down. Dates are checked by the caller, for each token.

    Raises JwsMalformed when leaf or intermediate is no certificate, JwsUntrusted when the chain breaks a rule.
    """
    leaf, intermediate = _certificate(texts[0]), _certificate(texts[1])
    try:
        root = _issuer_of(intermediate, among=(*roots, *_pinned(texts[2], pins)))
        _require_issuer(root, path_length=1)
        _require_issuer(intermediate, path_length=0)
        _require_issued(leaf, by=intermediate)
        _require_marker(intermediate, INTERMEDIATE_MARKER)
        _require_marker(leaf, LEAF_MARKER)
        key = _signing_key(leaf)
    except _CERTIFICATE_ERRORS as error:
        raise JwsUntrusted("a certificate cannot be read") from error
    return _Chain(
        key=key,
        not_before_s=max(each.not_valid_before_utc.timestamp() for each in (leaf, intermediate, root)),
        not_after_s=min(each.not_valid_after_utc.timestamp() for each in (leaf, intermediate, root)),
    )


def _certificate(text: str) -> x509.Certificate:
    """One element of x5c: padded base64 of the standard alphabet (RFC 7515, section 4.1.6)."""
    try:
        return x509.load_der_x509_certificate(a2b_base64(text, strict_mode=True))
    except _CERTIFICATE_ERRORS as error:
        raise JwsMalformed("x5c holds something that is not a certificate") from error


def _pinned(text: str, pins: frozenset[bytes]) -> tuple[x509.Certificate, ...]:
    """The third certificate, if it is pinned. What else stands there is of no interest, readable or not."""
    try:
        der = a2b_base64(text, strict_mode=True)
    except ValueError:
        return ()
    return (x509.load_der_x509_certificate(der),) if hashlib.sha256(der).digest() in pins else ()


def _issuer_of(certificate: x509.Certificate, *, among: tuple[x509.Certificate, ...]) -> x509.Certificate:
    for candidate in among:
        if _is_issued(certificate, by=candidate):
            return candidate
    raise JwsUntrusted("the chain does not end at a trusted root")


def _require_issued(certificate: x509.Certificate, *, by: x509.Certificate) -> None:
    if not _is_issued(certificate, by=by):
        raise JwsUntrusted("a certificate was not issued by the next one")


def _is_issued(certificate: x509.Certificate, *, by: x509.Certificate) -> bool:
    """Names, signature and key identifiers agree (RFC 5280, 6.1.3 and 4.2.1.1); no broken hash is relied on."""
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    authority = _extension(certificate, x509.AuthorityKeyIdentifier)
    subject = _extension(by, x509.SubjectKeyIdentifier)
    if authority is None or subject is None or authority.value.key_identifier != subject.value.digest:
        return False
    return isinstance(certificate.signature_hash_algorithm, _SIGNATURE_HASHES)


def _require_issuer(certificate: x509.Certificate, *, path_length: int) -> None:
    """It may issue certificates, with `path_length` more issuers below it (RFC 5280, 4.2.1.3 and 4.2.1.9)."""
    _require_understood(certificate)
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    if constraints is None or not (constraints.critical and constraints.value.ca):
        raise JwsUntrusted("an issuer in the chain is no certificate authority")
    if usage is None or not usage.value.key_cert_sign:
        raise JwsUntrusted("an issuer in the chain may not sign certificates")
    limit = constraints.value.path_length
    if limit is not None and limit < path_length:
        raise JwsUntrusted("the chain is longer than an issuer in it allows")


def _require_understood(certificate: x509.Certificate) -> None:
    if any(each.critical and each.oid not in _CRITICAL_UNDERSTOOD for each in certificate.extensions):
        raise JwsUntrusted("a certificate has a critical extension that is not known")


def _require_marker(certificate: x509.Certificate, marker: x509.ObjectIdentifier) -> None:
    if not any(each.oid == marker for each in certificate.extensions):
        raise JwsUntrusted("a certificate is not one that signs for the App Store")


def _signing_key(leaf: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The leaf's key: on P-256, as ES256 demands, of a certificate that signs data and issues nothing."""
    _require_understood(leaf)
    constraints = _extension(leaf, x509.BasicConstraints)
    usage = _extension(leaf, x509.KeyUsage)
    if constraints is not None and constraints.value.ca:
        raise JwsUntrusted("the signing certificate is a certificate authority")
    if usage is not None and (usage.value.key_cert_sign or not usage.value.digital_signature):
        raise JwsUntrusted("the signing certificate is not meant for signatures")
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise JwsUntrusted("the signing key is not on P-256")
    return key


E = TypeVar("E", bound=x509.ExtensionType)


def _extension(certificate: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
