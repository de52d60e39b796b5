"""What an answer about a certificate's revocation is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.apple_pki import LEAF, OCSP_RESPONDER, ROOT, Certificate, Chain, Issued, certify, issue, ocsp_answer
from verifier.domain.ocsp import (
    RESPONDERS_MAX,
    SKEW,
    NoAnswer,
    NotRevoked,
    OcspAnswer,
    Revoked,
    build_question,
    read_answer,
    responder_urls,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MADE, NEXT = NOW - timedelta(hours=1), NOW + timedelta(hours=11)
BY_NAME = ocsp.OCSPResponderEncoding.NAME


@cache
def chain() -> Chain:
    return Chain()


@cache
def stranger() -> Chain:
    """The same names, other keys."""
    return Chain()


@cache
def appointed(
    recipe: Certificate = OCSP_RESPONDER, *, by: Callable[[], Issued] = lambda: chain().intermediate
) -> Issued:
    return issue(recipe, issuer=by())


def answer(about: Issued | None = None, **changes: Any) -> bytes:
    """A good answer about the leaf by the intermediate, changed."""
    given = {"issuer": chain().intermediate, "this_update": MADE, "next_update": NEXT, **changes}
    return ocsp_answer(about or chain().leaf, **given)


def delegated(recipe: Certificate = OCSP_RESPONDER, **changes: Any) -> bytes:
    """The same by an appointed responder whose certificate comes along."""
    responder = appointed(recipe)
    return answer(responder=responder, enclosed=[responder], **changes)


def read(body: bytes, *, now: datetime = NOW) -> OcspAnswer:
    return read_answer(body, certificate=chain().leaf.certificate, issuer=chain().intermediate.certificate, now=now)


# ---- answers that count --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(answer, id="the issuer's, named by its key"),
        pytest.param(lambda: answer(named_by=BY_NAME), id="the issuer's, named by its name"),
        pytest.param(lambda: answer(signed_with=hashes.SHA384()), id="over SHA-384"),
        pytest.param(lambda: answer(asked_with=hashes.SHA1()), id="about it by SHA-1"),  # noqa: S303
        pytest.param(lambda: answer(enclosed=[chain().intermediate]), id="the issuer's, its certificate enclosed"),
        pytest.param(lambda: answer(unknown=(b"", False)), id="with an extension that nobody has to know"),
        pytest.param(delegated, id="an appointed responder's"),
        pytest.param(lambda: delegated(named_by=BY_NAME), id="an appointed responder's, named by its name"),
        pytest.param(lambda: delegated(replace(OCSP_RESPONDER, key_usage=None)), id="of an unlimited key"),
        pytest.param(lambda: delegated(replace(OCSP_RESPONDER, key="p384")), id="of a key on P-384"),
        pytest.param(lambda: answer(this_update=NOW + SKEW), id="from a clock that is a minute ahead"),
        pytest.param(lambda: answer(next_update=NOW - SKEW + timedelta(seconds=1)), id="hardly fresh"),
    ],
)
def test_an_answer_by_issuer_or_appointed_responder_confirms_the_certificate(body: Callable[[], bytes]) -> None:
    assert isinstance(read(body()), NotRevoked)


def test_an_answer_is_good_until_its_next_update_and_the_skew_of_clocks() -> None:
    assert read(answer()) == NotRevoked(until=NEXT + SKEW)


def test_a_revoked_certificate_is_reported_with_its_time() -> None:
    assert read(answer(status=ocsp.OCSPCertStatus.REVOKED)) == Revoked(at=MADE)
    assert read(delegated(status=ocsp.OCSPCertStatus.REVOKED)) == Revoked(at=MADE)


def test_the_intermediate_is_answered_for_by_the_root() -> None:
    body = answer(chain().intermediate, issuer=chain().root)
    found = read_answer(body, certificate=chain().intermediate.certificate, issuer=chain().root.certificate, now=NOW)
    assert isinstance(found, NotRevoked)


# ---- answers that do not -------------------------------------------------------------------------------------------

NOBODY, OTHER = "nobody who is entitled", "not about what was asked"
REVOKED = ocsp.OCSPCertStatus.REVOKED


def refusal(status: ocsp.OCSPResponseStatus) -> bytes:
    return ocsp.OCSPResponseBuilder.build_unsuccessful(status).public_bytes(serialization.Encoding.DER)


def garbled(body: bytes) -> bytes:
    """With no certificates enclosed, an answer ends with its signature."""
    return body[:-1] + bytes([body[-1] ^ 1])


def own_sibling() -> Issued:
    """Another leaf of the same intermediate: another serial number."""
    return issue(LEAF, issuer=chain().intermediate)


def of_another_issuers_name() -> Issued:
    """The leaf, of the same serial number and by the same key, but for what its issuer is called."""
    said = chain().leaf.certificate.tbs_certificate_bytes.replace(b"Test Worldwide", b"Best Worldwide")
    der = certify(said, issuer=chain().intermediate)
    return Issued(chain().leaf.key, x509.load_der_x509_certificate(der))


def by_the_leaf() -> Issued:
    return appointed(by=lambda: chain().leaf)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        # what is not an answer
        pytest.param(lambda: b"", "cannot be read", id="empty"),
        pytest.param(lambda: b"<html>", "cannot be read", id="a web page"),
        pytest.param(lambda: answer()[:-1], "cannot be read", id="cut"),
        pytest.param(lambda: answer() + b"\0", "cannot be read", id="a byte more"),
        pytest.param(lambda: chain().leaf.der, "cannot be read", id="a certificate"),
        *(
            pytest.param(lambda status=status: refusal(status), status.name, id=status.name)
            for status in ocsp.OCSPResponseStatus
            if status is not ocsp.OCSPResponseStatus.SUCCESSFUL
        ),
        pytest.param(lambda: answer(unknown=(b"", True)), "critical extension", id="a critical extension"),
        # who says so
        pytest.param(lambda: garbled(answer()), NOBODY, id="a bit turned in the signature"),
        pytest.param(
            lambda: answer(responder=stranger().intermediate, named_by=BY_NAME), NOBODY, id="another of the same name"
        ),
        pytest.param(lambda: answer(signed_with=hashes.SHA224()), NOBODY, id="over SHA-224"),
        pytest.param(lambda: answer(responder=stranger().intermediate), NOBODY, id="a stranger"),
        pytest.param(lambda: answer(responder=appointed()), NOBODY, id="a responder whose certificate is not there"),
        pytest.param(lambda: answer(responder=appointed(), enclosed=[chain().root]), NOBODY, id="another's there"),
        pytest.param(
            lambda: answer(responder=appointed(), enclosed=[*[chain().root] * RESPONDERS_MAX, appointed()]),
            NOBODY,
            id="the responder's certificate after too many others",
        ),
        pytest.param(
            lambda: answer(responder=(own := issue(OCSP_RESPONDER, issuer=stranger().intermediate)), enclosed=[own]),
            NOBODY,
            id="a responder that a stranger appointed",
        ),
        pytest.param(
            lambda: answer(responder=(own := issue(OCSP_RESPONDER, issuer=chain().root)), enclosed=[own]),
            NOBODY,
            id="a responder of another authority of the chain",
        ),
        pytest.param(
            lambda: answer(responder=by_the_leaf(), enclosed=[by_the_leaf(), chain().leaf]),
            NOBODY,
            id="a responder that the certificate itself appointed",
        ),
        pytest.param(
            lambda: answer(responder=chain().leaf, enclosed=[chain().leaf]), NOBODY, id="the certificate for itself"
        ),
        pytest.param(lambda: delegated(replace(OCSP_RESPONDER, extensions=())), NOBODY, id="appointed for nothing"),
        pytest.param(
            lambda: delegated(
                replace(
                    OCSP_RESPONDER,
                    extensions=((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False),),
                )
            ),
            NOBODY,
            id="appointed for anything",
        ),
        pytest.param(
            lambda: delegated(replace(OCSP_RESPONDER, key_usage="sign_certificates")), NOBODY, id="may not sign data"
        ),
        pytest.param(
            lambda: delegated(replace(OCSP_RESPONDER, unknown_critical=True)), NOBODY, id="not understood wholly"
        ),
        pytest.param(lambda: delegated(replace(OCSP_RESPONDER, not_after=NOW)), NOBODY, id="expired"),
        pytest.param(
            lambda: delegated(replace(OCSP_RESPONDER, not_before=NOW + timedelta(seconds=1))),
            NOBODY,
            id="not yet valid",
        ),
        pytest.param(
            lambda: delegated(replace(OCSP_RESPONDER, hash=hashes.SHA224)), NOBODY, id="appointed over SHA-224"
        ),
        pytest.param(lambda: delegated(replace(OCSP_RESPONDER, key="rsa")), NOBODY, id="a responder with an RSA key"),
        # about what
        pytest.param(lambda: answer(own_sibling()), OTHER, id="another serial number"),
        pytest.param(
            lambda: answer(chain().leaf, issuer=stranger().intermediate, responder=chain().intermediate),
            OTHER,
            id="another issuer's key",
        ),
        pytest.param(lambda: answer(of_another_issuers_name()), OTHER, id="another issuer's name"),
        # when
        pytest.param(lambda: answer(this_update=NOW + SKEW + timedelta(seconds=1)), "of the future", id="future"),
        pytest.param(lambda: answer(next_update=NOW - SKEW), "stale", id="stale"),
        pytest.param(lambda: answer(next_update=NOW - SKEW, status=REVOKED), "stale", id="stale, revoked"),
        pytest.param(lambda: answer(next_update=None), "does not say how long", id="without an end"),
        # what
        pytest.param(
            lambda: answer(status=ocsp.OCSPCertStatus.UNKNOWN), "does not know", id="the certificate is unknown"
        ),
    ],
)
def test_an_answer_that_does_not_count_is_as_good_as_none(body: Callable[[], bytes], why: str) -> None:
    found = read(body())
    assert isinstance(found, NoAnswer)
    assert why in found.why


def test_an_issuer_whose_key_is_not_ecdsa_confirms_nothing() -> None:
    """The App Store's authorities are on elliptic curves, all of them."""
    rsa_root = issue(replace(ROOT, key="rsa"))
    certificate = issue(LEAF, issuer=rsa_root)
    body = ocsp_answer(certificate, issuer=rsa_root, this_update=MADE, next_update=NEXT)
    found = read_answer(body, certificate=certificate.certificate, issuer=rsa_root.certificate, now=NOW)
    assert isinstance(found, NoAnswer)


@cache
def one_answer(*, by_appointed: bool) -> bytes:
    return delegated() if by_appointed else answer()


@given(by_appointed=st.booleans(), position=st.integers(0, 10_000), bits=st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_an_answer_in_which_a_byte_is_another_never_says_anything_else(
    by_appointed: bool, position: int, bits: int
) -> None:
    """It says nothing; or the same, where the byte is one that nobody reads (in a certificate of the responder's)."""
    body = bytearray(one_answer(by_appointed=by_appointed))
    body[position % len(body)] ^= bits
    assert isinstance(read(bytes(body)), NoAnswer) or read(bytes(body)) == NotRevoked(until=NEXT + SKEW)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_raise_anything(body: bytes) -> None:
    assert isinstance(read(body), NoAnswer)


# ---- questions -----------------------------------------------------------------------------------------------------


def test_a_question_names_the_certificate_by_sha256_and_nothing_else() -> None:
    question = ocsp.load_der_ocsp_request(
        build_question(chain().leaf.certificate, issuer=chain().intermediate.certificate)
    )
    assert question.serial_number == chain().leaf.certificate.serial_number
    assert isinstance(question.hash_algorithm, hashes.SHA256)
    assert len(question.extensions) == 0


def with_access(*access: x509.AccessDescription) -> x509.Certificate:
    return issue(replace(LEAF, extensions=((x509.AuthorityInformationAccess(access), False),))).certificate


def described(location: x509.GeneralName, method: x509.ObjectIdentifier) -> x509.AccessDescription:
    return x509.AccessDescription(method, location)


def test_the_certificate_says_whom_to_ask() -> None:
    certificate = with_access(
        described(
            x509.UniformResourceIdentifier("http://a.example/issuer.der"), AuthorityInformationAccessOID.CA_ISSUERS
        ),
        described(x509.DNSName("b.example"), AuthorityInformationAccessOID.OCSP),
        described(x509.UniformResourceIdentifier("ldap://c.example/"), AuthorityInformationAccessOID.OCSP),
        described(x509.UniformResourceIdentifier("file:///etc/passwd"), AuthorityInformationAccessOID.OCSP),
        described(x509.UniformResourceIdentifier("http://d.example/ocsp"), AuthorityInformationAccessOID.OCSP),
        described(x509.UniformResourceIdentifier("https://e.example/ocsp"), AuthorityInformationAccessOID.OCSP),
    )
    assert responder_urls(certificate) == ("http://d.example/ocsp", "https://e.example/ocsp")


def test_a_certificate_that_does_not_say_whom_to_ask_names_nobody() -> None:
    assert responder_urls(chain().leaf.certificate) == ()
