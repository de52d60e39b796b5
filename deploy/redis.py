"""The embedded Redis or Valkey: on disk every second, never evicting, and only for this machine.

Nothing is lost when it is: the journal in PostgreSQL hands everything over again. The append-only file spares that.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from redis import Redis, RedisError

from deploy.binaries import Binaries, Choice, find_redis
from deploy.errors import DataInvalid
from deploy.supervisor import Spec

HOST = "127.0.0.1"
PING_TIMEOUT_S = 1


def broker_url(*, port: int, password: str) -> str:
    """The URL of an embedded Redis."""
    return f"redis://:{password}@{HOST}:{port}/0"


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis whose configuration is written and whose process is not started yet."""

    binaries: Binaries
    data: Path
    port: int
    password: str = field(repr=False)

    def url(self) -> str:
        """`redis://:password@host:port/0`."""
        return broker_url(port=self.port, password=self.password)

    def spec(self, *, env: Mapping[str, str]) -> Spec:
        """How the supervisor runs it."""
        return Spec(
            name="redis",
            argv=[str(self.binaries.program), str(self.data / "redis.conf")],
            env=env,
            ready=self.ready,
            stop_signal=signal.SIGTERM,
            stop_within_s=20,
        )

    def ready(self) -> bool:
        """Whether it answers a PING; while it still reads its file it does not."""
        client = Redis(
            host=HOST,
            port=self.port,
            password=self.password,
            socket_timeout=PING_TIMEOUT_S,
            socket_connect_timeout=PING_TIMEOUT_S,
        )
        with contextlib.closing(client), contextlib.suppress(RedisError, OSError):
            return bool(client.ping())
        return False


def prepare_redis(*, data_dir: Path, choice: Choice, port: int, password: str) -> RedisServer:
    """Finds the program and writes its configuration under `data_dir`, which exists.

    Raises BinariesInvalid or DataInvalid.
    """
    binaries = find_redis(choice)
    data = data_dir / "redis"
    try:
        data.mkdir(mode=0o700, exist_ok=True)
        _write_configuration(data, port=port, password=password)
    except OSError as error:
        raise DataInvalid(f"{data} cannot be written ({error.strerror}): set PURSER_DATA_DIR") from error
    return RedisServer(binaries=binaries, data=data, port=port, password=password)


def _write_configuration(data: Path, *, port: int, password: str) -> None:
    """A file rather than arguments: those are for everybody to read in the list of processes."""
    lines = [
        f"bind {HOST}",
        f"port {port}",
        "protected-mode yes",
        f"requirepass {password}",
        f'dir "{data}"',
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",
        "daemonize no",
    ]
    descriptor = os.open(data / "redis.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
