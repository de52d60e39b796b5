"""A store whose past is given, and a place in memory for what is found in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from shared.apps import App, AppleApp, Apps
from shared.clock import ManualClock
from shared.events import Draft, Environment, StoreTransaction
from shared.ids import AppId, TransactionId
from shared.jws import JwsVerifier, SignedPayload
from tests.support.app_store import AppStore
from verifier.domain.reconciliation import (
    DueOrigin,
    Found,
    HistoryPage,
    Key,
    Reconciliation,
    Remembered,
    Road,
    Span,
    Standing,
    StoreUnanswered,
)
from verifier.handlers.reconciling import Reconciler

QUIZ: Final = App(id=AppId("quiz"), name="Quiz", apple=AppleApp(bundle_id="com.example.quiz"))
"""Another app of the same installation."""


@dataclass(frozen=True, slots=True)
class Told:
    """A notification in the store's history, and when it was signed."""

    at: datetime
    item: Remembered
    failed: bool = False


@dataclass
class ScriptedMemory:
    """`StoreMemory`: pages of `page_size`, oldest last, since Apple promises no order.

    `before_page` is called before each page is given; of `troubles`, each page takes one, if there are any left. With
    `endless`, there are that many places, and each page says that there is another in the next one, round and round.
    """

    past: list[Told] = field(default_factory=list)
    standing: dict[str, Sequence[Standing] | Exception] = field(default_factory=dict)
    page_size: int = 20
    asked: list[tuple[Span, bool, str | None]] = field(default_factory=list)
    asked_about: list[str] = field(default_factory=list)
    before_page: Callable[[], None] = lambda: None
    troubles: list[StoreUnanswered | None] = field(default_factory=list)
    endless: int = 0

    def told(
        self, *, app: App, environment: Environment, span: Span, only_failures: bool, at: str | None
    ) -> HistoryPage:
        self.asked.append((span, only_failures, at))
        self.before_page()
        if self.troubles and (trouble := self.troubles.pop(0)) is not None:
            raise trouble
        if self.endless:
            return HistoryPage((), str((int(at or 0) + 1) % self.endless))
        found = [
            each.item
            for each in reversed(self.past)
            if span.since <= each.at <= span.until and (each.failed or not only_failures)
        ]
        begin = int(at or 0)
        end = begin + self.page_size
        return HistoryPage(tuple(found[begin:end]), str(end) if end < len(found) else None)

    def standings(
        self, original_transaction_id: TransactionId, *, app: App, environment: Environment
    ) -> Sequence[Standing]:
        self.asked_about.append(original_transaction_id)
        answer = self.standing[original_transaction_id]
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class RememberedReconciliations:
    """`Reconciliations` in memory; subscriptions are all of one app and environment.

    `after_looking` is called when it was looked what is in the journal, and nothing was recorded yet.
    """

    states: dict[Key, Reconciliation] = field(default_factory=dict)
    journal: dict[str, Draft] = field(default_factory=dict)
    reports: list[Draft] = field(default_factory=list)
    origins: dict[str, DueOrigin] = field(default_factory=dict)
    stated: dict[str, StoreTransaction] = field(default_factory=dict)
    after_looking: Callable[[], object] = lambda: None

    def read(self, key: Key) -> Reconciliation:
        return self.states.get(key, Reconciliation(key))

    def begin(self, key: Key, *, now: datetime) -> None:
        self._put(key, asked_at=now)

    def advance(self, key: Key, *, cursor_at: datetime) -> None:
        self._put(key, cursor_at=max(self.read(key).cursor_at or cursor_at, cursor_at))

    def finish(self, key: Key, *, now: datetime) -> None:
        self._put(key, checked_at=now, error=None, failing_since=None)

    def fail(self, key: Key, *, error: str, now: datetime) -> None:
        self._put(key, error=error, failing_since=self.read(key).failing_since or now)

    def known_subjects(self, app: AppId, subjects: Collection[str]) -> frozenset[str]:
        known = frozenset(subjects) & frozenset(self.journal)
        self.after_looking()
        return known

    def record_notifications(self, key: Key, found: Sequence[Found], *, now: datetime) -> Sequence[Found]:
        recorded = [each for each in found if each.draft.subject not in self.journal]
        self.journal |= {each.draft.subject: each.draft for each in recorded}
        self._put(key, missed=self.read(key).missed + sum(each.missed for each in recorded))
        return recorded

    def due_origins(self, key: Key, *, until: datetime, spoken_before: datetime, limit: int) -> Sequence[DueOrigin]:
        due = [each for each in self.origins.values() if each.check_at <= until]
        return sorted(due, key=lambda each: each.check_at)[:limit]

    def statements(self, key: Key, ids: Collection[TransactionId]) -> Mapping[TransactionId, StoreTransaction]:
        return {id: self.stated[id] for id in ids if id in self.stated}

    def settle_origin(
        self, key: Key, due: DueOrigin, drafts: Sequence[Draft], *, check_at: datetime | None, now: datetime
    ) -> bool:
        self.reports += drafts
        self._put(key, missed=self.read(key).missed + len(drafts))
        if check_at is None:
            del self.origins[due.original_transaction_id]
        else:
            self.origins[due.original_transaction_id] = replace(due, check_at=check_at, checks=due.checks + 1)
        return True

    def put_off_origin(self, key: Key, due: DueOrigin, *, until: datetime) -> None:
        self.origins[due.original_transaction_id] = replace(due, check_at=until)

    def _put(self, key: Key, **changes: object) -> None:
        self.states[key] = replace(self.read(key), **changes)  # type: ignore[arg-type]


@dataclass
class Doubting:
    """Signatures as they are, unless there is a doubt about all of them."""

    verifier: JwsVerifier
    doubt: Exception | None = None

    def verify(self, token: str, *, now: datetime) -> SignedPayload:
        if self.doubt is not None:
            raise self.doubt
        return self.verifier.verify(token, now=now)


@dataclass
class Scene:
    """A reconciler between the two."""

    memory: ScriptedMemory
    records: RememberedReconciliations
    signatures: Doubting
    reconciler: Reconciler
    clock: ManualClock
    store: AppStore
    app: App
    busy: set[Road] = field(default_factory=set)

    def tell(
        self, *, hours_ago: float = 1, number: int = 0, failed: bool = False, tried: bool = True, kind: str = "TEST"
    ) -> str:
        """The store has told us this, or tried to; returns the signed text."""
        at = self.clock.now() - timedelta(hours=hours_ago)
        self.store.now = at
        signed = self.store.notification(kind, None, notification_id=f"{kind}-{number}-{hours_ago}")
        self.memory.past.append(Told(at, Remembered(signed, tried), failed))
        return signed


def scene(store: AppStore, app: App, *, now: datetime) -> Scene:
    """Nothing was told yet, and nothing is on record."""
    clock, memory, records = ManualClock(now), ScriptedMemory(), RememberedReconciliations()
    busy: set[Road] = set()

    def alone(_: AppId, road: Road) -> AbstractContextManager[bool]:
        return contextlib.nullcontext(road not in busy)

    signatures = Doubting(store.verifier)
    numbers: Iterator[int] = iter(range(1_000_000))
    reconciler = Reconciler(
        memory=memory,
        records=records,
        signatures=signatures,
        apps=Apps.of((app, QUIZ)),
        alone=alone,
        clock=clock,
        new_trace=lambda: f"{next(numbers):032x}",
    )
    return Scene(memory, records, signatures, reconciler, clock, store, app, busy)
