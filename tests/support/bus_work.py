"""The bus at work: a worker process, a courier in a thread, and what has become of events."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.settings import PROJECT
from shared.bus.courier import Courier
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import VERIFIER, VERIFIER_STORE, Consumer, ConsumerName
from shared.bus.wake import Sleeper
from shared.bus.worker import CeleryPublisher
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.events import AccountTokenIssued, ReceiptSubmitted
from shared.ids import EventId, TransactionId
from tests.support.bus import Bus
from tests.support.stack import child_environment, wait_until

SECRET = "MIIT-marker-of-a-receipt"
LEASE_S = 2
CONSUMERS: Mapping[ConsumerName, Consumer] = {
    VERIFIER: Consumer(VERIFIER, ids_per_message=10, ids_in_flight=500, lease_s=LEASE_S),
    VERIFIER_STORE: Consumer(VERIFIER_STORE, ids_per_message=4, ids_in_flight=100, lease_s=LEASE_S),
}
PUBLISH_LIMIT_S = 20
"""How long a broker that is frozen may hold the courier up."""


@dataclass
class Worker:
    """A worker process (`tests.support.bus_worker`) that can be started again."""

    database_url: str
    broker_url: str
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Returns when it consumes."""
        logged = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.bus_worker", self.database_url, self.broker_url],
                cwd=PROJECT,
                env=child_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: b" ready." in self.log.read_bytes()[logged:], within_s=90, what="the worker's readiness")

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)

    def has_died(self) -> bool:
        return self.process is None or self.process.poll() is not None


@contextlib.contextmanager
def courier_of(database_url: str, publisher: CeleryPublisher) -> Iterator[Courier]:
    """One whose leases are short."""
    engine = connect_engine(database_url, role="purser_courier", pool_size=2, application_name="test-courier")
    sleeper = Sleeper(engine)
    try:
        yield Courier(
            engine=engine,
            publisher=publisher,
            sleeper=sleeper,
            clock=SystemClock(),
            consumers=CONSUMERS,
            heartbeat=Heartbeat(None),
        )
    finally:
        sleeper.close()
        engine.dispose()


@contextlib.contextmanager
def running(courier: Courier) -> Iterator[None]:
    """The courier hands over in a thread of its own."""
    thread = threading.Thread(target=courier.run)
    thread.start()
    try:
        yield
    finally:
        courier.stop()
        thread.join(2 * PUBLISH_LIMIT_S)
        assert not thread.is_alive()


def effects(bus: Bus, event_ids: Sequence[EventId]) -> Counter[EventId]:
    """How often each of the events took effect."""
    rows = bus.execute("select event_id from verifier.effect where event_id = any(%(ids)s)", ids=list(event_ids))
    return Counter(row[0] for row in rows)


def all_handled(bus: Bus, event_ids: Sequence[EventId], *, within_s: float = 60) -> None:
    """Waits until nothing of them is left to deliver; each has taken effect once."""
    wait_until(
        lambda: not bus.open(VERIFIER, event_ids) and not bus.open(VERIFIER_STORE, event_ids),
        within_s=within_s,
        what="the handling of all events",
    )
    assert effects(bus, event_ids) == Counter(event_ids)


def all_are_handed(bus: Bus, event_ids: Sequence[EventId]) -> bool:
    """Whether each of them is on its way to a worker."""
    rows = bus.execute(
        "select from journal.delivery where event_id = any(%(ids)s) and state <> 'handed'", ids=list(event_ids)
    )
    return not rows


def tokens_of(bus: Bus, user_id: str) -> list[EventId]:
    """An event that is handled in a batch, of a user who says what becomes of it."""
    return bus.record(bus.draft(AccountTokenIssued(token=bus.ids.uuid()), user_id=user_id))


def receipts_of(bus: Bus, user_id: str) -> list[EventId]:
    """One that waits on a store, likewise."""
    payload = ReceiptSubmitted(store="apple", transaction_id=TransactionId("1"), receipt=SECRET)
    return bus.record(bus.draft(payload, user_id=user_id))
