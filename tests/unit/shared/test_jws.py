"""The App Store's signatures: our rules, held against Apple's own library, input by input."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from appstoreserverlibrary.models.Environment import Environment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier, VerificationException
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import to_unix_ms
from shared.jws import (
    EXPIRED_CHAIN_WINDOW_S,
    FUTURE_SKEW_S_MAX,
    TOKEN_LENGTH_MAX,
    JwsError,
    JwsMalformed,
    JwsUntrusted,
    JwsVerifier,
    TrustAnchorInvalid,
    TrustAnchors,
    peek_claims,
)
from tests.support.apple_pki import (
    INTERMEDIATE,
    LEAF,
    ROOT,
    Certificate,
    Chain,
    Issued,
    der_signed,
    issue,
    malleated,
    raw_signature,
    segment,
    sign,
    sign_hs256,
    with_signature,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SIGNED_MS = to_unix_ms(NOW - timedelta(minutes=1))
BUNDLE = "com.example.game"
CLAIMS = {
    "transactionId": "2000000000000001",
    "bundleId": BUNDLE,
    "productId": "com.example.game.gems100",
    "environment": "Sandbox",
    "signedDate": SIGNED_MS,
}


@cache
def good() -> Chain:
    return Chain()


@cache
def foreign() -> Chain:
    """As good as ours, under another root."""
    return Chain()


def anchored(chain: Chain) -> JwsVerifier:
    return JwsVerifier(anchors=TrustAnchors.of(files=[chain.root.der]))


def pinned(chain: Chain) -> JwsVerifier:
    return JwsVerifier(anchors=TrustAnchors.of(pins=[chain.root_sha256]))


def signed(**changes: Any) -> str:
    """Our good chain's signature over the claims, changed; `...` takes a claim out."""
    return good().sign(claims(**changes))


def claims(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**CLAIMS, **changes}.items() if value is not ...}


# ---- the table: each input given to this verifier and to Apple's library -------------------------------------------

Verdict = type[JwsError] | None


@dataclass(frozen=True, slots=True)
class Case:
    """An input, and what we say to it. `stricter` is why we refuse what Apple's library takes."""

    name: str
    ours: Verdict
    token: Callable[[], str]
    roots: Callable[[], Chain] = good
    stricter: str | None = None


def chain_case(
    name: str,
    ours: Verdict,
    *,
    root: Certificate = ROOT,
    intermediate: Certificate = INTERMEDIATE,
    leaf: Certificate = LEAF,
    signed_ms: int = SIGNED_MS,
    stricter: str | None = None,
) -> Case:
    """A whole chain of its own, trusted by its root, that differs from a good one in the recipes given."""

    @cache
    def chain() -> Chain:
        return Chain(root, intermediate, leaf)

    return Case(name, ours, lambda: chain().sign(claims(signedDate=signed_ms)), chain, stricter)


def header_case(name: str, ours: Verdict, *, stricter: str | None = None, **changes: Any) -> Case:
    return Case(name, ours, lambda: good().sign(CLAIMS, **changes), stricter=stricter)


def claim_case(name: str, ours: Verdict, *, stricter: str | None = None, **changes: Any) -> Case:
    return Case(name, ours, lambda: signed(**changes), stricter=stricter)


def text_case(name: str, ours: Verdict, change: Callable[[str], str], *, stricter: str | None = None) -> Case:
    return Case(name, ours, lambda: change(signed()), stricter=stricter)


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


EXPIRED = replace(LEAF, not_after=NOW - timedelta(days=30))
LONG_EXPIRED = replace(LEAF, not_after=NOW - timedelta(days=90))
NOT_NEEDED = "no certificate of Apple's needs it"

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
    text_case("a padded signature", JwsMalformed, lambda token: token + "==",
              stricter="RFC 7515, section 2: no padding"),
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
    header_case("crit, of an extension that is there", JwsMalformed, crit=["b64"], b64=True,
                stricter="no extension of JWS is known here, so none may be critical"),
    header_case("b64 false", JwsMalformed, b64=False),
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
    header_case("a third certificate that is no text", JwsMalformed, x5c=[*good().x5c[:2], 3],
                stricter="RFC 7515, 4.1.6: x5c holds strings"),
    header_case("a leaf in base64url, unpadded", JwsMalformed, x5c=[segment(good().leaf.der), *good().x5c[1:]]),
    header_case("a leaf in PEM", JwsMalformed, x5c=[good().leaf.pem.decode(), *good().x5c[1:]]),
    header_case("a leaf with a line break", JwsMalformed, x5c=[good().leaf.text + "\n", *good().x5c[1:]]),
    header_case("a leaf that is garbage", JwsMalformed, x5c=["abcd", *good().x5c[1:]]),
    header_case("a leaf that is empty", JwsMalformed, x5c=["", *good().x5c[1:]]),
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
               intermediate=replace(INTERMEDIATE, ca_critical=False),
               stricter="RFC 5280, 4.2.1.9: critical in every CA"),
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
    chain_case("a leaf that is a CA", JwsUntrusted, leaf=replace(LEAF, ca=True),
               stricter="a certificate that issues others does not sign receipts"),
    chain_case("a leaf that may sign certificates", JwsUntrusted, leaf=replace(LEAF, key_usage="sign_both")),
    chain_case("a leaf that may not sign data", JwsUntrusted, leaf=replace(LEAF, key_usage="neither"),
               stricter="RFC 5280, 4.2.1.3: without digitalSignature its key does not verify signatures"),
    chain_case("a leaf on secp256k1", JwsUntrusted, leaf=replace(LEAF, key="k256")),
    chain_case("a leaf on P-384", JwsUntrusted, leaf=replace(LEAF, key="p384")),
    chain_case("a leaf with an RSA key", JwsUntrusted, leaf=replace(LEAF, key="rsa")),
    chain_case("an intermediate signed over SHA-224", JwsUntrusted,
               intermediate=replace(INTERMEDIATE, hash=hashes.SHA224), stricter=NOT_NEEDED),
    # the dates
    chain_case("a leaf that expired three months ago, signed before", JwsUntrusted, leaf=LONG_EXPIRED,
               signed_ms=to_unix_ms(NOW - timedelta(days=91)),
               stricter="whoever finds an old key could date his tokens back for ever"),
    claim_case("signedDate before the certificates", JwsUntrusted,
               signedDate=to_unix_ms(datetime(2019, 1, 1, tzinfo=UTC))),
    claim_case("signedDate after the certificates", JwsUntrusted,
               signedDate=to_unix_ms(datetime(2050, 1, 1, tzinfo=UTC))),
    claim_case("signedDate tomorrow", JwsUntrusted, signedDate=to_unix_ms(NOW + timedelta(days=1)),
               stricter="the newest signedDate of a transaction counts: one of the future would outrank all to come"),
    claim_case("signedDate zero", JwsUntrusted, signedDate=0),
    claim_case("signedDate negative", JwsMalformed, signedDate=-1),
    claim_case("signedDate beyond all calendars", JwsMalformed, signedDate=10**30),
    claim_case("signedDate text", JwsMalformed, signedDate="abc"),
    claim_case("signedDate a number in text", JwsMalformed, signedDate=str(SIGNED_MS),
               stricter="documented as a number, and never seen otherwise"),
    claim_case("signedDate true", JwsMalformed, signedDate=True),
    claim_case("signedDate a list", JwsMalformed, signedDate=[SIGNED_MS]),
    # the payload and JWT's own claims
    Case("a payload that is a list", JwsMalformed, lambda: good().sign(b"[]")),
    Case("a payload that is null", JwsMalformed, lambda: good().sign(b"null")),
    Case("a payload that is empty", JwsMalformed, lambda: good().sign(b"")),
    Case("a payload that is not UTF-8", JwsMalformed, lambda: good().sign(b'{"a":"\xff"}')),
    Case("a payload nested without end", JwsMalformed, lambda: good().sign(b"[" * 50_000)),
    Case("NaN in the payload", JwsMalformed, lambda: good().sign(json.dumps(claims(note=float("nan"))).encode()),
         stricter="RFC 8259 knows no NaN"),
    claim_case("exp in the past", JwsUntrusted, exp=1),
    claim_case("exp no number", JwsMalformed, exp="tomorrow"),
    claim_case("nbf in the future", JwsUntrusted, nbf=4102444800),
    claim_case("iat in the future", JwsUntrusted, iat=4102444800),
    claim_case("an audience", JwsUntrusted, aud="appstoreconnect-v1"),
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
    if case.ours is None:
        assert apple_takes(chain, token)
    else:
        assert apple_takes(chain, token) is (case.stricter is not None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_root_that_is_pinned_is_as_strict_as_one_from_a_file(case: Case) -> None:
    """But for the third certificate, which now has to be the pinned one."""
    if case.name.startswith("a third certificate"):
        assert verdict(pinned(case.roots()), case.token()) in (JwsUntrusted, JwsMalformed)
    else:
        assert (verdict(pinned(case.roots()), case.token()) is None) is (case.ours is None)


def verdict(verifier: JwsVerifier, token: str) -> Verdict:
    """What we say to a token; a message is short, since it may be shown and logged."""
    try:
        verifier.verify(token, now=NOW)
    except JwsError as error:
        refusal = error
    else:
        return None
    assert 0 < len(str(refusal)) < 100
    return type(refusal)


def apple_takes(chain: Chain, token: str) -> bool:
    oracle = SignedDataVerifier([chain.root.der], False, Environment.SANDBOX, BUNDLE)
    try:
        oracle.verify_and_decode_signed_transaction(token)
    except VerificationException:
        return False
    return True


# ---- what comes out ------------------------------------------------------------------------------------------------


def test_the_payload_comes_out_as_it_was_signed() -> None:
    payload = anchored(good()).verify(signed(), now=NOW)
    assert payload.claims == CLAIMS
    assert payload.signed_at == NOW - timedelta(minutes=1)


def test_a_payload_without_a_date_has_none() -> None:
    assert anchored(good()).verify(signed(signedDate=...), now=NOW).signed_at is None


def test_claims_can_be_read_before_the_signature_is_checked() -> None:
    token = Chain().sign(CLAIMS)
    assert peek_claims(with_signature(token, b"")) == CLAIMS


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c.d", f"x.{segment(b'[]')}.x", f"x.{segment(b'[' * 50_000)}.x", "é.é.é"]
)
def test_peeking_at_what_is_no_token_says_so(token: str) -> None:
    with pytest.raises(JwsMalformed):
        peek_claims(token)


@pytest.mark.parametrize(
    "payload", ["e30=", "e30 ", "e30\n", "e3+++0", "++++e30", "e31", "e30A", "e3", "IHt9IG", "IHt9IH"]
)
def test_a_payload_has_one_spelling(payload: str) -> None:
    """`{}` is `e30` and nothing else: no padding, no other alphabet, no bits beyond the last byte."""
    assert peek_claims("x.e30.x") == {}
    with pytest.raises(JwsMalformed):
        peek_claims(f"x.{payload}.x")


def test_a_token_longer_than_the_limit_is_refused_unread() -> None:
    fits = "A" * (TOKEN_LENGTH_MAX - 2) + ".."
    with pytest.raises(JwsMalformed, match="header is not"):
        anchored(good()).verify(fits, now=NOW)
    with pytest.raises(JwsMalformed, match="too long"):
        anchored(good()).verify(fits + ".", now=NOW)


# ---- dates ---------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_behind_by_minutes_is_forgiven_and_no_more() -> None:
    verifier, token = anchored(good()), signed()
    signed_at = NOW - timedelta(minutes=1)
    verifier.verify(token, now=signed_at - timedelta(seconds=FUTURE_SKEW_S_MAX))
    with pytest.raises(JwsUntrusted, match="future"):
        verifier.verify(token, now=signed_at - timedelta(seconds=FUTURE_SKEW_S_MAX + 1))


@pytest.mark.parametrize("expired", ["leaf", "intermediate", "root"])
def test_an_expired_chain_vouches_for_its_past_until_the_window_closes(expired: str) -> None:
    recipes = {"leaf": LEAF, "intermediate": INTERMEDIATE, "root": ROOT}
    chain = Chain(**{f"{expired}_recipe": replace(recipes[expired], not_after=NOW)})
    verifier, token, window = anchored(chain), chain.sign(CLAIMS), timedelta(seconds=EXPIRED_CHAIN_WINDOW_S)
    verifier.verify(token, now=NOW + window - timedelta(seconds=1))
    with pytest.raises(JwsUntrusted, match="too long ago"):
        verifier.verify(token, now=NOW + window)


@pytest.mark.parametrize("late", ["leaf", "intermediate", "root"])
def test_a_chain_vouches_for_nothing_before_all_of_it_was_valid(late: str) -> None:
    recipes = {"leaf": LEAF, "intermediate": INTERMEDIATE, "root": ROOT}
    chain = Chain(**{f"{late}_recipe": replace(recipes[late], not_before=NOW)})
    verifier = anchored(chain)
    verifier.verify(chain.sign(claims(signedDate=to_unix_ms(NOW))), now=NOW)
    with pytest.raises(JwsUntrusted, match="not valid at the time"):
        verifier.verify(chain.sign(claims(signedDate=to_unix_ms(NOW) - 1)), now=NOW)


def test_a_payload_without_a_date_needs_a_chain_that_is_valid_now() -> None:
    chain = Chain(leaf_recipe=replace(LEAF, not_after=NOW))
    verifier, token = anchored(chain), chain.sign(claims(signedDate=...))
    verifier.verify(token, now=NOW - timedelta(seconds=1))
    with pytest.raises(JwsUntrusted, match="not valid at the time"):
        verifier.verify(token, now=NOW)


# ---- the cache -----------------------------------------------------------------------------------------------------


def test_a_chain_that_is_kept_is_still_held_to_its_dates() -> None:
    verifier = anchored(good())
    verifier.verify(signed(), now=NOW)
    assert verifier.cached_chains() == 1
    with pytest.raises(JwsUntrusted, match="not valid at the time"):
        verifier.verify(signed(signedDate=1), now=NOW)


def test_only_headers_that_the_app_store_signed_are_kept() -> None:
    """Else a stranger could fill the cache with copies of Apple's chain under headers of his own."""
    verifier, token = anchored(good()), signed()
    for number in range(3):
        forged = f"{segment(good().header(kid=str(number)))}.{token.partition('.')[2]}"
        assert verdict(verifier, forged) is JwsUntrusted
    assert verifier.cached_chains() == 0


def test_of_more_chains_than_it_may_keep_the_least_recently_used_goes() -> None:
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]), chain_cache_size=2)
    for kid in "abac":
        verifier.verify(good().sign(CLAIMS, kid=kid), now=NOW)
    assert verifier.cached_chains() == 2
    assert [kid for kid in "abc" if is_kept(verifier, good().header(kid=kid))] == ["a", "c"]


def test_a_chain_is_kept_for_its_time_and_no_longer() -> None:
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]), chain_ttl_s=900)
    verifier.verify(signed(), now=NOW)
    assert is_kept(verifier, good().header(), now=NOW + timedelta(seconds=899))
    assert not is_kept(verifier, good().header(), now=NOW + timedelta(seconds=900))


def test_a_chain_is_not_kept_beyond_the_end_of_its_certificates() -> None:
    chain = Chain(leaf_recipe=replace(LEAF, not_after=NOW + timedelta(seconds=10)))
    verifier = anchored(chain)
    verifier.verify(chain.sign(CLAIMS), now=NOW)
    assert is_kept(verifier, chain.header(), now=NOW + timedelta(seconds=9))
    assert not is_kept(verifier, chain.header(), now=NOW + timedelta(seconds=10))


def test_a_chain_that_has_expired_is_not_kept() -> None:
    chain = Chain(leaf_recipe=EXPIRED)
    verifier = anchored(chain)
    verifier.verify(chain.sign(claims(signedDate=to_unix_ms(NOW - timedelta(days=31)))), now=NOW)
    assert verifier.cached_chains() == 0


def is_kept(verifier: JwsVerifier, header: dict[str, Any], *, now: datetime = NOW) -> bool:
    return verifier._chains.get(segment(header).encode(), now_s=now.timestamp()) is not None


def test_threads_share_a_verifier() -> None:
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]), chain_cache_size=2)
    tokens = [good().sign(claims(quantity=number), kid=str(number % 5)) for number in range(20)] * 10
    with ThreadPoolExecutor(8) as pool:
        quantities = [payload.claims["quantity"] for payload in pool.map(lambda t: verifier.verify(t, now=NOW), tokens)]
    assert quantities == list(range(20)) * 10
    assert verifier.cached_chains() == 2


# ---- anchors -------------------------------------------------------------------------------------------------------


def test_one_of_several_anchors_is_enough() -> None:
    anchors = TrustAnchors.of(pins=[Chain().root_sha256, good().root_sha256], files=[foreign().root.pem])
    verifier = JwsVerifier(anchors=anchors)
    verifier.verify(signed(), now=NOW)
    verifier.verify(foreign().sign(CLAIMS), now=NOW)


def test_a_renewed_root_of_the_same_name_does_not_hide_the_older_one() -> None:
    anchors = TrustAnchors.of(files=[foreign().root.pem + good().root.pem])
    assert len(anchors.certificates) == 2
    JwsVerifier(anchors=anchors).verify(signed(), now=NOW)


def test_pins_may_be_written_as_operators_write_them() -> None:
    spelt = good().root_sha256.upper()
    colons = ":".join(spelt[index : index + 2] for index in range(0, 64, 2))
    assert TrustAnchors.of(pins=[colons]) == TrustAnchors.of(pins=[good().root_sha256])


@pytest.mark.parametrize(
    ("pins", "files", "complaint"),
    [
        ([], [], "no trust anchor"),
        (["zz"], [], "not hexadecimal"),
        (["00"], [], "not a SHA-256"),
        ([], [b""], "not a root certificate"),
        ([], [b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], "not a PEM certificate"),
        ([], [b"-----BEGIN CERTIFICATE-----"], "not a PEM certificate"),
        ([], [good().leaf.der], "no certificate authority"),
    ],
)
def test_an_anchor_that_cannot_be_one_is_refused_with_its_reason(
    pins: list[str], files: list[bytes], complaint: str
) -> None:
    with pytest.raises(TrustAnchorInvalid, match=complaint):
        TrustAnchors.of(pins=pins, files=files)


def test_a_pin_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(TrustAnchorInvalid, match="32 bytes"):
        TrustAnchors(sha256_pins=frozenset({b"short"}))


@pytest.mark.parametrize(
    "recipe",
    [
        replace(ROOT, ca=False),
        replace(ROOT, ca=None),
        replace(ROOT, path_length=0),
        replace(ROOT, key_usage="neither"),
        replace(ROOT, unknown_critical=True),
    ],
)
def test_a_root_that_may_not_issue_an_intermediate_is_no_anchor_and_a_pin_does_not_make_it_one(
    recipe: Certificate,
) -> None:
    chain = Chain(root_recipe=recipe)
    with pytest.raises(TrustAnchorInvalid, match="not a root certificate"):
        anchored(chain)
    assert verdict(pinned(chain), chain.sign(CLAIMS)) is JwsUntrusted
    assert not apple_takes(chain, chain.sign(CLAIMS))


def test_a_simulators_root_is_known_by_its_name() -> None:
    simulators = issue(replace(ROOT, name="Purser Simulator Root CA"))
    assert TrustAnchors.of(files=[good().root.der, simulators.der]).name_simulator()
    assert not TrustAnchors.of(pins=[good().root_sha256], files=[good().root.der]).name_simulator()


# ---- anything else -------------------------------------------------------------------------------------------------


@cache
def one_token() -> str:
    return signed()


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_token_in_which_a_character_is_another_is_never_taken(data: st.DataObject) -> None:
    token = one_token()
    position = data.draw(st.integers(0, len(token) - 1))
    replacement = data.draw(st.characters() | st.sampled_from("AZaz09-_.=+/"))
    mutated = token[:position] + replacement + token[position + 1 :]
    if mutated != token:
        assert verdict(anchored(good()), mutated) is not None


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_token_from_which_a_piece_is_missing_or_repeated_is_never_taken(data: st.DataObject) -> None:
    token = one_token()
    start = data.draw(st.integers(0, len(token) - 1))
    end = data.draw(st.integers(start + 1, len(token)))
    piece = token[start:end]
    mutated = token[:start] + piece * data.draw(st.sampled_from([0, 2, 3])) + token[end:]
    assert verdict(anchored(good()), mutated) is not None


@given(which=st.integers(0, 1), position=st.integers(0, 2000), bits=st.integers(1, 255))
@settings(max_examples=400, deadline=None)
def test_a_chain_in_which_a_byte_is_another_is_never_taken(which: int, position: int, bits: int) -> None:
    """Signed with the leaf's key over the damaged certificates, so that nothing but the chain can refuse it."""
    certificates = [good().leaf.der, good().intermediate.der, good().root.der]
    damaged = bytearray(certificates[which])
    damaged[position % len(damaged)] ^= bits
    certificates[which] = bytes(damaged)
    token = good().sign(CLAIMS, x5c=[base64.b64encode(each).decode() for each in certificates])
    assert verdict(anchored(good()), token) is not None
    assert verdict(pinned(good()), token) is not None


@given(position=st.integers(0, 2000), bits=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_pinned_root_in_which_a_byte_is_another_is_never_taken(position: int, bits: int) -> None:
    damaged = bytearray(good().root.der)
    damaged[position % len(damaged)] ^= bits
    token = good().sign(CLAIMS, x5c=[*good().x5c[:2], base64.b64encode(damaged).decode()])
    assert verdict(pinned(good()), token) is JwsUntrusted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    header=st.dictionaries(st.sampled_from(["alg", "x5c", "kid", "crit", "typ", "b64"]), JSON),
    payload=st.dictionaries(st.sampled_from(["signedDate", "exp", "nbf", "iat", "sub", "jti", "aud"]), JSON),
)
@settings(max_examples=300, deadline=None)
def test_no_header_and_no_payload_brings_anything_but_the_named_errors(
    header: dict[str, Any], payload: dict[str, Any]
) -> None:
    """Once with the header as it comes, once with a good one, so that the payload is reached."""
    verdict(anchored(good()), sign(good().leaf.key, header, payload))
    verdict(anchored(good()), good().sign(payload))


@given(st.text() | st.lists(st.binary(max_size=60), max_size=4).map(lambda parts: ".".join(map(segment, parts))))
@settings(max_examples=300, deadline=None)
def test_no_text_at_all_brings_anything_but_the_named_errors(text: str) -> None:
    assert verdict(anchored(good()), text) is not None
