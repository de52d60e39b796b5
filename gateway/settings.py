"""What the gateway reads from the environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import AppsSettings, DatabaseSettings, ProcessSettings, ServiceTokenSettings, TrustSettings


class GatewaySettings(ProcessSettings, DatabaseSettings, AppsSettings, TrustSettings, ServiceTokenSettings):
    """The gateway's configuration; `gateway_threads` are those of each process (Granian's `--blocking-threads`)."""

    gateway_threads: int = Field(default=8, ge=1, le=1024)
    ledger_url: str = Field(default="http://127.0.0.1:8081", pattern=r"^https?://[^/]+/?$")
    ledger_connect_timeout_s: float = Field(default=1.0, gt=0, le=10)
    ledger_read_timeout_s: float = Field(default=5.0, gt=0, le=30)
    notifier_url: str = Field(default="http://127.0.0.1:8082", pattern=r"^https?://[^/]+/?$")
    notifier_connect_timeout_s: float = Field(default=1.0, gt=0, le=10)
    notifier_read_timeout_s: float = Field(default=20.0, gt=0, le=90)

    @property
    def waiters_max(self) -> int:
        """Requests that may wait for a purchase or an event at once: half of the threads always go on accepting."""
        return self.gateway_threads // 2

    @property
    def operators_max(self) -> int:
        """Requests that may wait for the notifier at the same time: it is for operators, and takes its time."""
        return max(1, self.gateway_threads // 4)
