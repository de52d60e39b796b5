"""The roads between the processes, in a process of its own: `python -m tests.proof.proxy ROADS`.

ROADS is JSON, `{name: [host, port]}`: for each a listening port is made, through which the other end is reached. The
ports are said on standard output, as one line `{name: port}`; then each line of standard input puts some roads into a
condition, `{"roads": [name], "condition": "open"}`, and is answered `ok`. It ends when its input does.

The conditions: `open`; `cut`, each connection is reset, and each new one at once; `blackhole`, no byte moves and
nothing is closed, as when a cable is pulled; `slow`, each byte comes SLOW_S later. What was held goes on when the road
is open.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from collections import deque
from collections.abc import Mapping
from typing import Final, Literal

Condition = Literal["open", "cut", "blackhole", "slow"]

SLOW_S: Final = 0.15
BACKLOG: Final = 1024
RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing resets (socket(7))."""


class Road:
    """One listening port, and the connections that have come through it."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.condition: Condition = "open"
        self.ends: set[End] = set()
        self.connecting: set[asyncio.Task[None]] = set()
        self._passable = asyncio.Event()
        self._passable.set()

    def put(self, condition: Condition) -> None:
        """From now on."""
        self.condition = condition
        for end in list(self.ends):
            end.reset() if condition == "cut" else end.heed(condition)
        if condition == "blackhole":
            self._passable.clear()
        else:
            self._passable.set()

    async def passable(self) -> None:
        """Waits while nothing passes."""
        await self._passable.wait()


class End(asyncio.Protocol):
    """One of the two connections of a pair. What comes in here goes out at the other."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.other: End | None = None
        self._transport: asyncio.Transport | None = None
        self._late: deque[tuple[float, bytes | None]] = deque()  # None: the end of it
        self._full = False

    def heed(self, condition: Condition) -> None:
        """Reads, or does not: nobody to give it to yet, nothing moves, or the other has enough."""
        if self._transport is None or self._transport.is_closing():
            return
        if condition == "blackhole" or self.other is None or self.other._full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def reset(self) -> None:
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()

    def send(self, data: bytes | None) -> None:
        """At once, or late; in order in any case."""
        loop = asyncio.get_running_loop()
        late_s = SLOW_S if self.road.condition == "slow" else 0.0
        if not late_s and not self._late:
            self._write(data)
            return
        due_at = max(loop.time() + late_s, self._late[-1][0] if self._late else 0.0)
        self._late.append((due_at, data))
        loop.call_at(due_at, self._send_late)

    def _send_late(self) -> None:
        self._write(self._late.popleft()[1])

    def _write(self, data: bytes | None) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if data is None:
            self._transport.close()
        else:
            self._transport.write(data)

    # ---- what asyncio calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.road.ends.add(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.send(data)

    def eof_received(self) -> bool:
        return False  # nobody here talks after the other has hung up: it is closed, and so is the other

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.road.ends.discard(self)
        if self.other is None:
            return
        if self.road.condition == "cut" or exc is not None:
            self.other.reset()
        else:
            self.other.send(None)

    def pause_writing(self) -> None:
        self._full = True
        if self.other is not None:
            self.other.heed(self.road.condition)

    def resume_writing(self) -> None:
        self._full = False
        if self.other is not None:
            self.other.heed(self.road.condition)


class Caller(End):
    """The end of whoever called. The other one is connected to for it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.road.condition == "cut":
            self.reset()
            return
        self.heed(self.road.condition)
        task = asyncio.get_running_loop().create_task(self._connect())
        self.road.connecting.add(task)
        task.add_done_callback(self.road.connecting.discard)

    async def _connect(self) -> None:
        await self.road.passable()
        try:
            _, called = await asyncio.get_running_loop().create_connection(lambda: End(self.road), *self.road.upstream)
        except OSError:
            self.reset()  # refused there, so refused here
            return
        self.other, called.other = called, self
        if self not in self.road.ends:  # it has gone meanwhile
            called.send(None)
        self.heed(self.road.condition)
        called.heed(self.road.condition)


async def serve(roads: Mapping[str, tuple[str, int]]) -> None:
    """Until the end of standard input."""
    made = {name: Road(*upstream) for name, upstream in roads.items()}
    loop = asyncio.get_running_loop()
    ports = {}
    for name, road in made.items():
        server = await loop.create_server(lambda road=road: Caller(road), "127.0.0.1", 0, backlog=BACKLOG)  # type: ignore[misc]
        ports[name] = server.sockets[0].getsockname()[1]
    _say(json.dumps(ports))
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        command = json.loads(line)
        for name in command["roads"]:
            made[name].put(command["condition"])
        _say("ok")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
