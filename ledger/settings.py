"""What the ledger's processes read from the environment."""

from __future__ import annotations

from shared.settings import AppsSettings, DatabaseSettings, ProcessSettings, ServiceTokenSettings, WorkerSettings


class LedgerSettings(WorkerSettings, AppsSettings):
    """The event worker's configuration."""


class LedgerApiSettings(ProcessSettings, DatabaseSettings, AppsSettings, ServiceTokenSettings):
    """The internal API's configuration."""
