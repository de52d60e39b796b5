"""A certificate authority for tests of TLS: what it signs is trusted by whoever is given its file, and nobody else."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.clock import SystemClock

_VALID_FOR = timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """`file` is its certificate (PEM)."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    directory: Path

    @classmethod
    def made(cls, directory: Path) -> Authority:
        """A new one, that keeps its files in the directory."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named("An authority of tests")
        builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        authority = cls(key, builder.sign(key, hashes.SHA256()), directory)
        authority.file.write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    @property
    def file(self) -> Path:
        return self.directory / "authority.pem"

    def server(self, *hosts: str) -> ssl.SSLContext:
        """TLS of a server that is known by these names, as the authority vouches."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = _builder(_named(hosts[0]), self.certificate.subject, key).add_extension(names, critical=False)
        path = self.directory / f"{hosts[0]}.pem"
        path.write_bytes(
            _private(key) + builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = SystemClock().now()
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _VALID_FOR)
        .not_valid_after(now + _VALID_FOR)
    )


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
