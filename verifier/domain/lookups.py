"""What the App Store Server API says of one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from shared.events import Environment
from verifier.domain.receipts import StoreBusy, StoreMisconfigured


@dataclass(frozen=True, slots=True)
class TransactionFound:
    """The store knows the transaction, and states it: a JWS, not verified yet. `environment` is who answered."""

    signed_transaction: str
    environment: Environment


@dataclass(frozen=True, slots=True)
class TransactionUnknown:
    """Neither production nor the sandbox knows a transaction of this id for this app (4040010 from both)."""


LookupAnswer = TransactionFound | TransactionUnknown | StoreBusy | StoreMisconfigured
