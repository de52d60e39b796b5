"""What the store told us, looked through again: its history, page by page, beside our journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from shared.apps import App, Apps
from shared.clock import Clock
from shared.jws import JwsError, JwsMalformed, JwsUnconfirmed, peek_claims
from shared.log import get_logger
from shared.notifications import NotificationInvalid, NotificationRejected, addressee, draft_of, notification_of
from verifier.domain.reconciliation import Found, Remembered, Span, StoreUnanswered, was_missed, window
from verifier.handlers.ports import Signatures
from verifier.handlers.reconciling.ports import Errand, Reconciliations, Run, StoreMemory

log = get_logger(__name__)

UNREADABLE: Final = (JwsError, NotificationInvalid, NotificationRejected)
"""Whoever made it, there is nothing to be had from it, however often it is looked at."""


class Notifications:
    """The road of the notifications."""

    def __init__(
        self,
        *,
        memory: StoreMemory,
        records: Reconciliations,
        signatures: Signatures,
        apps: Apps,
        clock: Clock,
        new_trace: Callable[[], str],
    ) -> None:
        self._memory = memory
        self._records = records
        self._signatures = signatures
        self._apps = apps
        self._clock = clock
        self._new_trace = new_trace

    def walk(self, run: Run, *, app: App, cursor_at: datetime | None, errand: Errand) -> bool:
        """First what the store could not deliver, since that is what we lack; then all, and the cursor with it.

        False: it was told to stop. Raises StoreUnanswered.
        """
        asked = window(cursor_at=cursor_at, since=errand.since, environment=run.key.environment, now=self._clock.now())
        if not self._span(run, asked.span, app=app, errand=errand, only_failures=True):
            return False
        for part in asked.parts():
            if not self._span(run, part, app=app, errand=errand, only_failures=False):
                return False
            if asked.moves_cursor:
                self._records.advance(run.key, cursor_at=part.until)
        return True

    def _span(self, run: Run, span: Span, *, app: App, errand: Errand, only_failures: bool) -> bool:
        at: str | None = None
        seen: set[str] = set()
        while not errand.stopped():
            page = self._memory.told(
                app=app, environment=run.key.environment, span=span, only_failures=only_failures, at=at
            )
            self._heal(run, page.items, app=app, counting=not only_failures)
            errand.observe(run)
            if page.next is None:
                return True
            if page.next in seen:
                raise StoreUnanswered("its history goes on, and leads nowhere")
            seen.add(at := page.next)
        return False

    def _heal(self, run: Run, items: Sequence[Remembered], *, app: App, counting: bool) -> None:
        """Records what of a page is not here. `counting`: a failure is seen twice, and is looked at once."""
        now = self._clock.now()
        found: dict[str, Found] = {}
        unreadable = 0
        for subject, item in self._unknown(items, app=app):
            try:
                found[subject] = self._found(item, app=app, now=now)
            except UNREADABLE as error:
                unreadable += 1
                log.warning("a notification of the store's history cannot be taken", app=app.id, reason=str(error))
        recorded = self._records.record_notifications(run.key, list(found.values()), now=now) if found else ()
        run.recorded += len(recorded)
        run.missed += sum(each.missed for each in recorded)
        if counting:
            run.looked_at += len(items)
            run.unreadable += unreadable

    def _unknown(self, items: Sequence[Remembered], *, app: App) -> list[tuple[str, Remembered]]:
        """Those that are not in the journal, by what they say of themselves, each with its subject there."""
        named = [(self._subject(item, app=app), item) for item in items]
        known = self._records.known_subjects(app.id, {subject for subject, _ in named})
        return [(subject, item) for subject, item in named if subject not in known]

    def _subject(self, item: Remembered, *, app: App) -> str:
        """What cannot be read has none, and is looked at as what is unknown."""
        try:
            claims = peek_claims(item.signed_payload)
        except JwsMalformed:
            return ""
        notification = notification_of(claims, signed_payload=item.signed_payload)
        return draft_of(notification, app=app, trace_id="", now=self._clock.now()).subject

    def _found(self, item: Remembered, *, app: App, now: datetime) -> Found:
        """Checked as the gateway checks it. Raises what is UNREADABLE, and StoreUnanswered: nobody knows it yet."""
        try:
            signed = self._signatures.verify(item.signed_payload, now=now)
        except JwsUnconfirmed as unconfirmed:
            raise StoreUnanswered(str(unconfirmed)) from unconfirmed
        if addressee(signed.claims, apps=self._apps).id != app.id:
            raise NotificationRejected("the notification is for another app")
        notification = notification_of(signed.claims, signed_payload=item.signed_payload)
        draft = draft_of(notification, app=app, trace_id=self._new_trace(), now=now)
        return Found(draft, was_missed(item, signed_at=signed.signed_at, now=now))
