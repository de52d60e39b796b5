"""What operators do that is to be provable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from shared.events.base import Payload


@dataclass(frozen=True, slots=True)
class UserErased(Payload):
    """All that was personal of a user was taken out; the event's user is the pseudonym that has the rest. Who it was is
    not said. `rows`: how many were changed, by table; `actor`: who erased."""

    TYPE: ClassVar[str] = "user.erased"

    actor: str
    rows: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeliveryRetried(Payload):
    """What a consumer could not handle is handed to it once more: the event that this one followed from. `actor`: who
    wanted it."""

    TYPE: ClassVar[str] = "delivery.retried"

    consumer: str
    actor: str


@dataclass(frozen=True, slots=True)
class DeliveryDropped(Payload):
    """What a consumer could not handle it never will, likewise."""

    TYPE: ClassVar[str] = "delivery.dropped"

    consumer: str
    actor: str
