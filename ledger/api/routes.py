"""Every call: its path, what it takes to make it, what answers it.

A path stands here or it does not exist, and it cannot stand here without saying who may call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from flask import Blueprint, Response

from ledger.api import belongings, operations, wallets
from ledger.api import commands as command_views
from ledger.api import refund_requests as refund_views
from ledger.api.bodies import BODY_BYTES_MAX
from ledger.api.rights import ASK_REFUND, GRANT, READ, SETTLE, SPEND
from ledger.api.services import Commands, Queries, RefundRequests, Services
from shared.apps import Apps
from shared.callers import Door, Right
from shared.money import CurrencyId


@dataclass(frozen=True, slots=True)
class Route:
    """One call. `view` is given the services, the caller if a right is needed, and the parts of the path."""

    method: str
    path: str
    needs: Right | None  # None: open to everybody
    view: Callable[..., Response]

    @property
    def endpoint(self) -> str:
        return f"{self.view.__module__.rpartition('.')[2]}-{self.view.__name__}"


ROUTES: Final = (
    Route("GET", "/v1/users/<user:user_id>/wallet", READ, wallets.show),
    Route("GET", "/v1/users/<user:user_id>/wallet/entries", READ, wallets.entries),
    Route("GET", "/v1/users/<user:user_id>/subscriptions", READ, belongings.subscriptions),
    Route("GET", "/v1/users/<user:user_id>/entitlements", READ, belongings.entitlements),
    Route("POST", "/v1/users/<user:user_id>/spends", SPEND, command_views.spend),
    Route("POST", "/v1/spends/<spend_id>/reverse", SETTLE, command_views.reverse_spend),
    Route("POST", "/v1/users/<user:user_id>/holds", SETTLE, command_views.place_hold),
    Route("POST", "/v1/holds/<hold_id>/capture", SETTLE, command_views.capture_hold),
    Route("POST", "/v1/holds/<hold_id>/release", SETTLE, command_views.release_hold),
    Route("POST", "/v1/users/<user:user_id>/grants", GRANT, command_views.grant),
    Route("POST", "/v1/purchases/<purchase_id>/refund-requests", ASK_REFUND, refund_views.ask),
    Route("GET", "/v1/refund-requests/<refund_request_id>", READ, refund_views.show),
    Route("GET", "/healthz", None, operations.healthz),
    Route("GET", "/readyz", None, operations.readyz),
    Route("GET", "/metrics", None, operations.metrics),
)


def routes(
    *,
    queries: Queries,
    commands: Commands,
    refund_requests: RefundRequests,
    apps: Apps,
    currencies: Collection[CurrencyId],
    service_token: str,
) -> Blueprint:
    """The API as a blueprint, each call behind the check of who may make it. `currencies` are the catalogue's."""
    services = Services(queries, commands, refund_requests, currencies)
    blueprint = Blueprint("ledger", __name__)
    door = Door(apps, service_token, BODY_BYTES_MAX)
    for route in ROUTES:
        view = door.guarded(route.view, services, needs=route.needs)
        blueprint.add_url_rule(route.path, endpoint=route.endpoint, view_func=view, methods=[route.method])
    return blueprint
