"""A real worker process for the tests of the bus: what it does with an event is written in the event's user.

`python -m tests.support.bus_worker DATABASE_URL BROKER_URL`: serves the verifier's two queues until SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from shared.bus.consumer import ConsumerRuntime, InBatches, OneByOne
from shared.bus.routes import CONSUMERS, VERIFIER, VERIFIER_STORE
from shared.bus.wake import Waker
from shared.bus.worker import celery_app, serve, work
from shared.database import DatabaseUnavailable, connect_engine
from shared.events import Event
from shared.ids import system_ids
from shared.outcome import Handled, Tried, TryLater
from tests.support.bus import RECEIPT_SUBMITTED, TOKEN_ISSUED

HANDLED = "alice"
KILLS = "kills-its-worker"
AWAY_ONCE = "finds-the-database-away-once"
AWAY_ONCE_MORE = "finds-it-away-once-too"
BUSY_ONCE = "finds-the-store-busy-once"
BUSY_WITHIN_S = 7.0
"""So soon it comes again: by the consumer's schedule, 5 s and a fifth."""
QUOTED = "is-quoted-by-the-database"

SCHEMA = (
    "create table verifier.effect (event_id uuid, secret text)",
    "grant select, insert on verifier.effect to purser_verifier",
)

_met: set[str] = set()


def apply(connection: Connection, events: Sequence[Event[Any]]) -> Handled:
    """Writes a row for each event, or what its user says."""
    for event in events:
        _misbehave(connection, event)
        write(connection, event)
    return Handled()


def prepare(event: Event[Any], before: Tried) -> str:
    """What a store would say."""
    if event.user_id == BUSY_ONCE and before.times == 0:
        raise TryLater("busy")
    return "yes"


def settle(connection: Connection, answered: Sequence[tuple[Event[Any], str]]) -> Handled:
    """Writes a row for each."""
    for event, _ in answered:
        _misbehave(connection, event)
        write(connection, event)
    return Handled()


def write(connection: Connection, event: Event[Any]) -> None:
    connection.exec_driver_sql("insert into verifier.effect (event_id) values (%(id)s)", {"id": event.id})


def _misbehave(connection: Connection, event: Event[Any]) -> None:
    if event.user_id == KILLS:
        os._exit(9)
    if event.user_id in {AWAY_ONCE, AWAY_ONCE_MORE} - _met:
        _met.add(event.user_id)
        raise DatabaseUnavailable("OperationalError")
    if event.user_id == QUOTED:
        connection.exec_driver_sql("select %(receipt)s::int", {"receipt": event.payload.receipt})


def main(database_url: str, broker_url: str) -> None:
    """Serves both queues until SIGTERM."""
    engine = connect_engine(database_url, role="purser_verifier", pool_size=8, application_name="test-worker")
    waker = Waker(engine)
    handlers: dict[str, InBatches | OneByOne[Any]] = {
        TOKEN_ISSUED: InBatches(apply),
        RECEIPT_SUBMITTED: OneByOne(prepare=prepare, settle=settle),
    }
    runtimes = [
        ConsumerRuntime(
            consumer=CONSUMERS[consumer],
            handlers={event_type: handlers[event_type]},
            engine=engine,
            waker=waker,
            ids=system_ids(),
        )
        for consumer, event_type in ((VERIFIER, TOKEN_ISSUED), (VERIFIER_STORE, RECEIPT_SUBMITTED))
    ]
    app = celery_app(name="verifier", broker_url=broker_url)
    serve(app, runtimes, outside_calls=16)
    work(app, consumers=[VERIFIER, VERIFIER_STORE], threads=4, log_level="info")


if __name__ == "__main__":
    main(*sys.argv[1:])
