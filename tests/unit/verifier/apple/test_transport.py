"""One request and its whole answer, against a real HTTP server that answers as told."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.clock import SystemClock
from tests.support.apple_pki import Chain
from tests.support.scripted_store import (
    BEFORE_THE_ANSWER,
    IN_A_CHUNK,
    IN_A_HEADER,
    IN_THE_BODY,
    IN_THE_LENGTH_OF_A_CHUNK,
    IN_THE_STATUS,
    Reply,
    ScriptedStore,
    chunked,
    cut,
    dripping,
    hang_up,
    says,
    serving,
    silent,
)
from verifier.apple.transport import ANSWER_BYTES_MAX, Answer, StoreUnreachable, Transport, store_session

TIMEOUT_S = 0.4
FINE = {"fine": True}


@contextmanager
def transport_of(*, read_timeout_s: float = 20) -> Iterator[Transport]:
    with store_session(connections=4) as session:
        yield Transport(session=session, connect_timeout_s=5, read_timeout_s=read_timeout_s)


def answered(*replies: Reply) -> tuple[ScriptedStore, Answer]:
    """What the last of the replies looks like, each asked for on one session."""
    store = ScriptedStore()
    store.tell("/", *replies)
    with serving(store) as url, transport_of() as transport:
        for _ in replies:
            answer = transport.exchange("GET", url + "/", headers={})
    return store, answer


def test_an_answer_is_its_status_its_headers_and_its_body() -> None:
    _, answer = answered(says(FINE, status=418, X_Kind="pot"))
    assert (answer.status, answer.headers["x-kind"], answer.body) == (418, "pot", b'{"fine": true}')


def test_an_answer_in_chunks_is_an_answer() -> None:
    assert answered(chunked(FINE))[1].body == b'{"fine": true}'


def test_a_connection_is_used_again() -> None:
    store, _ = answered(says(FINE), says(b"no", status=503), says(FINE))
    assert store.connections == 1


@pytest.mark.parametrize("reply", [cut(FINE), chunked(FINE, to_its_end=False), hang_up])
def test_what_ends_before_its_end_is_no_answer(reply: Reply) -> None:
    with pytest.raises(StoreUnreachable, match="cannot be reached"):
        answered(reply)


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (IN_THE_STATUS, b"x"),
        (IN_A_HEADER, b"x"),
        (BEFORE_THE_ANSWER, b"\r\nHTTP/1.1 100 Continue\r\n"),
        (IN_THE_BODY, b" "),
        (IN_A_CHUNK, b" "),
        (IN_THE_LENGTH_OF_A_CHUNK, b"x"),
    ],
    ids=["status", "header", "interim answers", "body", "chunk", "length of a chunk"],
)
def test_a_store_that_drips_is_left_in_time_wherever_it_does(first: bytes, drop: bytes) -> None:
    store = ScriptedStore()
    store.tell("/", dripping(store, first=first, drop=drop, every_s=TIMEOUT_S / 10))
    assert_left_in_time(store)


def test_a_store_that_says_nothing_is_left_in_time() -> None:
    store = ScriptedStore()
    store.tell("/", silent(store))
    assert_left_in_time(store)


def assert_left_in_time(store: ScriptedStore) -> None:
    clock = SystemClock()
    with serving(store) as url, transport_of(read_timeout_s=TIMEOUT_S) as transport:
        started_s = clock.monotonic()
        with pytest.raises(StoreUnreachable):
            transport.exchange("GET", url + "/", headers={})
        assert TIMEOUT_S * 0.9 <= clock.monotonic() - started_s < 5


def test_an_answer_that_is_longer_than_the_limit_is_not_read_to_its_end() -> None:
    with pytest.raises(StoreUnreachable, match="too long"):
        answered(says(b"x" * (ANSWER_BYTES_MAX + 1)))


def test_an_answer_as_long_as_the_limit_is_read() -> None:
    assert len(answered(says(b"x" * ANSWER_BYTES_MAX))[1].body) == ANSWER_BYTES_MAX


def test_a_packed_answer_is_not_asked_for_and_not_unpacked() -> None:
    """A few kilobytes could become gigabytes."""
    packed = gzip.compress(b"x" * 1000)
    store, answer = answered(says(packed, Content_Encoding="gzip"))
    assert answer.body == packed
    assert store.asked[0].headers["Accept-Encoding"] == "identity"


def test_a_redirect_is_an_answer_like_others_and_nobody_unpacks_it() -> None:
    packed = gzip.compress(b"x" * 1000)
    store, answer = answered(says(packed, status=307, Location="/elsewhere", Content_Encoding="gzip"))
    assert (answer.status, answer.body) == (307, packed)
    assert store.paths() == ["/"]


def test_a_redirect_that_is_longer_than_the_limit_is_not_read_to_its_end() -> None:
    with pytest.raises(StoreUnreachable, match="too long"):
        answered(says(b"x" * (ANSWER_BYTES_MAX + 1), status=302, Location="/"))


def test_a_redirect_to_nonsense_is_an_answer() -> None:
    assert answered(says(b"", status=302, Location="http://[::"))[1].status == 302


def test_a_server_whose_certificate_is_not_trusted_is_told_nothing() -> None:
    store = ScriptedStore()
    with (
        serving(store, tls=Chain()) as url,
        transport_of() as transport,
        pytest.raises(StoreUnreachable, match="SSLError"),
    ):
        transport.exchange("GET", url + "/", headers={})
    assert store.asked == []


def test_a_server_that_speaks_no_tls_is_unreachable_by_it() -> None:
    with (
        serving(ScriptedStore()) as url,
        transport_of() as transport,
        pytest.raises(StoreUnreachable, match="SSLError"),
    ):
        transport.exchange("GET", url.replace("http", "https"), headers={})


def test_a_silent_tls_handshake_is_left_in_time() -> None:
    import socket

    clock = SystemClock()
    with socket.create_server(("127.0.0.1", 0)) as server, store_session(connections=1) as session:
        transport = Transport(session=session, connect_timeout_s=TIMEOUT_S, read_timeout_s=TIMEOUT_S)
        started_s = clock.monotonic()
        with pytest.raises(StoreUnreachable):
            transport.exchange("GET", f"https://127.0.0.1:{server.getsockname()[1]}/", headers={})
        assert clock.monotonic() - started_s < 5


def test_the_reason_shows_nothing_of_what_was_asked() -> None:
    with serving(ScriptedStore()) as url:
        pass
    with transport_of() as transport, pytest.raises(StoreUnreachable) as caught:
        transport.exchange("GET", f"{url}/the-path", headers={"Authorization": "the-secret"}, body=b"the-body")
    assert "the-" not in str(caught.value)


def test_cookies_are_not_kept() -> None:
    store, _ = answered(says(FINE, Set_Cookie="session=1; Path=/"), says(FINE))
    assert "Cookie" not in store.asked[1].headers


def test_a_login_of_a_netrc_file_replaces_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    store = ScriptedStore()
    store.tell("/", says(FINE))
    with serving(store) as url, transport_of() as transport:
        transport.exchange("GET", url + "/", headers={"Authorization": "Bearer ours"})
    assert store.asked[0].headers["Authorization"] == "Bearer ours"


def test_through_a_proxy_an_answer_is_as_punctual(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ScriptedStore()
    store.tell("/", dripping(store, first=IN_A_HEADER, drop=b"x", every_s=TIMEOUT_S / 10))
    with serving(store) as url:
        monkeypatch.setenv("http_proxy", url)
        monkeypatch.setenv("no_proxy", "")
        clock = SystemClock()
        started_s = clock.monotonic()
        with transport_of(read_timeout_s=TIMEOUT_S) as transport, pytest.raises(StoreUnreachable):
            transport.exchange("GET", "http://store.invalid/", headers={})
        assert clock.monotonic() - started_s < 5
    assert len(store.asked) == 1
