"""Our rules, held against Apple's own library, input by input: we are never laxer, and stricter only for a reason."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from shared.clock import to_unix_ms
from shared.jws import (
    JwsMalformed,
    JwsUntrusted,
)
from tests.support.apple_pki import (
    INTERMEDIATE,
    LEAF,
    ROOT,
    Certificate,
    Chain,
    Issued,
    certify,
    der_signed,
    issue,
    malleated,
    raw_signature,
    segment,
    sign,
    sign_hs256,
    with_signature,
)
from tests.support.jws import (
    CLAIMS,
    NOW,
    SIGNED_MS,
    Verdict,
    anchored,
    apple_takes,
    claims,
    foreign,
    good,
    pinned,
    signed,
    verdict,
)

# ---- every difference: what Apple's library takes and we refuse, and why -------------------------------------------

STRICTER: Final[Mapping[str, str]] = {
    "a padded signature": "RFC 7515, section 2: no padding",
    "crit, of an extension that is there": "no extension of JWS is known here, so none may be critical",
    "a third certificate that is no text": "RFC 7515, 4.1.6: x5c holds strings",
    "an intermediate whose basicConstraints are not critical": "RFC 5280, 4.2.1.9: critical in every CA",
    "a leaf that is a CA": "a certificate that issues others does not sign receipts",
    "a leaf that may not sign data": "RFC 5280, 4.2.1.3: without digitalSignature its key does not verify signatures",
    "an intermediate signed over SHA-224": "no certificate of Apple's needs it",
    "a leaf that expired three months ago, signed before": "whoever finds an old key could sign for the past for ever",
    "signedDate tomorrow": "the newest signedDate of a transaction counts: one of the future would outrank all to come",
    "signedDate a number in text": "documented as a number, and never seen otherwise",
    "NaN in the payload": "RFC 8259 knows no NaN",
    "an endless number in the payload": "RFC 8259, section 6: what is too large to be a number is none",
    "half a surrogate pair in the payload": "no text: it could be neither stored nor sent on",
    "a payload in UTF-16": "RFC 8259, section 8.1: UTF-8",
    "a payload with a byte order mark": "RFC 8259, section 8.1: none may be there",
    "a leaf of its issuer's name": "it may be its own issuer or not, as one reads it; Apple's have names of their own",
    "an intermediate of its root's name": "it may be a root or not, as one reads it; Apple's have names of their own",
    "a payload nested 33 deep": "the deepest that the App Store sends has 3 levels, and each costs a reader its stack",
    "b64 true": "RFC 7797, section 6: it has to be critical, and no extension of JWS is known here",
    "an audience that is null": "the App Store's payloads have no audience",
    "exp a number in text": "RFC 7519, section 2: a time is a number",
    "exp a fraction": "the App Store's payloads have no exp, and whole seconds are enough for who has",
    "an intermediate that limits names, not the leaf's": "what is not evaluated must not be there; Apple's have none",
    "an intermediate that limits names, critically": "what is not evaluated must not be there; Apple's have none",
    "a leaf whose name is bits": "RFC 5280, 4.1.2.4: a name is text",
}

# ---- the table: each input given to this verifier and to Apple's library -------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """An input, and what we say to it."""

    name: str
    ours: Verdict
    token: Callable[[], str]
    roots: Callable[[], Chain] = good


def chain_case(
    name: str,
    ours: Verdict,
    *,
    root: Certificate = ROOT,
    intermediate: Certificate = INTERMEDIATE,
    leaf: Certificate = LEAF,
    signed_ms: int = SIGNED_MS,
) -> Case:
    """A whole chain of its own, trusted by its root, that differs from a good one in the recipes given."""

    @cache
    def chain() -> Chain:
        return Chain(root, intermediate, leaf)

    return Case(name, ours, lambda: chain().sign(claims(signedDate=signed_ms)), chain)


def header_case(name: str, ours: Verdict, **changes: Any) -> Case:
    return Case(name, ours, lambda: good().sign(CLAIMS, **changes))


def claim_case(name: str, ours: Verdict, **changes: Any) -> Case:
    return Case(name, ours, lambda: signed(**changes))


def text_case(name: str, ours: Verdict, change: Callable[[str], str]) -> Case:
    return Case(name, ours, lambda: change(signed()))


def public_pem() -> bytes:
    return (
        good()
        .leaf.key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def hs256(secret: Callable[[], bytes]) -> Callable[[], str]:
    return lambda: sign_hs256(secret(), good().header(alg="HS256"), CLAIMS)


def unsigned(token: str) -> str:
    return f"{segment(good().header(alg='none'))}.{token.split('.')[1]}."


def padded_payload() -> str:
    text = json.dumps(CLAIMS).encode()
    token = good().sign(text + b" " * ((1 - len(text)) % 3))  # a length of which one byte is left over needs padding
    header, payload, signature = token.split(".")
    return f"{header}.{payload}==.{signature}"


def lengthened(token: str) -> str:
    """The same r and s in 65 bytes."""
    raw = raw_signature(token)
    return with_signature(token, raw[:32] + b"\0" + raw[32:])


def with_payload(token: str, payload: bytes) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{segment(payload)}.{signature}"


def below_the_leaf() -> str:
    """The leaf plays an intermediate and issues a leaf of its own."""
    own = issue(LEAF, issuer=good().leaf)
    return sign(own.key, {"alg": "ES256", "x5c": [own.text, good().leaf.text, good().root.text]}, CLAIMS)


def developers_certificate() -> str:
    """What every developer has from Apple: a certificate under the same intermediate, without the marker."""
    own = issue(replace(LEAF, marker=None), issuer=good().intermediate)
    return sign(own.key, good().header(x5c=[own.text, good().intermediate.text, good().root.text]), CLAIMS)


def own_root_of_the_same_name() -> str:
    """A chain of a stranger who calls himself what our root is called, and puts our root at the end."""
    root = issue(ROOT)
    intermediate = issue(INTERMEDIATE, issuer=root)
    leaf = issue(LEAF, issuer=intermediate)
    return sign(leaf.key, {"alg": "ES256", "x5c": [leaf.text, intermediate.text, good().root.text]}, CLAIMS)


def self_signed() -> str:
    own = issue(replace(LEAF, ca=None))
    return sign(own.key, {"alg": "ES256", "x5c": [own.text, own.text, own.text]}, CLAIMS)


def garbled(issued: Issued) -> str:
    """A certificate whose own signature has one bit turned."""
    return base64.b64encode(issued.der[:-1] + bytes([issued.der[-1] ^ 1])).decode()


def leaf_that_says(old: bytes, new: bytes) -> Callable[[], str]:
    """Our leaf with some of its bytes changed, and signed by its issuer all the same."""

    def token() -> str:
        said = good().leaf.certificate.tbs_certificate_bytes
        assert old in said
        leaf = certify(said.replace(old, new), issuer=good().intermediate)
        return good().sign(CLAIMS, x5c=[base64.b64encode(leaf).decode(), *good().x5c[1:]])

    return token


def leaf_whose_signature_ends_within_a_byte() -> str:
    """The last bit of its signature is a 0 and is said not to count: its bytes are those of a good one."""
    said = good().leaf.certificate.tbs_certificate_bytes
    leaf = next(der for _ in range(100) if (der := certify(said, issuer=good().intermediate))[-1] % 2 == 0)
    unused = len(leaf) - len(x509.load_der_x509_certificate(leaf).signature) - 1
    leaf = leaf[:unused] + b"\1" + leaf[unused + 1 :]
    return good().sign(CLAIMS, x5c=[base64.b64encode(leaf).decode(), *good().x5c[1:]])


def raw(oid: str, der: bytes) -> x509.ExtensionType:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), der)


def names(*, excluded: str) -> x509.NameConstraints:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.COMMON_NAME, excluded)]
    )
    return x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=[x509.DirectoryName(subject)])


def payload_text() -> bytes:
    return json.dumps(CLAIMS).encode()


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


EXPIRED = replace(LEAF, not_after=NOW - timedelta(days=30))
LONG_EXPIRED = replace(LEAF, not_after=NOW - timedelta(days=90))

CASES = (
    # benign
    claim_case("a transaction", None),
    header_case("a kid and a typ in the header", None, kid="key", typ="JWT"),
    header_case("a third certificate that is garbage", None, x5c=[*good().x5c[:2], "garbage"]),
    header_case("a third certificate that is another", None, x5c=[*good().x5c[:2], good().leaf.text]),
    claim_case("no signedDate", None, signedDate=...),
    claim_case("signedDate null", None, signedDate=None),
    claim_case("signedDate a float", None, signedDate=SIGNED_MS + 0.7297),
    claim_case("an unknown claim", None, future={"deep": [1, 2, {"x": None}]}),
    claim_case("characters beyond ASCII", None, note="Ünïcödé 💎 \u0000"),
    claim_case("exp in the future, nbf and iat in the past", None, exp=4102444800, nbf=1, iat=1),
    claim_case("sub and jti strings", None, sub="a", jti="b"),
    text_case("the other form of the signature (s -> n - s)", None, malleated),
    chain_case("a leaf that expired a month ago, signed before", None, leaf=EXPIRED,
               signed_ms=to_unix_ms(NOW - timedelta(days=31))),
    chain_case("all on P-256", None, root=replace(ROOT, key="p256"),
               intermediate=replace(INTERMEDIATE, key="p256")),
    chain_case("an RSA root", None, root=replace(ROOT, key="rsa")),
    chain_case("a leaf without basicConstraints", None, leaf=replace(LEAF, ca=None)),
    chain_case("a leaf without keyUsage", None, leaf=replace(LEAF, key_usage=None)),
    chain_case("an intermediate without a path length", None, intermediate=replace(INTERMEDIATE, path_length=None)),
    chain_case("a root that allows one issuer below", None, root=replace(ROOT, path_length=1)),
    chain_case("an intermediate that names the root's certificate beside its key", None,
               intermediate=replace(INTERMEDIATE, authority_key_identifier="right key, right serial")),
    chain_case("a leaf with an address for OCSP", None, leaf=replace(LEAF, ocsp_url="http://ocsp.example/")),
    claim_case("receiptCreationDate in place of signedDate", None, signedDate=..., receiptCreationDate=SIGNED_MS),
    claim_case("receiptCreationDate of no sense beside a signedDate", None, receiptCreationDate="abc"),
    claim_case("a number beyond 64 bits", None, number=10**30),
    Case("a claim twice: the last one counts", None, lambda: good().sign(b'{"bundleId":"x",' + payload_text()[1:])),
    Case("a payload nested 32 deep", None, lambda: good().sign(claims(note=nested(30)))),
    # the text
    text_case("empty", JwsMalformed, lambda _: ""),
    text_case("two dots", JwsMalformed, lambda _: ".."),
    text_case("words", JwsMalformed, lambda _: "not a token"),
    text_case("a.b.c", JwsMalformed, lambda _: "a.b.c"),
    text_case("a.b.c.d", JwsMalformed, lambda _: "a.b.c.d"),
    text_case("two segments", JwsMalformed, lambda token: token.rpartition(".")[0]),
    text_case("four segments", JwsMalformed, lambda token: token + ".AAAA"),
    text_case("five segments", JwsMalformed, lambda token: token + ".AAAA.AAAA"),
    text_case("a leading space", JwsMalformed, lambda token: " " + token),
    text_case("a trailing newline", JwsMalformed, lambda token: token + "\n"),
    text_case("a newline within", JwsMalformed, lambda token: token[:40] + "\n" + token[40:]),
    text_case("a padded signature", JwsMalformed, lambda token: token + "=="),
    Case("a padded payload", JwsUntrusted, padded_payload),
    text_case("a NUL at the end", JwsMalformed, lambda token: token + "\0"),
    text_case("a letter beyond ASCII", JwsMalformed, lambda token: token + "é"),
    text_case("a lone surrogate", JwsMalformed, lambda token: token + "\ud800"),
    text_case("a character of standard base64", JwsMalformed, lambda token: token[:-4] + "+" + token[-3:]),
    text_case("bits after the signature's last byte", JwsMalformed, lambda token: token[:-1] + chr(ord(token[-1]) + 1)),
    text_case("truncated in the payload", JwsMalformed, lambda token: token[: token.rindex(".") - 10]),
    # the header
    Case("a header that is a list", JwsMalformed, lambda: sign(good().leaf.key, b"[]", CLAIMS)),
    Case("a header that is a number", JwsMalformed, lambda: sign(good().leaf.key, b"1", CLAIMS)),
    Case("a header that is not JSON", JwsMalformed, lambda: sign(good().leaf.key, b"{", CLAIMS)),
    Case("a header that is not UTF-8", JwsMalformed, lambda: sign(good().leaf.key, b'{"alg":"\xff"}', CLAIMS)),
    Case("a header nested without end", JwsMalformed, lambda: sign(good().leaf.key, b"[" * 50_000, CLAIMS)),
    header_case("no algorithm", JwsUntrusted, alg=...),
    header_case("the algorithm in small letters", JwsUntrusted, alg="es256"),
    header_case("the algorithm ES384 named", JwsUntrusted, alg="ES384"),
    header_case("the algorithm a list", JwsUntrusted, alg=["ES256"]),
    text_case("the algorithm none, unsigned", JwsUntrusted, unsigned),
    Case("HS256 keyed with the leaf's certificate", JwsUntrusted, hs256(lambda: good().leaf.pem)),
    Case("HS256 keyed with the leaf's public key", JwsUntrusted, hs256(public_pem)),
    Case("HS256 keyed with the certificate's DER", JwsUntrusted, hs256(lambda: good().leaf.der)),
    header_case("crit", JwsMalformed, crit=["exp"]),
    header_case("crit, of an extension that is there", JwsMalformed, crit=["b64"], b64=True),
    header_case("b64 false", JwsMalformed, b64=False),
    header_case("b64 true", JwsMalformed, b64=True),
    header_case("kid a number", JwsMalformed, kid=1),
    header_case("no x5c", JwsMalformed, x5c=...),
    header_case("x5c misspelt", JwsMalformed, x5c=..., x5cwrong=good().x5c),
    header_case("x5c null", JwsMalformed, x5c=None),
    header_case("x5c empty", JwsMalformed, x5c=[]),
    header_case("x5c a string of three characters", JwsMalformed, x5c="abc"),
    header_case("x5c numbers", JwsMalformed, x5c=[1, 2, 3]),
    header_case("x5c a mapping", JwsMalformed, x5c={"0": "a", "1": "b", "2": "c"}),
    header_case("x5c of one", JwsMalformed, x5c=good().x5c[:1]),
    header_case("x5c of two", JwsMalformed, x5c=good().x5c[:2]),
    header_case("x5c of four", JwsMalformed, x5c=[*good().x5c, good().root.text]),
    header_case("a third certificate that is no text", JwsMalformed, x5c=[*good().x5c[:2], 3]),
    header_case("a leaf in base64url, unpadded", JwsMalformed, x5c=[segment(good().leaf.der), *good().x5c[1:]]),
    header_case("a leaf in PEM", JwsMalformed, x5c=[good().leaf.pem.decode(), *good().x5c[1:]]),
    header_case("a leaf with a line break", JwsMalformed, x5c=[good().leaf.text + "\n", *good().x5c[1:]]),
    header_case("a leaf that is garbage", JwsMalformed, x5c=["abcd", *good().x5c[1:]]),
    header_case("a leaf that is empty", JwsMalformed, x5c=["", *good().x5c[1:]]),
    Case("a leaf whose signature ends within a byte", JwsMalformed, leaf_whose_signature_ends_within_a_byte),
    header_case("an intermediate that is garbage", JwsMalformed, x5c=[good().leaf.text, "abcd", good().root.text]),
    # the chain
    header_case("leaf and intermediate swapped", JwsUntrusted, x5c=[good().x5c[1], good().x5c[0], good().x5c[2]]),
    header_case("the leaf three times", JwsUntrusted, x5c=[good().x5c[0]] * 3),
    header_case("the root for an intermediate", JwsUntrusted, x5c=[good().x5c[0], good().x5c[2], good().x5c[2]]),
    header_case("another's intermediate", JwsUntrusted, x5c=[good().x5c[0], foreign().x5c[1], good().x5c[2]]),
    header_case("another's leaf over our signature", JwsUntrusted, x5c=[foreign().x5c[0], *good().x5c[1:]]),
    header_case("a leaf with a bit turned in its signature", JwsUntrusted, x5c=[garbled(good().leaf), *good().x5c[1:]]),
    header_case("an intermediate with a bit turned", JwsUntrusted,
                x5c=[good().leaf.text, garbled(good().intermediate), good().root.text]),
    Case("a foreign root", JwsUntrusted, lambda: foreign().sign(CLAIMS)),
    Case("a stranger's root of the same name", JwsUntrusted, own_root_of_the_same_name),
    chain_case("a leaf of its issuer's name", JwsUntrusted, leaf=replace(LEAF, name=INTERMEDIATE.name,
               organization=INTERMEDIATE.organization)),
    chain_case("an intermediate of its root's name", JwsUntrusted, intermediate=replace(INTERMEDIATE, name=ROOT.name,
               organization=ROOT.organization)),
    Case("self-signed", JwsUntrusted, self_signed),
    Case("a leaf that plays an intermediate", JwsUntrusted, below_the_leaf),
    Case("a developer's certificate of the same intermediate", JwsUntrusted, developers_certificate),
    chain_case("an intermediate without marker", JwsUntrusted, intermediate=replace(INTERMEDIATE, marker=None)),
    chain_case("a leaf with another marker", JwsUntrusted,
               leaf=replace(LEAF, marker="1.2.840.113635.100.6.11.2")),
    chain_case("the markers swapped", JwsUntrusted, intermediate=replace(INTERMEDIATE, marker=LEAF.marker),
               leaf=replace(LEAF, marker=INTERMEDIATE.marker)),
    chain_case("an intermediate that is no CA", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, ca=False, path_length=None)),
    chain_case("an intermediate without basicConstraints", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, ca=None)),
    chain_case("an intermediate whose basicConstraints are not critical", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, ca_critical=False)),
    chain_case("an intermediate that may not sign certificates", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, key_usage="neither")),
    chain_case("an intermediate without keyUsage", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, key_usage=None)),
    chain_case("an intermediate without key identifiers", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, subject_key_identifier=False)),
    chain_case("an intermediate that does not identify the root's key", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, authority_key_identifier=None)),
    chain_case("an intermediate with an unknown critical extension", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, unknown_critical=True)),
    chain_case("a leaf with an unknown critical extension", JwsUntrusted, leaf=replace(LEAF, unknown_critical=True)),
    chain_case("an intermediate that names another key than the root's", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, authority_key_identifier="wrong")),
    chain_case("a leaf that names another key than the intermediate's", JwsUntrusted,
               leaf=replace(LEAF, authority_key_identifier="wrong")),
    chain_case("a leaf that does not identify the intermediate's key", JwsUntrusted,
               leaf=replace(LEAF, authority_key_identifier=None)),
    chain_case("an intermediate that names another certificate of the root's", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, authority_key_identifier="right key, wrong serial")),
    chain_case("an intermediate that excludes the leaf's name, not critically", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, extensions=((names(excluded="Test Receipt Signing"), False),))),
    chain_case("an intermediate that limits names, not the leaf's", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, extensions=((names(excluded="Another"), False),))),
    chain_case("an intermediate that limits names, critically", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, extensions=((names(excluded="Another"), True),))),
    chain_case("a leaf without a subject", JwsUntrusted, leaf=replace(LEAF, name="")),
    chain_case("a leaf whose name takes more than 127 bytes", None, leaf=replace(LEAF, organization="Test " * 40)),
    Case("a leaf whose name is not UTF-8", JwsUntrusted, leaf_that_says(b"Test Receipt", b"Test\xffReceipt")),
    Case("a leaf whose name is no text", JwsUntrusted, leaf_that_says(b"\x0c\x14Test R", b"\x04\x14Test R")),
    chain_case("a leaf with an empty list of other names", JwsUntrusted,
               leaf=replace(LEAF, extensions=((raw("2.5.29.17", b"\x30\x00"), False),))),
    chain_case("a leaf with other names that cannot be read", JwsUntrusted,
               leaf=replace(LEAF, extensions=((raw("2.5.29.17", b"\x05\x00"), False),))),
    chain_case("a leaf that is somebody's proxy", JwsUntrusted, leaf=replace(
        LEAF, extensions=((raw("1.3.6.1.5.5.7.1.14", bytes.fromhex("300c300a06082b06010505071501")), False),))),
    chain_case("a leaf for a block of addresses", JwsUntrusted, leaf=replace(
        LEAF, extensions=((raw("1.3.6.1.5.5.7.1.7", bytes.fromhex("300a30080402000130020500")), False),))),
    Case("a leaf whose name is bits", JwsUntrusted, leaf_that_says(b"\x0c\x14Test R", b"\x03\x14\0est R")),
    chain_case("a leaf that is a CA", JwsUntrusted, leaf=replace(LEAF, ca=True)),
    chain_case("a leaf that may sign certificates", JwsUntrusted, leaf=replace(LEAF, key_usage="sign_both")),
    chain_case("a leaf that may not sign data", JwsUntrusted, leaf=replace(LEAF, key_usage="neither")),
    chain_case("a leaf on secp256k1", JwsUntrusted, leaf=replace(LEAF, key="k256")),
    chain_case("a leaf on P-384", JwsUntrusted, leaf=replace(LEAF, key="p384")),
    chain_case("a leaf with an RSA key", JwsUntrusted, leaf=replace(LEAF, key="rsa")),
    chain_case("an intermediate signed over SHA-224", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, hash=hashes.SHA224)),
    # the dates
    chain_case("a leaf that expired three months ago, signed before", JwsUntrusted, leaf=LONG_EXPIRED,
               signed_ms=to_unix_ms(NOW - timedelta(days=91))),
    claim_case("signedDate before the certificates", JwsUntrusted,
               signedDate=to_unix_ms(datetime(2019, 1, 1, tzinfo=UTC))),
    claim_case("signedDate after the certificates", JwsUntrusted,
               signedDate=to_unix_ms(datetime(2050, 1, 1, tzinfo=UTC))),
    claim_case("signedDate tomorrow", JwsUntrusted, signedDate=to_unix_ms(NOW + timedelta(days=1))),
    claim_case("receiptCreationDate before the certificates", JwsUntrusted, signedDate=..., receiptCreationDate=1),
    claim_case("receiptCreationDate text", JwsMalformed, signedDate=..., receiptCreationDate="abc"),
    claim_case("signedDate zero", JwsUntrusted, signedDate=0),
    claim_case("signedDate negative", JwsMalformed, signedDate=-1),
    claim_case("signedDate beyond all calendars", JwsMalformed, signedDate=10**30),
    claim_case("signedDate text", JwsMalformed, signedDate="abc"),
    claim_case("signedDate a number in text", JwsMalformed, signedDate=str(SIGNED_MS)),
    claim_case("signedDate true", JwsMalformed, signedDate=True),
    claim_case("signedDate a list", JwsMalformed, signedDate=[SIGNED_MS]),
    # the payload and JWT's own claims
    Case("a payload that is a list", JwsMalformed, lambda: good().sign(b"[]")),
    Case("a payload that is null", JwsMalformed, lambda: good().sign(b"null")),
    Case("a payload that is empty", JwsMalformed, lambda: good().sign(b"")),
    Case("a payload that is not UTF-8", JwsMalformed, lambda: good().sign(b'{"a":"\xff"}')),
    Case("a payload nested 33 deep", JwsMalformed, lambda: good().sign(claims(note=nested(31)))),
    Case("a payload nested without end", JwsMalformed, lambda: good().sign(b"[" * 50_000)),
    Case("NaN in the payload", JwsMalformed, lambda: good().sign(json.dumps(claims(note=float("nan"))).encode())),
    Case("an endless number in the payload", JwsMalformed, lambda: good().sign(b'{"x":1e999,' + payload_text()[1:])),
    Case("half a surrogate pair in the payload", JwsMalformed,
         lambda: good().sign(b'{"x":"\\ud800",' + payload_text()[1:])),
    Case("a payload in UTF-16", JwsMalformed, lambda: good().sign(payload_text().decode().encode("utf-16"))),
    Case("a payload with a byte order mark", JwsMalformed, lambda: good().sign(b"\xef\xbb\xbf" + payload_text())),
    claim_case("exp in the past", JwsUntrusted, exp=1),
    claim_case("exp no number", JwsMalformed, exp="tomorrow"),
    claim_case("nbf in the future", JwsUntrusted, nbf=4102444800),
    claim_case("iat in the future", JwsUntrusted, iat=4102444800),
    claim_case("an audience", JwsUntrusted, aud="appstoreconnect-v1"),
    claim_case("an audience that is null", JwsUntrusted, aud=None),
    claim_case("exp a number in text", JwsMalformed, exp="4102444800"),
    claim_case("exp a fraction", JwsMalformed, exp=4102444800.5),
    claim_case("sub no string", JwsMalformed, sub=1),
    claim_case("jti no string", JwsMalformed, jti=1),
    # the signature
    text_case("no signature", JwsUntrusted, lambda token: with_signature(token, b"")),
    text_case("a signature cut short", JwsUntrusted, lambda token: with_signature(token, raw_signature(token)[:-1])),
    text_case("a signature with a byte more", JwsUntrusted,
              lambda token: with_signature(token, raw_signature(token) + b"\0")),
    text_case("a signature with a zero before s", JwsUntrusted, lengthened),
    text_case("a signature of zeros", JwsUntrusted, lambda token: with_signature(token, bytes(64))),
    text_case("a signature of ones", JwsUntrusted, lambda token: with_signature(token, b"\xff" * 64)),
    text_case("a signature in DER", JwsUntrusted, der_signed),
    text_case("the signature of another payload", JwsUntrusted,
              lambda token: with_signature(token, raw_signature(signed(x=1)))),
    text_case("another payload under the signature", JwsUntrusted,
              lambda token: with_payload(token, json.dumps(claims(quantity=10)).encode())),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_we_refuse_what_apples_library_refuses_and_more_only_for_a_stated_reason(case: Case) -> None:
    token, chain = case.token(), case.roots()
    assert verdict(anchored(chain), token) is case.ours
    assert apple_takes(chain, token) is (case.ours is None or case.name in STRICTER)


def test_every_difference_is_a_case_of_the_table_and_no_case_is_there_twice() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert {case.name for case in CASES if case.ours is not None} >= set(STRICTER)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_root_that_is_pinned_is_as_strict_as_one_from_a_file(case: Case) -> None:
    """But for the third certificate, which now has to be the pinned one."""
    if case.name.startswith("a third certificate"):
        assert verdict(pinned(case.roots()), case.token()) in (JwsUntrusted, JwsMalformed)
    else:
        assert (verdict(pinned(case.roots()), case.token()) is None) is (case.ours is None)
