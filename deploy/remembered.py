"""What the embedded stack remembers from one start to the next: its ports and its secrets, in one file of mode 0600."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from deploy.errors import DataInvalid
from shared.ids import IdSource

FILE_NAME = "embedded.json"


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """The ports change when somebody else took one; the secrets never do."""

    postgres_port: int
    redis_port: int
    postgres_password: str
    redis_password: str
    service_token: str
    flower_password: str

    def with_port(self, name: str, port: int) -> Remembered:
        """The same with another port: `postgres_port` or `redis_port`."""
        return msgspec.structs.replace(self, **{name: port})

    def __repr__(self) -> str:
        return f"Remembered(postgres_port={self.postgres_port}, redis_port={self.redis_port}, secrets not shown)"


def recall(data_dir: Path) -> Remembered | None:
    """What an earlier start wrote; None when there was none. Raises DataInvalid for a file that cannot be used."""
    path = data_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Remembered)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataInvalid(
            f"{path} cannot be read ({error.strerror}): set PURSER_DATA_DIR to a directory of yours"
        ) from error
    except msgspec.DecodeError as error:
        raise DataInvalid(f"{path} is damaged ({error}): restore it from a copy, or move the directory away") from error


def invent(*, ids: IdSource, free_port: Callable[[], int]) -> Remembered:
    """Fresh ports and secrets (122 random bits each)."""
    return Remembered(
        postgres_port=free_port(),
        redis_port=free_port(),
        postgres_password=ids.uuid().hex,
        redis_password=ids.uuid().hex,
        service_token=ids.uuid().hex,
        flower_password=ids.uuid().hex[:16],
    )


def remember(data_dir: Path, remembered: Remembered) -> None:
    """Writes it in one step, readable by its owner alone."""
    path = data_dir / FILE_NAME
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(remembered), indent=2) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
