"""How the bus does, as the courier tells it at the scrape: what waits in the journal, and on the broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from celery import Celery
from kombu.exceptions import ChannelError
from sqlalchemy import Connection, Engine

from shared.bus.rabbitmq import is_rabbitmq
from shared.bus.routes import ConsumerName
from shared.clock import Clock
from shared.database import limit_statements, transact
from shared.ids import uuid7_moment
from shared.metrics.read import Family, family

COUNTED_MAX: Final = 100_000
"""So many deliveries of one consumer in one state are counted, and no more: a backlog must not slow the scrape down."""
STATEMENT_TIMEOUT_S: Final = 2
CONNECT_TIMEOUT_S: Final = 1.5
UNACKNOWLEDGED: Final = "unacked"
"""Where kombu keeps, on Redis, what workers have and are not done with."""

_STATES: Final = ("waiting", "handed", "parked", "dead")


def _count(state: str) -> str:
    """The states stand in the statement: each has an index of its own for some of them."""
    return f"""(select count(*) from (select from journal.delivery d
                              where d.consumer = name and d.state = '{state}' limit {COUNTED_MAX}) counted)"""


# Ids are times: the smallest is the oldest.
_DELIVERIES = f"""
select name, {", ".join(map(_count, _STATES))},
       (select event_id from journal.delivery d
         where d.consumer = name and d.state in ('waiting', 'handed') order by event_id limit 1)
  from unnest(%(names)s::text[]) as consumer (name)
"""


class DeliveriesWatched:
    """What consumers have not handled, and for how long: for ReadAtScrape."""

    def __init__(self, *, engine: Engine, consumers: Sequence[ConsumerName], clock: Clock) -> None:
        self._engine = engine
        self._consumers = list(consumers)
        self._clock = clock

    def __call__(self) -> list[Family]:
        """Raises DatabaseUnavailable, or DBAPIError when it takes too long."""
        counts: dict[tuple[str, ...], float] = {}
        ages: dict[tuple[str, ...], float] = {}
        for consumer, *numbers, oldest in transact(self._engine, self._read):
            counts |= {(consumer, state): number for state, number in zip(_STATES, numbers, strict=True)}
            ages[consumer,] = self._age_s(oldest)
        return [family("purser_deliveries", counts), family("purser_oldest_unhandled_seconds", ages)]

    def _read(self, connection: Connection) -> Sequence[Any]:
        limit_statements(connection, within_s=STATEMENT_TIMEOUT_S)
        return connection.exec_driver_sql(_DELIVERIES, {"names": self._consumers}).all()

    def _age_s(self, oldest: UUID | None) -> float:
        return 0.0 if oldest is None else max(0.0, (self._clock.now() - uuid7_moment(oldest)).total_seconds())


class BrokerWatched:
    """What waits on the broker, and how full it is: for ReadAtScrape."""

    def __init__(self, *, app: Celery, queues: Sequence[str]) -> None:
        self._app = app
        self._queues = list(queues)

    def __call__(self) -> list[Family]:
        """Raises what the broker's client does when it is away."""
        with self._app.connection_for_read() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT_S)
            if is_rabbitmq(self._app.conf.broker_url):
                return self._of_rabbitmq(connection)
            return self._of_redis(connection.default_channel.client)

    def _of_rabbitmq(self, connection: Any) -> list[Family]:
        """The rest it tells itself, on a port of its own."""
        depths = {(queue,): _depth(connection, queue) for queue in self._queues}
        return [family("purser_queue_messages", depths)]

    def _of_redis(self, client: Any) -> list[Family]:
        """Not by declaring passively: kombu forgets the keys' prefix there, and finds no queue."""
        memory: Mapping[str, Any] = client.info("memory")
        depths = {(queue,): float(client.llen(queue)) for queue in self._queues}
        return [
            family("purser_queue_messages", depths),
            family("purser_broker_unacknowledged_messages", {(): float(client.hlen(UNACKNOWLEDGED))}),
            family("purser_broker_memory_bytes", {(): float(memory["used_memory"])}),
            family("purser_broker_memory_max_bytes", {(): float(memory["maxmemory"])}),
        ]


def _depth(connection: Any, queue: str) -> float:
    """Messages that wait; none of a queue that is not there, for which RabbitMQ closes the channel."""
    with connection.channel() as channel:
        try:
            return float(channel.queue_declare(queue=queue, passive=True).message_count)
        except ChannelError:
            return 0.0
