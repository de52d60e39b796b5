"""What handling events can come to, in words that pure handlers may use: the bus reads them and acts.

- an event is handled: what it led to is in `Handled.drafts`, recorded in the transaction of the handler's writes;
- it is parked (`Handled.parked`, or `Parked` raised): kept with its reason until an operator retries it;
- it comes again (`Handled.later`, or `TryLater` raised): after the given time, or by the bus's own schedule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.events import Draft
from shared.ids import EventId


@dataclass(frozen=True, slots=True)
class Tried:
    """What handling an event has come to before: how often it failed, and why it did the last time."""

    times: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """This event comes again: after so many seconds, or (None) when the bus's schedule says."""

    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Handled:
    """What a batch of events led to. An event named in `parked` (with the reason) or `later` keeps its delivery."""

    drafts: Sequence[Draft] = ()
    parked: Mapping[EventId, str] = field(default_factory=dict)
    later: Mapping[EventId, Later] = field(default_factory=dict)

    @classmethod
    def together(cls, parts: Iterable[Handled]) -> Handled:
        """What several handlings come to as one."""
        each = list(parts)
        return cls(
            drafts=[draft for part in each for draft in part.drafts],
            parked={event_id: reason for part in each for event_id, reason in part.parked.items()},
            later={event_id: later for part in each for event_id, later in part.later.items()},
        )


class TryLater(Exception):
    """Something outside is away for a while; the event comes again. `after_s` is what it asked for, if it did."""

    def __init__(self, reason: str, *, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.later = Later(reason, after_s)


class Parked(Exception):
    """This event cannot be handled as things are; an operator has to mend something and retry it."""
