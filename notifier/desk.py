"""What operators see and do, by the internal API or the command line: each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Engine

from notifier.domain.deliveries import DeliveryState
from notifier.domain.desk import (
    DeliveryPage,
    DeliveryPlace,
    DeliveryView,
    EndpointView,
    Replayed,
    Span,
    Stretch,
    Told,
    Trial,
)
from notifier.handlers import desk
from notifier.handlers.desk import DroppedState, Observe
from notifier.handlers.ports import Poster
from notifier.store.desk import DeskRecords
from shared import tracing, trail
from shared.apps import Apps, EndpointId
from shared.bus import journal
from shared.bus.wake import Waker
from shared.clock import Clock
from shared.database import transact
from shared.events import Draft
from shared.ids import AppId, EventId, IdSource
from shared.log import get_logger
from shared.trail import Place, event_span

log = get_logger(__name__)

T = TypeVar("T")


class Desk:
    """What an operator sees and does, each in a transaction of one database; all of it one app's. Thread-safe.

    Every method but `test` raises DatabaseUnavailable; those that name an endpoint or an event raise EndpointUnknown or
    DeliveryUnknown (notifier.handlers.desk). `actor` is who does it: `operator`, or `server:<key id>`.
    """

    def __init__(self, *, engine: Engine, apps: Apps, poster: Poster, clock: Clock, ids: IdSource) -> None:
        self._engine = engine
        self._apps = apps
        self._poster = poster
        self._clock = clock
        self._ids = ids
        self._waker = Waker(engine)

    def close(self) -> None:
        """Ends what wakes the sender."""
        self._waker.close()

    def endpoints(self, app: AppId) -> list[EndpointView]:
        """All endpoints of the app, by id."""
        return self._on(app, lambda records: desk.read_endpoints(records=records, apps=self._apps, app=app))

    def deliveries(
        self,
        app: AppId,
        *,
        endpoint: EndpointId | None = None,
        state: DeliveryState | None = None,
        after: DeliveryPlace | None = None,
        limit: int,
    ) -> DeliveryPage:
        """A page of at most `limit` deliveries (1 to PAGE_MAX), the newest event first."""
        return self._on(
            app,
            lambda records: desk.read_deliveries(
                records=records, apps=self._apps, app=app, endpoint=endpoint, state=state, after=after, limit=limit
            ),
        )

    def delivery(self, app: AppId, event_id: EventId) -> Told:
        """An outward event, with every attempt to tell it."""
        return self._on(app, lambda records: desk.read_delivery(records=records, event_id=event_id))

    def resend(self, app: AppId, event_id: EventId, *, endpoint: EndpointId | None, actor: str) -> int:
        """Has the event told once more, to one endpoint or to all that were to hear of it; to how many."""
        queued = self._on(
            app,
            lambda records: desk.resend(
                records=records,
                apps=self._apps,
                app=app,
                event_id=event_id,
                endpoint=endpoint,
                now=self._clock.now(),
            ),
        )
        self._waker.poke()
        log.info("a webhook is sent again", app=app, event_id=str(event_id), endpoint=endpoint, actor=actor)
        return queued

    def replay(
        self,
        app: AppId,
        endpoint: EndpointId,
        *,
        since: datetime,
        until: datetime | None = None,
        delivered: bool = False,
        actor: str,
        limit: int | None = None,
        observe: Observe = desk.unobserved,
    ) -> Replayed:
        """Has the endpoint told of all that it wants of that time and has not taken; with `delivered`, of all.

        In many short transactions, and harmless when done again: what was queued before one fails stays so.
        """
        asked = desk.Replay(app, endpoint, since, until or self._clock.now(), delivered)

        def stretch(span: Span) -> Stretch:
            done = self._on(
                app,
                lambda records: desk.replay_stretch(
                    span, asked=asked, records=records, apps=self._apps, now=self._clock.now()
                ),
            )
            self._waker.poke()
            return done

        done = desk.replay(asked, stretch=stretch, limit=limit, observe=observe)
        log.info("webhooks are replayed", app=app, endpoint=endpoint, queued=done.queued, actor=actor)
        return done

    def test(self, app: AppId, endpoint: EndpointId) -> Trial:
        """Posts a message that tells nothing, now; nothing of it is recorded."""
        id = self._ids.event_id()
        here = trail.place() or Place(self._ids.trace_id(), event_span(id))  # nobody's request, on the command line
        with trail.at(here), tracing.span("POST webhook", kind="client"):
            return desk.try_endpoint(
                poster=self._poster, apps=self._apps, app=app, endpoint=endpoint, id=id, now=self._clock.now()
            )

    def disable(
        self, app: AppId, endpoint: EndpointId, *, reason: str, actor: str, trace_id: str | None = None
    ) -> EndpointView:
        """Keeps what is to be told to the endpoint waiting; how it stands then."""
        asked = desk.Switching(app, endpoint, actor, trace_id or self._ids.trace_id())
        return self._switch(
            asked,
            lambda records: desk.disable(asked, records=records, apps=self._apps, reason=reason, now=self._clock.now()),
        )

    def enable(self, app: AppId, endpoint: EndpointId, *, actor: str, trace_id: str | None = None) -> EndpointView:
        """Has the endpoint told again, first of all of what it has missed; how it stands then.

        What waits for its next attempt is due now, also where the endpoint was not disabled.
        """
        asked = desk.Switching(app, endpoint, actor, trace_id or self._ids.trace_id())
        view = self._switch(
            asked, lambda records: desk.enable(asked, records=records, apps=self._apps, now=self._clock.now())
        )
        while self._make_some_due(app, endpoint) == desk.AT_ONCE_MAX:
            pass
        self._waker.poke()
        return view

    def drop(self, app: AppId, endpoint: EndpointId, *, states: Sequence[DroppedState], actor: str) -> int:
        """Gives up what the endpoint has not taken, as it stands; how many. Raises DropRefused (see `drop_some`).

        In many short transactions, and harmless when done again: what was dropped before one fails stays so.
        """
        self._on(app, lambda records: desk.read_endpoint(records=records, apps=self._apps, app=app, endpoint=endpoint))
        # what waits comes first: when it is refused, nothing is dropped
        dropped = sum(
            self._drop_all(app, endpoint, state=state)
            for state in sorted(set(states), key=lambda state: state != "waiting")
        )
        log.info("webhooks are dropped", app=app, endpoint=endpoint, states=states, dropped=dropped, actor=actor)
        return dropped

    def ready(self) -> None:
        """Whether the database answers."""
        transact(self._engine, lambda connection: connection.exec_driver_sql("select 1"))

    def _make_some_due(self, app: AppId, endpoint: EndpointId) -> int:
        """In a transaction of its own, so that many hold nothing for long."""
        now = self._clock.now()
        return self._on(app, lambda records: records.make_due(endpoint, now=now, limit=desk.AT_ONCE_MAX))

    def _drop_all(self, app: AppId, endpoint: EndpointId, *, state: DroppedState) -> int:
        """Each stretch in a transaction of its own, likewise."""
        dropped = 0
        while some := self._drop_some(app, endpoint, state=state):
            dropped += some
        return dropped

    def _drop_some(self, app: AppId, endpoint: EndpointId, *, state: DroppedState) -> int:
        return self._on(
            app,
            lambda records: desk.drop_some(
                records=records, apps=self._apps, app=app, endpoint=endpoint, state=state, limit=desk.AT_ONCE_MAX
            ),
        )

    def _switch(self, asked: desk.Switching, switch: Callable[[DeskRecords], Sequence[Draft]]) -> EndpointView:
        def work(connection: Connection) -> EndpointView:
            records = DeskRecords(connection, asked.app)
            journal.append(connection, switch(records), ids=self._ids)
            return desk.read_endpoint(records=records, apps=self._apps, app=asked.app, endpoint=asked.endpoint)

        view = transact(self._engine, work)
        self._waker.poke()
        return view

    def _on(self, app: AppId, work: Callable[[DeskRecords], T]) -> T:
        return transact(self._engine, lambda connection: work(DeskRecords(connection, app)))


def undelivered(connection: Connection, app: AppId, event_ids: Sequence[EventId]) -> list[DeliveryView]:
    """What an app's endpoints have not taken of these events: it waits, or was given up."""
    found = DeskRecords(connection, app).of_events(event_ids)
    return [delivery for delivery in found if delivery.state != "delivered"]


def endpoints_of(connection: Connection, apps: Apps, app: AppId) -> list[EndpointView]:
    """All endpoints of an app, by id."""
    return desk.read_endpoints(records=DeskRecords(connection, app), apps=apps, app=app)
