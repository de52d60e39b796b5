"""What the ledger's processes read from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import AppsSettings, DatabaseSettings, ProcessSettings, ServiceTokenSettings, WorkerSettings


class LedgerSettings(WorkerSettings, AppsSettings):
    """The event worker's configuration."""


class LedgerApiSettings(ProcessSettings, DatabaseSettings, AppsSettings, ServiceTokenSettings):
    """The internal API's configuration."""


class LedgerSchedulerSettings(ProcessSettings, DatabaseSettings, AppsSettings):
    """The scheduler's configuration. It has no broker: what it writes is handed over by the courier.

    `audit_interval_s`: an audit begins so long after the one before; 0: none does by itself.
    `answers_kept_days`: so long a repeat with the same Idempotency-Key gets the first answer again.
    """

    heartbeat_file: Path | None = None
    audit_interval_s: float = Field(default=3600, ge=0, le=604_800)
    answers_kept_days: float = Field(default=30, ge=30, le=3650)
