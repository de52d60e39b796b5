"""The OCSP responder: says of the leaf and of the intermediate whether they were revoked (RFC 6960).

It knows two certificates. Its answers are signed with the responder's key, which their issuers have certified.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from shared.clock import Clock
from simulator.certificates import Authority, Responder
from simulator.faults import FaultBoard, OcspFaults

FRESH_FOR: Final = timedelta(hours=24)
STALE_BY: Final = timedelta(hours=48)
"""How much older than it should be a stale answer is: the end of its validity lies a day back."""

_REVOKED_BEFORE: Final = timedelta(hours=1)
_STATUSES: Final = {
    "good": ocsp.OCSPCertStatus.GOOD,
    "revoked": ocsp.OCSPCertStatus.REVOKED,
    "unknown": ocsp.OCSPCertStatus.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class _Known:
    """A certificate that one may ask about, and who answers for its issuer."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    responder_certificate: x509.Certificate


class OcspResponder:
    """Answers questions about an authority's certificates. Thread-safe: it keeps nothing between calls."""

    def __init__(self, authority: Authority, *, faults: FaultBoard, clock: Clock) -> None:
        self._faults, self._clock = faults, clock
        self._responder = authority.responder
        self._known = _known(authority, authority.responder) if authority.responder else ()

    def answer(self, question: bytes) -> bytes:
        """The DER of an OCSPResponse to the DER of an OCSPRequest: what cannot be answered is said in it."""
        try:
            asked = ocsp.load_der_ocsp_request(question)
            known = self._find(asked)
        except (ValueError, NotImplementedError):  # the second: questions about several certificates at once
            return _unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
        if self._responder is None or known is None:
            return _unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)  # RFC 6960, section 2.3: no authority over it
        return self._signed(asked, known, self._responder)

    def _find(self, asked: ocsp.OCSPRequest) -> _Known | None:
        return next((each for each in self._known if _is_about(asked, each)), None)

    def _signed(self, asked: ocsp.OCSPRequest, known: _Known, responder: Responder) -> bytes:
        wrong = self._faults.in_force.ocsp
        builder = self._stated(asked, known, wrong)
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, known.responder_certificate)
        builder = builder.certificates([known.responder_certificate])
        for extension in asked.extensions:
            if isinstance(extension.value, x509.OCSPNonce):
                builder = builder.add_extension(extension.value, critical=False)
        return builder.sign(responder.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def _stated(self, asked: ocsp.OCSPRequest, known: _Known, wrong: OcspFaults) -> ocsp.OCSPResponseBuilder:
        now = self._clock.now().replace(microsecond=0)
        since = now - STALE_BY if wrong.stale else now
        revoked = wrong.status == "revoked"
        return ocsp.OCSPResponseBuilder().add_response(
            cert=known.certificate,
            issuer=known.issuer,
            algorithm=asked.hash_algorithm,
            cert_status=_STATUSES[wrong.status],
            this_update=since,
            next_update=since + FRESH_FOR,
            revocation_time=since - _REVOKED_BEFORE if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )


def _known(authority: Authority, responder: Responder) -> tuple[_Known, ...]:
    return (
        _Known(authority.leaf, authority.intermediate, responder.for_leaf),
        _Known(authority.intermediate, authority.root, responder.for_intermediate),
    )


def _is_about(asked: ocsp.OCSPRequest, known: _Known) -> bool:
    """Whether the question's CertID, in the hash that it uses, names this certificate."""
    if asked.serial_number != known.certificate.serial_number:
        return False
    same = ocsp.OCSPRequestBuilder().add_certificate(known.certificate, known.issuer, asked.hash_algorithm).build()
    return (asked.issuer_name_hash, asked.issuer_key_hash) == (same.issuer_name_hash, same.issuer_key_hash)


def _unsuccessful(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)
