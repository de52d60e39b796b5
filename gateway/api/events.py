"""The pull side: what webhooks tell, for whoever would rather ask."""

from __future__ import annotations

from uuid import UUID

from flask import Response

from gateway import handlers
from gateway.api import documents
from gateway.api.services import Services
from gateway.domain.callers import Caller, addressed_user
from gateway.domain.feeds import BEGINNING, Bookmark, FeedKey
from shared.http import answer, read_query
from shared.ids import EventId


def list_of_app(services: Services, caller: Caller) -> Response:
    """List the app's events in order, and wait for new ones

    What webhooks tell, with the same ids and contents, in one order that never changes: an event that was seen has no
    other one before it that comes later. `next` is always there; keep it when what is shown has been dealt with, and
    ask for what comes `after` it. Without `after` it is from the beginning, with `after=latest` from now on. A `next`
    belongs to the list that it is of.

    With `wait` an answer that would be empty waits until there is something, or until the time is up; it comes at once
    when too many wait already, so let a moment pass before the next request when it is empty.
    """
    return _page(services, FeedKey(caller.app.id))


def list_of_user(services: Services, caller: Caller, user: str) -> Response:
    """List a user's events in order, and wait for new ones

    For the app on the user's device: `wait=30` shows a new balance as soon as it is there. Ask for the `next` of
    `after=latest` first, then for the wallet, then for what comes `after` it: nothing falls in between. Everything else
    is as in `GET /v1/events`.
    """
    return _page(services, FeedKey(caller.app.id, addressed_user(caller, user)))


def _page(services: Services, key: FeedKey) -> Response:
    query = read_query(documents.EventQuery)
    page = handlers.read_feed(
        key,
        after=_bookmark(query.after),
        limit=query.limit,
        within_s=query.wait,
        feed=services.feed,
        waiting=services.waiting,
    )
    return answer(documents.event_page(page))


def _bookmark(after: str | None) -> Bookmark:
    if after is None:
        return BEGINNING
    return "latest" if after == "latest" else EventId(UUID(after))
