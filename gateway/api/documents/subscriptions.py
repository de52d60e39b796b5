"""Subscriptions, and what users may use. The ledger answers; here it is what the contract says of it.

The examples are answers of a ledger: tests/integration/ledger/test_docs_subscriptions.py has it give them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from gateway.api.documents.parts import PAGE_DEFAULT, PAGE_MAX, Example, Moment
from shared.events import Environment, Store, SubscriptionStatus

# ---- what comes in ----------------------------------------------------------------------------------------------


class BelongingsQuery(BaseModel):
    """Of which environment."""

    environment: Environment = "production"


class SubscriptionPageQuery(BelongingsQuery):
    """Which page: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str, Field(min_length=1, max_length=200)] | None = None


# ---- what goes out ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """What a period was sold under, or will be. What the store does not say is null.

    `type`: `introductory`, `promotional`, `offer_code`, `win_back`. `discount_type`: `free_trial`, `pay_as_you_go`,
    `pay_up_front`, `one_time`. `period` is an ISO 8601 duration. What a store says beyond these is handed on.
    """

    type: str
    identifier: str | None
    discount_type: str | None
    period: str | None


@dataclass(frozen=True, slots=True)
class Period:
    """The current period. `trial`: it is free. `price_milli` is in thousandths of `currency` (ISO 4217), null where the
    store does not say: a receipt does not.
    """

    starts_at: Moment
    expires_at: Moment
    trial: bool
    offer: Offer | None
    price_milli: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class Renewal:
    """What the store says of the next renewal. Unless `auto_renew`, there will be none, whatever else stands here.

    `product_id` is what it will be renewed as: another one than now after a downgrade. `price_increase` `pending`: the
    customer was told of a higher price and has not agreed yet; without that it expires.
    """

    auto_renew: bool
    product_id: str | None
    renews_at: Moment | None
    price_milli: int | None
    currency: str | None
    offer: Offer | None
    price_increase: str | None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription as it stands at the moment of asking, through all its renewals.

    `status`: `active`; `in_grace_period` and `in_billing_retry` while a renewal could not be paid and the store tries
    again; `expired`; `refunded` when the money for the current period was returned; `revoked` when the family member
    who bought it shares it no more. It may be used until `access_until`, with null not at all. `renewal` is null while
    the store has not spoken of it. `version` counts what was said of it by webhook: drop what is older than you have.
    """

    id: str
    store: Store
    environment: Environment
    status: SubscriptionStatus
    product_id: str
    group: str | None
    original_transaction_id: str
    transaction_id: str
    period: Period
    renewal: Renewal | None
    access_until: Moment | None
    grace_period_expires_at: Moment | None
    expiration_reason: str | None
    revoked_at: Moment | None
    family_shared: bool
    version: int


@dataclass(frozen=True, slots=True)
class SubscriptionPage:
    """A user's subscriptions, the newest period first. `next` null: there are no more."""

    user_id: str
    environment: Environment
    subscriptions: Sequence[Subscription]
    next: str | None


@dataclass(frozen=True, slots=True)
class Entitlement:
    """Something that the catalogue's products give, as it stands at the moment of asking.

    `until` null: for ever; when it is not `active`, when it ended. `source` is the subscription or purchase that gives
    it, or gives it longest. `version` counts its changes: drop what is older than you have.
    """

    id: str
    name: str
    active: bool
    until: Moment | None
    source: str | None
    version: int


@dataclass(frozen=True, slots=True)
class EntitlementList:
    """What a user may use, and what they might once, by id."""

    user_id: str
    environment: Environment
    entitlements: Sequence[Entitlement]


# ---- examples ---------------------------------------------------------------------------------------------------

_MONTHLY, _YEARLY = "com.example.game.vip.monthly", "com.example.game.vip.yearly"
_NOVEMBER, _DECEMBER = "2026-11-01T12:00:00.000Z", "2026-12-01T12:00:00.000Z"

_PERIOD: Final[Mapping[str, Any]] = {
    "starts_at": _NOVEMBER,
    "expires_at": _DECEMBER,
    "trial": False,
    "offer": None,
    "price_milli": 9990,
    "currency": "USD",
}
_RENEWAL: Final[Mapping[str, Any]] = {
    "auto_renew": True,
    "product_id": _MONTHLY,
    "renews_at": _DECEMBER,
    "price_milli": 9990,
    "currency": "USD",
    "offer": None,
    "price_increase": None,
}
_ACTIVE: Final[Mapping[str, Any]] = {
    "id": "sub_wlnr77rol34tmlqejdvz3nmrsn",
    "store": "apple",
    "environment": "production",
    "status": "active",
    "product_id": _MONTHLY,
    "group": "21500001",
    "original_transaction_id": "2000000000000001",
    "transaction_id": "2000000000000001",
    "period": _PERIOD,
    "renewal": _RENEWAL,
    "access_until": _DECEMBER,
    "grace_period_expires_at": None,
    "expiration_reason": None,
    "revoked_at": None,
    "family_shared": False,
    "version": 1,
}


def _page(summary: str, **changes: Any) -> Example:
    """Alice's subscription, but for the changes."""
    subscription = {**_ACTIVE, **changes}
    page = {"user_id": "alice", "environment": "production", "subscriptions": [subscription], "next": None}
    return Example(summary, page)


SUBSCRIPTION_EXAMPLES: Final[Mapping[str, Example]] = {
    "active": _page("Active"),
    "trial": _page(
        "Active, in a free trial",
        period={
            **_PERIOD,
            "expires_at": "2026-11-08T12:00:00.000Z",
            "trial": True,
            "offer": {"type": "introductory", "identifier": None, "discount_type": "free_trial", "period": "P1W"},
            "price_milli": 0,
        },
        renewal={**_RENEWAL, "renews_at": "2026-11-08T12:00:00.000Z"},
        access_until="2026-11-08T12:00:00.000Z",
    ),
    "auto_renew_off": _page("Active, and will not renew", renewal={**_RENEWAL, "auto_renew": False}, version=2),
    "downgrade_pending": _page(
        "Active, and will renew as a smaller product",
        product_id=_YEARLY,
        period={**_PERIOD, "expires_at": "2027-11-01T12:00:00.000Z", "price_milli": 79990},
        renewal={**_RENEWAL, "renews_at": "2027-11-01T12:00:00.000Z"},
        access_until="2027-11-01T12:00:00.000Z",
        version=2,
    ),
    "price_increase_pending": _page(
        "Active, and the customer has not agreed to a higher price",
        renewal={**_RENEWAL, "price_milli": 12990, "price_increase": "pending"},
        version=2,
    ),
    "in_grace_period": _page(
        "The renewal could not be paid, and the customer keeps it meanwhile",
        status="in_grace_period",
        access_until="2026-12-17T12:00:00.000Z",
        grace_period_expires_at="2026-12-17T12:00:00.000Z",
        version=2,
    ),
    "in_billing_retry": _page("The renewal could not be paid", status="in_billing_retry", version=2),
    "expired": _page(
        "Expired, with the reason",
        status="expired",
        renewal={**_RENEWAL, "auto_renew": False},
        expiration_reason="customer_cancelled",
        version=3,
    ),
    "refunded": _page(
        "The money for the current period was returned",
        status="refunded",
        renewal={**_RENEWAL, "auto_renew": False},
        access_until=None,
        revoked_at="2026-11-10T12:00:00.000Z",
        version=2,
    ),
    "revoked": _page(
        "Shared by a family member, who shares it no more",
        status="revoked",
        period={**_PERIOD, "price_milli": None, "currency": None},
        renewal=None,
        access_until=None,
        revoked_at="2026-11-10T12:00:00.000Z",
        family_shared=True,
        version=2,
    ),
}

ENTITLEMENT_EXAMPLES: Final[Mapping[str, Example]] = {
    "entitlements": Example(
        "One for ever, one that has ended, one until its subscription's period ends",
        {
            "user_id": "alice",
            "environment": "production",
            "entitlements": [
                {
                    "id": "adfree",
                    "name": "No ads",
                    "active": True,
                    "until": None,
                    "source": "pur_ndpakn6owx7abdyax7jxgpqzwx",
                    "version": 1,
                },
                {
                    "id": "season",
                    "name": "Season pass",
                    "active": False,
                    "until": "2026-10-31T12:00:00.000Z",
                    "source": None,
                    "version": 2,
                },
                {
                    "id": "vip",
                    "name": "VIP",
                    "active": True,
                    "until": _DECEMBER,
                    "source": "sub_wlnr77rol34tmlqejdvz3nmrsn",
                    "version": 1,
                },
            ],
        },
    )
}
