"""What the App Store said and never came here: is it asked, does it answer, and how much was missed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy.exc import DBAPIError

from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from shared.apps import Apps
from shared.clock import Clock
from shared.database import INTERACTIVE_TIMEOUT_S, DatabaseUnavailable, connect_engine, transact
from verifier.app import reconciliations
from verifier.apple.memory import KEY_REFUSED
from verifier.domain.reconciliation import KEPT, Key, Reconciliation
from verifier.handlers.reconciling import wanted

NAME = "reconciliation"
FAILING = timedelta(hours=1)
"""The store's shorter troubles pass."""
STALE = timedelta(days=1)
REMEDY = "purser run reconciler, or purser reconcile"


def check_reconciliation(apps: Apps, *, database_url: str, clock: Clock) -> list[Finding]:
    """One finding, of the worst that is found."""
    if not wanted(apps):
        return [unchecked(NAME, "no app has an API key: the App Store cannot be asked what it said")]
    try:
        engine = connect_engine(
            database_url, role=None, pool_size=1, application_name="doctor", timeout_s=INTERACTIVE_TIMEOUT_S
        )
        try:
            known = reconciliations(partial(transact, engine), apps)
        finally:
            engine.dispose()
    except (DatabaseUnavailable, DBAPIError, ValueError):
        return [unchecked(NAME, "the database does not say")]
    return [read_reconciliations(known, now=clock.now())]


def read_reconciliations(known: Sequence[Reconciliation], *, now: datetime) -> Finding:
    """What these say together."""
    by_key = {each.key: each for each in known}
    counted = [each for each in known if not _is_not_released(each, by_key)]
    missed = f"{sum(each.missed for each in known)} missed"
    if failing := [each for each in counted if each.failing_since and now - each.failing_since > FAILING]:
        return failed(NAME, f"{missed}; {_name(failing[0])}: {failing[0].error}", "mend that; purser reconcile")
    if never := [each for each in counted if each.checked_at is None]:
        if all(_is_under_way(each, now=now) for each in never):
            return ok(NAME, f"{missed}, and the first look back, over {KEPT['production'].days} days, is under way")
        return warning(NAME, f"{missed}; never checked to the end: {', '.join(map(_name, never))}", REMEDY)
    last = min((each.checked_at for each in counted if each.checked_at), default=now)
    found = f"{missed}, last checked {_ago(now - last)}"
    return warning(NAME, found, REMEDY) if now - last > STALE else ok(NAME, found)


def _is_not_released(each: Reconciliation, known: Mapping[Key, Reconciliation]) -> bool:
    """Before its first release the App Store's production takes no key of an app, and the sandbox does."""
    sandbox = known.get(replace(each.key, environment="sandbox"))
    refused = each.key.environment == "production" and (each.error or "").startswith(KEY_REFUSED)
    return refused and sandbox is not None and sandbox.error is None and sandbox.checked_at is not None


def _is_under_way(each: Reconciliation, *, now: datetime) -> bool:
    """It was begun, and has met no trouble."""
    return each.asked_at is not None and each.error is None and now - each.asked_at < FAILING


def _name(each: Reconciliation) -> str:
    return f"{each.key.app} {each.key.environment} {each.key.road}"


def _ago(span: timedelta) -> str:
    """`2 minutes ago`: the largest unit that there is one of."""
    seconds = max(int(span.total_seconds()), 0)
    for unit, length_s in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if count := seconds // length_s:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
