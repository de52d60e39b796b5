"""What the notifier's processes read from the environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import AppsSettings, WorkerSettings


class NotifierSettings(WorkerSettings, AppsSettings):
    """The notifier's configuration. `webhook_timeout_s` is all the time that an endpoint has to answer.

    It is at most 25 s: the bus takes a delivery for lost after 120 s (shared.bus.routes), and one may wait behind three
    others that use all of theirs.
    """

    webhook_connect_timeout_s: float = Field(default=5.0, gt=0, le=25)
    webhook_timeout_s: float = Field(default=15.0, gt=0, le=25)
