"""The sender of notifications: a bounded queue, worker threads, and Apple's retry schedule.

Apple: a notification counts as received with HTTP 200 to 206; otherwise five retries follow, with the same
notificationUUID and the same signedDate. In the sandbox there is one attempt and no retry.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from shared.clock import Clock
from shared.ids import TransactionId
from simulator.domain import SimulatorError
from simulator.faults import FaultBoard
from simulator.notification_log import (
    Attempt,
    AttemptResult,
    Notification,
    NotificationLog,
    NotificationState,
    Wanted,
)

RETRY_AFTER_H: Final = (1, 12, 24, 48, 72)
"""Hours from an attempt to the next one. Source: Apple, Responding to App Store Server Notifications."""

PENDING_MAX: Final = 10_000
"""How many notifications may be waiting for an attempt or a retry. Beyond that the store waits, then says so."""

SETTLED_MAX: Final = 50_000
"""How many are remembered after they were delivered or given up, in 2.5 kB of memory each."""

ATTEMPTS_MAX: Final = 50
"""How many attempts of one notification are remembered: Apple's six, and what was sent again by hand."""

ROOM_TIMEOUT_S: Final = 5.0
WORKERS: Final = 8
CONNECT_TIMEOUT_S: Final = 3.0
READ_TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 65_536
ANSWER_BYTES_SHOWN: Final = 500


class SenderUnavailable(SimulatorError):
    """Too many notifications are waiting, because their receiver does not take them."""


@dataclass(frozen=True, slots=True, order=True)
class _Job:
    """An attempt that is due at a moment of the monotonic clock. Only a scheduled one leads to retries."""

    due_s: float
    number: int
    notification_id: UUID
    scheduled: bool


class NotificationSender:
    """Posts notifications to one URL from a few threads. Thread-safe. Call `close` to end the threads."""

    def __init__(
        self,
        *,
        url: str,
        clock: Clock,
        faults: FaultBoard,
        retry_compression: float,
        workers: int = WORKERS,
        pending_max: int = PENDING_MAX,
        settled_max: int = SETTLED_MAX,
        room_timeout_s: float = ROOM_TIMEOUT_S,
    ) -> None:
        """`retry_compression` is how many times faster than Apple's the retry schedule runs."""
        self._url = url
        self._clock = clock
        self._faults = faults
        self._retry_after_s = tuple(hours * 3600 / retry_compression for hours in RETRY_AFTER_H)
        self._pending_max, self._room_timeout_s = pending_max, room_timeout_s
        self._lock = threading.Lock()
        self._job_planned, self._job_taken = threading.Condition(self._lock), threading.Condition(self._lock)
        self._closed = False
        self._numbers = itertools.count()
        # A heap. Every pending notification has a scheduled job in it, or in a thread's hands.
        self._jobs: list[_Job] = []
        self._log = NotificationLog(settled_max=settled_max)
        self._threads = [threading.Thread(target=self._work, name=f"notify-{n}", daemon=True) for n in range(workers)]
        for thread in self._threads:
            thread.start()

    def wait_for_room(self) -> None:
        """Returns when the queue has room. Raises SenderUnavailable when it gets none in a few seconds."""
        with self._lock:
            if not self._job_taken.wait_for(self._has_room, timeout=self._room_timeout_s):
                raise SenderUnavailable(
                    f"{len(self._jobs)} notifications wait for {self._url}, which does not take them"
                )

    def send(self, notification: Notification) -> None:
        """Takes a new notification; the faults in force decide what befalls it. Returns at once.

        Who sends many asks for room first.
        """
        journey = self._faults.draw_journey()
        with self._lock:
            now = self._clock.now()
            self._log.add(notification, now=now)
            if journey.dropped:
                lost = Attempt(now, "NO_RESPONSE", http_status=None, answer="", duration_ms=0)
                self._settle(replace(notification, attempts=(lost,)), "dropped")
                return
            for copy in range(journey.copies):
                self._plan(notification.id, in_s=journey.hold_s, scheduled=copy == 0)

    def resend(self, notification_id: UUID) -> Notification:
        """Posts it once more, at once, the same as it was. Raises NotificationUnknown and SenderUnavailable."""
        self.wait_for_room()
        with self._lock:
            notification = self._log.get(notification_id)
            self._plan(notification_id, in_s=0, scheduled=False)
            return notification

    def get(self, notification_id: UUID) -> Notification:
        """Raises NotificationUnknown."""
        with self._lock:
            return self._log.get(notification_id)

    def newest(self, *, limit: int, after: UUID | None, transaction_id: TransactionId | None) -> Sequence[Notification]:
        """At most `limit`, newest first, starting behind `after`. Raises NotificationUnknown when that is not known."""
        with self._lock:
            return self._log.newest(
                limit=limit, after=after, wanted=lambda each: transaction_id in (None, each.transaction_id)
            )

    def oldest(self, *, limit: int, after: UUID | None, since: datetime, wanted: Wanted) -> Sequence[Notification]:
        """At most `limit` of the wanted, oldest first, starting behind `after`; of those that were sent before `since`
        none. Raises NotificationUnknown."""
        with self._lock:
            return self._log.oldest(limit=limit, after=after, since=since, wanted=wanted)

    def close(self) -> None:
        """Ends the threads; an attempt that is under way is finished first."""
        with self._lock:
            self._closed = True
            self._job_planned.notify_all()
        for thread in self._threads:
            thread.join(timeout=CONNECT_TIMEOUT_S + READ_TIMEOUT_S)

    # ---- the threads --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # the receiver is a neighbour: no proxy stands between
            while (job := self._next_job()) is not None:
                self._run(job, session)

    def _next_job(self) -> _Job | None:
        """The next job once it is due; None when the sender is closed."""
        with self._lock:
            while not self._closed:
                wait_s = self._jobs[0].due_s - self._clock.monotonic() if self._jobs else None
                if wait_s is not None and wait_s <= 0:
                    self._job_taken.notify_all()
                    return heapq.heappop(self._jobs)
                self._job_planned.wait(wait_s)
            return None

    def _run(self, job: _Job, session: requests.Session) -> None:
        with self._lock:
            notification = self._log.find(job.notification_id)
        if notification is None or (job.scheduled and notification.settled):
            return  # a resend has delivered it meanwhile
        attempt = self._post(notification, session)
        with self._lock:
            self._note(job, attempt)

    def _post(self, notification: Notification, session: requests.Session) -> Attempt:
        at, started_s = self._clock.now(), self._clock.monotonic()
        result, http_status, answer = _post(session, self._url, notification.signed_payload)
        return Attempt(at, result, http_status, answer, round((self._clock.monotonic() - started_s) * 1000))

    # ---- bookkeeping, all of it under the lock ------------------------------------------------------------------

    def _has_room(self) -> bool:
        return len(self._jobs) < self._pending_max

    def _plan(self, notification_id: UUID, *, in_s: float, scheduled: bool) -> None:
        due_s = self._clock.monotonic() + in_s
        heapq.heappush(self._jobs, _Job(due_s, next(self._numbers), notification_id, scheduled))
        self._job_planned.notify()

    def _note(self, job: _Job, attempt: Attempt) -> None:
        """Writes the attempt down and decides what follows from it."""
        before = self._log.find(job.notification_id)
        if before is None:
            return
        after = replace(before, attempts=(*before.attempts, attempt)[-ATTEMPTS_MAX:])
        if attempt.result == "SUCCESS":
            self._settle(after, "delivered")
        elif job.scheduled and not before.settled:
            self._retry_or_give_up(after)
        else:
            self._log.change(after)

    def _retry_or_give_up(self, notification: Notification) -> None:
        if notification.environment == "sandbox" or notification.retries == len(self._retry_after_s):
            self._settle(notification, "exhausted")
            return
        in_s = self._retry_after_s[notification.retries]
        self._log.change(
            replace(
                notification,
                retries=notification.retries + 1,
                next_attempt_at=self._clock.now() + timedelta(seconds=in_s),
            )
        )
        self._plan(notification.id, in_s=in_s, scheduled=True)

    def _settle(self, notification: Notification, state: NotificationState) -> None:
        self._log.change(replace(notification, state=state, next_attempt_at=None))


def _post(session: requests.Session, url: str, signed_payload: str) -> tuple[AttemptResult, int | None, str]:
    """One post, and how it went: Apple's word for it, and the HTTP status and the beginning of the body, if any."""
    try:
        with session.post(
            url,
            data=msgspec.json.encode({"signedPayload": signed_payload}),
            headers={"Content-Type": "application/json"},
            timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S),
            allow_redirects=False,
            stream=True,
        ) as response:
            body: bytes = response.raw.read(ANSWER_BYTES_MAX)  # to the end, so that the connection can be used again
            result: AttemptResult = (
                "SUCCESS" if 200 <= response.status_code <= 206 else "UNSUCCESSFUL_HTTP_RESPONSE_CODE"
            )
            return result, response.status_code, body[:ANSWER_BYTES_SHOWN].decode("utf-8", errors="replace")
    except (requests.Timeout, ReadTimeoutError):
        return "TIMED_OUT", None, ""
    except (requests.RequestException, HTTPError):  # the second: reading the answer's body
        return "NO_RESPONSE", None, ""
