"""`purser subscriptions`: what a user has subscribed to, as the app is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from deploy.desk import app_option, chosen_app, database, environment_option, json_option, show
from deploy.settings import StackSettings
from shared.clock import SystemClock
from shared.events import Environment, SubscriptionState
from shared.ids import UserId
from shared.settings import read

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ledger.domain.entitlements import Holder

PAGE = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One subscription on one line."""

    id: str
    product_id: str
    status: str
    since: datetime
    until: datetime | None
    renews_as: str


@click.command()
@click.argument("user_id")
@app_option
@environment_option
@json_option
def command(user_id: str, app_id: str | None, environment: Environment, as_json: bool) -> None:
    """The subscriptions of a user as they stand now, the newest period first: as `GET /v1/users/{u}/subscriptions`.

    Each one's history: `purser timeline sub_…`.
    """
    from ledger.domain.entitlements import Holder
    from shared.events import subscription_document

    holder = Holder(chosen_app(read(StackSettings), app_id).id, environment, UserId(user_id))
    with database() as run:
        states = list(_states(run, holder))
    if as_json:
        click.echo(json.dumps([subscription_document(state) for state in states], indent=2))
        return
    columns = ["id", "product_id", "status", "since", "until", "renews_as"]
    show([_line(state) for state in states], columns, as_json=False, empty=f"{user_id} has no subscriptions there")


def _states(run: Callable[[Callable[[Connection], Any]], Any], holder: Holder) -> Iterator[SubscriptionState]:
    """All of them, page by page."""
    from ledger.desk import subscriptions_of

    after = None
    while True:
        page = subscriptions_of(run, holder, after=after, limit=PAGE, clock=SystemClock())
        yield from page.subscriptions
        after = page.next_after
        if after is None:
            return


def _line(state: SubscriptionState) -> Line:
    return Line(
        id=state.id,
        product_id=state.product_id,
        status=state.status,
        since=state.period_starts_at,
        until=state.access_until,
        renews_as=_renews_as(state),
    )


def _renews_as(state: SubscriptionState) -> str:
    if state.auto_renew is None:
        return "not stated yet"
    return (state.renewal_product_id or "itself") if state.auto_renew else "will not"
