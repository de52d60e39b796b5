"""The consumer runtime: an event's claim, its handler's writes and the events that follow, in one transaction.

The claim is the deletion of the delivery row. A second copy of a message deletes nothing and so does nothing. A batch
that fails is handled again one by one, so that one event that cannot be handled does not hold up the others; that one
keeps its delivery row, with its attempts, its error and the time when it comes again.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from logging import DEBUG
from time import perf_counter
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import StatementError

from shared import tracing, trail
from shared.bus import journal
from shared.bus.group_commit import GroupCommit
from shared.bus.routes import Consumer
from shared.bus.wake import Waker
from shared.database import after_commit, is_unavailable, transact
from shared.events import Event, EventMalformed, EventUnknown, Payload
from shared.ids import EventId, IdSource
from shared.log import blotted, get_logger, sentence_of
from shared.metrics.counted import EVENT_AGE, Outcome, count_outcome
from shared.outcome import Handled, Parked, Tried, TryLater
from shared.trail import Place, event_span

log = get_logger(__name__)

ATTEMPTS_MAX: Final = 20
"""With the delays below, an event is tried for a little over two days before it is dead."""
DELAY_FIRST_S: Final = 5.0
DELAY_MAX_S: Final = 6 * 3600.0
ERROR_LENGTH_MAX: Final = 500
SHORT_RETRY_MAX_S: Final = 60.0
"""Up to here a retry waits in the worker's queue (Celery's countdown, well under the visibility time-out); beyond it,
in the journal. On RabbitMQ each one waits in the journal (docs/decisions/0017)."""

Fact = TypeVar("Fact")

Apply = Callable[[Connection, Sequence[Event[Any]]], Handled]
Prepare = Callable[[Event[Any], Tried], Fact]
Settle = Callable[[Connection, Sequence[tuple[Event[Any], Fact]]], Handled]

_CLAIM = f"""
with mine as materialized (
         -- in one order, and stepping over what another worker is handling: no two claims wait for each other
         select event_id from journal.delivery
          where consumer = %(consumer)s and event_id = any(%(ids)s::uuid[]) and state in ('waiting', 'handed')
          order by event_id for update skip locked),
     claimed as (
         delete from journal.delivery d using mine
          where d.consumer = %(consumer)s and d.event_id = mine.event_id
         returning d.event_id, d.attempts)
select {journal.EVENT_COLUMNS}, attempts, extract(epoch from clock_timestamp() - recorded_at)::float8
  from journal.event join claimed on event_id = id
 where id = any(%(ids)s::uuid[])
 order by id
"""

_OPEN = f"""
with open as (
    select event_id, attempts, error from journal.delivery
     where consumer = %(consumer)s and event_id = any(%(ids)s::uuid[]) and state in ('waiting', 'handed'))
select {journal.EVENT_COLUMNS}, error, attempts
  from journal.event join open on event_id = id
 where id = any(%(ids)s::uuid[])
 order by id
"""

# Exponential, with jitter, by how often it failed before. The exponent is bounded: power() fails when it overflows.
_SCHEDULE_S = f"least({DELAY_FIRST_S} * power(2, least(attempts, 30)), {DELAY_MAX_S}) * %(jitter)s"

# The claim deleted the row, and the same transaction puts it back when the event is to be kept.
_KEEP = f"""
insert into journal.delivery (consumer, event_id, type, due_at, state, attempts, error)
select %(consumer)s, %(id)s, %(type)s,
       case state when 'waiting'
            then clock_timestamp() + make_interval(secs => coalesce(%(after_s)s, {_SCHEDULE_S})) else 'infinity' end,
       state, attempts + 1, %(error)s
  from (select attempts, case when %(park)s then 'parked'
                              when %(after_s)s is null and attempts + 1 >= {ATTEMPTS_MAX} then 'dead'
                              else 'waiting' end
          from (values (%(attempts)s)) as before (attempts)) as kept (attempts, state)
"""

# What was asked for (after_s) is a least delay: it must not use the attempts up sooner than the schedule would.
# A retry that the worker's own queue will bring (short_s) is only watched over by the lease behind it.
_FAILED = f"""
with before as (
    select consumer, event_id, attempts - %(counted)s::int as attempts
      from journal.delivery
     where consumer = %(consumer)s and event_id = %(id)s and state in ('waiting', 'handed') for update),
failed as (
    select consumer, event_id, attempts + 1 as attempts, greatest(%(after_s)s, {_SCHEDULE_S}) as delay_s,
           case when %(park)s then 'parked' when attempts + 1 >= {ATTEMPTS_MAX} then 'dead' end as stuck
      from before)
update journal.delivery d
   set attempts = failed.attempts, error = %(error)s, handovers = 0,
       state = coalesce(stuck, 'waiting'),
       due_at = case when stuck is not null then 'infinity'
                     else clock_timestamp() + make_interval(secs => delay_s
                          + case when delay_s <= %(short_s)s then %(lease_s)s else 0 end) end
  from failed where d.consumer = failed.consumer and d.event_id = failed.event_id
returning d.type, d.attempts, d.state, case when stuck is null and delay_s <= %(short_s)s then delay_s end,
          (select trace_id from journal.event where id = d.event_id)
"""

_BEGUN = f"""
update journal.delivery
   set attempts = attempts + 1, error = 'begun, and never finished: did its worker die?',
       state = case when attempts >= {ATTEMPTS_MAX} then 'dead' else state end,
       due_at = case when attempts >= {ATTEMPTS_MAX} then 'infinity' else due_at end
 where consumer = %(consumer)s and event_id = %(id)s and state in ('waiting', 'handed')
returning type, state <> 'dead'
"""


@dataclass(frozen=True, slots=True)
class InBatches:
    """Handles many events of one type in one transaction; `apply` does nothing but compute and use the database."""

    apply: Apply


@dataclass(frozen=True, slots=True)
class OneByOne(Generic[Fact]):
    """Handles each event on its own: `prepare` asks somebody outside, with no transaction open (it gets the event and
    what handling it has come to before); `settle` then writes down what was said, in the transaction of the claims, of
    all the events that have their answers by then.
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
        self._settling = {
            event_type: GroupCommit(self._settling_with(handler), may_join=_Answered.is_of_another_event)
            for event_type, handler in handlers.items()
            if isinstance(handler, OneByOne)
        }

    def handle(self, event_type: str, event_ids: Sequence[EventId], *, counted: bool = False) -> None:
        """Handles the events of one message in one transaction; if that fails, one by one.

        `counted`: `begun` has counted this attempt.
        Raises DatabaseUnavailable when the database is away; the events then come again by themselves.
        """
        handler = self.handlers[event_type]
        if not isinstance(handler, InBatches):
            raise TypeError(f"{event_type} is handled one by one")
        try:
            self._in_one_transaction(handler, event_ids, counted=counted)
        except Exception as error:
            if is_unavailable(error):
                raise
            if len(event_ids) == 1:
                self._fail(event_ids[0], error, short_s=0, counted=counted)
                return
            log.warning("batch failed, going one by one", type=event_type, size=len(event_ids), error=_sentence(error))
            for event_id in event_ids:
                self.handle(event_type, [event_id], counted=counted)

    def open(self, event_ids: Sequence[EventId], *, counted: bool = False) -> list[Opened]:
        """Those of the events that are still to be handled, for `handle_one`. `counted`: `begun` has counted this
        attempt. Raises DatabaseUnavailable.
        """
        named = self._named(event_ids)
        rows = transact(self._engine, lambda connection: connection.exec_driver_sql(_OPEN, named).all())
        return [Opened.of(row, counted=counted) for row in rows]

    def handle_one(self, event_type: str, opened: Opened, *, short_s: float = SHORT_RETRY_MAX_S) -> float | None:
        """Handles one event that waits on somebody outside. `short_s`: up to here a retry is short; 0: none is.

        Seconds after which the caller is to try it once more, if it failed and a short retry is in order; else None.
        Raises DatabaseUnavailable when the database is away.
        """
        handler = self.handlers[event_type]
        if not isinstance(handler, OneByOne):
            raise TypeError(f"{event_type} is handled in batches")
        try:
            self._prepare_and_settle(event_type, handler, opened)
        except Exception as error:
            if is_unavailable(error):
                raise
            return self._fail(opened.event_id, error, short_s=short_s, counted=opened.counted)
        self._waker.poke()
        return None

    def unsettled(self, event_type: str) -> int:
        """How many events of a type have their answers and wait for their turn to be settled."""
        return self._settling[event_type].waiting()

    def begun(self, event_id: EventId) -> bool:
        """Counts an attempt before it is made: for an event whose earlier hand-overs came to nothing, perhaps because
        it kills its worker. False when there is nothing to handle: handled, parked, or tried often enough and now dead.

        Raises DatabaseUnavailable.
        """
        parameters = {"consumer": self.consumer.name, "id": event_id}
        row = transact(self._engine, lambda connection: connection.exec_driver_sql(_BEGUN, parameters).one_or_none())
        if row is None:
            return False
        event_type, goes_on = row
        if not goes_on:
            count_outcome(self.consumer.name, event_type, "dead")
        return bool(goes_on)

    def _prepare_and_settle(self, event_type: str, handler: OneByOne[Any], opened: Opened) -> None:
        with trail.at(opened.place), tracing.span(f"{event_type} handle", kind="consumer") as span:
            span.attributes |= tracing.handling(self.consumer.name, opened.event_id)
            fact = handler.prepare(journal.event_from(opened.row), opened.before)
            self._settling[event_type].submit(_Answered(opened.event_id, opened.counted, fact))

    def _in_one_transaction(self, handler: InBatches, event_ids: Sequence[EventId], *, counted: bool) -> None:
        spans = tracing.Together(self.consumer.name)

        def claim_and_apply(connection: Connection) -> None:
            claims = self._claim(connection, event_ids, counted=event_ids if counted else ())
            claimed = [claim.event for claim in claims]
            with trail.at(*spans.places_of(claimed)):
                if claims:
                    self._record(connection, claims, handler.apply(connection, claimed))

        transact(self._engine, claim_and_apply)
        spans.end()
        self._waker.poke()

    def _settling_with(self, handler: OneByOne[Any]) -> Callable[[Sequence[_Answered]], list[None]]:
        def settle(answered: Sequence[_Answered]) -> list[None]:
            facts = {each.event_id: each.fact for each in answered}
            counted = [each.event_id for each in answered if each.counted]

            def claim_and_settle(connection: Connection) -> None:
                claims = self._claim(connection, list(facts), counted=counted)
                if claims:
                    pairs = [(claim.event, facts[claim.event.id]) for claim in claims]
                    self._record(connection, claims, handler.settle(connection, pairs))

            transact(self._engine, claim_and_settle)
            return [None] * len(answered)

        return settle

    def _claim(
        self, connection: Connection, event_ids: Sequence[EventId], *, counted: Collection[EventId]
    ) -> list[_Claim]:
        rows = connection.exec_driver_sql(_CLAIM, self._named(event_ids))
        now_s = perf_counter()
        claims = (_Claim(journal.event_from(event), attempts, now_s - age_s) for *event, attempts, age_s in rows)
        return [replace(claim, attempts=claim.attempts - (claim.event.id in counted)) for claim in claims]

    def _named(self, event_ids: Sequence[EventId]) -> dict[str, Any]:
        return {"consumer": self.consumer.name, "ids": [str(event_id) for event_id in event_ids]}

    def _record(self, connection: Connection, claims: Sequence[_Claim], handled: Handled) -> None:
        journal.append(connection, handled.drafts, ids=self._ids)
        outcomes = [(claim, self._outcome(connection, claim, handled)) for claim in claims]
        after_commit(connection, partial(_count, self.consumer.name, outcomes))

    def _outcome(self, connection: Connection, claim: _Claim, handled: Handled) -> Outcome:
        """What became of one event; it is kept unless it is handled."""
        if (reason := handled.parked.get(claim.event.id)) is not None:
            self._keep(connection, claim, park=True, after_s=None, error=reason)
            return "parked"
        if (later := handled.later.get(claim.event.id)) is not None:
            self._keep(connection, claim, park=False, after_s=later.after_s, error=later.reason)
            return "dead" if later.after_s is None and claim.attempts + 1 >= ATTEMPTS_MAX else "later"
        return "handled"

    def _keep(self, connection: Connection, claim: _Claim, *, park: bool, after_s: float | None, error: str) -> None:
        parameters = {
            "consumer": self.consumer.name,
            "id": claim.event.id,
            "type": claim.event.type,
            "park": park,
            "after_s": after_s,
            "attempts": claim.attempts,
            "jitter": self._jitter(),
            "error": _kept(error),
        }
        connection.exec_driver_sql(_KEEP, parameters)

    def _jitter(self) -> float:
        return self._ids.uniform(0.8, 1.2)

    def _fail(self, event_id: EventId, error: Exception, *, short_s: float, counted: bool) -> float | None:
        """Writes down that handling failed; the seconds to a short retry, if one is in order."""
        parameters = {
            "consumer": self.consumer.name,
            "id": event_id,
            "park": isinstance(error, Parked),
            "after_s": error.later.after_s if isinstance(error, TryLater) else None,
            "counted": counted,
            "jitter": self._jitter(),
            "short_s": short_s,
            "lease_s": self.consumer.lease_s,
            "error": _sentence(error),
        }
        row = transact(self._engine, lambda connection: connection.exec_driver_sql(_FAILED, parameters).one_or_none())
        if row is None:
            return None
        event_type, attempts, state, short_retry_s, trace_id = row
        count_outcome(self.consumer.name, event_type, _outcome_of_failure(error, state))
        say = log.error if state in {"parked", "dead"} else log.warning
        say(
            "not handled",
            trace_id=trace_id,
            event_id=str(event_id),
            type=event_type,
            attempts=attempts,
            state=state,
            error=parameters["error"],
            exc_info=None if isinstance(error, Parked | TryLater | StatementError) else error,
        )
        return None if short_retry_s is None else float(short_retry_s)


@dataclass(frozen=True, slots=True)
class Opened:
    """An event that is still to be handled, as it was read; `before` is what handling it has come to so far."""

    event_id: EventId
    row: Sequence[Any]
    before: Tried
    counted: bool
    place: Place

    @classmethod
    def of(cls, row: Any, *, counted: bool) -> Opened:
        *event, error, attempts = row
        place = Place(row.trace_id, event_span(row.id), row.id)
        return cls(event_id=row.id, row=event, before=Tried(attempts - counted, error), counted=counted, place=place)


@dataclass(frozen=True, slots=True)
class _Answered:
    """What somebody outside said of an event."""

    event_id: EventId
    counted: bool
    fact: Any

    def is_of_another_event(self, others: Sequence[_Answered]) -> bool:
        """A second copy of a message is settled after the first, and then finds nothing to settle."""
        return all(self.event_id != other.event_id for other in others)


@dataclass(frozen=True, slots=True)
class _Claim:
    """An event with how often handling it has failed before, and when it was recorded, as perf_counter() would say."""

    event: Event[Payload]
    attempts: int
    recorded_s: float


def _count(consumer: str, outcomes: Sequence[tuple[_Claim, Outcome]]) -> None:
    """What became of a batch is committed."""
    now_s = perf_counter()
    for (event_type, outcome), count in Tally((claim.event.type, outcome) for claim, outcome in outcomes).items():
        count_outcome(consumer, event_type, outcome, count=count)
    for claim, outcome in outcomes:
        if outcome == "handled":
            EVENT_AGE.add(now_s - claim.recorded_s, consumer, claim.event.type)
    if log.is_enabled_for(DEBUG):
        for claim, outcome in outcomes:
            event = claim.event
            log.debug(outcome, type=event.type, trace_id=event.trace_id, event_id=str(event.id))


def _outcome_of_failure(error: Exception, state: str) -> Outcome:
    """`state` is that of the delivery then."""
    if state == "parked":
        return "parked"
    if state == "dead":
        return "dead"
    return "later" if isinstance(error, TryLater) else "failed"


def _sentence(error: Exception) -> str:
    """What an operator reads: the reason that a handler gave, or the class and message of what it did not expect.

    A message of the database quotes parameters and rows, which may be a receipt: only its class and code are kept.
    """
    if isinstance(error, Parked | TryLater | EventUnknown | EventMalformed):
        return _kept(str(error))
    if isinstance(error, StatementError):
        return (
            f"{type(error).__name__}: {type(error.orig).__name__} {getattr(error.orig, 'pgcode', None) or ''}".strip()
        )
    return _kept(sentence_of(error))


def _kept(text: str) -> str:
    """As much of it as is kept: it may quote somebody outside, or a payload. Only characters that PostgreSQL takes."""
    told = blotted(text)[:ERROR_LENGTH_MAX].encode("utf-8", "replace").decode()
    return told.replace("\0", "\N{REPLACEMENT CHARACTER}")
