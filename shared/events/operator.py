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
