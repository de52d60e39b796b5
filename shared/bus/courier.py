"""The courier: the only publisher. Takes delivery rows that are due and puts their ids on the broker, in batches.

First hand-over, redelivery of what got lost and a retry that has come due are the same query. Several couriers may run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.bus.heartbeat import Heartbeat
from shared.bus.proofs import ProofRetention
from shared.bus.routes import Consumer, ConsumerName
from shared.bus.wake import Sleeper
from shared.clock import Clock
from shared.database import DatabaseUnavailable, is_busy, transact
from shared.ids import EventId
from shared.log import get_logger
from shared.metrics.counted import HANDED_OVER, HANDOVERS_FAILED

log = get_logger(__name__)

PAUSE_S: Final = 0.02
"""At least so long between two hand-overs to one queue, so that batches form by themselves (measured: +35 to 60 %)."""
BUSY_IDS: Final = 8
"""A queue is busy when a hand-over has so many ids (at PAUSE_S: 400 a second), or fills a message."""
POLL_S: Final = 0.25
"""How often to look without having been woken."""
SWEEP_S: Final = 5.0
"""How often to look for all that is due, however old. In between, unless a queue has a backlog, only for what came due
in the last RECENT_S: a long transaction elsewhere (a backup) keeps dead index entries that every look steps over."""
RECENT_S: Final = 2.0
AWAY_S: Final = 1.0
"""How long to wait before another try when the database or the broker is away, whoever calls meanwhile: each try takes
rows and puts them back."""
ALONE_AFTER_HANDOVERS: Final = 3
"""An id that was handed over this often without an outcome travels alone: it may be what kills its worker."""
LEASE_MAX_S: Final = 600.0
"""The lease doubles with each hand-over up to here: while a worker is away, its queue must not fill up with copies."""
LEFT_ALONE_S: Final = 10.0
"""How long a queue rests that the broker does not serve while it serves others: each try keeps those waiting."""
EVER_S: Final = 1e9
MAINTAIN_S: Final = 3600.0
MONTHS_AHEAD: Final = 3

# `d.ctid = any (array(...))`: joined in any other way the planner hashes the whole table (measured: 200 to 450 ms).
# `statement_timestamp()`, since an index cannot be searched for what clock_timestamp() gives, anew for every row.
_TAKE = f"""
with free as (
    select name, lease_s, look_back_s, greatest(0, ids_in_flight - (
               select count(*) from journal.delivery f
                where f.consumer = name and f.state = 'handed' and f.due_at > statement_timestamp())) as ids
      from unnest(%(names)s::text[], %(in_flight)s::int[], %(leases)s::float8[], %(look_backs)s::float8[])
           c (name, ids_in_flight, lease_s, look_back_s)),
taken as (
    update journal.delivery d
       set due_at = clock_timestamp() + make_interval(secs => (
               select greatest(lease_s, least(lease_s * power(2, least(d.handovers, 30)), {LEASE_MAX_S}))
                 from free where name = d.consumer)),
           state = 'handed', handovers = handovers + 1
     where d.ctid = any (array(
               select x.ctid
                 from free, lateral (
                      select ctid from journal.delivery q
                       where q.consumer = free.name and q.due_at <= statement_timestamp()
                         and q.due_at >= statement_timestamp() - make_interval(secs => free.look_back_s)
                       order by q.due_at limit free.ids for update skip locked) x))
    returning d.consumer, d.type, d.event_id, d.handovers)
select free.name, free.ids, taken.type, taken.event_id, taken.handovers
  from free left join taken on taken.consumer = free.name
"""

# A hand-over that failed does not count: what came to nothing was the broker, not the event.
_RELEASE = """
update journal.delivery
   set due_at = clock_timestamp() + make_interval(secs => %(pause_s)s), state = 'waiting', handovers = handovers - 1
 where consumer = %(consumer)s and event_id = any(%(ids)s::uuid[]) and state = 'handed'
"""

_PARTITIONS = "select journal.ensure_partitions(%(now)s, %(months)s)"


@dataclass(frozen=True, slots=True)
class Message:
    """Ids of one type for one queue. `alone`: it was handed over before, several times, and nothing came of it."""

    queue: ConsumerName
    event_type: str
    event_ids: tuple[EventId, ...]
    alone: bool = False


class BrokerUnavailable(Exception):
    """The broker did not take the messages, or did not say so in time; some of them may have got there.

    `queues`: it has taken all but what was for these. Empty: of none is it known.
    """

    def __init__(self, reason: str, *, queues: Collection[str] = ()) -> None:
        super().__init__(reason)
        self.queues = frozenset(queues)


class Publisher(Protocol):
    """Puts messages on their queues."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Raises BrokerUnavailable."""
        ...


class Courier:
    """One courier. `run` until stopped, or `hand_over` once."""

    def __init__(
        self,
        *,
        engine: Engine,
        publisher: Publisher,
        sleeper: Sleeper,
        clock: Clock,
        consumers: Mapping[ConsumerName, Consumer],
        heartbeat: Heartbeat,
        proofs: ProofRetention | None = None,
    ) -> None:
        self._engine = engine
        self._publisher = publisher
        self._sleeper = sleeper
        self._clock = clock
        self._consumers = consumers
        self._heartbeat = heartbeat
        self._proofs = proofs
        self._ready_at: dict[ConsumerName, float] = dict.fromkeys(consumers, -math.inf)
        self._backlog: set[ConsumerName] = set()
        self._swept_at: dict[ConsumerName, float] = dict.fromkeys(consumers, -math.inf)
        self._maintained_at = -math.inf
        self._away_until = -math.inf
        self._running = True

    def run(self) -> None:
        """Hands over until `stop` is called. A database or a broker that is away is waited for."""
        while self._running:
            self._sleeper.wait(self._turn())

    def stop(self) -> None:
        """Ends `run` after the hand-over that is under way; may be called from a signal handler."""
        self._running = False
        self._sleeper.interrupt()

    def _turn(self) -> float:
        """One look at the journal; the seconds to sleep until the next one, unless woken."""
        if (away_s := self._away_until - self._clock.monotonic()) > 0:
            return away_s
        try:
            self._maintain()
            if self._proofs is not None:
                self._proofs.turn()
            self.hand_over()
        except (DatabaseUnavailable, BrokerUnavailable, DBAPIError) as error:
            if isinstance(error, DBAPIError) and not is_busy(error):
                raise
            HANDOVERS_FAILED.add("broker" if isinstance(error, BrokerUnavailable) else "database")
            log.warning("nothing is handed over", reason=repr(error))
            self._away_until = self._clock.monotonic() + AWAY_S
            return AWAY_S
        self._heartbeat.beat()
        now = self._clock.monotonic()
        # What is written while a queue rests gets its turn when the rest is over, woken or not; what is due for another
        # one does not wait for that.
        return min([POLL_S, *(ready_at - now for ready_at in self._ready_at.values() if ready_at > now)])

    def hand_over(self) -> int:
        """Takes what is due for the queues that are not resting, and publishes it. How many ids.

        Raises DatabaseUnavailable, BrokerUnavailable (what was taken is due again in a second then).
        """
        now = self._clock.monotonic()
        consumers = [self._consumers[name] for name, ready_at in self._ready_at.items() if ready_at <= now]
        if not consumers:
            return 0
        messages = self._take(consumers, now)
        taken = self._publish(messages) if messages else []
        for message in taken:
            HANDED_OVER.add(message.queue, count=len(message.event_ids))
        self._rest(taken)
        return sum(len(message.event_ids) for message in taken)

    def _take(self, consumers: Sequence[Consumer], now: float) -> list[Message]:
        parameters = {
            "names": [consumer.name for consumer in consumers],
            "in_flight": [consumer.ids_in_flight for consumer in consumers],
            "leases": [consumer.lease_s for consumer in consumers],
            "look_backs": [self._look_back_s(consumer.name, now) for consumer in consumers],
        }

        def take(connection: Connection) -> list[_Taken]:
            return [_Taken(*row) for row in connection.exec_driver_sql(_TAKE, parameters)]

        messages: list[Message] = []
        taken = sorted(transact(self._engine, take), key=lambda row: row.name)
        for name, group in groupby(taken, key=lambda row: row.name):
            rows = list(group)
            ids = [row for row in rows if row.event_id is not None]
            if len(ids) >= rows[0].free:  # as many as it may have, so perhaps there are more
                self._backlog.add(name)
            else:
                self._backlog.discard(name)
            messages += _messages(self._consumers[name], ids)
        return messages

    def _look_back_s(self, name: ConsumerName, now: float) -> float:
        if name not in self._backlog and now - self._swept_at[name] < SWEEP_S:
            return RECENT_S
        self._swept_at[name] = now
        return EVER_S

    def _publish(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Those that were taken. Raises BrokerUnavailable when it is not some queues alone."""
        try:
            self._publisher.publish(messages)
        except BrokerUnavailable as error:
            untaken = [message for message in messages if not error.queues or message.queue in error.queues]
            # Some may have got there: handing an id over twice is harmless, waiting out a lease for nothing is not.
            transact(self._engine, lambda connection: _release(connection, untaken))
            if not error.queues:
                raise
            self._leave_alone(error)
            return [message for message in messages if message.queue not in error.queues]
        return messages

    def _leave_alone(self, error: BrokerUnavailable) -> None:
        HANDOVERS_FAILED.add("broker")
        log.warning("some queues get nothing", queues=sorted(error.queues), reason=repr(error))
        until = self._clock.monotonic() + LEFT_ALONE_S
        self._ready_at |= {name: until for name in self._ready_at if name in error.queues}

    def _rest(self, messages: Sequence[Message]) -> None:
        now = self._clock.monotonic()
        for message in messages:
            consumer = self._consumers[message.queue]
            many = min(BUSY_IDS, consumer.ids_per_message)
            ready_at = now + (consumer.pause_busy_s if len(message.event_ids) >= many else PAUSE_S)
            self._ready_at[message.queue] = max(self._ready_at[message.queue], ready_at)

    def _maintain(self) -> None:
        """Makes the journal's next partitions, now and then. If that fails the hand-over goes on: there are some for
        months, and after them an event is safe in the default partition."""
        now = self._clock.monotonic()
        if now - self._maintained_at < MAINTAIN_S:
            return
        parameters = {"now": self._clock.now(), "months": MONTHS_AHEAD}
        try:
            transact(self._engine, lambda connection: connection.exec_driver_sql(_PARTITIONS, parameters))
        except DBAPIError as error:
            log.error("partitions were not made", error=type(error.orig).__name__)
        self._maintained_at = now


@dataclass(frozen=True, slots=True)
class _Taken:
    """A row of _TAKE: what one queue may still have, and one id taken for it (None: nothing was due)."""

    name: ConsumerName
    free: int
    type: str
    event_id: EventId | None
    handovers: int


def _messages(consumer: Consumer, taken: Sequence[_Taken]) -> list[Message]:
    messages: list[Message] = []
    ordered = sorted(taken, key=lambda row: (row.type, row.event_id))
    for event_type, group in groupby(ordered, key=lambda row: row.type):
        rows = list(group)
        alone = [row.event_id for row in rows if row.handovers > ALONE_AFTER_HANDOVERS and row.event_id]
        together = [row.event_id for row in rows if row.handovers <= ALONE_AFTER_HANDOVERS and row.event_id]
        messages += [Message(consumer.name, event_type, (event_id,), alone=True) for event_id in alone]
        messages += [
            Message(consumer.name, event_type, tuple(together[start : start + consumer.ids_per_message]))
            for start in range(0, len(together), consumer.ids_per_message)
        ]
    # What was recorded first goes first, whatever its type: nothing rests on it, but whoever reads in order likes it.
    return sorted(messages, key=lambda message: message.event_ids[0])


def _release(connection: Connection, messages: Sequence[Message]) -> None:
    for message in messages:
        ids = [str(event_id) for event_id in message.event_ids]
        connection.exec_driver_sql(_RELEASE, {"consumer": message.queue, "ids": ids, "pause_s": AWAY_S})
