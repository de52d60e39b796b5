"""The simulator's certificate authority: root, intermediate and leaf as Apple's are, with Apple's marker OIDs.

It is made once and kept under the data directory; a gateway that trusts `root.pem` trusts this simulator and no other.
The keys of the root and of the intermediate are thrown away once they have signed: nobody can add to the chain.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ISSUER_NAME = "Purser Simulator"
"""Stands in every subject, so that a process in production can refuse the simulator's root."""

LEAF_MARKER = x509.ObjectIdentifier("1.2.840.113635.100.6.11.1")
"""Apple: Mac App Store and iTunes Store receipt signing. Its verifiers demand it of the leaf."""

INTERMEDIATE_MARKER = x509.ObjectIdentifier("1.2.840.113635.100.6.2.1")
"""Apple: Worldwide Developer Relations. Its verifiers demand it of the intermediate."""

VALIDITY = timedelta(days=20 * 365)
BACKDATE = timedelta(days=1)
"""Certificates are valid from a day before they were made, so that clocks may differ."""

_ASN1_NULL = b"\x05\x00"  # what Apple's marker extensions hold
_AUTHORITY_FILE = "authority.pem"
_ROOT_FILE = "root.pem"


class AuthorityInvalid(Exception):
    """The file that should hold the simulator's certificates cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs: the leaf's key, and the certificates from the leaf to the root."""

    key: ec.EllipticCurvePrivateKey
    leaf: x509.Certificate
    intermediate: x509.Certificate
    root: x509.Certificate

    @property
    def chain(self) -> tuple[x509.Certificate, x509.Certificate, x509.Certificate]:
        """As `x5c` wants them: leaf, intermediate, root."""
        return self.leaf, self.intermediate, self.root

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(serialization.Encoding.PEM)

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(serialization.Encoding.DER)


def root_file(data_dir: Path) -> Path:
    """Where the root is for whoever is to trust it, once `load_or_create` has run."""
    return data_dir / "simulator" / _ROOT_FILE


def load_or_create(data_dir: Path, *, now: datetime) -> Authority:
    """The authority kept under `data_dir`/simulator, made if there is none; safe for processes that start together.

    Raises AuthorityInvalid when there is one that cannot be read, and OSError when the directory cannot be written.
    """
    directory = data_dir / "simulator"
    directory.mkdir(parents=True, exist_ok=True)
    kept = directory / _AUTHORITY_FILE
    with _alone_in(directory):
        if not kept.exists():
            _replace(kept, _to_pem(create(now=now)), mode=0o600)
        authority = _read(kept)
        _replace(directory / _ROOT_FILE, authority.root_pem, mode=0o644)
    return authority


def create(*, now: datetime) -> Authority:
    """A new authority, in memory only."""
    window = (now - BACKDATE, now + VALIDITY)
    root_key, intermediate_key, leaf_key = (
        ec.generate_private_key(c) for c in (ec.SECP384R1(), ec.SECP384R1(), ec.SECP256R1())
    )
    root = _ca("Root CA", root_key, issuer=None, issuer_key=root_key, window=window, path_length=1)
    intermediate = _ca(
        "Worldwide Developer Relations CA",
        intermediate_key,
        issuer=root,
        issuer_key=root_key,
        window=window,
        path_length=0,
    )
    leaf = _leaf("Store Receipt Signing", leaf_key, issuer=intermediate, issuer_key=intermediate_key, window=window)
    return Authority(key=leaf_key, leaf=leaf, intermediate=intermediate, root=root)


def _ca(
    role: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    window: tuple[datetime, datetime],
    path_length: int,
) -> x509.Certificate:
    builder = _builder(role, key, issuer=issuer, issuer_key=issuer_key, window=window, ca=True, path_length=path_length)
    if issuer is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(INTERMEDIATE_MARKER, _ASN1_NULL), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())


def _leaf(
    role: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    window: tuple[datetime, datetime],
) -> x509.Certificate:
    builder = _builder(role, key, issuer=issuer, issuer_key=issuer_key, window=window, ca=False, path_length=None)
    builder = builder.add_extension(x509.UnrecognizedExtension(LEAF_MARKER, _ASN1_NULL), critical=False)
    return builder.sign(issuer_key, hashes.SHA384())


def _builder(
    role: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    window: tuple[datetime, datetime],
    ca: bool,
    path_length: int | None,
) -> x509.CertificateBuilder:
    """What all three have in common; RFC 5280 and OpenSSL's strict mode want every one of these extensions."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{ISSUER_NAME} {role}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ISSUER_NAME),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(window[0])
        .not_valid_after(window[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(_key_usage(ca=ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


# ---- on disk ----------------------------------------------------------------------------------------------------


def _to_pem(authority: Authority) -> bytes:
    key = authority.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key + b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in authority.chain)


def _read(path: Path) -> Authority:
    content = path.read_bytes()
    try:
        key = serialization.load_pem_private_key(content, password=None)
        leaf, intermediate, root = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise AuthorityInvalid(f"{path} is damaged; remove it to have a new one made") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != leaf.public_key():
        raise AuthorityInvalid(f"{path}: the key is not the leaf certificate's; remove it to have a new one made")
    return Authority(key=key, leaf=leaf, intermediate=intermediate, root=root)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Puts a whole file in the place of what was there: nobody ever sees half of one."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Holds the directory's lock: of two processes that start together, one makes the certificates."""
    with (directory / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go of it when the file is closed or the process dies
        yield
