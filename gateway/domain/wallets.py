"""Wallets are the ledger's: the gateway hands its answers on as they are."""

from __future__ import annotations

from dataclasses import dataclass


class LedgerUnavailable(Exception):
    """The ledger's internal API cannot be reached, or does not answer as it should. Try again later."""


@dataclass(frozen=True, slots=True)
class LedgerAnswer:
    """What the ledger said: a JSON document (200), or a problem about what the caller asked for (400, 404)."""

    status: int
    body: bytes
    content_type: str
