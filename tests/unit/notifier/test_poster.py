"""Posting, against a real receiver on this machine."""

from __future__ import annotations

import contextlib
import errno
import gzip
import itertools
import logging
import socket
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from notifier.domain.addresses import Reach
from notifier.domain.deliveries import Answer, Message
from notifier.webhook import caller, connections
from notifier.webhook.caller import Found, LookUp, look_up
from notifier.webhook.poster import ANSWER_BYTES_KEPT, ANSWER_BYTES_MAX, USER_AGENT, WebhookPoster
from shared import trail
from shared.apps import EndpointId, WebhookEndpoint
from shared.clock import SystemClock
from shared.trail import Place, SpanId
from tests.support.authority import Authority
from tests.support.receiver import Behaviour, Receiver, Reply, receiving

SECRET = "whsec_" + "QUJD" * 8
OTHER_SECRET = "whsec_" + "REVG" * 8
MESSAGE = Message(id="0194b8d4-0000-7000-8000-000000000001", body='{"type":"wallet.credited","data":"é"}'.encode())
TIMEOUT_S = 1.0
LAPTOP = Reach.of(production=False)


def endpoint_at(url: str, *, secret: str = SECRET, previous_secret: str | None = None) -> WebhookEndpoint:
    return WebhookEndpoint(id=EndpointId("backend"), url=url, secret=secret, previous_secret=previous_secret)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def poster() -> Iterator[WebhookPoster]:
    made = WebhookPoster(clock=SystemClock(), connect_timeout_s=0.5, timeout_s=TIMEOUT_S, reach=LAPTOP)
    yield made
    made.close()


def post(poster: WebhookPoster, receiver: Receiver) -> Answer:
    return poster.post(MESSAGE, endpoint=endpoint_at(receiver.url))


class TestWhatIsPosted:
    def test_the_standards_own_library_accepts_the_signature(self, poster: WebhookPoster, receiver: Receiver) -> None:
        assert post(poster, receiver).status == 200
        (received,) = receiver.received
        assert received.genuine
        assert received.raw == MESSAGE.body
        assert received.headers["webhook-id"] == MESSAGE.id
        assert received.headers["content-type"] == "application/json"
        assert received.headers["user-agent"] == USER_AGENT

    def test_it_names_the_trace_that_its_thread_is_in_if_it_is_in_one(
        self, poster: WebhookPoster, receiver: Receiver
    ) -> None:
        with trail.at(Place("4bf92f3577b34da6a3ce929d0e0e4736", SpanId("00f067aa0ba902b7"))):
            post(poster, receiver)
        post(poster, receiver)
        named, unnamed = receiver.received
        assert named.genuine
        assert named.headers["traceparent"] == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        assert "traceparent" not in unnamed.headers

    def test_another_secret_is_not_accepted(self, poster: WebhookPoster, receiver: Receiver) -> None:
        answer = poster.post(MESSAGE, endpoint=endpoint_at(receiver.url, secret=OTHER_SECRET))
        assert answer.error == "answered 400"

    def test_while_a_secret_is_rotated_who_knows_the_old_one_accepts_the_signature_too(
        self, poster: WebhookPoster, receiver: Receiver
    ) -> None:
        both = endpoint_at(receiver.url, secret=OTHER_SECRET, previous_secret=SECRET)
        assert poster.post(MESSAGE, endpoint=both).status == 200

    def test_a_cookie_is_not_kept(self, poster: WebhookPoster, receiver: Receiver) -> None:
        receiver.reply_next(Reply(headers={"Set-Cookie": "a=b"}))
        post(poster, receiver)
        post(poster, receiver)
        assert "cookie" not in receiver.received[1].headers

    def test_proxies_of_the_surroundings_play_no_part(
        self, poster: WebhookPoster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert post(poster, receiver).status == 200

    def test_a_compressed_answer_is_not_asked_for(self, poster: WebhookPoster, receiver: Receiver) -> None:
        post(poster, receiver)
        assert receiver.received[0].headers["accept-encoding"] == "identity"


class TestTheAnswer:
    def test_status_body_and_retry_after_are_noted(self, poster: WebhookPoster, receiver: Receiver) -> None:
        receiver.reply_next(Reply(status=429, headers={"Retry-After": "90"}, body=b"slow down\x00"))
        answer = post(poster, receiver)
        assert (answer.status, answer.retry_after_s, answer.beginning) == (429, 90.0, "slow down�")
        assert answer.error == "answered 429"
        assert 0 <= answer.duration_ms < TIMEOUT_S * 1000

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, poster: WebhookPoster, receiver: Receiver, status: int) -> None:
        receiver.reply_next(Reply(status=status, headers={"Location": receiver.url}))
        assert post(poster, receiver).error == f"answered {status}"
        assert len(receiver.received) == 1

    def test_a_connection_is_used_again(self, poster: WebhookPoster, receiver: Receiver) -> None:
        receiver.reply_next(Reply(body=b"thank you" * ANSWER_BYTES_KEPT))
        post(poster, receiver)
        post(poster, receiver)
        first, second = receiver.received
        assert first.client == second.client

    def test_a_connection_that_is_used_an_hour_later_has_its_time_anew(
        self, poster: WebhookPoster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        post(poster, receiver)
        later = SimpleNamespace(monotonic=lambda: SystemClock().monotonic() + 3600)
        monkeypatch.setattr(caller, "time", later)
        monkeypatch.setattr(connections, "time", later)
        assert post(poster, receiver).status == 200
        first, second = receiver.received
        assert first.client == second.client

    def test_a_long_answer_is_not_read_to_its_end(self, poster: WebhookPoster, receiver: Receiver) -> None:
        receiver.reply_next(Reply(body=b"x" * (ANSWER_BYTES_MAX + 1)))
        assert post(poster, receiver).beginning == "x" * ANSWER_BYTES_KEPT
        post(poster, receiver)
        first, second = receiver.received
        assert first.client != second.client

    @pytest.mark.parametrize("behaviour", ["cut off", "stall"])
    def test_a_body_that_does_not_come_to_its_end_does_not_undo_the_status(
        self, poster: WebhookPoster, receiver: Receiver, behaviour: Behaviour
    ) -> None:
        receiver.reply_next(Reply(body=b"thank", behaviour=behaviour))
        answer = post(poster, receiver)
        assert answer.error is None
        assert answer.duration_ms < TIMEOUT_S * 1000 * 3


class TestNoAnswer:
    def test_an_endpoint_that_closes_has_not_answered(self, poster: WebhookPoster, receiver: Receiver) -> None:
        receiver.reply_next(Reply(behaviour="close"))
        answer = post(poster, receiver)
        assert (answer.status, answer.error) == (None, "no answer: RemoteDisconnected")
        assert len(receiver.received) == 1

    @pytest.mark.parametrize("behaviour", ["hang", "trickle"])
    def test_an_endpoint_has_so_long_and_no_longer_even_if_it_sends_a_byte_now_and_then(
        self, poster: WebhookPoster, receiver: Receiver, behaviour: Behaviour
    ) -> None:
        receiver.reply_next(Reply(behaviour=behaviour))
        answer = post(poster, receiver)
        assert (answer.status, answer.error) == (None, "no answer within 1 s")
        assert TIMEOUT_S * 1000 * 0.9 <= answer.duration_ms < TIMEOUT_S * 1000 * 3

    def test_an_endpoint_that_takes_connections_and_says_nothing_of_tls_has_so_long_as_for_connecting(
        self, poster: WebhookPoster
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            answer = poster.post(MESSAGE, endpoint=endpoint_at(f"https://127.0.0.1:{silent.getsockname()[1]}/hooks"))
        assert answer.error == "no connection within 0.5 s"
        assert answer.duration_ms < TIMEOUT_S * 1000

    def test_an_endpoint_that_does_not_read_has_so_long_and_no_longer(self, poster: WebhookPoster) -> None:
        large = Message(MESSAGE.id, b"x" * 32 * 1024 * 1024)  # more than the buffers between the two hold
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            answer = poster.post(large, endpoint=endpoint_at(f"http://127.0.0.1:{deaf.getsockname()[1]}/hooks"))
        assert (answer.status, answer.error) == (None, "no answer: TimeoutError")
        assert answer.duration_ms < TIMEOUT_S * 1000 * 3

    def test_an_endpoint_that_reads_slowly_has_so_long_and_no_longer(self, poster: WebhookPoster) -> None:
        large = Message(MESSAGE.id, b"x" * 32 * 1024 * 1024)
        with reading_slowly() as url:
            answer = poster.post(large, endpoint=endpoint_at(url))
        assert (answer.status, answer.error) == (None, "no answer: TimeoutError")
        assert answer.duration_ms < TIMEOUT_S * 1000 * 3

    def test_nobody_listening_is_an_answer_too(self, poster: WebhookPoster) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/hooks?token=hidden"
            answer = poster.post(MESSAGE, endpoint=endpoint_at(url))
        assert answer.error == "no answer: ConnectionRefusedError"

    @pytest.mark.parametrize("url", ["http://.example/", "http://" + "a" * 70 + ".invalid/", "https://[::1"])
    def test_a_url_that_leads_nowhere_is_an_answer_too(self, poster: WebhookPoster, url: str) -> None:
        answer = poster.post(MESSAGE, endpoint=endpoint_at(url))
        assert answer.status is None
        assert answer.error

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize(
        ("trouble", "error"),
        [
            (socket.gaierror(socket.EAI_NONAME, "not known"), "no answer: no address is known of the host"),
            (ConnectionResetError(errno.ECONNRESET, "reset"), "no answer: ConnectionResetError"),
            (BrokenPipeError(errno.EPIPE, "broken"), "no answer: BrokenPipeError"),
            (TimeoutError(errno.ETIMEDOUT, "timed out"), "no connection within 1 s"),
        ],
    )
    def test_what_keeps_it_from_connecting_is_said(self, scheme: str, trouble: OSError, error: str) -> None:
        def troubled(*_: object) -> list[Found]:
            raise trouble

        with posting(connect_timeout_s=1, timeout_s=1, look_up=troubled) as poster:
            assert poster.post(MESSAGE, endpoint=endpoint_at(f"{scheme}://backend.example/hooks")).error == error

    def test_what_can_be_no_name_is_said_to_have_no_address(self, poster: WebhookPoster) -> None:
        answer = poster.post(MESSAGE, endpoint=endpoint_at("http://backend..example/hooks"))
        assert answer.error == "no answer: no address is known of the host"

    def test_a_certificate_that_nobody_known_signed_is_refused(self, poster: WebhookPoster, tmp_path: Path) -> None:
        with receiving(SECRET, tls=Authority.made(tmp_path).server("localhost")) as receiver:
            answer = post(poster, receiver)
            assert (answer.status, answer.error) == (None, "no answer: SSLCertVerificationError")
            assert receiver.received == []


@contextlib.contextmanager
def posting(*, connect_timeout_s: float, timeout_s: float, look_up: LookUp = look_up) -> Iterator[WebhookPoster]:
    poster = WebhookPoster(
        clock=SystemClock(),
        connect_timeout_s=connect_timeout_s,
        timeout_s=timeout_s,
        reach=LAPTOP,
        look_up=look_up,
    )
    with contextlib.closing(poster):
        yield poster


@contextlib.contextmanager
def reading_slowly() -> Iterator[str]:
    """The URL of whoever takes a few bytes now and then, until the block ends."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def read() -> None:
            connection, _ = server.accept()
            with connection:
                while not ended.wait(0.01) and connection.recv(64 * 1024):
                    pass

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hooks"
        ended.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@contextlib.contextmanager
def saying(pieces: Iterable[bytes]) -> Iterator[str]:
    """The URL of whoever answers the first request with these bytes, until they end or nobody listens any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(PATIENCE_S)
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/hooks?token=hidden"
        thread.join(PATIENCE_S * 2)
        assert not thread.is_alive()


PATIENCE_S = 10.0
HEAD = b"HTTP/1.1 200 OK\r\n"
FOR_EVER: tuple[tuple[str, list[bytes], bytes], ...] = (
    ("a status line", [b"HTTP/1.1 200 "], b"O" * 8192),
    ("headers", [HEAD], b"X-More: and more\r\n" * 500),
    ("one header", [HEAD, b"X-Long: "], b"x" * 8192),
    ("a folded header", [HEAD, b"X-Long: "], b"\r\n x" * 2048),
    ("interim answers", [], b"HTTP/1.1 100 Continue\r\n\r\n" * 300),
    ("a body", [HEAD, b"\r\n"], b"x" * 8192),
    ("a body of a length", [HEAD, b"Content-Length: 999999999999\r\n\r\n"], b"x" * 8192),
    ("chunks", [HEAD, b"Transfer-Encoding: chunked\r\n\r\n"], b"2000\r\n" + b"x" * 8192 + b"\r\n"),
    ("small chunks", [HEAD, b"Transfer-Encoding: chunked\r\n\r\n"], b"1\r\nx\r\n" * 1000),
    ("one chunk", [HEAD, b"Transfer-Encoding: chunked\r\n\r\n", b"f" * 15 + b"\r\n"], b"x" * 8192),
    ("a chunk's length", [HEAD, b"Transfer-Encoding: chunked\r\n\r\n"], b"0" * 8192),
    ("a chunk's extension", [HEAD, b"Transfer-Encoding: chunked\r\n\r\n1;"], b"x" * 8192),
    ("trailers", [HEAD, b"Transfer-Encoding: chunked\r\n\r\n0\r\n"], b"X-More: and more\r\n" * 500),
)


class TestHostileAnswers:
    @pytest.mark.parametrize(("begun", "repeated"), [row[1:] for row in FOR_EVER], ids=[row[0] for row in FOR_EVER])
    def test_what_never_ends_is_left_long_before_its_time_is_over(self, begun: list[bytes], repeated: bytes) -> None:
        pieces = itertools.chain(begun, itertools.repeat(repeated))
        with posting(connect_timeout_s=1, timeout_s=PATIENCE_S) as poster, saying(pieces) as url:
            answer = poster.post(MESSAGE, endpoint=endpoint_at(url))
        assert answer.duration_ms < PATIENCE_S * 1000 / 2
        assert len(answer.beginning) <= ANSWER_BYTES_KEPT
        assert answer.status == (200 if b"\r\n\r\n" in b"".join(begun) else None)

    def test_ten_thousand_headers_are_no_answer(self) -> None:
        headers = b"".join(b"X-%d: x\r\n" % number for number in range(10_000))
        with posting(connect_timeout_s=1, timeout_s=PATIENCE_S) as poster, saying([HEAD, headers, b"\r\n"]) as url:
            assert poster.post(MESSAGE, endpoint=endpoint_at(url)).status is None

    def test_a_compressed_body_is_not_unpacked(self) -> None:
        bomb = gzip.compress(b"x" * 10_000_000)
        head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        with posting(connect_timeout_s=1, timeout_s=PATIENCE_S) as poster, saying([head, bomb]) as url:
            answer = poster.post(MESSAGE, endpoint=endpoint_at(url))
        assert answer.status == 200
        assert "x" * 50 not in answer.beginning
        assert len(answer.beginning) <= ANSWER_BYTES_KEPT

    @pytest.mark.parametrize(
        "said",
        [
            b"",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"\x16\x03\x01\x00\x00",
            b"HTTP/1.1 999999 No\r\n\r\n",
            b"HTTP/1.1 -1 No\r\n\r\n",
            b"HTTP/9.9 200 OK\r\n\r\n",
            HEAD + b"Content-Length: 1, 2\r\n\r\n",
            HEAD + b"Content-Length: -1\r\n\r\n",
            HEAD + b"Content-Length: \xb2\r\n\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nno\r\n",
            HEAD + b"Set-Cookie: \xff=\xfe; expires=never; max-age=x; domain=\r\n\r\n",
            HEAD + b"Content-Type: text/html; charset=no-such; boundary\r\n\r\n",
            HEAD + b"Retry-After: " + b"9" * 5000 + b"\r\n\r\n",
            HEAD + b"Location: http://[::1\r\n\r\n",
            HEAD + b" : \r\nno header\r\n\x00\r\n\r\n",
        ],
    )
    def test_nonsense_is_an_answer_or_none_and_no_error(self, said: bytes) -> None:
        with posting(connect_timeout_s=1, timeout_s=PATIENCE_S) as poster, saying([said]) as url:
            answer = poster.post(MESSAGE, endpoint=endpoint_at(url))
        assert isinstance(answer.at, datetime)
        assert answer.duration_ms < PATIENCE_S * 1000


class TestSecrets:
    """The URL's `hidden` and the signing secret stand for what is nobody's business."""

    @pytest.mark.parametrize(
        "said",
        [
            b"",
            HEAD + b"Content-Length: 0\r\n\r\n",
            HEAD + b"no header\r\nContent-Length: 0\r\n\r\n",
            HEAD + b"Content-Length: 1, 2\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        ],
    )
    def test_whatever_is_answered_the_logs_and_the_record_hold_none(
        self, said: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        with posting(connect_timeout_s=1, timeout_s=PATIENCE_S) as poster, saying([said]) as url:
            answer = poster.post(MESSAGE, endpoint=endpoint_at(url))
        written = caplog.text + "".join(capfd.readouterr()) + repr(answer)
        assert "hidden" not in written
        assert SECRET not in written

    def test_an_endpoint_is_shown_without_them(self) -> None:
        shown = repr(endpoint_at("https://backend.example/hooks?token=hidden", previous_secret=OTHER_SECRET))
        assert "backend" in shown
        assert [secret for secret in ("hidden", SECRET, OTHER_SECRET) if secret in shown] == []
