"""Ports: free ones for what nobody has to know the port of, and one clear sentence for a fixed one that is taken."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import PortUnavailable, StackInvalid
from shared.ids import IdSource

FREE_PORT_RANGE = (20_000, 32_000)
"""Below the ports that Linux (32768 on) and macOS (49152 on) give to outgoing connections, which come and go."""
FREE_PORT_ATTEMPTS = 200
LISTENING = "0A"  # TCP_LISTEN in /proc/net/tcp


@dataclass(frozen=True, slots=True)
class FixedPort:
    """A port that people know: what listens there, and what to do to move it (`set PURSER_… to another port`)."""

    port: int
    purpose: str
    remedy: str


def is_free(*, bind: str, port: int) -> bool:
    """Whether something could listen on that address now. Raises StackInvalid for an address this machine lacks."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as attempt:
        # connections of the last run that are still closing are no obstacle; a listener is
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((bind, port))
        except OSError as error:
            if error.errno in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT} or isinstance(error, socket.gaierror):
                raise StackInvalid(f"{bind} is no address of this machine; change PURSER_BIND") from error
            return False
    return True


def free_port(*, bind: str, ids: IdSource, besides: Container[int] = ()) -> int:
    """A port nobody listens on, and none of `besides`, which were given away but are not in use yet."""
    for _ in range(FREE_PORT_ATTEMPTS):
        port = int(ids.uniform(*FREE_PORT_RANGE))
        if port not in besides and is_free(bind=bind, port=port):
            return port
    low, high = FREE_PORT_RANGE
    raise PortUnavailable(f"No free port was found between {low} and {high} in {FREE_PORT_ATTEMPTS} tries")


def require_free(ports: Iterable[FixedPort], *, bind: str) -> None:
    """Raises PortUnavailable with one sentence for the first port that is taken or wanted twice."""
    wanted: dict[int, FixedPort] = {}
    for fixed in ports:
        other = wanted.setdefault(fixed.port, fixed)
        if other is not fixed:
            raise PortUnavailable(
                f"Port {fixed.port} is wanted by both {other.purpose} and {fixed.purpose}: {fixed.remedy}"
            )
        if not is_free(bind=bind, port=fixed.port):
            holder = holder_of(fixed.port)
            held_by = f" (by {holder})" if holder else ""
            raise PortUnavailable(
                f"Port {fixed.port}, for {fixed.purpose}, is taken{held_by}: stop what holds it, or {fixed.remedy}"
            )


def holder_of(port: int) -> str | None:
    """`name, process 123` of who listens there, as far as /proc tells and we may see; None otherwise."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended in the meantime, or not ours to look at
            if any(os.readlink(descriptor) in inodes for descriptor in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()}, process {process.name}"
    return None


def _listening_inodes(port: int) -> set[str]:
    """The sockets that listen on the port, as /proc/<pid>/fd links name them."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with contextlib.suppress(OSError):
            for row in table.read_text().splitlines()[1:]:
                columns = row.split()  # proc(5): 1 = local address:port in hexadecimal, 3 = state, 9 = inode
                if columns[3] == LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{columns[9]}]")
    return inodes
