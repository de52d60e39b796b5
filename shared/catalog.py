"""The catalogue: what each store product gives. Read from a TOML file, checked whole.

Shape and meaning of each field: `deploy/examples/catalog.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared.apps import first_problem
from shared.events import ProductType
from shared.ids import AppId, EntitlementId
from shared.money import AMOUNT_MAX, Amount, CurrencyId

QUANTITY_MAX = 10
"""Apple: the largest quantity of one purchase (StoreKit, SKPayment.quantity)."""


class CatalogInvalid(ValueError):
    """The catalogue file cannot be used; the message names the file and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Named(_Strict):
    name: str


class RefundPolicy(_Strict):
    """When a user's request for a refund is taken in the app: so many days after the purchase at most, and with no more
    of it spent. While it is open, for `open_days` at most, what is left of the purchase is held.
    """

    window_days: Annotated[int, Field(ge=1, le=365)]
    spent_percent_max: Annotated[int, Field(ge=0, le=100)]
    open_days: Annotated[int, Field(ge=1, le=60)] = 14


class Product(_Strict):
    """One product of one app: its type in the store, and what each unit of it gives.

    `days` is how long one of a non-renewing product lasts: the store does not say. Of what was bought before
    `grants_from` no currency is granted: another system has done so. `refund_requests` is a policy of its own, or
    false: never; without it the catalogue's applies.
    """

    id: str
    app: AppId
    type: ProductType
    name: str
    group: str | None = None
    grants: dict[CurrencyId, Annotated[int, Field(ge=1, le=AMOUNT_MAX // QUANTITY_MAX)]] = {}
    entitlements: tuple[EntitlementId, ...] = ()
    days: Annotated[int, Field(ge=1, le=3660)] | None = None
    grants_from: AwareDatetime | None = None
    refund_requests: RefundPolicy | Literal[False] | None = None

    def granted(self, quantity: int) -> list[Amount]:
        """What so many of it give, sorted by currency."""
        return [Amount(currency, amount).times(quantity) for currency, amount in sorted(self.grants.items())]


class _File(_Strict):
    products: tuple[Product, ...]
    currencies: dict[CurrencyId, _Named] = {}
    entitlements: dict[EntitlementId, _Named] = {}
    refund_requests: RefundPolicy | None = None


@dataclass(frozen=True, slots=True)
class Catalog:
    """All products, found by app and store product id."""

    products: Mapping[tuple[AppId, str], Product]
    currencies: Mapping[CurrencyId, str]
    entitlements: Mapping[EntitlementId, str]
    refund_requests: RefundPolicy | None = None

    def refund_policy(self, product: Product) -> RefundPolicy | None:
        """When users may ask for a refund of the product in the app; None: never."""
        own = product.refund_requests
        return self.refund_requests if own is None else own or None

    def find(self, *, app: AppId, product_id: str) -> Product | None:
        return self.products.get((app, product_id))

    def of_app(self, app: AppId) -> Sequence[Product]:
        """The app's products in the file's order."""
        return [product for (owner, _), product in self.products.items() if owner == app]


def parse_catalog(text: str) -> Catalog:
    """A catalogue from its text. Raises CatalogInvalid with a sentence that names the field."""
    try:
        parsed = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise CatalogInvalid(str(error)) from error
    except ValidationError as error:
        raise CatalogInvalid(first_problem(error)) from error
    products: dict[tuple[AppId, str], Product] = {}
    for product in parsed.products:
        if (product.app, product.id) in products:
            raise CatalogInvalid(f"product {product.id!r} of app {product.app!r} stands twice")
        _check(product, parsed)
        products[product.app, product.id] = product
    return Catalog(
        products=products,
        currencies={currency: named.name for currency, named in parsed.currencies.items()},
        entitlements={entitlement: named.name for entitlement, named in parsed.entitlements.items()},
        refund_requests=parsed.refund_requests,
    )


def _check(product: Product, parsed: _File) -> None:
    for currency in product.grants:
        if currency not in parsed.currencies:
            raise CatalogInvalid(f"product {product.id!r} grants {currency!r}, which is no currency of the catalogue")
    for entitlement in product.entitlements:
        if entitlement not in parsed.entitlements:
            raise CatalogInvalid(
                f"product {product.id!r} gives {entitlement!r}, which is no entitlement of the catalogue"
            )
    if product.type == "non_consumable" and product.grants:
        # Restoring it makes a transaction with an id of its own (Apple: transactionId), which would be paid again.
        raise CatalogInvalid(f"product {product.id!r} is bought once and restored at will, so it cannot grant currency")
    if product.type == "auto_renewable" and product.group is None:
        raise CatalogInvalid(f"product {product.id!r} renews, so it needs its subscription `group`")
    if product.type == "consumable" and product.entitlements:
        raise CatalogInvalid(f"product {product.id!r} is used up, so it gives no entitlement; a non_renewing one may")
    if product.type != "non_renewing" and product.days is not None:
        raise CatalogInvalid(f"product {product.id!r} is {product.type}, so it lasts no `days` of its own")
    if product.type == "non_renewing" and product.entitlements and product.days is None:
        raise CatalogInvalid(f"product {product.id!r} gives entitlements for a time, so it needs its `days`")


def load_catalog(path: Path) -> Catalog:
    """A catalogue from a file. Raises CatalogInvalid with a sentence that names the file and the field."""
    try:
        return parse_catalog(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogInvalid(f"{path}: {error.strerror}") from error
    except CatalogInvalid as error:
        raise CatalogInvalid(f"{path}: {error}") from error
