"""The bus on a real RabbitMQ: what is published is confirmed, what a broker does to its messages loses none of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from deploy.doctor.broker import check_broker
from shared.bus.courier import BrokerUnavailable, Courier, Message
from shared.bus.rabbitmq import Blocked
from shared.bus.routes import CONSUMERS, LEDGER, NOTIFIER, VERIFIER, VERIFIER_STORE, ConsumerName
from shared.bus.worker import CeleryPublisher, celery_app
from shared.clock import SystemClock
from shared.events import PurchaseVerified
from shared.ids import EventId, system_ids
from tests.support import bus_worker
from tests.support.bus import TOKEN_ISSUED, Bus, bus_in
from tests.support.bus_work import (
    PUBLISH_LIMIT_S,
    Worker,
    all_are_handed,
    all_handled,
    courier_of,
    receipts_of,
    running,
    tokens_of,
)
from tests.support.rabbitmq import REASON, RabbitMQ, is_wanted, running_rabbitmq
from tests.support.stack import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.skipif(not is_wanted(), reason=REASON)]

RECOVERED_WITHIN_S = 120


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitMQ]:
    with running_rabbitmq() as running_node:
        yield running_node


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        for statement in bus_worker.SCHEMA:
            bus.execute(statement)
        yield bus


@pytest.fixture(scope="module")
def workers(
    bus: Bus, node: RabbitMQ, module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Worker]:
    worker = Worker(module_database, node.url, tmp_path_factory.mktemp("worker") / "log")
    yield worker
    worker.stop()


@pytest.fixture
def worker(workers: Worker) -> Worker:
    """One that runs."""
    if workers.has_died():
        workers.start()
    return workers


@pytest.fixture
def publisher(node: RabbitMQ) -> CeleryPublisher:
    return CeleryPublisher(node.app("courier"), system_ids())


@pytest.fixture
def courier(module_database: str, publisher: CeleryPublisher) -> Iterator[Courier]:
    with courier_of(module_database, publisher) as courier:
        yield courier


def message(queue: ConsumerName = LEDGER) -> Message:
    return Message(queue, PurchaseVerified.TYPE, (system_ids().event_id(),))


class TestPublishing:
    """Nobody works off these queues: the worker below serves others."""

    def test_the_first_that_is_published_makes_every_queue_and_each_is_a_quorum_queue(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        assert node.queues() == dict.fromkeys(CONSUMERS, "quorum")

    def test_what_was_published_is_in_its_queue(self, node: RabbitMQ, publisher: CeleryPublisher) -> None:
        node.control("purge_queue", LEDGER)
        publisher.publish([message() for _ in range(250)] + [message(NOTIFIER)])
        assert node.depth(LEDGER) == 250

    def test_it_survives_the_brokers_death_once_it_is_confirmed(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        node.control("purge_queue", LEDGER)
        publisher.publish([message() for _ in range(20)])
        node.restart()
        assert node.depth(LEDGER) == 20

    def test_what_has_no_queue_is_an_error_and_the_next_one_finds_the_queue_made_again(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        node.control("delete_queue", LEDGER)
        with pytest.raises(BrokerUnavailable, match="has no queue ledger") as caught:
            publisher.publish([message(NOTIFIER), message()])
        assert caught.value.queues == {LEDGER}
        publisher.publish([message()])
        assert node.depth(LEDGER) == 1
        assert node.queues()[LEDGER] == "quorum"

    def test_a_queue_that_refuses_is_named_and_the_others_have_what_was_for_them(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        for queue in (LEDGER, NOTIFIER):
            node.control("purge_queue", queue)
        full = '{"max-length": 1, "overflow": "reject-publish"}'
        node.control("set_policy", "full", f"^{LEDGER}$", full, "--apply-to", "queues")
        try:
            wait_until(lambda: _untaken(publisher, message(), message(NOTIFIER)) == {LEDGER}, what="a refusal")
        finally:
            node.control("clear_policy", "full")
        assert node.depth(NOTIFIER) >= 1

    def test_a_queue_that_stands_still_is_named_and_the_others_have_what_was_for_them(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        node.control("purge_queue", NOTIFIER)
        node.control("eval", f"sys:suspend('%2F_{LEDGER}').")
        try:
            assert _untaken(publisher, message(), message(NOTIFIER)) == {LEDGER}
        finally:
            node.control("eval", f"sys:resume('%2F_{LEDGER}').")
        assert node.depth(NOTIFIER) == 1
        publisher.publish([message()])

    def test_a_queue_that_is_no_quorum_queue_is_told_of_with_what_to_do(
        self, node: RabbitMQ, capsys: pytest.CaptureFixture[str]
    ) -> None:
        CeleryPublisher(node.app("courier"), system_ids()).publish([message()])
        node.control("delete_queue", LEDGER)
        with node.app("another").connection_for_write() as connection:
            connection.default_channel.queue_declare(LEDGER, durable=True, auto_delete=False)
        try:
            CeleryPublisher(node.app("courier"), system_ids()).publish([message(), message(NOTIFIER)])
            logged = "".join(capsys.readouterr())
            assert "the queue ledger is no quorum queue (rabbitmqctl delete_queue ledger" in logged
            (told,) = [finding for finding in check_broker(node.url) if finding.outcome == "failed"]
            assert told.found == "ledger is no quorum queue"
            assert str(told.remedy).startswith("rabbitmqctl delete_queue ledger")
        finally:
            node.control("delete_queue", LEDGER)

    def test_the_doctor_names_queues_that_no_worker_takes_from(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        (told,) = [finding for finding in check_broker(node.url) if finding.outcome == "warning"]
        assert told.found.startswith("no worker takes from verifier, ")

    def test_a_broker_that_has_run_out_of_memory_is_unavailable_at_once_and_is_not_heaped_with_copies(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        node.control("purge_queue", LEDGER)
        clock = SystemClock()
        with node.out_of_memory():
            began = clock.monotonic()
            for _ in range(50):
                with pytest.raises(Blocked):
                    publisher.publish([message()])
            assert clock.monotonic() - began < PUBLISH_LIMIT_S
        wait_until(lambda: _is_published(publisher), what="publishing again")
        assert node.depth(LEDGER) <= 2

    def test_one_that_is_frozen_is_unavailable_within_seconds(self, node: RabbitMQ, publisher: CeleryPublisher) -> None:
        publisher.publish([message()])
        clock = SystemClock()
        with node.frozen():
            for _ in range(2):  # on the connection that there is, and on a new one
                began = clock.monotonic()
                with pytest.raises(BrokerUnavailable) as caught:
                    publisher.publish([message()])
                assert not caught.value.queues  # it is no queue's fault
                assert clock.monotonic() - began < PUBLISH_LIMIT_S
        publisher.publish([message()])

    def test_one_that_closes_the_connection_is_unavailable_and_the_next_one_goes_on(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        node.close_connections()
        with pytest.raises(BrokerUnavailable):
            publisher.publish([message()])
        publisher.publish([message()])

    def test_one_that_has_forgotten_everything_has_its_queues_again(
        self, node: RabbitMQ, publisher: CeleryPublisher
    ) -> None:
        publisher.publish([message()])
        node.forget()
        wait_until(lambda: _is_published(publisher), what="publishing again")
        assert node.queues() == dict.fromkeys(CONSUMERS, "quorum")

    def test_one_that_cannot_be_reached_or_does_not_know_us_is_unavailable(self, node: RabbitMQ) -> None:
        for url in ("amqp://purser:secret@127.0.0.1:1//", f"amqp://purser:wrong@127.0.0.1:{node.port}//"):
            nowhere = CeleryPublisher(celery_app(name="courier", broker_url=url), system_ids())
            with pytest.raises(BrokerUnavailable) as caught:
                nowhere.publish([message()])
            assert "secret" not in str(caught.value)
            assert "wrong" not in str(caught.value)


class TestWorking:
    def test_events_of_both_kinds_are_handled_once_each(self, bus: Bus, worker: Worker, courier: Courier) -> None:
        with running(courier):
            all_handled(bus, bus.tokens(200) + bus.receipts(20))

    def test_a_worker_declares_nothing_to_hold_messages_back_in(self, node: RabbitMQ, worker: Worker) -> None:
        assert set(node.queues()) == set(CONSUMERS)
        assert node.exchanges() <= {"celeryev", "celery.pidbox", "reply.celery.pidbox"}

    def test_a_store_that_is_busy_is_asked_again_and_no_worker_holds_the_message_meanwhile(
        self, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        (event_id,) = event_ids = receipts_of(bus, bus_worker.BUSY_ONCE)
        _hand_over_once(courier)
        wait_until(lambda: bool((row := bus.row(VERIFIER_STORE, event_id)) and row.attempts), what="the busy answer")
        row = bus.row(VERIFIER_STORE, event_id)
        assert row is not None
        assert row.state == "waiting"
        assert row.due_in_s is not None
        assert row.due_in_s < bus_worker.BUSY_WITHIN_S  # the delay alone, and no lease behind it
        with running(courier):
            all_handled(bus, event_ids)

    def test_a_database_that_was_away_lets_the_same_message_come_again(
        self, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        event_ids = tokens_of(bus, bus_worker.AWAY_ONCE) + bus.tokens(2)
        _hand_over_once(courier)  # once only: a second hand-over is none of its doing
        all_handled(bus, event_ids, within_s=30)

    def test_a_message_that_the_broker_drops_for_having_come_back_too_often_is_handed_over_again(
        self, node: RabbitMQ, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        with _dropped_when_it_comes_back(node):
            logged = worker.log.stat().st_size
            away = tokens_of(bus, bus_worker.AWAY_ONCE_MORE)
            _hand_over_once(courier)
            bus.set(away, "due_at = clock_timestamp() + interval '1 minute'")
            wait_until(lambda: b"requeue=True" in worker.log.read_bytes()[logged:], what="its coming back")
            with running(courier):
                all_handled(bus, bus.tokens(1))
                assert bus.open(VERIFIER, away), "the broker has it still"
                bus.set(away, "due_at = clock_timestamp()")
                all_handled(bus, away)

    def test_an_event_that_kills_its_worker_travels_alone_and_harms_no_other(
        self, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        (killer,) = tokens_of(bus, bus_worker.KILLS)
        others = bus.tokens(3)
        bus.set([killer], "handovers = 3")
        _hand_over_once(courier)
        wait_until(worker.has_died, what="the death of the worker")
        row = bus.row(VERIFIER, killer)
        assert row is not None
        assert (row.attempts, row.error) == (1, "begun, and never finished: did its worker die?")
        bus.set([killer], "state = 'parked', due_at = 'infinity'")
        worker.start()
        with running(courier):
            all_handled(bus, others)


class TestABrokerThatFails:
    """The worker is never started again here: it comes back by itself."""

    def test_killed_with_a_backlog_and_started_again_it_loses_and_doubles_nothing(
        self, node: RabbitMQ, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        with running(courier):
            event_ids = bus.tokens(300) + bus.receipts(40)
            wait_until(lambda: len(bus.open(VERIFIER, event_ids)) < 300, what="the first of them")
            node.kill()
            event_ids += bus.tokens(100)
            node.start()
            event_ids += bus.tokens(100) + bus.receipts(10)
            all_handled(bus, event_ids, within_s=RECOVERED_WITHIN_S)

    def test_what_is_purged_from_a_queue_is_handed_over_again(
        self, node: RabbitMQ, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        with running(courier):
            with _standing_still(worker):
                event_ids = bus.tokens(300)
                wait_until(lambda: all_are_handed(bus, event_ids), what="the hand-over")
                node.control("purge_queue", VERIFIER)
            all_handled(bus, event_ids, within_s=RECOVERED_WITHIN_S)

    def test_what_was_in_a_node_that_is_reset_is_handed_over_again(
        self, node: RabbitMQ, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        with running(courier):
            event_ids = bus.tokens(300) + bus.receipts(20)
            node.forget()
            event_ids += bus.tokens(100)
            all_handled(bus, event_ids, within_s=RECOVERED_WITHIN_S)

    def test_connections_that_it_closes_are_made_again(
        self, node: RabbitMQ, bus: Bus, worker: Worker, courier: Courier
    ) -> None:
        with running(courier):
            event_ids = bus.tokens(300) + bus.receipts(20)
            node.close_connections()
            event_ids += bus.tokens(100)
            all_handled(bus, event_ids, within_s=RECOVERED_WITHIN_S)

    def test_while_it_is_out_of_memory_what_is_recorded_waits_in_the_journal(
        self, node: RabbitMQ, bus: Bus, worker: Worker, courier: Courier, publisher: CeleryPublisher
    ) -> None:
        with ExitStack() as alarm:
            alarm.enter_context(node.out_of_memory())
            with pytest.raises(Blocked):
                publisher.publish([message()])
            event_ids = bus.tokens(100)
            with running(courier):
                wait_until(lambda: _is_due_later(bus, event_ids[-1]), what="a hand-over that failed")
                assert bus.open(VERIFIER, event_ids) == set(event_ids)
                alarm.close()
                all_handled(bus, event_ids, within_s=RECOVERED_WITHIN_S)

    def test_frozen_for_a_while_it_loses_and_doubles_nothing(
        self, node: RabbitMQ, bus: Bus, worker: Worker, courier: Courier, publisher: CeleryPublisher
    ) -> None:
        with running(courier):
            event_ids = bus.tokens(100)
            with node.frozen():
                event_ids += bus.tokens(100) + bus.receipts(4)
                with pytest.raises(BrokerUnavailable):
                    CeleryPublisher(node.app("another"), system_ids()).publish(
                        [Message(VERIFIER, TOKEN_ISSUED, (event_ids[0],))]
                    )
            all_handled(bus, event_ids, within_s=RECOVERED_WITHIN_S)


class TestStopping:
    def test_a_worker_that_is_told_to_stop_finishes_and_goes(self, bus: Bus, worker: Worker, courier: Courier) -> None:
        event_ids = bus.tokens(5)
        _hand_over_once(courier)
        all_handled(bus, event_ids)
        assert worker.stop() == 0


def _is_published(publisher: CeleryPublisher) -> bool:
    try:
        publisher.publish([message()])
    except BrokerUnavailable:
        return False
    return True


def _is_due_later(bus: Bus, event_id: EventId) -> bool:
    """Whether it was taken to be handed over, and put back."""
    row = bus.row(VERIFIER, event_id)
    return row is not None and row.state == "waiting" and row.due_in_s is not None and row.due_in_s > 0


def _hand_over_once(courier: Courier) -> None:
    """What is due; again only if a busy broker has not taken it in time."""
    wait_until(lambda: courier.hand_over() > 0, within_s=RECOVERED_WITHIN_S, what="a hand-over")


def _untaken(publisher: CeleryPublisher, *messages: Message) -> frozenset[str]:
    """The queues that did not take what was for them."""
    try:
        publisher.publish(messages)
    except BrokerUnavailable as error:
        return error.queues
    return frozenset()


@contextmanager
def _standing_still(worker: Worker) -> Iterator[None]:
    assert worker.process is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)


@contextmanager
def _dropped_when_it_comes_back(node: RabbitMQ) -> Iterator[None]:
    """What RabbitMQ 4 does with a message that has come back twenty times, it does with the first here."""
    node.control("set_policy", "once", f"^{VERIFIER}$", '{"delivery-limit": 0}', "--apply-to", "queues")
    try:
        yield
    finally:
        node.control("clear_policy", "once")
