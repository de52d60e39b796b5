"""The simulator's settings: the only reader of the environment here."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from shared.settings import AppsSettings, ProcessSettings
from simulator.lengths import MONTH_S_MAX, MONTH_S_MIN


class SimulatorSettings(AppsSettings, ProcessSettings):
    """`PURSER_…`, each with a default that fits a laptop.

    `simulator_retry_compression` is how many times faster than Apple's the retry schedule of notifications runs: 3600
    makes an hour a second. `simulator_url` is where the other processes reach it; it goes into certificates, for
    OCSP, and is an address on this machine alone if it is not given. `simulator_month_s` makes a month of subscriptions
    so many seconds long and lets them renew by themselves; without it months are the calendar's, and nothing happens by
    itself. `simulator_notifications_kept` is how many notifications are remembered after they were delivered or given
    up, in 2.5 kB of memory each.
    """

    data_dir: Path = Path(".purser")
    bind: str = "127.0.0.1"
    simulator_port: int = Field(default=8090, ge=1, le=65_535)
    simulator_threads: int = Field(default=128, ge=1, le=1_024)
    simulator_webhook_url: str = Field(default="http://127.0.0.1:8080/webhooks/apple", pattern=r"^https?://")
    simulator_retry_compression: float = Field(default=3600, ge=1)
    simulator_month_s: float | None = Field(default=None, ge=MONTH_S_MIN, le=MONTH_S_MAX)
    simulator_notifications_kept: int = Field(default=50_000, ge=1, le=1_000_000)
    simulator_url: str | None = Field(default=None, pattern=r"^https?://")

    @property
    def ocsp_url(self) -> str:
        """Where the revocation of the simulator's certificates is asked for."""
        address = self.simulator_url or f"http://127.0.0.1:{self.simulator_port}"
        return address.rstrip("/") + "/ocsp"
