"""An audit's evidence and its keeping, as a test has written them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger.domain.audit import FINDINGS_KEPT_MAX, Cursor, Finding, Newest, Page, Report, Waiting

FINDING = Finding("transfer-sum", {"transfer_id": "1"}, "1", "0")
WAITING = Waiting("game", "apple", "production", "1", 100_000)


def page(*, rows: int = 1, last: str | None = None, problems: int = 0, waiting: int = 0) -> Page:
    return Page(
        rows=rows,
        problems=problems,
        findings=[FINDING] * min(problems, FINDINGS_KEPT_MAX),
        refunds_waiting=waiting,
        waiting=[WAITING] * min(waiting, FINDINGS_KEPT_MAX),
        last=None if last is None else (last,),
    )


@dataclass
class ScriptedAudit:
    """Walks of pages (or what one raises), each by the cursor that it comes after; and the audits that were kept."""

    pages: dict[str, dict[str, Page | Exception]]
    walks: Sequence[str] = ()
    began: list[datetime] = field(default_factory=list)
    finished: dict[int, Report] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    since: list[datetime | None] = field(default_factory=list)
    forgotten: list[datetime] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.walks = tuple(self.pages)

    def first(self, walk: str, *, since: datetime | None) -> Cursor:
        self.since.append(since)
        return ("",)

    def page(self, walk: str, *, after: Cursor) -> Page:
        found = self.pages[walk][after[0]]
        if isinstance(found, Exception):
            raise found
        return found

    def begin(self, *, at: datetime) -> int:
        self.began.append(at)
        return len(self.began)

    def finish(self, audit: int, report: Report) -> None:
        self.finished[audit] = report

    def fail(self, audit: int, *, error: str) -> None:
        self.failed[audit] = error

    def newest_began_at(self) -> datetime | None:
        return self.began[-1] if self.began else None

    def newest(self) -> Newest | None:
        return None

    def forget(self, *, before: datetime) -> int:
        self.forgotten.append(before)
        return 0
