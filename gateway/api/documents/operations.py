"""What operators are told, and every error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Health:
    """`ok` or `ready`."""

    status: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An error (RFC 9457). `code` is stable; `trace_id` leads to the log. Further members belong to the code."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    trace_id: str
