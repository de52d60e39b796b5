"""What a check found, in words for the person who has to do something about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "warning", "failed", "unchecked"]

MARKS: Mapping[Outcome, str] = {"ok": "✓", "warning": "!", "failed": "✗", "unchecked": "–"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table. No secret is ever in it: it is pasted into tickets.

    `warning` works today and may not tomorrow, or lacks something that most want; `failed` does not work; `unchecked`
    could not be looked at, and `found` says why.
    """

    check: str
    outcome: Outcome
    found: str
    remedy: str | None = None


def ok(check: str, found: str) -> Finding:
    return Finding(check, "ok", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "warning", found, remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    return Finding(check, "failed", found, remedy)


def unchecked(check: str, why: str, remedy: str | None = None) -> Finding:
    return Finding(check, "unchecked", why, remedy)


def all_well(findings: Sequence[Finding], *, strict: bool) -> bool:
    """Whether nothing failed; with `strict`, nothing warns either. What is unchecked is no verdict."""
    bad: set[Outcome] = {"failed", "warning"} if strict else {"failed"}
    return not any(finding.outcome in bad for finding in findings)


def summary(findings: Sequence[Finding]) -> str:
    """`21 ✓, 1 !, 0 ✗`, and what could not be checked if there is any."""
    counts = {outcome: sum(finding.outcome == outcome for finding in findings) for outcome in MARKS}
    shown = [f"{count} {MARKS[outcome]}" for outcome, count in counts.items() if count or outcome != "unchecked"]
    return ", ".join(shown)
