"""What the notifier's processes read from the environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import AppsSettings, WorkerSettings


class NotifierSettings(WorkerSettings, AppsSettings):
    """The configuration of the notifier's workers. `webhook_timeout_s` is all the time that an endpoint has to answer.

    `webhook_kept_days`: how long what was delivered or given up stays on record, with its attempts.
    """

    webhook_connect_timeout_s: float = Field(default=5.0, gt=0, le=60)
    webhook_timeout_s: float = Field(default=15.0, gt=0, le=60)
    webhook_kept_days: int = Field(default=30, ge=1, le=3650)
