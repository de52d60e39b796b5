"""Connections to hosts whose addresses may be called, and to no others.

A name is looked up here, once for each connection; every address that it has is judged; and it is one of these very
addresses that is connected to. So a name that changes its answer changes nothing.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from urllib3.util.connection import allowed_gai_family

from notifier.domain.addresses import NEVER, IpAddress, Reach, in_words

LOOKUPS_MAX: Final = 128
"""Names that are looked up at the same time, per process: each of them may take as long as the DNS likes."""
ADDRESSES_TRIED_MAX: Final = 8
"""Of one host; all that it has are judged."""


class CallRefused(OSError):
    """It may not be called; the message says why, and quotes nothing of the URL but its host."""


class AddressRefused(CallRefused):
    """The host has an address that may not be called."""


class AddressNeverCalled(AddressRefused):
    """The host has an address that no setting allows."""


class PlainHttpRefused(CallRefused):
    """It would be called without TLS."""


class NamesUnavailable(OSError):
    """Too many names are being looked up already."""


@dataclass(frozen=True, slots=True)
class Found:
    """An address of a host, as the socket library wants it: its family, and address and port (IPv6: flow and zone)."""

    family: int
    to: tuple[Any, ...]

    @property
    def address(self) -> IpAddress:
        return ip_address(self.to[0])


LookUp = Callable[[str, int], Sequence[Found]]


def look_up(host: str, port: int) -> Sequence[Found]:
    """The host's addresses, at least one. Takes as long as the system's resolver likes. Raises OSError."""
    try:
        infos = socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)
    except UnicodeError:  # a part of it is empty, or longer than a name's parts may be
        raise socket.gaierror(socket.EAI_NONAME, "it can be no name") from None
    return [Found(family, to) for family, _, _, _, to in infos]


class Caller:
    """Opens connections to hosts whose addresses may be called. Thread-safe."""

    def __init__(self, reach: Reach, *, look_up: LookUp = look_up) -> None:
        self._reach = reach
        self._lookups = _Lookups(look_up)

    def connect(self, host: str, port: int, *, tls: bool, within_s: float) -> socket.socket:
        """A TCP connection; what it leaves of the time, the looking up included, is its time-out.

        `tls`: whether that is what will be spoken. Raises CallRefused, TimeoutError, or another OSError.
        """
        if not tls and not self._reach.plain_http:
            raise PlainHttpRefused(f"{host} would be called by plain HTTP")
        until_s = time.monotonic() + within_s
        found = self._lookups.ask(host, port, within_s=within_s)
        for each in found:
            self._check(host, each.address)
        return _connect_to_one(host, found[:ADDRESSES_TRIED_MAX], until_s=until_s)

    def _check(self, host: str, address: IpAddress) -> None:
        """One address that may not be called is enough: who gives a name such an address has no good reason for it."""
        kind = self._reach.refusal(address)
        if kind is not None:
            refused = AddressNeverCalled if kind in NEVER else AddressRefused
            raise refused(f"{host} is at {in_words(kind)}")


def _connect_to_one(host: str, found: Sequence[Found], *, until_s: float) -> socket.socket:
    """The first that takes it; each has an equal part of the time that is left then."""
    first, others = found[0], found[1:]
    try:
        connection = _connected(first, within_s=left_s(until_s) / len(found))
    except OSError:
        if not others:
            raise
    else:
        return _as_checked(host, first, connection, until_s=until_s)
    return _connect_to_one(host, others, until_s=until_s)


def _connected(found: Found, *, within_s: float) -> socket.socket:
    connection = socket.socket(found.family, socket.SOCK_STREAM)
    try:
        connection.settimeout(within_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.connect(found.to)
    except BaseException:
        connection.close()
        raise
    return connection


def _as_checked(host: str, wanted: Found, connection: socket.socket, *, until_s: float) -> socket.socket:
    """The connection, if its other end is the address that was checked."""
    try:
        if ip_address(connection.getpeername()[0]) != wanted.address:
            raise AddressRefused(f"{host} is not where it was looked for")
        connection.settimeout(left_s(until_s))
    except BaseException:
        connection.close()
        raise
    return connection


def left_s(until_s: float) -> float:
    """How long it is until then. Raises TimeoutError when it is past."""
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("it took too long")
    return left_s


class _Lookups:
    """Looks names up, each in a thread of its own, since nothing else limits how long the system's resolver takes.

    Who asks for a name that is being looked up waits for the same answer, so one that hangs keeps one thread.
    """

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, int], Future[Sequence[Found]]] = {}

    def ask(self, host: str, port: int, *, within_s: float) -> Sequence[Found]:
        """Raises TimeoutError when there is no answer in time, and what the looking up has raised."""
        return self._answer((host, port)).result(timeout=within_s)

    def _answer(self, name: tuple[str, int]) -> Future[Sequence[Found]]:
        with self._lock:
            if name in self._asked:
                return self._asked[name]
            if len(self._asked) >= LOOKUPS_MAX:
                raise NamesUnavailable("too many names are being looked up")
            answer: Future[Sequence[Found]] = Future()
            try:
                threading.Thread(target=self._ask, args=(name, answer), name="look-up", daemon=True).start()
            except RuntimeError:
                raise NamesUnavailable("there is no thread to look a name up") from None
            self._asked[name] = answer
            return answer

    def _ask(self, name: tuple[str, int], answer: Future[Sequence[Found]]) -> None:
        try:
            found = self._look_up(*name)
        except Exception as error:  # noqa: BLE001  the thread's edge: raised by each who waits for it
            self._forget(name)
            answer.set_exception(error)
        else:
            self._forget(name)
            answer.set_result(found)

    def _forget(self, name: tuple[str, int]) -> None:
        """Before the answer is told: who asks from now on is to hear of then."""
        with self._lock:
            del self._asked[name]
