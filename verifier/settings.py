"""What the verifier's processes read from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field

from shared.settings import AppsSettings, DatabaseSettings, Piece, ProcessSettings, TrustSettings, WorkerSettings

HTTP_URL: Final = r"^https?://[^/\s]+\S*$"


class StoreSettings(Piece):
    """How the App Store is asked; the URLs are Apple's own unless a simulator's are given.

    `apple_api_share`: which part of Apple's rate limits of the Server API this process may use; two ask
    (`verifier-store`, `verifier-lookups`), so each has half. What the reconciler asks has limits of its own.
    """

    apple_verify_receipt_url: str = Field(default="https://buy.itunes.apple.com/verifyReceipt", pattern=HTTP_URL)
    apple_verify_receipt_sandbox_url: str = Field(
        default="https://sandbox.itunes.apple.com/verifyReceipt", pattern=HTTP_URL
    )
    apple_api_url: str = Field(default="https://api.storekit.apple.com", pattern=HTTP_URL)
    apple_api_sandbox_url: str = Field(default="https://api.storekit-sandbox.apple.com", pattern=HTTP_URL)
    apple_api_share: float = Field(default=0.5, gt=0, le=1)
    store_connect_timeout_s: float = Field(default=3.0, gt=0, le=30)
    store_read_timeout_s: float = Field(default=10.0, gt=0, le=60)

    def unfit_for_production(self) -> list[str]:
        """What verifyReceipt answers has no signature: over plain HTTP whoever is on the way makes money."""
        urls = {
            "PURSER_APPLE_VERIFY_RECEIPT_URL": self.apple_verify_receipt_url,
            "PURSER_APPLE_VERIFY_RECEIPT_SANDBOX_URL": self.apple_verify_receipt_sandbox_url,
            "PURSER_APPLE_API_URL": self.apple_api_url,
            "PURSER_APPLE_API_SANDBOX_URL": self.apple_api_sandbox_url,
        }
        plain = [f"{name} is not https://" for name, url in urls.items() if not url.startswith("https://")]
        return [*super().unfit_for_production(), *plain]


class VerifierSettings(WorkerSettings, AppsSettings, TrustSettings, StoreSettings):
    """The verifier's configuration."""


class ReconcilerSettings(ProcessSettings, DatabaseSettings, AppsSettings, TrustSettings, StoreSettings):
    """The reconciler's configuration. It has no broker: what it records is handed over by the courier.

    `reconcile_interval_s`: the store is asked what it told us so long after it was asked before; 0: it is asked nothing
    by itself.
    """

    heartbeat_file: Path | None = None
    reconcile_interval_s: float = Field(default=900, ge=0, le=604_800)
