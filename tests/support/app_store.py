"""What the App Store would sign, for tests: transactions and notifications in Apple's field names, on a test chain."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from shared.clock import to_unix_ms
from shared.jws import JwsVerifier, TrustAnchors
from tests.support.apple_pki import Chain

BUNDLE_ID = "com.example.game"
APP_APPLE_ID = 1234567890
GEMS_100 = "com.example.game.gems100"

_numbers = itertools.count(1)


class AppStore:
    """Signs on one chain. `now` is when it signs; every transaction gets a fresh id unless one is given."""

    def __init__(self, *, now: datetime) -> None:
        self.chain = Chain()
        self.now = now
        self.verifier = JwsVerifier(anchors=TrustAnchors.of(pins=[self.chain.root_sha256]))

    def transaction(self, *, signed_after_s: float = 0, **changes: Any) -> dict[str, Any]:
        """The claims of a JWSTransactionDecodedPayload: 100 gems, bought in production, unless changed."""
        number = f"{2_000_000_000_000_000 + next(_numbers)}"
        claims = {
            "transactionId": number,
            "originalTransactionId": changes.get("transactionId", number),
            "bundleId": BUNDLE_ID,
            "productId": GEMS_100,
            "type": "Consumable",
            "quantity": 1,
            "inAppOwnershipType": "PURCHASED",
            "environment": "Production",
            "purchaseDate": to_unix_ms(self.now),
            "signedDate": to_unix_ms(self.now + timedelta(seconds=signed_after_s)),
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def sign(self, claims: dict[str, Any]) -> str:
        return self.chain.sign(claims)

    def notification(
        self, notification_type: str, transaction: dict[str, Any] | None, *, notification_id: UUID | str, **data: Any
    ) -> str:
        """A signedPayload whose inner transaction is signed too."""
        body = {"bundleId": BUNDLE_ID, "environment": "Production", "appAppleId": APP_APPLE_ID}
        if transaction is not None:
            body |= {"environment": transaction["environment"], "signedTransactionInfo": self.sign(transaction)}
        claims = {
            "notificationType": notification_type,
            "notificationUUID": str(notification_id),
            "version": "2.0",
            "signedDate": to_unix_ms(self.now),
            "data": body | data,
        }
        return self.sign(claims)


def refunded(transaction: dict[str, Any], *, after_s: float = 60, **changes: Any) -> dict[str, Any]:
    """The same transaction as the App Store states it after a refund."""
    later = transaction["signedDate"] + int(after_s * 1000)
    return transaction | {"signedDate": later, "revocationDate": later, "revocationReason": 1} | changes
