"""What the use-cases need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, Protocol

from notifier.domain.deliveries import Answer, AttemptNumber, DeliveryKey, Message, Settlement
from notifier.domain.endpoints import EndpointKey, Failing
from shared.apps import WebhookEndpoint
from shared.events import Event


class Deliveries(Protocol):
    """The deliveries on record, within one transaction."""

    def add(self, wanted: Mapping[DeliveryKey, str], *, now: datetime) -> None:
        """Puts waiting deliveries of events of these types on record; a known one stays as it is."""
        ...

    def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Mapping[DeliveryKey, AttemptNumber]:
        """Puts attempts, and the new states of their deliveries, on record; how many attempts each has now.

        A delivery that was taken again since, or resent, is left out: so is one that is settled a second time.
        """
        ...

    def taken_by(self, endpoints: AbstractSet[EndpointKey]) -> None:
        """These endpoints have taken a message: they are not failing."""
        ...

    def failed(self, failures: Mapping[EndpointKey, tuple[str, int]], *, now: datetime) -> Sequence[Failing]:
        """These endpoints have failed so often more, at these URLs; how they stand there."""
        ...

    def disable(self, endpoint: EndpointKey, *, url: str, reason: str, now: datetime) -> bool:
        """Disables the endpoint, as long as it has this URL; False when it is already."""
        ...


class Feed(Protocol):
    """The end of the feed, within one transaction."""

    def append(self, events: Sequence[Event[Any]]) -> None:
        """Gives the events the next places of their apps' feeds."""
        ...


class Poster(Protocol):
    """Posts messages."""

    def post(self, message: Message, *, endpoint: WebhookEndpoint) -> Answer:
        """Signs and posts it, once. A failure is an answer too: nothing is raised for it."""
        ...
