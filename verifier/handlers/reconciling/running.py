"""One run, by one road: begun if nobody else is at it, and its end noted, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from shared.apps import App, Apps
from shared.clock import Clock
from shared.events import Environment
from verifier.domain.reconciliation import Key, Reconciliation, Road, StoreUnanswered
from verifier.handlers.ports import Signatures
from verifier.handlers.reconciling.notifications import Notifications
from verifier.handlers.reconciling.ports import Alone, Errand, Reconciliations, Run, StoreMemory
from verifier.handlers.reconciling.subscriptions import Subscriptions

PLAIN: Final = Errand()


class Reconciler:
    """Asks the store what it said, by both roads. Thread-safe."""

    def __init__(
        self,
        *,
        memory: StoreMemory,
        records: Reconciliations,
        signatures: Signatures,
        apps: Apps,
        alone: Alone,
        clock: Clock,
        new_trace: Callable[[], str],
    ) -> None:
        self._records = records
        self._alone = alone
        self._clock = clock
        self._notifications = Notifications(
            memory=memory, records=records, signatures=signatures, apps=apps, clock=clock, new_trace=new_trace
        )
        self._subscriptions = Subscriptions(memory=memory, records=records, clock=clock, new_trace=new_trace)

    def run(self, road: Road, *, app: App, environments: Iterable[Environment], errand: Errand = PLAIN) -> list[Run]:
        """A run for each of the environments that is due by `errand.every`, one after the other.

        None is begun while somebody else is at this app by this road. Raises DatabaseUnavailable.
        """
        runs = [Run(Key(app.id, environment, road)) for environment in environments]
        with self._alone(app.id, road) as ours:
            if not ours:
                for run in runs:
                    run.skipped = True
                return runs
            return [run for run in runs if self._run(run, app, errand)]

    def _run(self, run: Run, app: App, errand: Errand) -> bool:
        """Whether it was due, and is done or has failed."""
        before, now = self._records.read(run.key), self._clock.now()
        asked_at = before.asked_at
        if errand.stopped() or (errand.every and asked_at and now - asked_at < errand.every):
            return False
        self._records.begin(run.key, now=now)
        try:
            run.finished = self._walk(run, app, before, errand)
        except StoreUnanswered as error:
            run.error = str(error)
            self._records.fail(run.key, error=run.error, now=self._clock.now())
        if run.finished:
            self._records.finish(run.key, now=self._clock.now())
        return True

    def _walk(self, run: Run, app: App, before: Reconciliation, errand: Errand) -> bool:
        """Whether it came to its end. Raises StoreUnanswered."""
        if run.key.road == "notifications":
            return self._notifications.walk(run, app=app, cursor_at=before.cursor_at, errand=errand)
        return self._subscriptions.walk(run, app=app, errand=errand)
