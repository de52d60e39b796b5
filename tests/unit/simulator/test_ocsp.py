"""The OCSP responder, judged by RFC 6960's rules here, and over HTTP by Apple's verifier in its online mode."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from appstoreserverlibrary.models.Environment import Environment as AppleEnvironment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier, VerificationException, VerificationStatus
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from deploy.ports import free_port
from shared.clock import ManualClock
from shared.ids import system_ids
from simulator.app import Simulator, build, serve
from simulator.certificates import Authority, create
from simulator.faults import FaultBoard, Faults, OcspFaults
from simulator.ocsp import FRESH_FOR, OcspResponder
from tests.support.seeded import seeded_ids
from tests.support.served import served
from tests.support.shop import APP_APPLE_ID, BUNDLE_ID, GEMS, START, Shop, example_apps, example_catalog

NOW = START.replace(microsecond=0)


def responder(shop: Shop, authority: Authority, wrong: OcspFaults | None = None) -> OcspResponder:
    shop.faults.put(Faults(ocsp=wrong or OcspFaults()))
    return OcspResponder(authority, faults=shop.faults, clock=shop.clock)


def question(
    certificate: x509.Certificate, issuer: x509.Certificate, algorithm: hashes.HashAlgorithm | None = None
) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, algorithm or hashes.SHA256())
    return builder.build().public_bytes(serialization.Encoding.DER)


def about_leaf(authority: Authority) -> bytes:
    return question(authority.leaf, authority.intermediate)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()])  # noqa: S303 - RFC 6960 clients still use it
def test_each_certificate_is_good_by_the_word_of_whom_its_issuer_certified(
    shop: Shop, authority: Authority, algorithm: hashes.HashAlgorithm
) -> None:
    answers = responder(shop, authority)
    for certificate, issuer in ((authority.leaf, authority.intermediate), (authority.intermediate, authority.root)):
        said = ocsp.load_der_ocsp_response(answers.answer(question(certificate, issuer, algorithm)))
        assert said.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
        assert (said.certificate_status, said.serial_number) == (ocsp.OCSPCertStatus.GOOD, certificate.serial_number)
        assert (said.this_update_utc, said.next_update_utc) == (NOW, NOW + FRESH_FOR)
        (delegate,) = said.certificates
        delegate.verify_directly_issued_by(issuer)
        usage = delegate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(usage) == [ExtendedKeyUsageOID.OCSP_SIGNING]
        key = delegate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(said.signature, said.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


def test_on_command_a_certificate_was_revoked(shop: Shop, authority: Authority) -> None:
    said = _said(responder(shop, authority, OcspFaults(status="revoked")), about_leaf(authority))
    assert said.certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert said.revocation_time_utc is not None
    assert said.revocation_time_utc < NOW


def test_on_command_nothing_is_known_of_a_certificate(shop: Shop, authority: Authority) -> None:
    said = _said(responder(shop, authority, OcspFaults(status="unknown")), about_leaf(authority))
    assert said.certificate_status is ocsp.OCSPCertStatus.UNKNOWN


def test_a_stale_answer_is_no_longer_valid(shop: Shop, authority: Authority) -> None:
    said = _said(responder(shop, authority, OcspFaults(stale=True)), about_leaf(authority))
    assert said.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert said.next_update_utc == NOW - timedelta(hours=24)


def test_a_nonce_comes_back(shop: Shop, authority: Authority) -> None:
    builder = ocsp.OCSPRequestBuilder().add_certificate(authority.leaf, authority.intermediate, hashes.SHA256())
    asked = builder.add_extension(x509.OCSPNonce(b"n" * 16), critical=False).build()
    said = _said(responder(shop, authority), asked.public_bytes(serialization.Encoding.DER))
    assert said.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 16


def test_of_foreign_certificates_it_says_nothing(shop: Shop, authority: Authority) -> None:
    foreign = create(now=START)
    unheard_of = (
        about_leaf(foreign),
        question(authority.leaf, foreign.intermediate),
        question(authority.root, authority.root),
    )
    answers = [_said(responder(shop, authority), asked).response_status for asked in unheard_of]
    assert answers == [ocsp.OCSPResponseStatus.UNAUTHORIZED] * 3


def test_an_authority_without_a_responder_says_nothing(authority: Authority) -> None:
    before = Authority(authority.key, authority.leaf, authority.intermediate, authority.root)
    board = FaultBoard(seeded_ids(1))
    with_nobody = OcspResponder(before, faults=board, clock=ManualClock(START))
    assert _said(with_nobody, about_leaf(authority)).response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


@pytest.mark.parametrize("nonsense", [b"", b"nonsense", b"\x30\x03\x02\x01\x01"])
def test_nonsense_is_malformed(shop: Shop, authority: Authority, nonsense: bytes) -> None:
    said = _said(responder(shop, authority), nonsense)
    assert said.response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def _said(answers: OcspResponder, asked: bytes) -> ocsp.OCSPResponse:
    return ocsp.load_der_ocsp_response(answers.answer(asked))


# ---- over HTTP --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Online:
    """A store whose certificates name where it is."""

    simulator: Simulator
    url: str

    def verify(self) -> str | None:
        """Has Apple's verifier, in its online mode, check a purchase; its transaction id."""
        roots, production = [self.simulator.authority.root_der], AppleEnvironment.PRODUCTION
        apple = SignedDataVerifier(roots, True, production, BUNDLE_ID, APP_APPLE_ID)
        signed = self.simulator.store.buy(product_id=GEMS, notify=False).signed_transaction
        return apple.verify_and_decode_signed_transaction(signed).transactionId

    def refusal(self) -> VerificationStatus:
        with pytest.raises(VerificationException) as refused:
            self.verify()
        return refused.value.status


@pytest.fixture(name="online")
def a_store_that_is_online(tmp_path: Path) -> Iterator[Online]:
    port = free_port(bind="127.0.0.1", ids=system_ids())
    simulator = build(
        data_dir=tmp_path,
        apps=example_apps(),
        catalog=example_catalog(),
        webhook_url="http://127.0.0.1:9/",
        ocsp_url=f"http://127.0.0.1:{port}/ocsp",
    )
    with closing(simulator), served(serve(simulator), port=port) as url:
        yield Online(simulator, url)


def test_apples_verifier_asks_and_is_satisfied(online: Online) -> None:
    assert online.verify() is not None


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (OcspFaults(status="revoked"), VerificationStatus.VERIFICATION_FAILURE),
        (OcspFaults(status="unknown"), VerificationStatus.VERIFICATION_FAILURE),
        (OcspFaults(stale=True), VerificationStatus.VERIFICATION_FAILURE),
        (OcspFaults(http_status=503), VerificationStatus.RETRYABLE_VERIFICATION_FAILURE),
    ],
)
def test_apples_verifier_sees_each_fault(online: Online, fault: OcspFaults, status: VerificationStatus) -> None:
    online.simulator.faults.put(Faults(ocsp=fault))
    assert online.refusal() is status
    online.simulator.faults.put(Faults())
    assert online.verify() is not None


def test_a_question_may_stand_in_the_path(online: Online) -> None:
    asked = about_leaf(online.simulator.authority)
    in_path = quote(base64.b64encode(asked).decode(), safe="")
    posted = requests.post(f"{online.url}/ocsp", data=asked, timeout=5)
    got = requests.get(f"{online.url}/ocsp/{in_path}", timeout=5)
    for answer in (posted, got):
        assert answer.headers["Content-Type"] == "application/ocsp-response"
        assert ocsp.load_der_ocsp_response(answer.content).certificate_status is ocsp.OCSPCertStatus.GOOD
    broken = requests.get(f"{online.url}/ocsp/not-base64", timeout=5).content
    assert ocsp.load_der_ocsp_response(broken).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


def test_the_responder_can_be_slow(online: Online) -> None:
    online.simulator.faults.put(Faults(ocsp=OcspFaults(delay_ms=1_000)))
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{online.url}/ocsp", data=about_leaf(online.simulator.authority), timeout=0.2)
