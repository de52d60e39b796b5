"""Whom a chain must end at, as an operator writes it: pins and root certificates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from shared.jws.chain import CERTIFICATE_ERRORS, names_simulator, require_issuer
from shared.jws.errors import JwsUntrusted, TrustAnchorInvalid

_PIN_BYTES: Final = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """Root certificates (DER), and SHA-256 digests of further ones that tokens bring along.

    Without `simulators`, a chain that names a simulator is refused whatever it ends at: of what a pin stands for, the
    name cannot be told before a token brings it along.

    Raises TrustAnchorInvalid when there is none, or when one of them is not a root certificate or not a SHA-256 digest.
    """

    certificates: tuple[bytes, ...] = ()
    sha256_pins: frozenset[bytes] = frozenset()
    simulators: bool = True

    def __post_init__(self) -> None:
        if not self.certificates and not self.sha256_pins:
            raise TrustAnchorInvalid("no trust anchor: a root certificate or the SHA-256 of one is needed")
        if any(len(pin) != _PIN_BYTES for pin in self.sha256_pins):
            raise TrustAnchorInvalid("a SHA-256 pin is 32 bytes")
        self.roots()

    @classmethod
    def of(cls, *, pins: Iterable[str] = (), files: Iterable[bytes] = (), simulators: bool = True) -> TrustAnchors:
        """Anchors as an operator writes them: pins in hexadecimal (colons allowed), contents of PEM or DER files.

        A PEM file may hold several certificates. Raises TrustAnchorInvalid.
        """
        return cls(
            certificates=tuple(certificate for content in files for certificate in _certificates_of(content)),
            sha256_pins=frozenset(_pin(text) for text in pins),
            simulators=simulators,
        )

    def roots(self) -> tuple[x509.Certificate, ...]:
        """The certificates, read. Raises TrustAnchorInvalid."""
        return tuple(_root(der) for der in self.certificates)

    def name_simulator(self) -> bool:
        """Whether one of the certificates is a simulator's own. What a pin stands for cannot be told."""
        return any(names_simulator(root) for root in self.roots())


def _pin(text: str) -> bytes:
    try:
        pin = bytes.fromhex(text.replace(":", ""))
    except ValueError as error:
        raise TrustAnchorInvalid(f"the pin {text!r} is not hexadecimal") from error
    if len(pin) != _PIN_BYTES:
        raise TrustAnchorInvalid(f"the pin {text!r} is not a SHA-256 digest (64 hexadecimal digits)")
    return pin


def _certificates_of(content: bytes) -> list[bytes]:
    if b"-----BEGIN" not in content:
        return [content]
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except CERTIFICATE_ERRORS as error:
        raise TrustAnchorInvalid(f"a root file is not a PEM certificate: {error}") from error
    return [each.public_bytes(serialization.Encoding.DER) for each in certificates]


def _root(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        require_issuer(certificate, path_length=1)
    except (*CERTIFICATE_ERRORS, JwsUntrusted) as error:
        raise TrustAnchorInvalid(f"a trust anchor is not a root certificate: {error}") from error
    return certificate
