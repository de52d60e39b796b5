"""What is on sale: the catalogue's products, of the apps file's apps, as the store lists them."""

from __future__ import annotations

from shared.apps import App, Apps
from shared.catalog import Catalog
from shared.events import ProductType
from shared.ids import AppId
from simulator.domain import FieldInvalid, Listing, invented_price_milli
from simulator.subscriptions import Subscription

CURRENCY = "USD"
DEFAULT_GROUP = "default"
"""The subscription group of a subscription that is not in the catalogue."""


class Shelf:
    """The apps and their products. Immutable."""

    def __init__(self, apps: Apps, catalog: Catalog) -> None:
        self._apps, self._catalog = apps, catalog

    def app(self, app_id: str | None) -> App:
        """The app of this id, or the first of the apps file. Raises FieldInvalid."""
        if app_id is None:
            return next(iter(self._apps))
        app = self._apps.by_id.get(AppId(app_id))
        if app is None:
            raise FieldInvalid("app", f"there is no app {app_id!r}")
        return app

    def secret(self, bundle_id: str) -> str | None:
        """The app's shared secret, if it has one."""
        app = self._apps.by_bundle_id.get(bundle_id)
        return app.apple.shared_secret if app else None

    def listing(
        self, app: App, product_id: str, *, product_type: ProductType | None = None, bundle_id: str | None = None
    ) -> Listing:
        """The product of this id; `product_type` lists one that is not in the catalogue, and `bundle_id` one of an app
        that is not in the apps file. Raises FieldInvalid."""
        product = self._catalog.find(app=app.id, product_id=product_id)
        sold_as = product_type or (product.type if product else None)
        if sold_as is None:
            raise FieldInvalid("product_id", f"{app.id} has no {product_id!r} (give its `type` to sell it anyway)")
        group = (product and product.group) or DEFAULT_GROUP
        return Listing(
            bundle_id=bundle_id or app.apple.bundle_id,
            app_apple_id=app.apple.app_apple_id,
            product_id=product_id,
            type=sold_as,
            group=group if sold_as == "auto_renewable" else None,
            price_milli=invented_price_milli(product_id),
            currency=CURRENCY,
        )

    def listing_for(self, subscription: Subscription, product_id: str | None = None) -> Listing:
        """A product that who has the subscription may change to: one of its group, or the one that it is (None).

        Raises FieldInvalid.
        """
        period = subscription.period
        wanted = product_id or period.product_id
        if wanted != period.product_id and self._group(period.customer.bundle_id, wanted) != period.group:
            raise FieldInvalid("product_id", f"{wanted!r} is no subscription of the group {period.group}")
        return Listing(
            bundle_id=period.customer.bundle_id,
            app_apple_id=period.customer.app_apple_id,
            product_id=wanted,
            type="auto_renewable",
            group=period.group,
            price_milli=invented_price_milli(wanted),
            currency=CURRENCY,
        )

    def _group(self, bundle_id: str, product_id: str) -> str | None:
        app = self._apps.by_bundle_id.get(bundle_id)
        product = self._catalog.find(app=app.id, product_id=product_id) if app else None
        return product.group if product and product.type == "auto_renewable" else None
