"""A certificate authority of the App Store's shape, for tests: it makes good chains and bad ones, and signs anything.

A `Certificate` is a recipe; the three default recipes make a chain that every verifier of the App Store's JWS takes.
Bad ones are made by changing one line of a recipe: `Chain(leaf=replace(LEAF, marker=None))`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

LEAF_MARKER = "1.2.840.113635.100.6.11.1"
INTERMEDIATE_MARKER = "1.2.840.113635.100.6.2.1"

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256's base point (FIPS 186-4, D.1.2.3): (r, s) and (r, order - s) sign the same."""

KeyKind = Literal["p256", "k256", "p384", "rsa"]
KeyUse = Literal["sign_certificates", "sign_data", "sign_both", "neither"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


_CURVES: Mapping[str, ec.EllipticCurve] = {"p256": ec.SECP256R1(), "k256": ec.SECP256K1(), "p384": ec.SECP384R1()}


@dataclass(frozen=True, slots=True)
class Certificate:
    """How to make one certificate. `ca` None leaves out basicConstraints, `key_usage` None leaves out keyUsage.

    `name` empty: an empty subject. `organization` empty: none in it. `ocsp_url`: where its revocation is asked about.
    `extensions`: further ones, and whether each is critical.
    """

    name: str
    key: KeyKind = "p384"
    ca: bool | None = True
    ca_critical: bool = True
    path_length: int | None = None
    key_usage: KeyUse | None = "sign_certificates"
    marker: str | None = None
    unknown_critical: bool = False
    subject_key_identifier: bool = True
    authority_key_identifier: Literal["right", "wrong", "right key, right serial", "right key, wrong serial"] | None = (
        "right"
    )
    organization: str = ""
    ocsp_url: str | None = None
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    hash: type[hashes.SHA224] | type[hashes.SHA256] | type[hashes.SHA384] = hashes.SHA384
    not_before: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    not_after: datetime = datetime(2049, 1, 1, tzinfo=UTC)


ROOT = Certificate("Test Root CA")
INTERMEDIATE = Certificate("Test Worldwide Developer Relations", path_length=0, marker=INTERMEDIATE_MARKER)
LEAF = Certificate("Test Receipt Signing", key="p256", ca=False, key_usage="sign_data", marker=LEAF_MARKER)

OCSP_SIGNING: x509.ExtensionType = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
OCSP_RESPONDER = Certificate(
    "Test OCSP Responder", key="p256", ca=False, key_usage="sign_data", extensions=((OCSP_SIGNING, True),)
)
"""Whom an authority appoints to say whether certificates of its own were revoked."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was made, with its private key."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def text(self) -> str:
        """As an element of `x5c`: standard base64."""
        return base64.b64encode(self.der).decode()


def issue(recipe: Certificate, *, issuer: Issued | None = None) -> Issued:
    """A certificate after the recipe; self-signed without an issuer."""
    key = _new_key(recipe.key)
    issuer_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(recipe))
        .issuer_name(issuer.certificate.subject if issuer else _name(recipe))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(recipe.not_before)
        .not_valid_after(recipe.not_after)
    )
    for extension, critical in _extensions(recipe, key, issuer):
        builder = builder.add_extension(extension, critical)
    return Issued(key, builder.sign(issuer_key, recipe.hash()))


def _extensions(recipe: Certificate, key: PrivateKey, issuer: Issued | None) -> list[tuple[x509.ExtensionType, bool]]:
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if recipe.ca is not None:
        extensions.append((x509.BasicConstraints(recipe.ca, recipe.path_length), recipe.ca_critical))
    if recipe.key_usage is not None:
        extensions.append((_key_usage(recipe.key_usage), True))
    if recipe.subject_key_identifier:
        extensions.append((x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False))
    if recipe.authority_key_identifier and issuer is not None:
        extensions.append((_authority(recipe.authority_key_identifier, key, issuer), False))
    if recipe.marker is not None:  # Apple's markers hold an ASN.1 NULL
        extensions.append((x509.UnrecognizedExtension(x509.ObjectIdentifier(recipe.marker), b"\x05\x00"), False))
    if recipe.ocsp_url is not None:
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(recipe.ocsp_url)
        )
        extensions.append((x509.AuthorityInformationAccess([access]), False))
    if recipe.unknown_critical:
        extensions.append((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.1.1"), b"\x05\x00"), True))
    return [*extensions, *recipe.extensions]


def _authority(named: str, own_key: PrivateKey, issuer: Issued) -> x509.AuthorityKeyIdentifier:
    key = own_key if named == "wrong" else issuer.key
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    if "serial" not in named:
        return identifier
    serial = issuer.certificate.serial_number + ("wrong" in named)
    return x509.AuthorityKeyIdentifier(
        identifier.key_identifier, [x509.DirectoryName(issuer.certificate.issuer)], serial
    )


def _key_usage(usage: KeyUse) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=usage in ("sign_data", "sign_both"),
        key_cert_sign=usage in ("sign_certificates", "sign_both"),
        crl_sign=usage != "sign_data",
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _new_key(kind: KeyKind) -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(_CURVES[kind])


def _name(recipe: Certificate) -> x509.Name:
    if not recipe.name:
        return x509.Name([])
    attributes = [(NameOID.COUNTRY_NAME, "US"), (NameOID.COMMON_NAME, recipe.name)]
    if recipe.organization:
        attributes.append((NameOID.ORGANIZATION_NAME, recipe.organization))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


@dataclass(frozen=True, slots=True)
class Chain:
    """Root, intermediate and leaf, made when the chain is."""

    root_recipe: Certificate = ROOT
    intermediate_recipe: Certificate = INTERMEDIATE
    leaf_recipe: Certificate = LEAF
    root: Issued = field(init=False)
    intermediate: Issued = field(init=False)
    leaf: Issued = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", issue(self.root_recipe))
        object.__setattr__(self, "intermediate", issue(self.intermediate_recipe, issuer=self.root))
        object.__setattr__(self, "leaf", issue(self.leaf_recipe, issuer=self.intermediate))

    @property
    def x5c(self) -> list[str]:
        return [self.leaf.text, self.intermediate.text, self.root.text]

    @property
    def root_sha256(self) -> str:
        return hashlib.sha256(self.root.der).hexdigest()

    def header(self, **changes: Any) -> dict[str, Any]:
        """The header that Apple writes, with changes; a value of `...` takes the name out."""
        header = {"alg": "ES256", "x5c": self.x5c, **changes}
        return {name: value for name, value in header.items() if value is not ...}

    def sign(self, claims: Mapping[str, Any] | bytes, **header_changes: Any) -> str:
        """A JWS by the leaf's key, whatever its header then says."""
        return sign(self.leaf.key, self.header(**header_changes), claims)


def sign(key: PrivateKey, header: Mapping[str, Any] | bytes, claims: Mapping[str, Any] | bytes) -> str:
    """A compact JWS. On a curve it is signed as ES256 or ES384, with RSA as RS256, whatever the header says."""
    signed = f"{segment(header)}.{segment(claims)}"
    return f"{signed}.{segment(_signature(key, signed.encode()))}"


def _signature(key: PrivateKey, signed: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    size = (key.curve.key_size + 7) // 8
    hash_used = hashes.SHA256() if size == 32 else hashes.SHA384()
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hash_used)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def sign_hs256(secret: bytes, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """A JWS with a shared secret: the old trick of keying it with the public key or the certificate."""
    signed = f"{segment(header)}.{segment(claims)}"
    return f"{signed}.{segment(hmac.digest(secret, signed.encode(), 'sha256'))}"


def segment(content: Mapping[str, Any] | bytes) -> str:
    """Unpadded base64url of bytes, or of a mapping as JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def raw_signature(token: str) -> bytes:
    """The decoded signature of a compact JWS."""
    text = token.rpartition(".")[2]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def with_signature(token: str, signature: bytes) -> str:
    """The same token with another signature."""
    return f"{token.rpartition('.')[0]}.{segment(signature)}"


def malleated(token: str) -> str:
    """The same token with the other valid form of its signature: s becomes order - s. Anybody can do this."""
    raw = raw_signature(token)
    s = P256_ORDER - int.from_bytes(raw[32:], "big")
    return with_signature(token, raw[:32] + s.to_bytes(32, "big"))


def der_signed(token: str) -> str:
    """The same token with its signature in DER, as OpenSSL writes it and JWS does not."""
    raw = raw_signature(token)
    return with_signature(token, encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")))


def certify(tbs: bytes, *, issuer: Issued) -> bytes:
    """A certificate (DER) over exactly these bytes (`tbs_certificate_bytes`), whatever they say.

    Of an issuer that signs as ours do, by ECDSA over SHA-384.
    """
    assert isinstance(issuer.key, ec.EllipticCurvePrivateKey)
    signature = issuer.key.sign(tbs, ec.ECDSA(hashes.SHA384()))
    return _der(0x30, tbs + _ECDSA_WITH_SHA384 + _der(0x03, b"\0" + signature))


_ECDSA_WITH_SHA384 = bytes.fromhex("300a06082a8648ce3d040303")  # AlgorithmIdentifier, RFC 5758, section 3.2


def _der(tag: int, content: bytes) -> bytes:
    """One element with its tag and length (X.690, 8.1.3)."""
    if (length := len(content)) < 128:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def ocsp_answer(
    about: Issued,
    *,
    issuer: Issued,
    this_update: datetime,
    next_update: datetime | None,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    responder: Issued | None = None,
    named_by: ocsp.OCSPResponderEncoding = ocsp.OCSPResponderEncoding.HASH,
    enclosed: Sequence[Issued] = (),
    asked_with: hashes.HashAlgorithm | None = None,
    signed_with: hashes.HashAlgorithm | None = None,
    unknown: tuple[bytes, bool] | None = None,
) -> bytes:
    """An OCSP answer (DER), by the issuer itself unless another `responder` is named.

    `enclosed` are the certificates that come along; `unknown` is an extension that nobody knows, and whether it is
    critical.
    """
    responder = responder or issuer
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=about.certificate,
            issuer=issuer.certificate,
            algorithm=asked_with or hashes.SHA256(),
            cert_status=status,
            this_update=this_update,
            next_update=next_update,
            revocation_time=this_update if revoked else None,
            revocation_reason=x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(named_by, responder.certificate)
    )
    if enclosed:
        builder = builder.certificates([each.certificate for each in enclosed])
    if unknown is not None:
        content, critical = unknown
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.1.1"), content)
        builder = builder.add_extension(extension, critical)
    answer = builder.sign(responder.key, signed_with or hashes.SHA256())
    return answer.public_bytes(serialization.Encoding.DER)
