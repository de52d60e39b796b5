"""Connecting to addresses that may be called: real sockets on this machine, and a resolver that says what it is to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from notifier.domain.addresses import Reach
from notifier.webhook.caller import LOOKUPS_MAX, AddressRefused, Caller, Found, NamesUnavailable, PlainHttpRefused
from shared.clock import SystemClock
from tests.support.stack import wait_until

LAPTOP = Reach.of(production=False)
PUBLIC = "93.184.215.14"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def was_called(listener: socket.socket) -> bool:
    """Whether anybody has connected since the last time: the kernel keeps them for whoever accepts them."""
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def found(address: str, port: int) -> Found:
    return Found(socket.AF_INET6 if ":" in address else socket.AF_INET, (address, port))


def at(*addresses: str) -> Callable[[str, int], Sequence[Found]]:
    """A resolver for which every name is at these addresses."""
    return lambda _, port: [found(address, port) for address in addresses]


def connect(to: Caller, port: int, *, host: str = "backend.example", within_s: float = 5.0) -> None:
    to.connect(host, port, tls=True, within_s=within_s).close()


class TestWhatIsConnectedTo:
    def test_an_address_that_may_be_called_is(self, listener: socket.socket) -> None:
        connect(Caller(LAPTOP, look_up=at("127.0.0.1")), port_of(listener))
        assert was_called(listener)

    def test_one_forbidden_address_is_enough_wherever_it_stands(self, listener: socket.socket) -> None:
        reach = Reach.of(production=True)
        for addresses in ((PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC), (*[PUBLIC] * 20, "127.0.0.1")):
            with pytest.raises(AddressRefused, match=r"^backend\.example is at a loopback address$"):
                connect(Caller(reach, look_up=at(*addresses)), port_of(listener))
        assert not was_called(listener)

    def test_nobody_looks_again_after_the_address_was_checked(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(*_: object) -> None:
            raise AssertionError("a second look")

        answers = [[found("127.0.0.1", port_of(listener))]]
        to = Caller(LAPTOP, look_up=lambda *_: answers.pop())
        monkeypatch.setattr(socket, "getaddrinfo", forbidden)
        monkeypatch.setattr(socket, "gethostbyname", forbidden)
        connect(to, port_of(listener))
        assert was_called(listener)

    def test_a_connection_that_ends_somewhere_else_is_closed(
        self, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Astray(socket.socket):
            def connect(self, _: Any) -> None:
                super().connect(listener.getsockname())

        monkeypatch.setattr(socket, "socket", Astray)
        with pytest.raises(AddressRefused, match="is not where it was looked for"):
            connect(Caller(LAPTOP, look_up=at(PUBLIC)), port_of(listener))

    def test_plain_http_is_refused_before_anybody_is_asked(self) -> None:
        def asked(*_: object) -> Sequence[Found]:
            raise AssertionError("asked")

        with pytest.raises(PlainHttpRefused, match="plain HTTP"):
            Caller(Reach.of(production=True), look_up=asked).connect("backend.example", 80, tls=False, within_s=1)

    def test_the_next_address_is_tried_when_one_does_not_take_it(self, listener: socket.socket) -> None:
        closed = found("127.0.0.1", 1)
        to = Caller(LAPTOP, look_up=lambda *_: [closed, closed, found("127.0.0.1", port_of(listener))])
        connect(to, port_of(listener))
        assert was_called(listener)

    def test_an_address_that_does_not_answer_leaves_time_for_the_next(self, listener: socket.socket) -> None:
        with swallowing() as silent:
            to = Caller(LAPTOP, look_up=lambda *_: [silent, found("127.0.0.1", port_of(listener))])
            connect(to, port_of(listener), within_s=1.0)
        assert was_called(listener)

    def test_addresses_that_do_not_answer_take_no_longer_than_one(self) -> None:
        clock = SystemClock()
        with swallowing() as silent:
            started_s = clock.monotonic()
            with pytest.raises(TimeoutError):
                connect(Caller(LAPTOP, look_up=lambda *_: [silent] * 200), 1, within_s=0.5)
        assert clock.monotonic() - started_s < 1.5

    def test_however_many_addresses_a_host_has_a_few_are_tried(self) -> None:
        closed = found("127.0.0.1", 1)
        with pytest.raises(ConnectionRefusedError):
            connect(Caller(LAPTOP, look_up=lambda *_: [closed] * 5000), 1)

    def test_what_is_left_of_all_the_time_is_the_connections_own(self, listener: socket.socket) -> None:
        with Caller(LAPTOP, look_up=at("127.0.0.1", "127.0.0.1")).connect(
            "backend.example", port_of(listener), tls=True, within_s=60.0
        ) as connection:
            assert 40.0 < (connection.gettimeout() or 0) < 60.0

    @pytest.mark.parametrize("host", [".example", "a..example", "a" * 64 + ".example"])
    def test_what_can_be_no_name_has_no_address(self, host: str) -> None:
        with pytest.raises(socket.gaierror):
            connect(Caller(Reach.of(production=True)), 443, host=host)


@contextlib.contextmanager
def swallowing() -> Iterator[Found]:
    """An address that takes no connection and refuses none: its queue is full."""
    with contextlib.ExitStack() as held:
        full = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield found("127.0.0.1", port_of(full))


class Hanging:
    """A resolver that does not answer for some hosts until it is told to."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answers = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[Found]:
        self.asked.append(host)
        if host.startswith("hangs"):
            self.answers.wait(30)
        return [found("127.0.0.1", self._port)]


class TestLookingUp:
    @pytest.fixture
    def hanging(self, listener: socket.socket) -> Iterator[Hanging]:
        resolver = Hanging(port_of(listener))
        yield resolver
        resolver.answers.set()

    def test_a_name_that_hangs_takes_no_longer_than_it_may(self, hanging: Hanging) -> None:
        clock = SystemClock()
        started_s = clock.monotonic()
        with pytest.raises(TimeoutError):
            connect(Caller(LAPTOP, look_up=hanging), 443, host="hangs.example", within_s=0.2)
        assert clock.monotonic() - started_s < 2

    def test_a_name_that_hangs_keeps_nobody_else_waiting_and_one_thread(self, hanging: Hanging) -> None:
        to = Caller(LAPTOP, look_up=hanging)
        for _ in range(20):
            with pytest.raises(TimeoutError):
                connect(to, 443, host="hangs.example", within_s=0.01)
            connect(to, 443, host="other.example")
        assert hanging.asked.count("hangs.example") == 1
        assert hanging.asked.count("other.example") == 20

    def test_those_who_ask_for_the_same_name_at_once_hear_the_same(self, hanging: Hanging) -> None:
        to = Caller(LAPTOP, look_up=hanging)
        with ThreadPoolExecutor(8) as threads:
            calls = [threads.submit(connect, to, 443, host="hangs.example") for _ in range(8)]
            wait_until(lambda: hanging.asked == ["hangs.example"], within_s=5, what="the name is asked for")
            hanging.answers.set()
            assert [call.result() for call in calls] == [None] * 8

    def test_who_asks_after_the_answer_asks_anew(self, hanging: Hanging) -> None:
        to = Caller(LAPTOP, look_up=hanging)
        connect(to, 443)
        connect(to, 443)
        assert hanging.asked == ["backend.example"] * 2

    def test_no_more_names_are_looked_up_at_once_than_there_may_be(self, hanging: Hanging) -> None:
        to = Caller(LAPTOP, look_up=hanging)
        for number in range(LOOKUPS_MAX):
            with pytest.raises(TimeoutError):
                connect(to, 443, host=f"hangs{number}.example", within_s=0.001)
        with pytest.raises(NamesUnavailable):
            connect(to, 443, host="another.example")
        hanging.answers.set()
        wait_until(lambda: _connects(to), within_s=5, what="another name can be looked up")

    def test_where_the_system_has_no_more_threads_no_name_is_looked_up_for_now(
        self, monkeypatch: pytest.MonkeyPatch, listener: socket.socket
    ) -> None:
        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        to = Caller(LAPTOP, look_up=at("127.0.0.1"))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(NamesUnavailable):
                connect(to, port_of(listener))
        connect(to, port_of(listener))

    def test_what_a_look_up_raises_reaches_who_asked_and_who_asks_next_asks_anew(self, listener: socket.socket) -> None:
        troubles = [socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")]

        def mended(_: str, port: int) -> Sequence[Found]:
            if troubles:
                raise troubles.pop()
            return [found("127.0.0.1", port)]

        to = Caller(LAPTOP, look_up=mended)
        with pytest.raises(socket.gaierror, match="Temporary failure"):
            connect(to, port_of(listener))
        connect(to, port_of(listener))
        assert was_called(listener)


def _connects(to: Caller) -> bool:
    try:
        connect(to, 443, host="another.example")
    except NamesUnavailable:
        return False
    return True
