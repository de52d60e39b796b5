"""A small HTTP load generator: keep-alive connections in one thread, requests rendered beforehand.

It costs some 50 µs of CPU a request, so that on a machine of two cores it takes little from what it measures. Closed
loop by default (a connection sends its next request when it has its answer); with `rate` the requests are due at fixed
times, and a latency counts from when its request was due, so that a server that stalls cannot hide it (coordinated
omission).
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_RECEIVE_BYTES = 65536


@dataclass(slots=True)
class Measured:
    """What a run came to. Latencies in seconds, in the order of the answers."""

    seconds: float
    latencies_s: list[float]
    statuses: Counter[int]

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    due_at: float = 0.0
    received: bytearray = field(default_factory=bytearray)


def render(*, host: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def run(
    *, address: tuple[str, int], requests: Sequence[bytes], connections: int, rate: float | None = None
) -> Measured:
    """Sends every request once. Raises ConnectionError when the server closes a connection, TimeoutError after a
    minute without any answer."""
    generator = _Generator(address, requests, rate)
    return generator.run(connections)


class _Generator:
    def __init__(self, address: tuple[str, int], requests: Sequence[bytes], rate: float | None) -> None:
        self._address = address
        self._requests = iter(requests)
        self._total = len(requests)
        self._interval_s = None if rate is None else 1 / rate
        self._latencies: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._selector = selectors.DefaultSelector()
        self._idle: deque[_Connection] = deque()

    def run(self, connections: int) -> Measured:
        opened = [_Connection(socket.create_connection(self._address, timeout=60)) for _ in range(connections)]
        for connection in opened:
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._idle.extend(opened)
        started = time.perf_counter()
        due = self._due_times(started)
        next_due = next(due, None)
        while len(self._latencies) < self._total:
            now = time.perf_counter()
            while self._idle and next_due is not None and next_due <= now:
                self._send(self._idle.popleft(), next_due if self._interval_s else now)
                next_due = next(due, None)
            wait_s = 60.0 if next_due is None or not self._idle else max(0.0, next_due - time.perf_counter())
            self._receive(wait_s)
        seconds = time.perf_counter() - started
        for connection in opened:
            connection.socket.close()
        self._selector.close()
        return Measured(seconds, self._latencies, self._statuses)

    def _due_times(self, started: float) -> Iterator[float]:
        for number in range(self._total):
            yield started + number * (self._interval_s or 0.0)

    def _send(self, connection: _Connection, due_at: float) -> None:
        connection.due_at = due_at
        connection.socket.sendall(next(self._requests))

    def _receive(self, wait_s: float) -> None:
        ready = self._selector.select(wait_s)
        if not ready and wait_s >= 60:
            raise TimeoutError("no answer for a minute")
        for key, _ in ready:
            connection: _Connection = key.data
            chunk = connection.socket.recv(_RECEIVE_BYTES)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            connection.received += chunk
            if _complete(connection.received):
                self._latencies.append(time.perf_counter() - connection.due_at)
                self._statuses[int(connection.received[9:12])] += 1
                connection.received.clear()
                self._idle.append(connection)


def _complete(received: bytearray) -> bool:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(received[:end]).lower()
    at = head.find(b"content-length:")
    length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
    return len(received) >= end + 4 + length
