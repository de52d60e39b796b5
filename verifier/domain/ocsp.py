"""Asking whether a certificate was revoked (OCSP, RFC 6960): the question, and what an answer is worth.

An answer counts when the certificate's issuer gave it, or a responder that the issuer appointed; when it is about that
certificate; and while it is fresh. It comes over plain HTTP, from anywhere: whatever does not count is as good as no
answer, a reason to ask again and never one to refuse, or whoever sits on the line could have purchases refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID

from shared.jws import CERTIFICATE_ERRORS

SKEW: Final = timedelta(seconds=60)
"""How far the responder's clock and ours may be apart; as in Apple's library."""

RESPONDERS_MAX: Final = 4
"""So many of the certificates that an answer brings along are looked at: one is needed."""

_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CRITICAL_UNDERSTOOD: Final = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)


@dataclass(frozen=True, slots=True)
class NotRevoked:
    """The certificate is good; the answer may be relied on before `until`."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Revoked:
    """The certificate was revoked: nothing that it signed is believed any more, whenever it signed it."""

    at: datetime


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing that counts was said. `why` is for the log."""

    why: str


OcspAnswer = NotRevoked | Revoked | NoAnswer


def responder_urls(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where the certificate says that one may ask about it, by HTTP; empty when it does not say."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ()
    locations = (each.access_location for each in access if each.access_method == AuthorityInformationAccessOID.OCSP)
    return tuple(
        each.value
        for each in locations
        if isinstance(each, x509.UniformResourceIdentifier) and each.value.startswith(("http://", "https://"))
    )


def build_question(certificate: x509.Certificate, *, issuer: x509.Certificate) -> bytes:
    """The question (DER), without a nonce: Apple's responders answer from a cache, and freshness bounds a replay."""
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256())
    return builder.build().public_bytes(serialization.Encoding.DER)


def read_answer(body: bytes, *, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> OcspAnswer:
    """What an answer (DER) is worth, now. Raises nothing, whatever the body is."""
    try:
        return _read(body, certificate, issuer, now)
    except CERTIFICATE_ERRORS:
        return NoAnswer("what came cannot be read")


def _read(body: bytes, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> OcspAnswer:
    response = ocsp.load_der_ocsp_response(body)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return NoAnswer(f"the responder says {response.response_status.name}")
    if any(each.critical for each in response.extensions):
        return NoAnswer("the answer has a critical extension that is not known")
    if not any(_signed(response, by=each) for each in _entitled(response, issuer, now)):
        return NoAnswer("nobody who is entitled to signed the answer")
    about_it = [each for each in response.responses if _is_about(each, certificate, issuer)]
    if len(about_it) != 1:
        return NoAnswer("the answer is not about what was asked")
    return _worth(about_it[0], now)


def _worth(single: ocsp.OCSPSingleResponse, now: datetime) -> OcspAnswer:
    if single.this_update_utc > now + SKEW:
        return NoAnswer("the answer is of the future")
    if single.next_update_utc is None:  # Apple's library wants one too: else the answer would be good for ever
        return NoAnswer("the answer does not say how long it is good for")
    until = single.next_update_utc + SKEW
    if now >= until:
        return NoAnswer("the answer is stale")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        return Revoked(at=single.revocation_time_utc or single.this_update_utc)
    if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return NotRevoked(until=until)
    # A responder that is behind, or the wrong one, does not know a new certificate yet. It was not revoked, so it is
    # not refused; it is not known to be good, so it is not taken either.
    return NoAnswer("the responder does not know the certificate")


def _is_about(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Serial number and issuer agree, in the answer's own hash: responders may answer SHA-256 with SHA-1.

    Nothing hangs on that hash: the issuer's key signed the answer, and its serial numbers are its own.
    """
    asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, single.hash_algorithm).build()
    return (single.serial_number, single.issuer_name_hash, single.issuer_key_hash) == (
        asked.serial_number,
        asked.issuer_name_hash,
        asked.issuer_key_hash,
    )


def _entitled(response: ocsp.OCSPResponse, issuer: x509.Certificate, now: datetime) -> Iterator[x509.Certificate]:
    """Of issuer and certificates that came along, those that the answer says are its responder, and that may be."""
    if _is_responder(issuer, response):
        yield issuer
    for candidate in response.certificates[:RESPONDERS_MAX]:
        if _is_responder(candidate, response) and _is_appointed(candidate, issuer, now):
            yield candidate


def _is_responder(candidate: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    """RFC 6960, 4.2.2.2: a responder is named by its subject, or by the SHA-1 of its public key."""
    if response.responder_name is not None:
        return candidate.subject == response.responder_name
    return x509.SubjectKeyIdentifier.from_public_key(candidate.public_key()).digest == response.responder_key_hash


def _is_appointed(candidate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> bool:
    """The issuer itself issued it, for OCSP (RFC 6960, 4.2.2.2), and it is valid now.

    Whether it was revoked in turn is not asked (4.2.2.2.1 leaves that open; the App Store's library does not either):
    such certificates live for weeks.
    """
    return (
        candidate.not_valid_before_utc <= now < candidate.not_valid_after_utc
        and _answers_for_others(candidate)
        and _is_issued(candidate, by=issuer)
    )


def _answers_for_others(candidate: x509.Certificate) -> bool:
    extensions = candidate.extensions
    if any(each.critical and each.oid not in _CRITICAL_UNDERSTOOD for each in extensions):
        return False
    by_kind = {type(each.value): each.value for each in extensions}
    purposes, usage = by_kind.get(x509.ExtendedKeyUsage), by_kind.get(x509.KeyUsage)
    if not isinstance(purposes, x509.ExtendedKeyUsage) or ExtendedKeyUsageOID.OCSP_SIGNING not in purposes:
        return False
    return not isinstance(usage, x509.KeyUsage) or usage.digital_signature


def _is_issued(candidate: x509.Certificate, *, by: x509.Certificate) -> bool:
    try:
        candidate.verify_directly_issued_by(by)
    except CERTIFICATE_ERRORS:
        return False
    return isinstance(candidate.signature_hash_algorithm, _HASHES)


def _signed(response: ocsp.OCSPResponse, *, by: x509.Certificate) -> bool:
    """By ECDSA, as the App Store's authorities sign, over a hash that is not broken."""
    key, algorithm = by.public_key(), response.signature_hash_algorithm
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(algorithm, _HASHES):
        return False
    try:
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True
