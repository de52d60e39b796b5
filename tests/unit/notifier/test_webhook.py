"""Posting, against a real receiver on this machine."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from notifier.domain import Answer, Message
from notifier.webhook import ANSWER_BYTES_KEPT, ANSWER_BYTES_MAX, USER_AGENT, WebhookPoster
from shared.clock import SystemClock
from tests.support.receiver import Behaviour, Receiver, Reply, receiving

SECRET = "whsec_" + "QUJD" * 8
MESSAGE = Message(id="0194b8d4-0000-7000-8000-000000000001", body='{"type":"wallet.credited","data":"é"}'.encode())
TIMEOUT_S = 1.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def poster() -> Iterator[WebhookPoster]:
    made = WebhookPoster(clock=SystemClock(), connect_timeout_s=0.5, timeout_s=TIMEOUT_S)
    yield made
    made.close()


def post(poster: WebhookPoster, receiver: Receiver) -> Answer:
    return poster.post(MESSAGE, url=receiver.url, secret=SECRET)


def test_the_standards_own_library_accepts_the_signature(poster: WebhookPoster, receiver: Receiver) -> None:
    assert post(poster, receiver).status == 200
    (received,) = receiver.received
    assert received.genuine
    assert received.raw == MESSAGE.body
    assert received.headers["webhook-id"] == MESSAGE.id
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"] == USER_AGENT


def test_another_secret_is_not_accepted(poster: WebhookPoster, receiver: Receiver) -> None:
    answer = poster.post(MESSAGE, url=receiver.url, secret="whsec_" + "REVG" * 8)
    assert answer.error == "answered 400"


def test_status_body_and_retry_after_are_noted(poster: WebhookPoster, receiver: Receiver) -> None:
    receiver.reply_next(Reply(status=429, headers={"Retry-After": "90"}, body=b"slow down\x00"))
    answer = post(poster, receiver)
    assert (answer.status, answer.retry_after_s, answer.beginning) == (429, 90.0, "slow down�")
    assert answer.error == "answered 429"
    assert 0 <= answer.duration_ms < TIMEOUT_S * 1000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(poster: WebhookPoster, receiver: Receiver, status: int) -> None:
    receiver.reply_next(Reply(status=status, headers={"Location": receiver.url}))
    assert post(poster, receiver).error == f"answered {status}"
    assert len(receiver.received) == 1


def test_a_cookie_is_not_kept(poster: WebhookPoster, receiver: Receiver) -> None:
    receiver.reply_next(Reply(headers={"Set-Cookie": "a=b"}))
    post(poster, receiver)
    post(poster, receiver)
    assert "cookie" not in receiver.received[1].headers


def test_proxies_and_credentials_of_the_surroundings_play_no_part(
    poster: WebhookPoster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert post(poster, receiver).status == 200


def test_a_connection_is_used_again(poster: WebhookPoster, receiver: Receiver) -> None:
    receiver.reply_next(Reply(body=b"thank you"))
    post(poster, receiver)
    post(poster, receiver)
    first, second = receiver.received
    assert first.client == second.client


def test_a_long_answer_is_not_read_to_its_end(poster: WebhookPoster, receiver: Receiver) -> None:
    receiver.reply_next(Reply(body=b"x" * (ANSWER_BYTES_MAX + 1)))
    assert post(poster, receiver).beginning == "x" * ANSWER_BYTES_KEPT
    post(poster, receiver)
    first, second = receiver.received
    assert first.client != second.client


@pytest.mark.parametrize("behaviour", ["cut off", "stall"])
def test_a_body_that_does_not_come_to_its_end_does_not_undo_the_status(
    poster: WebhookPoster, receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.reply_next(Reply(body=b"thank", behaviour=behaviour))
    answer = post(poster, receiver)
    assert answer.error is None
    assert answer.duration_ms < TIMEOUT_S * 1000 * 3


def test_an_endpoint_that_closes_has_not_answered(poster: WebhookPoster, receiver: Receiver) -> None:
    receiver.reply_next(Reply(behaviour="close"))
    answer = post(poster, receiver)
    assert (answer.status, answer.error) == (None, "no answer: RemoteDisconnected")
    assert len(receiver.received) == 1


@pytest.mark.parametrize("behaviour", ["hang", "trickle"])
def test_an_endpoint_has_so_long_and_no_longer_even_if_it_sends_a_byte_now_and_then(
    poster: WebhookPoster, receiver: Receiver, behaviour: Behaviour
) -> None:
    receiver.reply_next(Reply(behaviour=behaviour))
    answer = post(poster, receiver)
    assert (answer.status, answer.error) == (None, "no answer within 1 s")
    assert TIMEOUT_S * 1000 * 0.9 <= answer.duration_ms < TIMEOUT_S * 1000 * 3


def test_nobody_listening_is_an_answer_too(poster: WebhookPoster) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/hooks?token=hidden"
        answer = poster.post(MESSAGE, url=url, secret=SECRET)
    assert answer.error == "no answer: ConnectionRefusedError"


@pytest.mark.parametrize("url", ["http://.example/", "http://" + "a" * 70 + ".invalid/", "https://[::1"])
def test_a_url_that_leads_nowhere_is_an_answer_too(poster: WebhookPoster, url: str) -> None:
    answer = poster.post(MESSAGE, url=url, secret=SECRET)
    assert answer.status is None
    assert answer.error


def test_a_certificate_that_nobody_known_signed_is_refused(poster: WebhookPoster, self_signed: ssl.SSLContext) -> None:
    with receiving(SECRET, tls=self_signed) as receiver:
        answer = post(poster, receiver)
        assert (answer.status, answer.error) == (None, "no answer: SSLCertVerificationError")
        assert receiver.received == []


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = SystemClock().now()
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
