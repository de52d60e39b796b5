"""The sender: bounded work for each endpoint, so that none waits for another; and no failure ends it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

import pytest

from notifier import sending
from notifier.domain.deliveries import Answer, Delivery, DeliveryKey, Message
from notifier.domain.endpoints import EndpointKey
from notifier.handlers.sending import Attempted, Unsendable
from notifier.sending import Sender
from shared.apps import EndpointId, WebhookEndpoint
from shared.bus.heartbeat import Heartbeat
from shared.bus.wake import Sleeper
from shared.clock import ManualClock
from shared.database import DatabaseUnavailable, connect_engine
from shared.events import Event
from shared.ids import AppId, EventId
from tests.support.notifier import CREDITED, SECRET, TRACE
from tests.support.seeded import seeded_ids
from tests.support.stack import wait_until

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
GAME = AppId("game")
CALL_WITHIN_S = 15.0
AT_ONCE = 4


def webhook(id: str, *, calls_at_once: int = AT_ONCE) -> WebhookEndpoint:
    url = f"https://{id}.example/hooks"
    return WebhookEndpoint(id=EndpointId(id), url=url, secret=SECRET, calls_at_once=calls_at_once)


class Queue:
    """What is due, in a list for each endpoint; the real one: tests/integration/notifier/test_record.py."""

    def __init__(self) -> None:
        self.due: dict[EndpointKey, list[Delivery]] = {}
        self.given_back: list[Delivery] = []
        self.leases_s: set[float] = set()
        self.away = 0
        self._ids = seeded_ids(1, clock=ManualClock(NOW))

    def add(self, endpoint: WebhookEndpoint, count: int) -> list[EventId]:
        key = EndpointKey(GAME, endpoint.id)
        events = [
            Event(self._ids.event_id(), GAME, "pur_1", None, CREDITED, TRACE, None, NOW, NOW) for _ in range(count)
        ]
        deliveries = [Delivery(DeliveryKey(GAME, endpoint.id, event.id), event, 0, NOW) for event in events]
        self.due.setdefault(key, []).extend(deliveries)
        return [event.id for event in events]

    def take(
        self, room: Mapping[EndpointKey, tuple[WebhookEndpoint, int]], *, now: datetime, lost_at: datetime
    ) -> Sequence[Delivery]:
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable("away")
        self.leases_s.add((lost_at - now).total_seconds())
        taken: list[Delivery] = []
        for key, (_, size) in room.items():
            due = self.due.get(key, [])
            taken += due[:size]
            del due[:size]
        return taken

    def give_back(self, deliveries: Sequence[Delivery], *, now: datetime) -> None:
        if self.away:
            raise DatabaseUnavailable("away")
        self.given_back += deliveries

    def given_back_ids(self) -> list[EventId]:
        return [delivery.key.event_id for delivery in self.given_back]


class Callee:
    """Every endpoint at once: those that hang do so until the end, the others answer as they are told."""

    def __init__(self) -> None:
        self.hangs: set[str] = set()
        self.answers: dict[str, Callable[[], Answer]] = {}
        self.in_flight: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.posted: list[tuple[str, str]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def post(self, message: Message, *, endpoint: WebhookEndpoint) -> Answer:
        with self._lock:
            self.posted.append((endpoint.id, message.id))
            self.in_flight[endpoint.id] += 1
            self.most[endpoint.id] = max(self.most[endpoint.id], self.in_flight[endpoint.id])
        if endpoint.id in self.hangs:
            self._ended.wait(30)
        with self._lock:
            self.in_flight[endpoint.id] -= 1
        return self.answers.get(endpoint.id, taken)()

    def posts(self, endpoint: WebhookEndpoint) -> int:
        with self._lock:
            return sum(id == endpoint.id for id, _ in self.posted)

    def end(self) -> None:
        self._ended.set()


def taken() -> Answer:
    return Answer(at=NOW, duration_ms=1, status=200)


def silence() -> Answer:
    return Answer(at=NOW, duration_ms=1, status=None)


class Bench:
    """A sender whose looks a test makes itself, and all that it has to do with."""

    def __init__(self, *endpoints: WebhookEndpoint) -> None:
        self.queue, self.callee, self.clock = Queue(), Callee(), ManualClock(NOW)
        self.settled: list[Attempted] = []
        self.refusals = 0
        nowhere = connect_engine("postgresql://127.0.0.1:9/", role=None, pool_size=1, application_name="test")
        self.sleeper = Sleeper(nowhere)
        self.sender = Sender(
            endpoints={EndpointKey(GAME, each.id): each for each in endpoints},
            record=self.queue,
            settle=self.settle,
            poster=self.callee,
            call_within_s=CALL_WITHIN_S,
            sleeper=self.sleeper,
            heartbeat=Heartbeat(None),
            clock=self.clock,
            ids=seeded_ids(2, clock=self.clock),
        )

    def settle(self, attempted: Sequence[Attempted]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DatabaseUnavailable("away")
        self.settled += attempted

    def settled_for(self, endpoint: WebhookEndpoint) -> int:
        return sum(each.endpoint.id == endpoint.id for each in self.settled)

    def has_settled(self, endpoint: WebhookEndpoint, count: int) -> bool:
        return self.settled_for(endpoint) == count

    def send_until(self, condition: Callable[[], bool], *, what: str) -> None:
        """Looks again and again until it comes true."""

        def looked() -> bool:
            self.sender.send_due()
            return condition()

        wait_until(looked, within_s=10, what=what)

    def close(self) -> None:
        self.callee.end()
        self.sender.close(within_s=10)
        self.sleeper.close()


@pytest.fixture
def bench_of() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(*endpoints: WebhookEndpoint) -> Bench:
        made.append(Bench(*endpoints))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


BenchOf = Callable[..., Bench]
SLOW, QUICK = webhook("slow"), webhook("quick")


class TestBoundedWork:
    def test_an_endpoint_that_hangs_keeps_nobody_else_waiting(self, bench_of: BenchOf) -> None:
        bench = bench_of(SLOW, QUICK)
        bench.callee.hangs.add("slow")
        bench.queue.add(SLOW, 500)
        bench.queue.add(QUICK, 500)
        bench.send_until(lambda: bench.settled_for(QUICK) == 500, what="all told to the one that is quick")
        assert bench.callee.in_flight["slow"] == AT_ONCE
        assert bench.callee.posts(SLOW) == AT_ONCE

    @pytest.mark.parametrize("calls_at_once", [1, 2, 16])
    def test_an_endpoint_is_never_called_more_often_at_once_than_it_allows(
        self, bench_of: BenchOf, calls_at_once: int
    ) -> None:
        narrow = webhook("narrow", calls_at_once=calls_at_once)
        bench = bench_of(narrow)
        bench.queue.add(narrow, 300)
        bench.send_until(lambda: bench.settled_for(narrow) == 300, what="all told")
        assert 1 <= bench.callee.most["narrow"] <= calls_at_once

    def test_no_more_is_taken_than_will_have_its_turn_soon(self, bench_of: BenchOf) -> None:
        bench = bench_of(SLOW)
        bench.callee.hangs.add("slow")
        bench.queue.add(SLOW, 500)
        for _ in range(20):
            bench.sender.send_due()
        left = len(bench.queue.due[EndpointKey(GAME, SLOW.id)])
        assert 500 - left <= AT_ONCE * sending.TAKEN_AHEAD

    def test_one_that_fails_is_probed_by_one_message_at_a_time(self, bench_of: BenchOf) -> None:
        bench = bench_of(SLOW)
        bench.callee.answers["slow"] = silence
        bench.queue.add(SLOW, 500)
        bench.send_until(lambda: bench.settled_for(SLOW) >= 5, what="five failures")
        wait_until(lambda: bench.callee.in_flight["slow"] == 0, what="its calls being over")
        posts = bench.callee.posts(SLOW)
        assert posts < 5 + AT_ONCE
        for probe in range(1, 4):
            bench.clock.advance(60)
            bench.send_until(partial(bench.has_settled, SLOW, posts + probe), what="a probe")
            for _ in range(5):
                bench.sender.send_due()
            assert bench.callee.posts(SLOW) == posts + probe

    def test_what_has_waited_too_long_for_its_turn_is_given_back(self, bench_of: BenchOf) -> None:
        one = webhook("one", calls_at_once=1)
        bench = bench_of(one)
        bench.callee.hangs.add("one")
        _, *missed = bench.queue.add(one, sending.TAKEN_AHEAD)
        assert bench.sender.send_due() == sending.TAKEN_AHEAD
        wait_until(lambda: bench.callee.posts(one) == 1, what="a call")
        bench.clock.advance(sending.TURN_WITHIN_S + 0.1)
        bench.callee.end()
        bench.send_until(lambda: bench.queue.given_back_ids() == missed, what="the others given back")
        assert bench.settled_for(one) == 1
        (later,) = bench.queue.add(one, 1)
        bench.send_until(lambda: bench.settled_for(one) == 2, what="the next one")
        assert bench.callee.posted[-1] == ("one", str(later))
        assert bench.callee.posts(one) == 2

    def test_after_gone_nothing_more_is_sent_of_what_was_taken_ahead(self, bench_of: BenchOf) -> None:
        one = webhook("one", calls_at_once=1)
        bench = bench_of(one)
        bench.callee.answers["one"] = lambda: Answer(at=NOW, duration_ms=1, status=410)
        _, *others = bench.queue.add(one, sending.TAKEN_AHEAD)
        assert bench.sender.send_due() == sending.TAKEN_AHEAD
        bench.send_until(lambda: bench.queue.given_back_ids() == others, what="the others given back")
        assert bench.callee.posts(one) == 1

    def test_a_lease_is_longer_than_turn_call_and_settling_together(self, bench_of: BenchOf) -> None:
        bench = bench_of(QUICK)
        bench.sender.send_due()
        assert bench.queue.leases_s == {sending.TURN_WITHIN_S + CALL_WITHIN_S + sending.SETTLE_WITHIN_S}


class TestWhatGoesWrong:
    def test_a_bug_parks_the_one_and_no_other(self, bench_of: BenchOf) -> None:
        bench = bench_of(QUICK)
        outcomes = iter([ValueError("a bug")])

        def fail_once() -> Answer:
            for error in outcomes:
                raise error
            return taken()

        bench.callee.answers["quick"] = fail_once
        bench.queue.add(QUICK, 3)
        bench.send_until(lambda: bench.settled_for(QUICK) == 3, what="all settled")
        parked = [each.outcome for each in bench.settled if isinstance(each.outcome, Unsendable)]
        assert parked == [Unsendable("it cannot be sent: ValueError")]

    def test_what_cannot_be_settled_is_left_to_its_lease_and_the_next_one_goes(self, bench_of: BenchOf) -> None:
        bench = bench_of(QUICK)
        bench.refusals = 1
        bench.queue.add(QUICK, 1)
        bench.send_until(lambda: bench.refusals == 0, what="a refusal")
        bench.queue.add(QUICK, 20)
        bench.send_until(lambda: bench.settled_for(QUICK) == 20, what="the others settled")

    def test_where_the_system_has_no_more_threads_what_is_due_waits_for_one(
        self, bench_of: BenchOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        bench = bench_of(QUICK)
        bench.queue.add(QUICK, 3)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            assert bench.sender.send_due() == 3
        assert bench.callee.posts(QUICK) == 0
        bench.send_until(lambda: bench.settled_for(QUICK) == 3, what="all settled")

    def test_a_database_that_is_away_is_waited_for(self, bench_of: BenchOf, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sending, "AWAY_S", 0.01)
        bench = bench_of(QUICK)
        bench.queue.away = 3
        bench.queue.add(QUICK, 5)
        stopping = threading.Event()
        thread = threading.Thread(target=bench.sender.run, args=(stopping.is_set,), daemon=True)
        thread.start()
        wait_until(lambda: bench.settled_for(QUICK) == 5, what="all settled")
        stopping.set()
        bench.sleeper.interrupt()
        thread.join(10)
        assert not thread.is_alive()


class TestClosing:
    def test_what_waits_for_its_turn_is_given_back_and_what_was_begun_is_not(self, bench_of: BenchOf) -> None:
        one = webhook("one", calls_at_once=1)
        bench = bench_of(one)
        bench.callee.hangs.add("one")
        first, *others = bench.queue.add(one, 4)
        bench.sender.send_due()
        wait_until(lambda: bench.callee.posts(one) == 1, what="a call")
        bench.sender.close(within_s=0)
        assert bench.queue.given_back_ids() == others
        assert bench.callee.posted == [("one", str(first))]

    def test_what_has_missed_its_turn_is_given_back_too(self, bench_of: BenchOf) -> None:
        one = webhook("one", calls_at_once=1)
        bench = bench_of(one)
        bench.callee.hangs.add("one")
        _, *others = bench.queue.add(one, 4)
        bench.sender.send_due()
        bench.clock.advance(sending.TURN_WITHIN_S + 0.1)
        bench.sender.close(within_s=0)
        assert bench.queue.given_back_ids() == others

    def test_it_ends_all_the_same_when_the_database_is_away(self, bench_of: BenchOf) -> None:
        bench = bench_of(QUICK)
        bench.queue.away = 1_000
        bench.sender.close(within_s=0)
        assert bench.queue.given_back == []


def test_no_retry_comes_sooner_than_the_schedule_says(bench_of: BenchOf) -> None:
    bench = bench_of(QUICK)
    bench.queue.add(QUICK, 100)
    bench.send_until(lambda: bench.settled_for(QUICK) == 100, what="all settled")
    jitters = {each.jitter for each in bench.settled}
    assert len(jitters) > 50
    assert all(1.0 <= jitter <= sending.JITTER_MAX for jitter in jitters)
