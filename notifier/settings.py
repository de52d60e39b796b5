"""What the notifier's processes read from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from shared.settings import (
    AppsSettings,
    DatabaseSettings,
    IpNetwork,
    ProcessSettings,
    ServiceTokenSettings,
    WorkerSettings,
    networks,
)


class EndpointsSettings(ProcessSettings, AppsSettings):
    """Which endpoints there are, and which there may be.

    `webhook_allowed_networks`: besides public addresses, those in these networks may be called (CIDR, a comma list).
    """

    webhook_allowed_networks: str = ""

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _is_networks(cls, value: str) -> str:
        networks(value)
        return value

    def allowed_networks(self) -> tuple[IpNetwork, ...]:
        return networks(self.webhook_allowed_networks)


class PostingSettings(EndpointsSettings):
    """How endpoints are called. `webhook_timeout_s` is all the time that one has to answer."""

    webhook_connect_timeout_s: float = Field(default=5.0, gt=0, le=60)
    webhook_timeout_s: float = Field(default=15.0, gt=0, le=60)


class NotifierSettings(WorkerSettings, EndpointsSettings):
    """The configuration of the worker that decides who is to hear."""


class WebhooksSettings(DatabaseSettings, PostingSettings):
    """The configuration of who tells them. It has no broker: what is due stands in the database.

    `webhook_kept_days`: how long what was delivered or given up stays on record, with its attempts.
    """

    heartbeat_file: Path | None = None
    webhook_kept_days: int = Field(default=30, ge=1, le=3650)


class NotifierApiSettings(DatabaseSettings, PostingSettings, ServiceTokenSettings):
    """The internal API's configuration."""
