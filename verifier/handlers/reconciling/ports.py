"""What reconciliation needs from outside, what is wanted of a run, and what it comes to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from shared.apps import App
from shared.events import Draft, Environment, StoreTransaction
from shared.ids import AppId, TransactionId
from verifier.domain.reconciliation import (
    DueOrigin,
    Found,
    HistoryPage,
    Key,
    Reconciliation,
    Road,
    Span,
    Standing,
)


class StoreMemory(Protocol):
    """What the store tells of the past. Both raise StoreUnanswered."""

    def told(
        self, *, app: App, environment: Environment, span: Span, only_failures: bool, at: str | None
    ) -> HistoryPage:
        """A page of the notifications of that time: the first, or the one `at` which a page before said there is."""
        ...

    def standings(
        self, original_transaction_id: TransactionId, *, app: App, environment: Environment
    ) -> Sequence[Standing]:
        """All subscriptions of the customer who has this one. Raises SubscriptionUnknown too."""
        ...


class Reconciliations(Protocol):
    """How far we have come, and what is on record.

    Each method is a transaction of its own, and raises DatabaseUnavailable.
    """

    def read(self, key: Key) -> Reconciliation:
        """How far it has come."""
        ...

    def begin(self, key: Key, *, now: datetime) -> None:
        """Notes that the store is asked."""
        ...

    def advance(self, key: Key, *, cursor_at: datetime) -> None:
        """All up to here was looked through; a cursor never goes back."""
        ...

    def finish(self, key: Key, *, now: datetime) -> None:
        """All was asked, and answered."""
        ...

    def fail(self, key: Key, *, error: str, now: datetime) -> None:
        """It was not."""
        ...

    def known_subjects(self, app: AppId, subjects: Collection[str]) -> frozenset[str]:
        """Those that are in the journal."""
        ...

    def record_notifications(self, key: Key, found: Sequence[Found], *, now: datetime) -> Sequence[Found]:
        """Records each unless its subject is known by now, and counts what was missed. Those that it recorded."""
        ...

    def due_origins(self, key: Key, *, until: datetime, spoken_before: datetime, limit: int) -> Sequence[DueOrigin]:
        """The subscriptions to be asked about by then, the longest overdue first; but not those of which the store has
        spoken since their period ended, unless that was before `spoken_before`."""
        ...

    def statements(self, key: Key, ids: Collection[TransactionId]) -> Mapping[TransactionId, StoreTransaction]:
        """What is on record of these transactions."""
        ...

    def settle_origin(
        self, key: Key, due: DueOrigin, drafts: Sequence[Draft], *, check_at: datetime | None, now: datetime
    ) -> bool:
        """Records what is news, as missed, and notes when to ask again. False, and nothing of it, when something was
        heard meanwhile: what is news may be none any more, and it is asked again when that says."""
        ...

    def put_off_origin(self, key: Key, due: DueOrigin, *, until: datetime) -> None:
        """The question got no answer: it is asked again, unless something is heard before."""
        ...


Alone = Callable[[AppId, Road], AbstractContextManager[bool]]
"""Whether nobody else reconciles this app by this road; nobody begins to while the context is open."""


@dataclass(slots=True)
class Run:
    """What one run came to, for one app, environment and road; it grows while it runs.

    `looked_at` notifications or subscriptions; `recorded` of them were not here, and of these `missed` should have
    been; what is `unreadable` is not what it should be, or its signature is no good. `skipped`: somebody else is at it.
    `finished`: the store gave all that it was asked for; `error` is why it did not.
    """

    key: Key
    looked_at: int = 0
    recorded: int = 0
    missed: int = 0
    unreadable: int = 0
    skipped: bool = False
    finished: bool = False
    error: str | None = None


Observe = Callable[[Run], None]
"""Is told how far a run has come, after each answer of the store."""


def _on(_: Run) -> None:
    """Nobody watches."""


def _go_on() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Errand:
    """What is wanted of a run.

    `since`: look through all from then on. `every`: do nothing if the store was asked within that time. `ahead`: ask
    about subscriptions, too, that would be due so soon. `stopped`: whether to leave the rest for another time.
    """

    since: datetime | None = None
    every: timedelta | None = None
    ahead: timedelta = timedelta(0)
    stopped: Callable[[], bool] = _go_on
    observe: Observe = _on
