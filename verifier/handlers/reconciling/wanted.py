"""What the store is to be asked about: of which apps, where, and by which roads.

What was asked about once and is not any more, since the app, its key or its sandbox was taken out, stays on record and
counts no longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from shared.apps import App
from shared.events import Environment
from verifier.domain.reconciliation import Key, Road


def askable(apps: Iterable[App]) -> list[App]:
    """Those that have a key of the App Store Server API: of others it says nothing."""
    return [app for app in apps if app.apple.api_key is not None]


def environments_of(app: App) -> Sequence[Environment]:
    """Where this app takes purchases from."""
    return ("production",) if app.apple.sandbox == "refuse" else ("production", "sandbox")


def wanted(apps: Iterable[App]) -> list[Key]:
    """All that is to be looked through, again and again."""
    return [
        Key(app.id, environment, road)
        for app in askable(apps)
        for environment in environments_of(app)
        for road in get_args(Road)
    ]
