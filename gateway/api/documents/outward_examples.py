"""A message of each type, as webhooks send it: tests/unit/gateway/api/test_events.py has real events tell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gateway.api.documents.parts import Example
from gateway.api.documents.subscriptions import SUBSCRIPTION_EXAMPLES

_AT, _IN_A_MONTH = "2026-11-22T12:00:00.000Z", "2026-12-22T12:00:00.000Z"
_BOUGHT, _SUBSCRIBED = "pur_ndpakn6owx7abdyax7jxgpqzwx", "sub_wlnr77rol34tmlqejdvz3nmrsn"
_GEMS: Final = [{"currency": "gems", "amount": 100}]
_WHOSE: Final = {"user_id": "alice", "environment": "production"}
(_ACTIVE,) = SUBSCRIPTION_EXAMPLES["active"].value["subscriptions"]

_PURCHASE: Final[Mapping[str, Any]] = {
    **_WHOSE,
    "id": _BOUGHT,
    "store": "apple",
    "status": "completed",
    "transaction_id": "2000000000000001",
    "original_transaction_id": "2000000000000001",
    "product_id": "com.example.game.gems100",
    "quantity": 1,
    "granted": _GEMS,
    "refunded": [],
    "rejection": None,
}
_REJECTED: Final[Mapping[str, Any]] = {
    **_PURCHASE,
    "environment": None,
    "id": "pur_hzxjdy3nnlsy4fv43xwcgcyzqu",
    "status": "rejected",
    "transaction_id": "2000000000000003",
    "original_transaction_id": None,
    "product_id": None,
    "quantity": None,
    "granted": [],
    "rejection": {"code": "claimed_by_another_user", "detail": "another user has claimed this transaction"},
}
_CREDIT: Final[Mapping[str, Any]] = {
    **_WHOSE,
    "entry_id": "ent_1",
    "kind": "purchase",
    "currency": "gems",
    "amount": 100,
    "balance_after": 100,
    "version": 1,
    "purchase_id": _BOUGHT,
}
_DEBIT: Final[Mapping[str, Any]] = {
    **_CREDIT,
    "entry_id": "ent_2",
    "kind": "refund",
    "amount": -100,
    "balance_after": 0,
    "version": 2,
}
_REFUND_REQUEST: Final[Mapping[str, Any]] = {
    **_WHOSE,
    "id": "rfr_0192f0c8e1d07c3f9a4b5c6d7e8f9012",
    "purchase_id": _BOUGHT,
    "status": "open",
    "reason": "My child bought it by mistake.",
    "spent_percentage_milli": 0,
    "held": _GEMS,
    "expires_at": "2026-11-24T12:00:00.000Z",
}
_SUBSCRIPTION: Final[Mapping[str, Any]] = {
    "user_id": "alice",
    **_ACTIVE,
    "original_transaction_id": "2000000000000002",
    "transaction_id": "2000000000000002",
    "period": {**_ACTIVE["period"], "starts_at": _AT, "expires_at": _IN_A_MONTH},
    "renewal": {**_ACTIVE["renewal"], "renews_at": _IN_A_MONTH},
    "access_until": _IN_A_MONTH,
}
_ENTITLEMENT: Final[Mapping[str, Any]] = {
    **_WHOSE,
    "id": "vip",
    "active": True,
    "until": _IN_A_MONTH,
    "source": _SUBSCRIBED,
    "version": 1,
}


def _message(event_type: str, summary: str, data: Mapping[str, Any]) -> Example:
    return Example(summary, {"type": event_type, "timestamp": _AT, "data": data})


OUTWARD_EXAMPLES: Final[Mapping[str, Example]] = {
    example.value["type"]: example
    for example in (
        _message("purchase.completed", "All that the purchase gives is granted", _PURCHASE),
        _message("purchase.rejected", "The purchase was refused", _REJECTED),
        _message(
            "purchase.refunded",
            "What the purchase gave is taken back",
            {**_PURCHASE, "status": "refunded", "refunded": _GEMS},
        ),
        _message("purchase.refund_reversed", "What the refund took is given again", _PURCHASE),
        _message("wallet.credited", "Currency came into a wallet", _CREDIT),
        _message("wallet.debited", "Currency left a wallet", _DEBIT),
        _message("refund_request.updated", "A user asked for a refund", _REFUND_REQUEST),
        _message("subscription.updated", "A subscription began", _SUBSCRIPTION),
        _message("entitlement.changed", "A user may use something", _ENTITLEMENT),
    )
}
