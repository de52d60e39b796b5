"""The consumer runtime: an event's claim, its handler's writes and the events that follow, in one transaction.

The claim is the deletion of the delivery row. A second copy of a message deletes nothing and so does nothing. A batch
that fails is handled again one by one, so that one event that cannot be handled does not hold up the others; that one
keeps its delivery row, with its attempts, its error and the time when it comes again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from shared.bus import journal
from shared.bus.routes import Consumer
from shared.bus.wake import Waker
from shared.database import is_unavailable, transact
from shared.events import Event, EventMalformed, EventUnknown, Payload
from shared.ids import EventId, IdSource
from shared.log import get_logger
from shared.outcome import Handled, Parked, TryLater

log = get_logger(__name__)

ATTEMPTS_MAX: Final = 20
"""With the delays below, an event is tried for a little over two days before it is dead."""
DELAY_FIRST_S: Final = 5.0
DELAY_MAX_S: Final = 6 * 3600.0
ERROR_LENGTH_MAX: Final = 500
SHORT_RETRY_MAX_S: Final = 60.0
"""Up to here a retry waits in the worker's queue (Celery's countdown, well under the visibility time-out); beyond it,
in the journal."""

Fact = TypeVar("Fact")
P = TypeVar("P", bound=Payload)

Apply = Callable[[Connection, Sequence[Event[Any]]], Handled]
Prepare = Callable[[Event[Any], int], Fact]
Settle = Callable[[Connection, Event[Any], Fact], Handled]

_CLAIM = f"""
with mine as materialized (
         -- in one order, and stepping over what another worker is handling: no two claims wait for each other
         select event_id from journal.delivery
          where consumer = %(consumer)s and event_id = any(%(ids)s::uuid[])
          order by event_id for update skip locked),
     claimed as (
         delete from journal.delivery d using mine
          where d.consumer = %(consumer)s and d.event_id = mine.event_id
         returning d.event_id, d.attempts)
select {journal.EVENT_COLUMNS}, attempts
  from journal.event join claimed on event_id = id
 where id = any(%(ids)s::uuid[])
 order by id
"""

_OPEN = f"""
select {journal.EVENT_COLUMNS}, d.attempts
  from journal.event join journal.delivery d on d.event_id = id
 where id = any(%(ids)s::uuid[]) and d.consumer = %(consumer)s and d.state in ('waiting', 'handed')
 order by id
"""

# The claim deleted the row, and the same transaction puts it back when the event is to be kept.
_KEEP = """
insert into journal.delivery (consumer, event_id, type, due_at, state, attempts, error)
values (%(consumer)s, %(id)s, %(type)s,
        coalesce(clock_timestamp() + make_interval(secs => %(delay_s)s), 'infinity'),
        %(state)s, %(attempts)s, %(error)s)
"""

# A retry that the worker's own queue will bring (short_s) is only watched over by the lease behind it.
_FAILED = f"""
with failed as (
    select consumer, event_id, attempts + 1 as attempts,
           coalesce(%(after_s)s, least({DELAY_FIRST_S} * power(2, attempts), {DELAY_MAX_S}) * %(jitter)s) as delay_s,
           case when %(park)s then 'parked' when attempts + 1 >= {ATTEMPTS_MAX} then 'dead' end as stuck
      from journal.delivery where consumer = %(consumer)s and event_id = %(id)s for update)
update journal.delivery d
   set attempts = failed.attempts, error = %(error)s,
       state = coalesce(stuck, 'waiting'),
       due_at = case when stuck is not null then 'infinity'
                     else clock_timestamp() + make_interval(secs => delay_s
                          + case when delay_s <= %(short_s)s then %(lease_s)s else 0 end) end
  from failed where d.consumer = failed.consumer and d.event_id = failed.event_id
returning d.attempts, d.state, case when stuck is null and delay_s <= %(short_s)s then delay_s end
"""

_BEGUN = """
update journal.delivery set attempts = attempts + 1, error = 'begun, and never finished: did its worker die?'
 where consumer = %(consumer)s and event_id = %(id)s returning attempts
"""


@dataclass(frozen=True, slots=True)
class InBatches:
    """Handles many events of one type in one transaction; `apply` does nothing but compute and use the database."""

    apply: Apply


@dataclass(frozen=True, slots=True)
class OneByOne(Generic[Fact]):
    """Handles each event on its own: `prepare` asks somebody outside, with no transaction open (it gets the event and
    how often handling it has failed before); `settle` then writes down what it said, in the transaction of the claim.
    """

    prepare: Prepare[Fact]
    settle: Settle[Fact]


class ConsumerRuntime:
    """Runs the handlers of one consumer. Thread-safe."""

    def __init__(
        self,
        *,
        consumer: Consumer,
        handlers: Mapping[str, InBatches | OneByOne[Any]],
        engine: Engine,
        waker: Waker,
        ids: IdSource,
    ) -> None:
        self.consumer = consumer
        self.handlers = handlers
        self._engine = engine
        self._waker = waker
        self._ids = ids

    def handle(self, event_type: str, event_ids: Sequence[EventId]) -> None:
        """Handles the events of one message in one transaction; if that fails, one by one.

        Raises DatabaseUnavailable when the database is away; the events then come again by themselves.
        """
        handler = self.handlers[event_type]
        if not isinstance(handler, InBatches):
            raise TypeError(f"{event_type} is handled one by one")
        try:
            self._in_one_transaction(handler, event_ids)
        except Exception as error:
            if is_unavailable(error):
                raise
            if len(event_ids) == 1:
                self._fail(event_ids[0], error, short_s=0)
                return
            log.warning("batch failed, going one by one", type=event_type, size=len(event_ids), error=repr(error)[:200])
            for event_id in event_ids:
                self.handle(event_type, [event_id])

    def handle_one(self, event_type: str, event_id: EventId) -> float | None:
        """Handles one event that waits on somebody outside.

        Seconds after which the caller is to try it once more, if it failed and a short retry is in order; else None.
        Raises DatabaseUnavailable when the database is away.
        """
        handler = self.handlers[event_type]
        if not isinstance(handler, OneByOne):
            raise TypeError(f"{event_type} is handled in batches")
        try:
            self._prepare_and_settle(handler, event_id)
        except Exception as error:
            if is_unavailable(error):
                raise
            return self._fail(event_id, error, short_s=SHORT_RETRY_MAX_S)
        return None

    def begun(self, event_id: EventId) -> bool:
        """Counts an attempt before it is made: for an event whose earlier hand-overs came to nothing, perhaps because
        it kills its worker. False when it was tried often enough: it is dead then."""

        def count(connection: Connection) -> bool:
            parameters = {"consumer": self.consumer.name, "id": event_id}
            attempts = connection.exec_driver_sql(_BEGUN, parameters).scalar()
            if attempts is None or attempts <= ATTEMPTS_MAX:
                return True
            connection.exec_driver_sql(
                "update journal.delivery set state = 'dead', due_at = 'infinity'"
                " where consumer = %(consumer)s and event_id = %(id)s",
                parameters,
            )
            return False

        return transact(self._engine, count)

    def _in_one_transaction(self, handler: InBatches, event_ids: Sequence[EventId]) -> None:
        def claim_and_apply(connection: Connection) -> None:
            claims = self._claim(connection, event_ids)
            if claims:
                self._record(connection, claims, handler.apply(connection, [claim.event for claim in claims]))

        transact(self._engine, claim_and_apply)
        self._waker.poke()

    def _prepare_and_settle(self, handler: OneByOne[Any], event_id: EventId) -> None:
        opened = transact(self._engine, lambda connection: self._open(connection, event_id))
        if opened is None:
            return
        fact = handler.prepare(opened.event, opened.attempts)

        def claim_and_settle(connection: Connection) -> None:
            for claim in self._claim(connection, [event_id]):
                self._record(connection, [claim], handler.settle(connection, claim.event, fact))

        transact(self._engine, claim_and_settle)
        self._waker.poke()

    def _claim(self, connection: Connection, event_ids: Sequence[EventId]) -> list[_Claim]:
        return [_Claim.of(row) for row in connection.exec_driver_sql(_CLAIM, self._named(event_ids))]

    def _open(self, connection: Connection, event_id: EventId) -> _Claim | None:
        row = connection.exec_driver_sql(_OPEN, self._named([event_id])).one_or_none()
        return None if row is None else _Claim.of(row)

    def _named(self, event_ids: Sequence[EventId]) -> dict[str, Any]:
        return {"consumer": self.consumer.name, "ids": [str(event_id) for event_id in event_ids]}

    def _record(self, connection: Connection, claims: Sequence[_Claim], handled: Handled) -> None:
        journal.append(connection, handled.drafts, ids=self._ids)
        for claim in claims:
            if (reason := handled.parked.get(claim.event.id)) is not None:
                self._keep(connection, claim, state="parked", delay_s=None, error=reason)
            elif (later := handled.later.get(claim.event.id)) is not None:
                delay_s = DELAY_FIRST_S if later.after_s is None else later.after_s
                self._keep(connection, claim, state="waiting", delay_s=delay_s, error=later.reason)

    def _keep(self, connection: Connection, claim: _Claim, *, state: str, delay_s: float | None, error: str) -> None:
        parameters = {
            "consumer": self.consumer.name,
            "id": claim.event.id,
            "type": claim.event.type,
            "delay_s": delay_s,
            "state": state,
            "attempts": claim.attempts + 1,
            "error": error[:ERROR_LENGTH_MAX],
        }
        connection.exec_driver_sql(_KEEP, parameters)

    def _fail(self, event_id: EventId, error: Exception, *, short_s: float) -> float | None:
        """Writes down that handling failed; the seconds to a short retry, if one is in order."""
        parameters = {
            "consumer": self.consumer.name,
            "id": event_id,
            "park": isinstance(error, Parked),
            "after_s": error.later.after_s if isinstance(error, TryLater) else None,
            "jitter": self._ids.uniform(0.8, 1.2),
            "short_s": short_s,
            "lease_s": self.consumer.lease_s,
            "error": _sentence(error),
        }
        row = transact(self._engine, lambda connection: connection.exec_driver_sql(_FAILED, parameters).one_or_none())
        if row is None:
            return None
        attempts, state, short_retry_s = row
        say = log.error if state in {"parked", "dead"} else log.warning
        say(
            "not handled",
            event_id=str(event_id),
            attempts=attempts,
            state=state,
            error=parameters["error"],
            exc_info=None if isinstance(error, Parked | TryLater) else error,
        )
        return None if short_retry_s is None else float(short_retry_s)


@dataclass(frozen=True, slots=True)
class _Claim:
    """An event with how often handling it has failed."""

    event: Event[Payload]
    attempts: int

    @classmethod
    def of(cls, row: Any) -> _Claim:
        return cls(journal.event_from(row[:-1]), row[-1])


def _sentence(error: Exception) -> str:
    """What an operator reads: the reason that a handler gave, or the class and message of what it did not expect.

    A message of the database driver can quote parameters, which may be a receipt: only its class is kept.
    """
    if isinstance(error, Parked | TryLater | EventUnknown | EventMalformed):
        return str(error)[:ERROR_LENGTH_MAX]
    if isinstance(error, DBAPIError):
        return f"{type(error).__name__}: {type(error.orig).__name__} {getattr(error.orig, 'pgcode', '')}"
    return f"{type(error).__name__}: {error}"[:ERROR_LENGTH_MAX]
