"""Wallets, subscriptions and entitlements are the ledger's: the gateway hands its answers on as they are."""

from __future__ import annotations

from dataclasses import dataclass


class LedgerUnavailable(Exception):
    """The ledger's internal API cannot be reached, or does not answer as it should. Try again later."""


class LedgerAnswerUnavailable(LedgerUnavailable):
    """The ledger was told to do something, and whether it did is not known: the same request once more finds out."""


@dataclass(frozen=True, slots=True)
class LedgerAnswer:
    """What the ledger said: a JSON document, or a problem about what the caller asked for.

    `replayed`: it said so before, word for word, to a request with the same key.
    """

    status: int
    body: bytes
    content_type: str
    replayed: bool = False
