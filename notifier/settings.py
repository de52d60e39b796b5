"""What the notifier's processes read from the environment."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from shared.settings import AppsSettings, DatabaseSettings, ProcessSettings, ServiceTokenSettings, WorkerSettings


class EndpointsSettings(ProcessSettings, AppsSettings):
    """Which endpoints there are, and which there may be.

    `webhook_allowed_networks`: besides public addresses, those in these networks may be called (CIDR, a comma list).
    """

    webhook_allowed_networks: str = ""

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _is_networks(cls, value: str) -> str:
        _networks(value)
        return value

    def allowed_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return _networks(self.webhook_allowed_networks)


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


def _networks(listed: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Raises PydanticCustomError, whose message is the whole sentence."""
    items = [item.strip() for item in listed.split(",")]
    return tuple(_network(item, number) for number, item in enumerate(items, start=1) if item)


def _network(item: str, number: int) -> IPv4Network | IPv6Network:
    try:
        return ip_network(item)
    except ValueError:
        context = {"problem": _network_problem(item, number)}
        raise PydanticCustomError(
            "networks",
            "{problem}; wanted is a comma list of networks such as 10.0.0.0/8 or fd12:3456::/32",
            context,
        ) from None


def _network_problem(item: str, number: int) -> str:
    """Only what begins with an address is quoted: anything else may be a secret that was meant for another variable."""
    address = item.partition("/")[0]
    try:
        ip_address(address)
    except ValueError:
        return f"item {number} is no network"
    try:
        return f"{item} has host bits set: its network is {ip_network(item, strict=False)}"
    except ValueError:
        return f"{address} is followed by no prefix length that it may have"
