"""The App Store of one run: it knows what was sold, and signs, states and answers as Apple does."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from shared.apps import App
from shared.catalog import Catalog
from shared.clock import Clock, to_unix_ms
from shared.events import ProductType
from shared.ids import TransactionId, UserId
from shared.jws import JwsVerifier, TrustAnchors
from tests.simulation.database import START
from tests.simulation.luck import Luck
from tests.simulation.plan import IN_PARTS, WHOLE_MILLI, Change, Plan, Posted, ReceiptPosted, Sale, token_of
from tests.support.app_store import APP_APPLE_ID, BUNDLE_ID, AppStore
from tests.support.subscriber_life import A_MOMENT, Life, Said
from tests.support.subscriber_words import receipt_body, renewal_claims, transaction_claims
from verifier.domain import (
    LookupAnswer,
    ReceiptRefused,
    ReceiptValid,
    StoreBusy,
    StoreMisconfigured,
    TransactionFound,
    TransactionUnknown,
    read_receipt_answer,
)

_TYPES: Final = {
    "consumable": "Consumable",
    "non_consumable": "Non-Consumable",
    "non_renewing": "Non-Renewing Subscription",
}
_WALKED_ONCE_S: Final = 10 * 365 * 86_400.0
"""How long a certificate chain is kept: walking one takes as long as half of a run."""

Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate chain and who trusts it. One serves all runs of a process."""

    store: AppStore = field(default_factory=lambda: AppStore(now=START))

    def verifier(self) -> JwsVerifier:
        anchors = TrustAnchors.of(pins=[self.store.chain.root_sha256])
        return JwsVerifier(anchors=anchors, chain_ttl_s=_WALKED_ONCE_S)


class SimulatedAppStore:
    """As verifier.handlers.ReceiptStore and TransactionStore, and the author of all that is signed."""

    def __init__(self, plan: Plan, *, signer: Signer, catalog: Catalog, clock: Clock, luck: Luck) -> None:
        self._sales = {sale.number: sale for sale in plan.sales}
        self._subscriptions = {one.number: one for one in plan.subscriptions}
        self._store = signer.store
        self._catalog = catalog
        self._clock = clock
        self._luck = luck
        self.lives = {one.number: one.life() for one in plan.subscriptions}
        self.stated: defaultdict[str, set[int]] = defaultdict(set)
        """The sales in the answers about each receipt, by the receipt."""

    def transaction_id(self, number: int) -> TransactionId:
        return self._sales[number].transaction_id

    # ---- what it signs --------------------------------------------------------------------------------------------

    def transaction(self, number: int, *, knows: int) -> str:
        """The sale as the App Store has signed it after so many of its changes."""
        return self._store.sign(self._claims(self._sales[number], knows))

    def notification(self, number: int, *, change: int, again: int) -> str:
        """What it tells of a change of a sale (0: that it was sold)."""
        sale = self._sales[number]
        kind = "ONE_TIME_CHARGE"
        if change:
            kind = "REFUND" if sale.changes[change - 1].milli else "REFUND_REVERSED"
        return self._notification(kind, sale, change, f"{number}-{change}", again)

    def declined(self, number: int) -> str:
        """What it tells when somebody was denied a refund."""
        sale = self._sales[number]
        return self._notification("REFUND_DECLINED", sale, len(sale.changes), f"{number}-declined", 0)

    def _notification(self, kind: str, sale: Sale, change: int, name: str, again: int) -> str:
        """A repeat is signed anew, and is still the same notification."""
        self._store.now = self._clock.now() + timedelta(milliseconds=again)
        return self._store.notification(kind, self._claims(sale, change), notification_id=f"sale-{name}")

    def _claims(self, sale: Sale, knows: int) -> Claims:
        sold_ms = _ms(sale.sold_s)
        signed_ms = _ms(sale.changes[knows - 1].at_s) if knows else sold_ms
        return {
            "transactionId": sale.transaction_id,
            "originalTransactionId": sale.transaction_id,
            "bundleId": BUNDLE_ID,
            "productId": sale.product,
            "type": _TYPES[self._type(sale.product)],
            "quantity": sale.quantity,
            "inAppOwnershipType": "PURCHASED",
            "environment": sale.environment.capitalize(),
            "purchaseDate": sold_ms,
            "signedDate": signed_ms,
            **({"appAccountToken": str(token_of(sale.buyer))} if sale.with_token else {}),
            **(_revoked(sale.changes[knows - 1]) if knows else {}),
        }

    def _type(self, product_id: str) -> ProductType:
        (product,) = (each for each in self._catalog.products.values() if each.id == product_id)
        return product.type

    # ---- subscriptions ---------------------------------------------------------------------------------------------

    def period(self, number: int, said: int) -> tuple[str, TransactionId]:
        """The transaction that was signed with the `said`th word of a subscription, and its id."""
        claims = self._period_claims(number, self.lives[number].said[said])
        return self._store.sign(claims), claims["transactionId"]

    def period_notification(self, number: int, said: int, *, again: int) -> str:
        """What it told then."""
        word = self.lives[number].said[said]
        assert word.kind is not None
        kind, _ = word.kind  # of what is acted on, the subtype changes nothing
        self._store.now = self._clock.now() + timedelta(milliseconds=again)
        return self._store.notification(
            kind,
            self._period_claims(number, word),
            notification_id=f"subscription-{number}-{said}",
            signedRenewalInfo=self._store.sign(renewal_claims(word)),
            status=word.status,
        )

    def newest_period(self, number: int) -> TransactionId:
        life = self.lives[number]
        return life.says(life.last, life.now).transaction.transaction_id

    def next_due(self) -> datetime | None:
        """When something happens to a subscription by itself."""
        return min((life.due for life in self.lives.values() if life.due is not None), default=None)

    def let_due_happen(self) -> list[tuple[int, int]]:
        """What is due by now happens; what is told of it, as (subscription, place in what was said). That a cancelled
        one has ended is told now and then only: its time says it too.
        """
        now, happened = self._clock.now(), []
        for number, life in self.lives.items():
            before = len(life.said)
            while life.due is not None and life.due <= now:
                life.lets_due_happen()
            happened += [(number, said) for said in range(before, len(life.said)) if self._is_told(life.said[said])]
        return happened

    def _is_told(self, said: Said) -> bool:
        return said.kind != ("EXPIRED", "VOLUNTARY") or self._luck.number(2) == 0

    def _period_claims(self, number: int, said: Said) -> Claims:
        one = self._subscriptions[number]
        return transaction_claims(said, account_token=token_of(one.buyer) if one.with_token else None)

    # ---- what it answers -------------------------------------------------------------------------------------------

    def verify(self, receipt: str, *, app: App) -> ReceiptValid | ReceiptRefused | StoreBusy | StoreMisconfigured:
        if self._luck.strikes("store_busy"):
            return StoreBusy("Internal data access error", status=21009)
        user = UserId(base64.b64decode(receipt).decode().partition("#")[0])
        now = self._clock.now()
        in_app = [sale for sale in self._sales.values() if self._in_receipt(sale, user, now)]
        self.stated[receipt] |= {sale.number for sale in in_app}
        answer = read_receipt_answer(
            self._receipt_body(user, in_app, now),
            asked="production",
            answered_at=now,
            product_types=self._type,
        )
        assert isinstance(answer, ReceiptValid)
        return answer

    def find(self, transaction_id: TransactionId, *, app: App) -> LookupAnswer:
        if self._luck.strikes("store_busy"):
            return StoreBusy("it took too long")
        elapsed_s = self._elapsed_s()
        for sale in self._sales.values():
            if sale.transaction_id == transaction_id and sale.sold_s <= elapsed_s:
                knows = sum(change.at_s <= elapsed_s for change in sale.changes)
                return TransactionFound(self._store.sign(self._claims(sale, knows)), sale.environment)
        for number, life in self.lives.items():
            for place, said in enumerate(life.said):
                if said.transaction.transaction_id == transaction_id:
                    return TransactionFound(self.period(number, place)[0], "production")
        return TransactionUnknown()

    def _in_receipt(self, sale: Sale, user: UserId, now: datetime) -> bool:
        """A consumable is in receipts unless it was refunded (and until it is finished: here no app finishes any)."""
        elapsed_s = self._elapsed_s()
        bought = sale.buyer == user and sale.environment == "production" and sale.sold_s <= elapsed_s
        return bought and not (sale.product in IN_PARTS and sale.refunded_at(elapsed_s))

    def _receipt_body(self, user: UserId, in_app: Sequence[Sale], now: datetime) -> bytes:
        body = {
            "status": 0,
            "environment": "Production",
            "receipt": {
                "bundle_id": BUNDLE_ID,
                "adam_id": APP_APPLE_ID,
                "request_date_ms": str(to_unix_ms(now)),
                "in_app": [self._row(sale) for sale in in_app],
            },
            "latest_receipt_info": [],
            "pending_renewal_info": [],
        }
        for number, life in self.lives.items():
            if self._subscriptions[number].buyer == user:
                shown = json.loads(receipt_body(life, at=self._a_moment_of(life)))
                for name in ("latest_receipt_info", "pending_renewal_info"):
                    body[name] += shown[name]
        return json.dumps(body).encode()

    def _a_moment_of(self, life: Life) -> datetime:
        """Now, and a moment in which nothing else was said of it."""
        life.now = max(self._clock.now(), life.now + A_MOMENT)
        return life.now

    def _row(self, sale: Sale) -> Claims:
        refunded_at = [change.at_s for change in sale.changes if change.at_s <= self._elapsed_s()]
        shown = {
            "transaction_id": sale.transaction_id,
            "original_transaction_id": sale.transaction_id,
            "product_id": sale.product,
            "quantity": str(sale.quantity),
            "purchase_date_ms": str(_ms(sale.sold_s)),
        }
        if sale.refunded_at(self._elapsed_s()):
            shown |= {"cancellation_date_ms": str(_ms(refunded_at[-1])), "cancellation_reason": "0"}
        return shown

    def _elapsed_s(self) -> float:
        return (self._clock.now() - START).total_seconds()


def receipt_for(given: Posted | ReceiptPosted) -> str:
    """The receipt that is posted: each is of its user, and another one."""
    what = f"sale {given.sale}" if isinstance(given, Posted) else f"subscription {given.subscription}"
    return base64.b64encode(f"{given.user}#{what}".encode()).decode()


def _revoked(change: Change) -> Claims:
    if not change.milli:
        return {}
    whole = change.milli == WHOLE_MILLI
    return {
        "revocationDate": _ms(change.at_s),
        "revocationReason": 1,
        "revocationType": "REFUND_FULL" if whole else "REFUND_PRORATED",
        "revocationPercentage": change.milli,
    }


def _ms(elapsed_s: float) -> int:
    return to_unix_ms(START + timedelta(seconds=elapsed_s))
