"""Keys and tokens as parameters of statements, in the order in which what they stand for is locked."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from shared.database import array_literal
from shared.ids import AppId
from verifier.domain.records import OriginKey, TransactionKey


def keys_in_order(keys: Iterable[TransactionKey] | Iterable[OriginKey]) -> dict[str, str]:
    """Keys of transactions or origins."""
    ordered: list[tuple[str, ...]] = sorted(keys)
    apps, stores, environments, transaction_ids = zip(*ordered, strict=True) if ordered else ((),) * 4
    return {
        "apps": array_literal(apps),
        "stores": array_literal(stores),
        "environments": array_literal(environments),
        "transaction_ids": array_literal(transaction_ids),
    }


def tokens_in_order(tokens: Iterable[tuple[AppId, UUID]]) -> dict[str, str]:
    """Account tokens."""
    ordered = sorted(tokens)
    return {"apps": array_literal(app for app, _ in ordered), "tokens": array_literal(token for _, token in ordered)}
