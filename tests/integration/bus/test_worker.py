"""The whole bus: a journal, a courier, a real broker and a Celery worker in a process of its own."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from shared.bus.courier import BrokerUnavailable, Courier, Message
from shared.bus.routes import NOTIFIER, VERIFIER, VERIFIER_STORE
from shared.bus.worker import CeleryPublisher, celery_app
from shared.clock import SystemClock
from shared.ids import system_ids
from shared.log import get_logger
from tests.support import bus_worker
from tests.support.bus import TOKEN_ISSUED, Bus, bus_in
from tests.support.bus_work import (
    PUBLISH_LIMIT_S,
    SECRET,
    Worker,
    all_are_handed,
    all_handled,
    courier_of,
    receipts_of,
    running,
    tokens_of,
)
from tests.support.stack import wait_until

UUID_PATTERN = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        for statement in bus_worker.SCHEMA:
            bus.execute(statement)
        yield bus


@pytest.fixture(scope="module")
def redis(redis_url: str) -> Iterator[Redis]:
    with contextlib.closing(Redis.from_url(redis_url, socket_timeout=10)) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture(scope="module")
def workers(
    bus: Bus, module_database: str, redis: Redis, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    worker = Worker(module_database, redis_url, tmp_path_factory.mktemp("worker") / "log")
    yield worker
    worker.stop()


@pytest.fixture
def worker(workers: Worker) -> Worker:
    """One that runs."""
    if workers.has_died():
        workers.start()
    return workers


@pytest.fixture(scope="module")
def publisher(redis_url: str) -> CeleryPublisher:
    return CeleryPublisher(celery_app(name="courier", broker_url=redis_url), system_ids())


@pytest.fixture
def courier(module_database: str, publisher: CeleryPublisher) -> Iterator[Courier]:
    with courier_of(module_database, publisher) as courier:
        yield courier


class TestAMessage:
    def test_a_broker_that_is_looked_into_holds_ids_and_no_payload_while_nobody_consumes(
        self, bus: Bus, workers: Worker, courier: Courier, redis: Redis
    ) -> None:
        if not workers.has_died():
            workers.stop()
        event_ids = bus.receipts(8, receipt=SECRET)
        assert courier.hand_over() == 8
        held = list(contents(redis))
        assert len(held) == 2 * 2  # two messages, each as it is and with its body decoded
        assert not [each for each in held if SECRET in each]
        assert {str(event_id) for event_id in event_ids} <= set(re.findall(UUID_PATTERN, "".join(held)))
        workers.start()
        all_handled(bus, event_ids)

    def test_it_is_a_task_named_after_its_event_type_with_ids_for_arguments(
        self, bus: Bus, worker: Worker, courier: Courier, redis_url: str
    ) -> None:
        with events_of(redis_url) as heard:
            event_ids = bus.tokens(3)
            courier.hand_over()
            all_handled(bus, event_ids)
            wait_until(lambda: any(each["type"] == "task-succeeded" for each in heard()))
        (received,) = [each for each in heard() if each["type"] == "task-received"]
        assert received["name"] == TOKEN_ISSUED
        assert received["hostname"].startswith("verifier+verifier-store@")
        assert received["args"] == f"3 from {event_ids[0]}"

    def test_events_of_both_kinds_are_handled_once_each(self, bus: Bus, worker: Worker, courier: Courier) -> None:
        with running(courier):
            all_handled(bus, bus.tokens(200) + bus.receipts(20))

    def test_no_payload_is_ever_sent_to_the_broker_whatever_the_handler_makes_of_it(
        self, bus: Bus, worker: Worker, courier: Courier, redis: Redis, redis_url: str
    ) -> None:
        with traffic_of(redis_url) as seen:
            handled = bus.receipts(4, receipt=SECRET)
            failing = receipts_of(bus, bus_worker.QUOTED)
            courier.hand_over()
            wait_until(lambda: not bus.open(VERIFIER_STORE, handled))
            wait_until(lambda: bool((row := bus.row(VERIFIER_STORE, failing[0])) and row.attempts))
            wait_until(lambda: any("task-retried" in each for each in seen()), what="the retry's event")
        assert any(str(handled[0]) in each for each in seen())
        assert not [each for each in seen() if SECRET in each]
        bus.set(failing, "state = 'parked', due_at = 'infinity'")
        assert SECRET not in worker.log.read_text(errors="replace")


class TestRetries:
    def test_a_store_that_is_busy_is_asked_again_by_the_workers_own_queue(
        self, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        event_ids = receipts_of(bus, bus_worker.BUSY_ONCE)
        courier.hand_over()  # once only: a second hand-over is none of its doing
        all_handled(bus, event_ids, within_s=30)

    def test_a_database_that_was_away_lets_the_same_message_come_again(
        self, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        event_ids = tokens_of(bus, bus_worker.AWAY_ONCE) + bus.tokens(2)
        courier.hand_over()
        all_handled(bus, event_ids, within_s=30)

    def test_an_event_that_kills_its_worker_travels_alone_and_harms_no_other(
        self, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        (killer,) = tokens_of(bus, bus_worker.KILLS)
        others = bus.tokens(3)
        bus.set([killer], "handovers = 3")
        courier.hand_over()
        wait_until(worker.has_died, what="the death of the worker")
        row = bus.row(VERIFIER, killer)
        assert row is not None
        assert (row.attempts, row.error) == (1, "begun, and never finished: did its worker die?")
        bus.set([killer], "state = 'parked', due_at = 'infinity'")
        worker.start()
        with running(courier):
            all_handled(bus, others)


class TestABrokerThatFails:
    def test_what_it_forgets_is_handed_over_again(
        self, bus: Bus, worker: Worker, courier: Courier, redis: Redis
    ) -> None:
        assert worker.process is not None
        with running(courier):
            event_ids = bus.tokens(100)
            with frozen(worker.process.pid):
                event_ids += bus.tokens(200) + bus.receipts(8)
                wait_until(lambda: all_are_handed(bus, event_ids), what="the hand-over")
                redis.flushall()
            all_handled(bus, event_ids)

    def test_one_that_is_frozen_holds_the_courier_up_for_seconds_only_and_nothing_is_lost(
        self, bus: Bus, worker: Worker, courier: Courier, publisher: CeleryPublisher, redis: Redis
    ) -> None:
        pid = int(redis.info()["process_id"])
        clock = SystemClock()
        with running(courier):
            event_ids = bus.tokens(50)
            with frozen(pid):
                event_ids += bus.tokens(50)
                began = clock.monotonic()
                message = Message(VERIFIER, TOKEN_ISSUED, (event_ids[0],))
                with pytest.raises(BrokerUnavailable):
                    publisher.publish([message])
                assert clock.monotonic() - began < PUBLISH_LIMIT_S
            all_handled(bus, event_ids)

    @pytest.mark.parametrize("answer", ["ack", "reject", "requeue"])
    def test_an_answer_to_a_message_that_it_does_not_hear_takes_up_no_place_of_the_worker(
        self, redis: Redis, redis_url: str, publisher: CeleryPublisher, answer: str
    ) -> None:
        """Or the worker would be given no message any more."""
        app = celery_app(name="worker", broker_url=redis_url)
        publisher.publish([Message(NOTIFIER, TOKEN_ISSUED, (system_ids().event_id(),))])
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            channel.basic_qos(0, 1, False)
            message = app.amqp.queues[NOTIFIER](channel).get()
            assert not channel.qos.can_consume()
            with frozen(int(redis.info()["process_id"])):
                if answer == "ack":
                    message.ack_log_error(get_logger("test"), connection.connection_errors)
                else:
                    message.reject_log_error(get_logger("test"), connection.connection_errors, answer == "requeue")
            assert channel.qos.can_consume()
        redis.flushall()

    def test_one_that_cannot_be_reached_is_unavailable(self) -> None:
        nowhere = CeleryPublisher(celery_app(name="courier", broker_url="redis://127.0.0.1:1/0"), system_ids())
        with pytest.raises(BrokerUnavailable):
            nowhere.publish([Message(VERIFIER, TOKEN_ISSUED, (system_ids().event_id(),))])

    def test_one_that_is_full_is_unavailable(self, redis: Redis, publisher: CeleryPublisher) -> None:
        redis.config_set("maxmemory", "1")
        try:
            with pytest.raises(BrokerUnavailable):
                publisher.publish([Message(VERIFIER, TOKEN_ISSUED, (system_ids().event_id(),))])
        finally:
            redis.config_set("maxmemory", "0")


class TestStopping:
    def test_a_worker_that_is_told_to_stop_finishes_and_goes(self, bus: Bus, worker: Worker, courier: Courier) -> None:
        event_ids = bus.tokens(5)
        courier.hand_over()
        all_handled(bus, event_ids)
        assert worker.stop() == 0


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def events_of(broker_url: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What Flower hears of tasks, from when it hears the worker's heart."""
    heard: list[dict[str, Any]] = []
    app = celery_app(name="listener", broker_url=broker_url)
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": heard.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False))
        thread.start()
        try:
            wait_until(lambda: bool(heard), within_s=60, what="a sign of life")
            yield lambda: [each for each in list(heard) if each["type"].startswith("task-")]
        finally:
            receiver.should_stop = True
            thread.join(10)
            assert not thread.is_alive()


@contextlib.contextmanager
def traffic_of(broker_url: str) -> Iterator[Callable[[], list[str]]]:
    """Everything that anybody sends to the broker, and what is encoded in it."""
    seen: list[str] = []
    client = Redis.from_url(broker_url)
    with client.monitor() as monitor:  # type: ignore[no-untyped-call]
        number = client.client_id()
        thread = threading.Thread(target=lambda: collect(monitor.listen(), seen))
        thread.start()
        try:
            yield lambda: list(seen)
        finally:
            done = f"done-{number}"
            client.echo(done)
            wait_until(lambda: any(done in each for each in list(seen)))
            thread.join(10)
    client.close()


def collect(commands: Iterator[dict[str, Any]], into: list[str]) -> None:
    """Until the echo that ends it."""
    for command in commands:
        into.extend(decoded(str(command["command"])))
        if str(command["command"]).startswith("ECHO done-"):
            return


def contents(redis: Redis) -> Iterator[str]:
    """Every value in the broker, and what is encoded in it."""
    for key in redis.scan_iter():
        if redis.type(key) == b"list":
            for value in redis.lrange(key, 0, -1):
                yield from decoded(value.decode() if isinstance(value, bytes) else value)
        else:
            yield (redis.dump(key) or b"").decode(errors="replace")


def decoded(text: str) -> Iterator[str]:
    """The text, then each body in it: kombu wraps those in base64."""
    yield text
    for body in re.findall(r'"body": "([A-Za-z0-9+/=]+)"', text):
        yield base64.b64decode(body).decode(errors="replace")
