"""Inbound from the clock: when the store is asked what it had said. Translation only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from shared.apps import App
from shared.log import get_logger
from shared.schedule import Job, Stopped
from verifier.domain.reconciliation import Road
from verifier.handlers.reconciling import Errand, Reconciler, Run, environments_of

log = get_logger(__name__)

LOOK_EVERY_S: Final = 30.0
"""How often to look whether a run is due: seldom is one begun later than this after its time."""

SUBSCRIPTIONS_EVERY_S: Final = 60.0
"""Those that should have renewed are asked about soon: somebody may have lost, or kept, what he should not have."""

BREATHE_EVERY_S: Final = 5.0


def breathing(check: Callable[[], object]) -> Job:
    """The sign of life. A run may wait on the store for longer than a health check does."""

    def work(_: Stopped) -> None:
        check()

    return Job("breathe", BREATHE_EVERY_S, work, vital=True)


def reconciling(road: Road, *, reconciler: Reconciler, apps: Sequence[App], every_s: float) -> Job:
    """Asks the store about each of these apps, every so often, and says what it found."""

    def work(stopped: Stopped) -> None:
        errand = Errand(every=timedelta(seconds=every_s), stopped=stopped)
        for app in apps:
            for run in reconciler.run(road, app=app, environments=environments_of(app), errand=errand):
                _say(run)

    return Job(f"reconcile-{road}", min(LOOK_EVERY_S, every_s), work)


def _say(run: Run) -> None:
    told = log.bind(app=run.key.app, environment=run.key.environment, road=run.key.road)
    if run.missed:
        told.warning("the store had said what never came here", missed=run.missed, looked_at=run.looked_at)
    if run.error is not None:
        told.error("the store cannot be asked what it had said", error=run.error)
