"""A receiver that takes every webhook at once, and remembers when: the fast end of `tests.benchmarks.webhooks`.

    python -m tests.benchmarks.hearer PORT

One thread, a few lines: some 60 µs of CPU for each, so that on a machine of two cores it takes little from what it
measures. It checks no signature (tests/integration/notifier does). `GET /heard` answers `{webhook-id: UNIX seconds}` of
the first arrivals since the last time it was asked.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

ID = b"webhook-id: "


class Hearing(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, heard: dict[str, float]) -> None:
        self._heard = heard
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[: end + 2])
            whole = end + 4 + _length(head)
            if len(self._buffer) < whole:
                return
            del self._buffer[:whole]
            self._transport.write(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        if head.startswith(b"GET "):
            body = json.dumps(self._heard).encode()
            self._heard.clear()
            return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        start = head.lower().find(ID) + len(ID)
        self._heard.setdefault(head[start : head.find(b"\r", start)].decode(), time.time())  # noqa: TID251  measured
        return b"HTTP/1.1 204 No Content\r\n\r\n"


def _length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"content-length: ")
    return 0 if start < 0 else int(lowered[start + 16 : lowered.find(b"\r", start)])


async def main(port: int) -> None:
    heard: dict[str, float] = {}
    server = await asyncio.get_running_loop().create_server(lambda: Hearing(heard), "127.0.0.1", port)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
