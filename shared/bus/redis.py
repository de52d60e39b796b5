"""Redis as the broker: what kombu's transport does not do for us."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis, virtual


class PlaceKeeping(redis.QoS):
    """Counts a message as done with, though Redis did not answer the acknowledgement.

    kombu's own goes on counting it, and Celery only logs what went wrong. Once that has happened as often as a worker
    may have messages in hand, it is given none any more, for good, while its heart beats. What is not acknowledged
    comes again when the visibility timeout is over, to find that all of it was handled.
    """

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]
        except BaseException:
            virtual.QoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


def keep_places() -> None:
    """Has every connection of this process to Redis count so."""
    channel: Any = redis.Channel
    channel.QoS = PlaceKeeping
