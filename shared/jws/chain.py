"""The chain that a token brings along: whether it ends at a root that we trust, and may sign for the App Store.

It is walked from the root down, so that no key is used before the one above it has vouched for it.
"""

from __future__ import annotations

import hashlib
import threading
from binascii import a2b_base64
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID

from shared.jws.errors import JwsMalformed, JwsUntrusted
from shared.jws.token import CertificateTexts

LEAF_MARKER: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.11.1")
INTERMEDIATE_MARKER: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.2.1")
"""Apple's "receipt signing" and "Worldwide Developer Relations" markers; their presence counts, not their value."""

SIMULATOR_NAME: Final = "Purser Simulator"
"""What the subject of each of the simulator's certificates says."""

_CRITICAL_UNDERSTOOD: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})
_LIMITING: Final = frozenset(
    {
        ExtensionOID.NAME_CONSTRAINTS,
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.7"),  # blocks of IP addresses (RFC 3779)
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.8"),  # autonomous systems (RFC 3779)
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.14"),  # a proxy of somebody (RFC 3820)
    }
)
"""What OpenSSL, and so Apple's library, judges a chain by even where it is not critical. Apple's have none of it."""

_TEXT_TAGS: Final = frozenset(
    {
        0x0C,  # UTF8String
        0x12,  # NumericString
        0x13,  # PrintableString
        0x14,  # T61String (TeletexString)
        0x16,  # IA5String
        0x1C,  # UniversalString
        0x1E,  # BMPString
    }
)
"""The ASN.1 types that a name may be written in (RFC 5280, section 4.1.2.4; IA5String for e-mail addresses)."""

_SIGNATURE_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)

CERTIFICATE_ERRORS: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the X.509 parser raises on certificates that are damaged."""

E = TypeVar("E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """Three certificates, each issued by the next. The digests name those below the root at no cost for each token."""

    leaf: x509.Certificate
    intermediate: x509.Certificate
    root: x509.Certificate
    leaf_sha256: bytes = field(init=False)
    intermediate_sha256: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "leaf_sha256", self.leaf.fingerprint(hashes.SHA256()))
        object.__setattr__(self, "intermediate_sha256", self.intermediate.fingerprint(hashes.SHA256()))

    def __iter__(self) -> Iterator[x509.Certificate]:
        return iter((self.leaf, self.intermediate, self.root))


@dataclass(frozen=True, slots=True)
class TrustedChain:
    """A chain that ends at an anchor: the leaf's key, and when (UNIX seconds) all its certificates are valid."""

    certificates: CertificateChain
    key: ec.EllipticCurvePublicKey
    not_before_s: float
    not_after_s: float


class ChainCache:
    """Chains by the header segment that holds them: bounded, least recently used first out, each with an end."""

    def __init__(self, *, size: int, ttl_s: float) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[TrustedChain, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, header: bytes, *, now_s: float) -> TrustedChain | None:
        """The chain, if it is kept and its time is not over."""
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

    def put(self, header: bytes, chain: TrustedChain, *, now_s: float) -> None:
        """Keeps the chain, unless its time is over as it comes."""
        until_s = min(now_s + self._ttl_s, chain.not_after_s)
        if now_s >= until_s:
            return
        with self._lock:
            self._entries[header] = (chain, until_s)
            self._entries.move_to_end(header)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


def walk(texts: CertificateTexts, *, roots: tuple[x509.Certificate, ...], pins: frozenset[bytes]) -> TrustedChain:
    """The chain, found good but for its dates: those are the caller's, for each token.

    Raises JwsMalformed when leaf or intermediate is no certificate, JwsUntrusted when the chain breaks a rule.
    """
    leaf, intermediate = _certificate(texts.leaf), _certificate(texts.intermediate)
    try:
        root = _issuer_of(intermediate, among=(*roots, *_pinned(texts.root, pins)))
        require_issuer(root, path_length=1)
        require_issuer(intermediate, path_length=0)
        _require_issued(leaf, by=intermediate)
        for certificate in (leaf, intermediate, root):
            _require_subject(certificate)
        for certificate in (leaf, intermediate):
            _require_another_issuer(certificate)
        _require_marker(intermediate, INTERMEDIATE_MARKER)
        _require_marker(leaf, LEAF_MARKER)
        key = _signing_key(leaf)
    except CERTIFICATE_ERRORS as error:
        raise JwsUntrusted("a certificate cannot be read") from error
    return _dated(CertificateChain(leaf, intermediate, root), key)


def names_simulator(certificate: x509.Certificate) -> bool:
    """Whether the certificate is a simulator's own."""
    return SIMULATOR_NAME in certificate.subject.rfc4514_string()


def require_issuer(certificate: x509.Certificate, *, path_length: int) -> None:
    """It may issue certificates, with `path_length` more issuers below it (RFC 5280, 4.2.1.3 and 4.2.1.9).

    Raises JwsUntrusted, or one of CERTIFICATE_ERRORS when it cannot be read.
    """
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


def _dated(certificates: CertificateChain, key: ec.EllipticCurvePublicKey) -> TrustedChain:
    return TrustedChain(
        certificates=certificates,
        key=key,
        not_before_s=max(each.not_valid_before_utc.timestamp() for each in certificates),
        not_after_s=min(each.not_valid_after_utc.timestamp() for each in certificates),
    )


def _certificate(text: str) -> x509.Certificate:
    """One element of x5c: padded base64 of the standard alphabet (RFC 7515, section 4.1.6)."""
    try:
        der = a2b_base64(text, strict_mode=True)
        certificate = x509.load_der_x509_certificate(der)
        signature = certificate.signature
    except CERTIFICATE_ERRORS as error:
        raise JwsMalformed("x5c holds something that is not a certificate") from error
    # the signature is the last of a certificate, and the byte before it says how many of its bits do not count; the
    # library overlooks one, OpenSSL does not (RFC 5280, 4.1; X.690, 8.6.2.2)
    if der[-len(signature) - 1] != 0:
        raise JwsMalformed("x5c holds a certificate whose signature ends within a byte")
    return certificate


def _pinned(text: str, pins: frozenset[bytes]) -> Iterator[x509.Certificate]:
    """The third certificate, if it is pinned. What else stands there is of no interest, readable or not."""
    try:
        der = a2b_base64(text, strict_mode=True)
    except ValueError:
        return
    if hashlib.sha256(der).digest() in pins:
        yield x509.load_der_x509_certificate(der)


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
    return _identifies(certificate, by) and isinstance(certificate.signature_hash_algorithm, _SIGNATURE_HASHES)


def _identifies(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """The certificate names its issuer's key and, if it names more than that, this very certificate of the issuer's."""
    authority = _extension(certificate, x509.AuthorityKeyIdentifier)
    subject = _extension(issuer, x509.SubjectKeyIdentifier)
    if authority is None or subject is None or authority.value.key_identifier != subject.value.digest:
        return False
    named = authority.value
    if named.authority_cert_issuer is None:
        return True
    return (
        named.authority_cert_issuer == [x509.DirectoryName(issuer.issuer)]
        and named.authority_cert_serial_number == issuer.serial_number
    )


def _require_subject(certificate: x509.Certificate) -> None:
    """It says whose it is, in text that can be read (RFC 5280, 4.1.2.4, 4.1.2.6 and 4.2.1.6)."""
    subject, further = certificate.subject, _extension(certificate, x509.SubjectAlternativeName)
    is_text = all(_value_tag(each) in _TEXT_TAGS for each in subject)
    if not subject.rdns or not is_text or (further is not None and not list(further.value)):
        raise JwsUntrusted("a certificate does not say whose it is")


def _require_another_issuer(certificate: x509.Certificate) -> None:
    """It does not bear its issuer's name, as roots alone do: such a name says two things (RFC 5280, 3.2)."""
    if certificate.subject == certificate.issuer:
        raise JwsUntrusted("a certificate below the root bears its issuer's name")


def _value_tag(attribute: x509.NameAttribute[Any]) -> int:
    """The ASN.1 tag of the attribute's value: a name of this one attribute is a list of a set of a pair, and of the
    pair's type and value the second is wanted (RFC 5280, 4.1.2.4)."""
    rest = x509.Name([attribute]).public_bytes()
    for _ in ("list", "set", "pair"):
        content, _end = _span(rest)
        rest = rest[content:]
    _content, end = _span(rest)
    return rest[end]


def _span(der: bytes) -> tuple[int, int]:
    """Where the content of the first element begins and ends (X.690, 8.1.3: its length is in one byte or in more)."""
    length, content = der[1], 2
    if length >= 0x80:
        content += length - 0x80
        length = int.from_bytes(der[2:content])
    return content, content + length


def _require_understood(certificate: x509.Certificate) -> None:
    if any(each.critical and each.oid not in _CRITICAL_UNDERSTOOD for each in certificate.extensions):
        raise JwsUntrusted("a certificate has a critical extension that is not known")
    if any(each.oid in _LIMITING for each in certificate.extensions):
        raise JwsUntrusted("a certificate is limited in a way that is not known")


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


def _extension(certificate: x509.Certificate, kind: type[E]) -> x509.Extension[E] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
