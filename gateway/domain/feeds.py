"""The feed of outward events, as it is read from outside: from a bookmark on, in an order that never changes.

A bookmark is the id of the event that was seen last. Places would do, but they count the app's events, which is not a
device's to know; and after a restore from a backup a place may be another event's, so that the reader would miss some
and never hear of it. An event that is not there any more is missed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from shared.events import Event, Payload
from shared.ids import AppId, EventId, UserId

BEGINNING: Final = EventId(UUID(int=0))
"""The bookmark before the first event."""
Bookmark = EventId | Literal["latest"]
"""Where to go on: behind an event, or with what comes from now on."""


class BookmarkUnknown(LookupError):
    """No event of this feed has the bookmark's id."""


@dataclass(frozen=True, slots=True)
class FeedKey:
    """Whose feed: an app's, or the part of it that is about one user."""

    app: AppId
    user_id: UserId | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an app's feed: how many events stand up to here, and the last of them."""

    position: int
    event_id: EventId


START: Final = Place(0, BEGINNING)


@dataclass(frozen=True, slots=True)
class FeedPage:
    """The events that follow a place, in their order; `end` is where the next page goes on."""

    events: Sequence[Event[Payload]]
    end: Place
