"""The feed's adapter: what the use-cases read of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine

from gateway.domain.feeds import BEGINNING, START, Bookmark, BookmarkUnknown, FeedKey, FeedPage, Place
from shared.bus import feed
from shared.database import transact

T = TypeVar("T")


class PostgresFeed:
    """The feed, as handlers.Feed wants it. Thread-safe."""

    def __init__(self, *, engine: Engine) -> None:
        self._engine = engine

    def place(self, key: FeedKey, *, bookmark: Bookmark) -> Place:
        if bookmark == BEGINNING:
            return START
        found = self._reading(lambda connection: _find(connection, key, bookmark))
        if found is not None:
            return Place(found.position, found.event_id)
        if bookmark != "latest":
            raise BookmarkUnknown(bookmark)
        return START

    def page(self, key: FeedKey, *, after: Place, limit: int) -> FeedPage:
        def read(connection: Connection) -> FeedPage:
            places = feed.page(connection, app=key.app, user_id=key.user_id, after=after.position, limit=limit)
            if not places:
                return FeedPage(events=(), end=after)
            end = Place(places[-1].position, places[-1].event_id)
            return FeedPage(events=feed.events_at(connection, places), end=end)

        return self._reading(read)

    def _reading(self, read: Callable[[Connection], T]) -> T:
        return transact(self._engine, read)


def _find(connection: Connection, key: FeedKey, bookmark: Bookmark) -> feed.Place | None:
    if bookmark == "latest":
        return feed.newest(connection, app=key.app, user_id=key.user_id)
    return feed.place_of(connection, app=key.app, user_id=key.user_id, event_id=bookmark)
