"""What the supervisor tells of its processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """A process was started, for the first time or again."""

    name: str
    pid: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A process answers."""

    name: str
    after_s: float
    restarts: int


@dataclass(frozen=True, slots=True)
class Died:
    """A process ended although nobody asked it to. `again_in_s` is None when it is not started again."""

    name: str
    reason: str
    last_lines: tuple[str, ...]
    again_in_s: float | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """A process ended because it was asked to; `forced` when it had to be killed."""

    name: str
    forced: bool


Event = Started | Ready | Died | Stopped
