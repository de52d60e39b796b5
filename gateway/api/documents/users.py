"""What is for sale, and who a user is to the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.api.documents.parts import CurrencyAmount
from shared import catalog
from shared.events import ProductType


@dataclass(frozen=True, slots=True)
class RefundPolicy:
    """When users may ask for a refund in the app: so many days after the purchase, with no more than so much spent.

    A request is open for `open_days` at most: what is left of the purchase is held meanwhile.
    """

    window_days: int
    spent_percent_max: int
    open_days: int


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the store, and what each unit of it gives.

    `days` is how long one that does not renew lasts. `refund_requests` null: none can be made in the app.
    """

    id: str
    type: ProductType
    name: str
    group: str | None
    grants: Sequence[CurrencyAmount]
    entitlements: Sequence[str]
    days: int | None
    refund_requests: RefundPolicy | None

    @classmethod
    def of(cls, product: catalog.Product, policy: catalog.RefundPolicy | None) -> Product:
        return cls(
            id=product.id,
            type=product.type,
            name=product.name,
            group=product.group,
            grants=[CurrencyAmount.of(amount) for amount in product.granted(1)],
            entitlements=product.entitlements,
            days=product.days,
            refund_requests=None if policy is None else RefundPolicy(**policy.model_dump()),
        )


@dataclass(frozen=True, slots=True)
class ProductList:
    """The app's catalogue."""

    products: Sequence[Product]


@dataclass(frozen=True, slots=True)
class AccountToken:
    """The UUID to give StoreKit as `appAccountToken`. One per user, for ever."""

    app_account_token: str
