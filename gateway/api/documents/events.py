"""The pull side: which events are asked for, and a page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from gateway.api.documents.outward import OutwardEvent
from gateway.api.documents.outward_examples import OUTWARD_EXAMPLES
from gateway.api.documents.parts import PAGE_DEFAULT, PAGE_MAX, Example
from gateway.api.documents.purchases import WAIT_S_MAX
from gateway.domain.feeds import BEGINNING, FeedPage
from shared.events import outward_document


class EventQuery(BaseModel):
    """Which events, and whether to wait for one: `after` is the `next` of an answer before, or `latest`."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str, Field(pattern=r"^([0-9a-f]{32}|latest)$")] | None = None
    wait: Annotated[int, Field(ge=0, le=WAIT_S_MAX)] = 0


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in their order. `next` is always there: what comes `after` it is what is not shown here."""

    events: Sequence[OutwardEvent]
    next: str


def event_page(page: FeedPage) -> dict[str, Any]:
    """The page, as EventPage has it."""
    return {
        "events": [{"id": str(event.id), **outward_document(event)} for event in page.events],
        "next": page.end.event_id.hex,
    }


_IDS: Final = ("019aab00-5dc0-7000-8000-000000000001", "019aab00-5dc0-7001-8000-000000000002")
_NEXT: Final = _IDS[-1].replace("-", "")
_COMPLETED, _CREDITED = (
    {"id": event_id, **OUTWARD_EXAMPLES[event_type].value}
    for event_id, event_type in zip(_IDS, ("purchase.completed", "wallet.credited"), strict=True)
)

EVENT_EXAMPLES: Final[Mapping[str, Example]] = {
    "purchase": Example(
        "A purchase, and what it put into the wallet",
        {"events": [_COMPLETED, _CREDITED], "next": _NEXT},
    ),
    "nothing_new": Example("Nothing new: ask again with the same `next`", {"events": [], "next": _NEXT}),
    "nothing_yet": Example("Nothing at all so far", {"events": [], "next": BEGINNING.hex}),
}
