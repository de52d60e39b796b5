"""The calls that read what a user has beside a wallet: subscriptions, and what they may use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, cast

from flask import Response
from pydantic import BaseModel, Field

from ledger.api.answers import entitlement_list, subscription_page
from ledger.api.services import Services
from ledger.domain.belongings import SubscriptionPlace
from ledger.domain.entitlements import Holder
from ledger.handlers.reading import PAGE_MAX
from shared.callers import Caller
from shared.events import Environment, Store
from shared.http import answer, malformed, read_query
from shared.ids import TransactionId

PAGE_DEFAULT: Final = 50
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
PLACE_PATTERN: Final = r"^[0-9]{1,18}\.[a-z]{1,16}\.[!-~]{1,128}$"
"""Microseconds since 1970, the store, the original transaction's id. To callers it is one word without a meaning."""


class BelongingsQuery(BaseModel):
    """Of which environment."""

    environment: Environment = "production"


class SubscriptionsQuery(BelongingsQuery):
    """Which page: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str | None, Field(pattern=PLACE_PATTERN)] = None


def subscriptions(services: Services, caller: Caller, user_id: str) -> Response:
    """A page of a user's subscriptions."""
    user = caller.addressed(user_id)
    query = read_query(SubscriptionsQuery)
    page = services.queries.subscriptions(
        Holder(caller.app.id, query.environment, user),
        after=None if query.after is None else read_place(query.after),
        limit=query.limit,
    )
    following = None if page.next_after is None else write_place(page.next_after)
    return answer(subscription_page(page, following=following))


def entitlements(services: Services, caller: Caller, user_id: str) -> Response:
    """What a user may use."""
    user = caller.addressed(user_id)
    query = read_query(BelongingsQuery)
    return answer(entitlement_list(services.queries.entitlements(Holder(caller.app.id, query.environment, user))))


def write_place(place: SubscriptionPlace) -> str:
    """A place in the list, as a caller is given it."""
    microseconds = (place.began_at - EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}.{place.store}.{place.original_transaction_id}"


def read_place(text: str) -> SubscriptionPlace:
    """The place that `write_place` wrote; `text` is of PLACE_PATTERN. Raises Problem: 400."""
    microseconds, store, original_transaction_id = text.split(".", 2)
    try:
        began_at = EPOCH + timedelta(microseconds=int(microseconds))
    except OverflowError as error:
        raise malformed("after: no page ended there") from error
    return SubscriptionPlace(began_at, cast(Store, store), TransactionId(original_transaction_id))
