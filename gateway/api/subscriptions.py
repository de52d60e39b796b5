"""The calls about what users have for a time or for good: subscriptions and entitlements. The ledger answers."""

from __future__ import annotations

from flask import Response

from gateway.api import documents
from gateway.api.forwarding import ask
from gateway.api.services import Services
from gateway.domain.callers import Caller, addressed_user
from shared.http import read_query


def list_of_user(services: Services, caller: Caller, user: str) -> Response:
    """List a user's subscriptions, the newest period first

    For a page that shows them. What to unlock is what `GET /v1/users/{user}/entitlements` says. Those of the sandbox
    are apart: `?environment=sandbox`.
    """
    query = read_query(documents.SubscriptionPageQuery)
    path = ["users", addressed_user(caller, user), "subscriptions"]
    return ask(services.ledger, caller, path, query.model_dump(exclude_none=True))


def entitlements(services: Services, caller: Caller, user: str) -> Response:
    """List what a user may use, and until when

    From subscriptions, non-consumables and non-renewing products alike: unlock what is `active`, until `until`. What is
    not there was never given. Those of the sandbox are apart: `?environment=sandbox`.
    """
    query = read_query(documents.BelongingsQuery)
    return ask(services.ledger, caller, ["users", addressed_user(caller, user), "entitlements"], query.model_dump())
