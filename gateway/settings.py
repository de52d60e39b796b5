"""What the gateway reads from the environment."""

from __future__ import annotations

from pydantic import Field, field_validator

from shared.settings import (
    AppsSettings,
    DatabaseSettings,
    IpNetwork,
    ProcessSettings,
    ServiceTokenSettings,
    TrustSettings,
    networks,
)

RATE_PATTERN = r"^([1-9][0-9]{0,8}/(second|minute|hour|day))?$"
PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1/128,fc00::/7"
"""Loopback, RFC 1918, RFC 4193: nobody comes from there through the internet, so who does is a proxy of ours."""


class GatewaySettings(ProcessSettings, DatabaseSettings, AppsSettings, TrustSettings, ServiceTokenSettings):
    """The gateway's configuration; `gateway_threads` are those of each process (Granian's `--blocking-threads`).

    The limits are rates such as `120/minute`, of each process by itself; empty: none (gateway.api.limits). Who calls
    stands in `X-Forwarded-For` when it comes from one of `trusted_proxies` (CIDR, a comma list).
    """

    gateway_threads: int = Field(default=8, ge=1, le=1024)
    ledger_url: str = Field(default="http://127.0.0.1:8081", pattern=r"^https?://[^/]+/?$")
    ledger_connect_timeout_s: float = Field(default=1.0, gt=0, le=10)
    ledger_read_timeout_s: float = Field(default=5.0, gt=0, le=30)
    notifier_url: str = Field(default="http://127.0.0.1:8082", pattern=r"^https?://[^/]+/?$")
    notifier_connect_timeout_s: float = Field(default=1.0, gt=0, le=10)
    notifier_read_timeout_s: float = Field(default=20.0, gt=0, le=90)

    rate_limit_user: str = Field(default="1200/minute", pattern=RATE_PATTERN)
    rate_limit_submissions: str = Field(default="300/minute", pattern=RATE_PATTERN)
    rate_limit_failures: str = Field(default="600/minute", pattern=RATE_PATTERN)
    trusted_proxies: str = PRIVATE_NETWORKS

    @field_validator("trusted_proxies")
    @classmethod
    def _is_networks(cls, value: str) -> str:
        networks(value)
        return value

    def proxies(self) -> tuple[IpNetwork, ...]:
        return networks(self.trusted_proxies)

    @property
    def waiters_max(self) -> int:
        """Requests that may wait for a purchase or an event at once: half of the threads always go on accepting."""
        return self.gateway_threads // 2

    @property
    def operators_max(self) -> int:
        """Requests that may wait for the notifier at the same time: it is for operators, and takes its time."""
        return max(1, self.gateway_threads // 4)
