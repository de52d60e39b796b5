"""What tests of subscriptions need: products, and the events of a store about them. Months have 30 days."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from shared.catalog import Catalog, parse_catalog
from shared.events import (
    Event,
    Offer,
    Period,
    Renewal,
    Revoked,
    StoreTransaction,
    SubscriptionChanged,
)
from shared.ids import TransactionId, UserId, subscription_id
from tests.support.ledger import ALICE, GAME, NOW, event_of

MONTH: Final = timedelta(days=30)
DAY: Final = timedelta(days=1)
FREE_TRIAL: Final = Offer(type="introductory", discount_type="free_trial", period="P1M")

SUBSCRIPTIONS: Final = """
[currencies.gems]
name = "Gems"
[entitlements.vip]
name = "VIP"
[entitlements.gold]
name = "Gold"
[entitlements.adfree]
name = "No ads"
[entitlements.season]
name = "Season"

[[products]]
id = "vip"
app = "game"
type = "auto_renewable"
group = "vip"
name = "VIP, monthly"
entitlements = ["vip"]
grants = { gems = 300 }
[[products]]
id = "gold"
app = "game"
type = "auto_renewable"
group = "vip"
name = "Gold, monthly"
entitlements = ["gold", "vip"]
grants = { gems = 1000 }
[[products]]
id = "legacy"
app = "game"
type = "auto_renewable"
group = "old"
name = "Granted by the system before until today"
entitlements = ["vip"]
grants = { gems = 300 }
grants_from = 2026-11-22T12:00:00Z
[[products]]
id = "adfree"
app = "game"
type = "non_consumable"
name = "No ads"
entitlements = ["adfree"]
[[products]]
id = "season"
app = "game"
type = "non_renewing"
name = "A season of 30 days"
days = 30
entitlements = ["season"]
"""

SHOP: Final[Catalog] = parse_catalog(SUBSCRIPTIONS)


def period(
    number: int = 1,
    *,
    original: str = "1",
    product: str = "vip",
    starts: timedelta = timedelta(),
    lasts: timedelta = MONTH,
    offer: Offer | None = None,
    family_shared: bool = False,
    shown_as: str | None = None,
    signed: timedelta | None = None,
) -> StoreTransaction:
    """The `number`-th period of a subscription, from `starts` after NOW; the first one is the original transaction.

    `shown_as` is another id that the store shows the same period under; `signed` is when it says so, after NOW (when it
    begins, if not given).
    """
    return StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=TransactionId(shown_as or (original if number == 1 else f"{original}{number:02}")),
        original_transaction_id=TransactionId(original),
        product_id=product,
        product_type="auto_renewable",
        quantity=1,
        purchased_at=NOW + starts,
        signed_at=NOW + (starts if signed is None else signed),
        charge_id=TransactionId(f"{original}/{number}"),
        family_shared=family_shared,
        period=Period(
            expires_at=NOW + starts + lasts,
            group="vip",
            offer=offer,
            price_milli=0 if offer == FREE_TRIAL else 9_990,
            currency="USD",
        ),
    )


def renewal(
    *,
    signed: timedelta = timedelta(),
    auto_renew: bool = True,
    product: str = "vip",
    in_billing_retry: bool = False,
    grace_until: timedelta | None = None,
    expiration_reason: str | None = None,
    price_increase: str | None = None,
) -> Renewal:
    """What the store says of the next renewal, so long after NOW."""
    return Renewal(
        signed_at=NOW + signed,
        auto_renew=auto_renew,
        product_id=product,
        in_billing_retry=in_billing_retry,
        grace_period_expires_at=None if grace_until is None else NOW + grace_until,
        expiration_reason=expiration_reason,
        price_increase=price_increase,
    )


def taken_back(*, signed: timedelta, milli: int = 100_000, family: bool = False) -> Revoked:
    """The store's word on refunds of a period, so long after NOW."""
    return Revoked(NOW + signed, milli, NOW + signed, "family_sharing_ended" if family else "refund")


def changed(
    of: StoreTransaction,
    *,
    user: UserId | None = ALICE,
    renewal: Renewal | None = None,
    revoked: Revoked | None = None,
) -> Event[Any]:
    """The event that the store states this of a subscription; each call makes another one."""
    id = subscription_id(
        app=GAME, store=of.store, environment=of.environment, original_transaction_id=of.original_transaction_id
    )
    return event_of(GAME, id, user, SubscriptionChanged(id, of, revoked, renewal))


def at(after: timedelta) -> datetime:
    """So long after NOW."""
    return NOW + after
