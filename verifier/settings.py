"""What the verifier's processes read from the environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import AppsSettings, TrustSettings, WorkerSettings


class VerifierSettings(WorkerSettings, AppsSettings, TrustSettings):
    """The verifier's configuration; the two URLs are Apple's own unless a simulator's are given."""

    apple_verify_receipt_url: str = "https://buy.itunes.apple.com/verifyReceipt"
    apple_verify_receipt_sandbox_url: str = "https://sandbox.itunes.apple.com/verifyReceipt"
    store_connect_timeout_s: float = Field(default=3.0, gt=0, le=30)
    store_read_timeout_s: float = Field(default=10.0, gt=0, le=60)
