"""The simulator's certificate authority: root, intermediate and leaf as Apple's are, with Apple's marker OIDs.

It is made once and kept under the data directory; a gateway that trusts `root.pem` trusts this simulator and no other.
The keys of the root and of the intermediate are thrown away once they have signed: nobody can add to the chain. Who may
answer for them whether a certificate was revoked (OCSP) is a responder that each of them has certified, as at Apple.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

ISSUER_NAME = "Purser Simulator"
"""Stands in every subject, so that a process in production can refuse the simulator's root."""

LEAF_MARKER = x509.ObjectIdentifier("1.2.840.113635.100.6.11.1")
"""Apple: Mac App Store and iTunes Store receipt signing. Its verifiers demand it of the leaf."""

INTERMEDIATE_MARKER = x509.ObjectIdentifier("1.2.840.113635.100.6.2.1")
"""Apple: Worldwide Developer Relations. Its verifiers demand it of the intermediate."""

VALIDITY = timedelta(days=20 * 365)
BACKDATE = timedelta(days=1)
"""Certificates are valid from a day before they were made, so that clocks may differ."""

_OCSP = AuthorityInformationAccessOID.OCSP
_ASN1_NULL = b"\x05\x00"  # what Apple's marker extensions hold
_AUTHORITY_FILE = "authority.pem"
_RESPONDER_FILE = "responder.pem"
_ROOT_FILE = "root.pem"
_REMEDY = "remove the directory that it is in to have all made anew"

Window = tuple[datetime, datetime]


class AuthorityInvalid(Exception):
    """The file that should hold the simulator's certificates cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class Responder:
    """What signs OCSP answers: one key, certified by the intermediate (for the leaf) and by the root (for that)."""

    key: ec.EllipticCurvePrivateKey
    for_leaf: x509.Certificate
    for_intermediate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Authority:
    """What signs: the leaf's key, and the certificates from the leaf to the root.

    One that an older simulator made has no responder, and its certificates name none.
    """

    key: ec.EllipticCurvePrivateKey
    leaf: x509.Certificate
    intermediate: x509.Certificate
    root: x509.Certificate
    responder: Responder | None = None

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

    @property
    def ocsp_url(self) -> str | None:
        """Where the leaf says that one may ask whether it was revoked; None when it says nothing."""
        try:
            access = self.leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        except x509.ExtensionNotFound:
            return None
        return next((str(one.access_location.value) for one in access if one.access_method == _OCSP), None)


def root_file(data_dir: Path) -> Path:
    """Where the root is for whoever is to trust it, once `load_or_create` has run."""
    return data_dir / "simulator" / _ROOT_FILE


def load_or_create(data_dir: Path, *, now: datetime, ocsp_url: str | None = None) -> Authority:
    """The authority kept under `data_dir`/simulator, made if there is none; safe for processes that start together.

    `ocsp_url` goes into certificates that are made now; those that are kept stay what they are, because receipts and
    trust hang on them. Raises AuthorityInvalid when there is one that cannot be read, and OSError when the directory
    cannot be written.
    """
    directory = data_dir / "simulator"
    directory.mkdir(parents=True, exist_ok=True)
    with _alone_in(directory):
        if not (directory / _AUTHORITY_FILE).exists():
            _write(directory, create(now=now, ocsp_url=ocsp_url))
        authority = _read(directory)
        _replace(directory / _ROOT_FILE, authority.root_pem, mode=0o644)
    return authority


def create(*, now: datetime, ocsp_url: str | None = None) -> Authority:
    """A new authority, in memory only. `ocsp_url` is where its certificates say that one asks for their revocation."""
    window = (now - BACKDATE, now + VALIDITY)
    root = _ca("Root CA", issuer=None, window=window, path_length=1, ocsp_url=None)
    intermediate = _ca("Worldwide Developer Relations CA", issuer=root, window=window, path_length=0, ocsp_url=ocsp_url)
    key, responder_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    return Authority(
        key=key,
        leaf=_leaf(key, issuer=intermediate, window=window, ocsp_url=ocsp_url),
        intermediate=intermediate.certificate,
        root=root.certificate,
        responder=Responder(
            key=responder_key,
            for_leaf=_responder(responder_key, issuer=intermediate, window=window),
            for_intermediate=_responder(responder_key, issuer=root, window=window),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Issuer:
    """A certificate with its key, which is forgotten when `create` ends."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def _ca(role: str, *, issuer: _Issuer | None, window: Window, path_length: int, ocsp_url: str | None) -> _Issuer:
    """The intermediate; without an issuer the root, which signs itself."""
    key = ec.generate_private_key(ec.SECP384R1())
    extensions: list[x509.ExtensionType] = _names(ocsp_url)
    if issuer is not None:
        extensions.append(x509.UnrecognizedExtension(INTERMEDIATE_MARKER, _ASN1_NULL))
    builder = _builder(role, key, issuer=issuer, window=window, ca=True, path_length=path_length)
    return _Issuer(key, _signed(builder, extensions, issuer.key if issuer else key))


def _leaf(
    key: ec.EllipticCurvePrivateKey, *, issuer: _Issuer, window: Window, ocsp_url: str | None
) -> x509.Certificate:
    builder = _builder("Store Receipt Signing", key, issuer=issuer, window=window, ca=False, path_length=None)
    marker = x509.UnrecognizedExtension(LEAF_MARKER, _ASN1_NULL)
    return _signed(builder, [*_names(ocsp_url), marker], issuer.key)


def _responder(key: ec.EllipticCurvePrivateKey, *, issuer: _Issuer, window: Window) -> x509.Certificate:
    """RFC 6960, section 4.2.2.2: certified by the issuer itself, for this and nothing else.

    Nobody need ask whether it was revoked (id-pkix-ocsp-nocheck): there is nobody to answer that.
    """
    builder = _builder("OCSP Responder", key, issuer=issuer, window=window, ca=False, path_length=None)
    return _signed(builder, [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), x509.OCSPNoCheck()], issuer.key)


def _names(ocsp_url: str | None) -> list[x509.ExtensionType]:
    if ocsp_url is None:
        return []
    where = x509.AccessDescription(_OCSP, x509.UniformResourceIdentifier(ocsp_url))
    return [x509.AuthorityInformationAccess([where])]


def _signed(
    builder: x509.CertificateBuilder, extensions: Iterable[x509.ExtensionType], key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA384())


def _builder(
    role: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: _Issuer | None,
    window: Window,
    ca: bool,
    path_length: int | None,
) -> x509.CertificateBuilder:
    """What all have in common; RFC 5280 and OpenSSL's strict mode want every one of these extensions."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"{ISSUER_NAME} {role}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ISSUER_NAME),
        ]
    )
    issuer_key = issuer.key if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
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


def _write(directory: Path, authority: Authority) -> None:
    """The authority last: only with it is anything there."""
    if (responder := authority.responder) is not None:
        content = _to_pem(responder.key, responder.for_leaf, responder.for_intermediate)
        _replace(directory / _RESPONDER_FILE, content, mode=0o600)
    _replace(directory / _AUTHORITY_FILE, _to_pem(authority.key, *authority.chain), mode=0o600)


def _to_pem(key: ec.EllipticCurvePrivateKey, *certificates: x509.Certificate) -> bytes:
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _read(directory: Path) -> Authority:
    key, (leaf, intermediate, root) = _read_pem(directory / _AUTHORITY_FILE, certificates=3)
    authority = Authority(key=key, leaf=leaf, intermediate=intermediate, root=root)
    kept = directory / _RESPONDER_FILE
    return replace(authority, responder=_read_responder(kept, authority)) if kept.exists() else authority


def _read_responder(path: Path, authority: Authority) -> Responder:
    key, (for_leaf, for_intermediate) = _read_pem(path, certificates=2)
    try:
        for_leaf.verify_directly_issued_by(authority.intermediate)
        for_intermediate.verify_directly_issued_by(authority.root)
    except (ValueError, InvalidSignature) as error:
        raise AuthorityInvalid(f"{path} is not of the authority beside it; {_REMEDY}") from error
    return Responder(key=key, for_leaf=for_leaf, for_intermediate=for_intermediate)


def _read_pem(path: Path, *, certificates: int) -> tuple[ec.EllipticCurvePrivateKey, list[x509.Certificate]]:
    """A key and so many certificates, of which the first is the key's."""
    content = path.read_bytes()
    try:
        key = serialization.load_pem_private_key(content, password=None)
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise AuthorityInvalid(f"{path} is damaged; {_REMEDY}") from error
    if len(found) != certificates:
        raise AuthorityInvalid(f"{path} is damaged; {_REMEDY}")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != found[0].public_key():
        raise AuthorityInvalid(f"{path}: the key is not the first certificate's; {_REMEDY}")
    return key, found


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
