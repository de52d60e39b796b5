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
VIP_MONTHLY = "com.example.game.vip.monthly"
MONTH = timedelta(days=30)

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

    def period(self, number: int = 1, *, of: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """The claims of the transaction of one month of a subscription, signed when it was bought: of the first, bought
        now, or the `number`th `of` the subscription whose first is given."""
        starts_at = to_unix_ms(self.now + (number - 1) * MONTH)
        claims = self.transaction(
            productId=VIP_MONTHLY,
            type="Auto-Renewable Subscription",
            subscriptionGroupIdentifier="21000000",
            purchaseDate=starts_at,
            signedDate=starts_at,
            expiresDate=starts_at + to_unix_ms_of(MONTH),
            price=9990,
            currency="USD",
        )
        first = of or claims
        order = {
            "originalTransactionId": first["originalTransactionId"],
            "webOrderLineItemId": f"{first['originalTransactionId'][-6:]}{number:03}",
            "appAccountToken": first.get("appAccountToken"),
        }
        return {name: value for name, value in (claims | order | changes).items() if value is not None}

    def renewal(self, transaction: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """The claims of a JWSRenewalInfoDecodedPayload that is signed with the transaction: it will be renewed."""
        claims = {
            "originalTransactionId": transaction["originalTransactionId"],
            "productId": transaction["productId"],
            "autoRenewProductId": transaction["productId"],
            "autoRenewStatus": 1,
            "renewalDate": transaction["expiresDate"],
            "renewalPrice": 9990,
            "currency": "USD",
            "environment": transaction["environment"],
            "signedDate": transaction["signedDate"],
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


def to_unix_ms_of(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)


def refunded(transaction: dict[str, Any], *, after_s: float = 60, **changes: Any) -> dict[str, Any]:
    """The same transaction as the App Store states it after a refund."""
    later = transaction["signedDate"] + int(after_s * 1000)
    return transaction | {"signedDate": later, "revocationDate": later, "revocationReason": 1} | changes
