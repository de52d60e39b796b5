"""Notifications and their fates, in memory: found by id, listed either way, the settled ones forgotten in time."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Final, Literal
from uuid import UUID

from shared.events import Environment
from shared.ids import TransactionId
from simulator.domain import NotificationType, NotificationUnknown, Subtype
from simulator.signing import Folded, fold, unfold

NotificationState = Literal["pending", "delivered", "dropped", "exhausted"]
AttemptResult = Literal["SUCCESS", "UNSUCCESSFUL_HTTP_RESPONSE_CODE", "TIMED_OUT", "NO_RESPONSE"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One post and what came of it, in the words of Apple's sendAttemptResult. `answer` is how its body begins."""

    at: datetime
    result: AttemptResult
    http_status: int | None
    answer: str
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification and its fate. A TEST is about no transaction; `next_attempt_at` is None when none is planned."""

    id: UUID
    type: NotificationType
    subtype: Subtype | None
    bundle_id: str
    transaction_id: TransactionId | None
    environment: Environment
    signed_payload: str
    created_at: datetime
    state: NotificationState = "pending"
    attempts: tuple[Attempt, ...] = ()
    retries: int = 0
    next_attempt_at: datetime | None = None

    @property
    def settled(self) -> bool:
        return self.state != "pending"


@dataclass(frozen=True, slots=True)
class _Entry:
    """A notification without its payload, and that payload, which is kept folded because it is large."""

    notification: Notification
    payload: Folded

    def whole(self) -> Notification:
        return replace(self.notification, signed_payload=unfold(self.payload))


Wanted = Callable[[Notification], bool]
"""Whether a notification is wanted. What it is given has no `signed_payload`."""

_GAPS_MAX: Final = 1_000


class NotificationLog:
    """All that are pending, and of the others so many. Not thread-safe."""

    def __init__(self, *, settled_max: int) -> None:
        self._settled_max = settled_max
        self._entries: dict[UUID, _Entry] = {}
        self._settled: deque[UUID] = deque()  # in the order of their settling
        # Three views of the order of their coming. Those that are forgotten leave gaps, which are closed now and then.
        self._ids: list[UUID] = []
        self._came_at: list[datetime] = []
        self._places: dict[UUID, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, notification: Notification, *, now: datetime) -> None:
        """A new one, which is pending."""
        self._entries[notification.id] = _Entry(
            replace(notification, signed_payload=""), fold(notification.signed_payload)
        )
        self._places[notification.id] = len(self._ids)
        self._ids.append(notification.id)
        self._came_at.append(max(now, self._came_at[-1]) if self._came_at else now)

    def change(self, notification: Notification) -> None:
        """What has become of it; its payload stays as it is. When too many are settled the first of them is forgotten.

        Raises NotificationUnknown.
        """
        before = self._entry(notification.id)
        self._entries[notification.id] = replace(before, notification=replace(notification, signed_payload=""))
        if notification.settled and not before.notification.settled:
            self._settled.append(notification.id)
        if len(self._settled) > self._settled_max:
            self._forget(self._settled.popleft())

    def get(self, notification_id: UUID) -> Notification:
        """Raises NotificationUnknown."""
        return self._entry(notification_id).whole()

    def find(self, notification_id: UUID) -> Notification | None:
        """None: it is not known, or no longer."""
        entry = self._entries.get(notification_id)
        return entry.whole() if entry else None

    def newest(self, *, limit: int, after: UUID | None, wanted: Wanted) -> list[Notification]:
        """At most `limit` of the wanted, newest first, starting behind `after`. Raises NotificationUnknown."""
        end = len(self._ids) if after is None else self._place(after)
        return self._chosen(reversed(range(end)), limit, wanted)

    def oldest(self, *, limit: int, after: UUID | None, since: datetime, wanted: Wanted) -> list[Notification]:
        """At most `limit` of the wanted, oldest first, starting behind `after`; none that came before `since`.

        Raises NotificationUnknown.
        """
        start = bisect_left(self._came_at, since)
        if after is not None:
            start = max(start, self._place(after) + 1)
        return self._chosen(range(start, len(self._ids)), limit, wanted)

    def _chosen(self, places: Iterable[int], limit: int, wanted: Wanted) -> list[Notification]:
        known = (self._entries.get(self._ids[place]) for place in places)
        chosen = (entry for entry in known if entry is not None and wanted(entry.notification))
        return [entry.whole() for entry in islice(chosen, limit)]

    def _entry(self, notification_id: UUID) -> _Entry:
        found = self._entries.get(notification_id)
        if found is None:
            raise NotificationUnknown(f"there is no notification {notification_id}")
        return found

    def _place(self, notification_id: UUID) -> int:
        self._entry(notification_id)
        return self._places[notification_id]

    def _forget(self, notification_id: UUID) -> None:
        del self._entries[notification_id]
        if len(self._ids) > 2 * len(self._entries) + _GAPS_MAX:
            kept = [place for place, each in enumerate(self._ids) if each in self._entries]
            self._came_at = [self._came_at[place] for place in kept]
            self._ids = [self._ids[place] for place in kept]
            self._places = {each: place for place, each in enumerate(self._ids)}
