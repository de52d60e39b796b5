"""Celery: a message is a task named after its event type, so Flower shows `purchase.verified` on `ledger@…`.

A message carries ids and nothing else, and Celery's guarantees are not relied on: the journal redelivers.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event as Pause
from typing import Any, Final
from uuid import UUID

from celery import Celery, signals
from celery.exceptions import Reject
from kombu.entity import Queue
from kombu.exceptions import KombuError
from sqlalchemy import Engine

from shared import tracing
from shared.bus import rabbitmq
from shared.bus.consumer import SHORT_RETRY_MAX_S, ConsumerRuntime, InBatches, OneByOne
from shared.bus.courier import BrokerUnavailable, Message
from shared.bus.heartbeat import Heartbeat
from shared.bus.routes import CONSUMERS, ConsumerName, types_for
from shared.bus.wake import Waker
from shared.database import is_unavailable
from shared.ids import EventId, IdSource, system_ids
from shared.log import configure_logging, get_logger
from shared.metrics.counted import begin_consuming
from shared.metrics.serving import serve_metrics
from shared.settings import WorkerSettings

log = get_logger(__name__)

KEY_PREFIX: Final = "purser:"
GC_THRESHOLDS: Final = (50_000, 20, 50)
"""A batch makes some ten thousand objects that die together, by themselves: with Python's own thresholds (700, 10, 10)
looking for cycles among them took a seventh of a ledger worker's time (`make bench-ledger`)."""
VISIBILITY_TIMEOUT_S: Final = 300
"""Longer than any countdown (60 s) and any run together; what is lost sooner comes back through the journal's lease."""
DATABASE_AWAY_S: Final = 2
_REDIS: Final = {
    "visibility_timeout": VISIBILITY_TIMEOUT_S,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_timeout": 3,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "max_connections": 50,
    "global_keyprefix": KEY_PREFIX,
}


def celery_app(*, name: str, broker_url: str) -> Celery:
    """A Celery app with the settings that are known to work; the reasons are in docs/decisions/0001 and 0002."""
    app = Celery(name, broker=broker_url, set_as_current=False)
    on_rabbitmq = rabbitmq.is_rabbitmq(broker_url)
    arguments = rabbitmq.QUEUE_ARGUMENTS if on_rabbitmq else None
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        task_acks_on_failure=True,
        task_ignore_result=True,
        task_create_missing_queues=False,  # a typo in a queue's name must fail, not swallow money
        task_queues=[
            Queue(consumer, routing_key=consumer, queue_arguments=arguments)  # type: ignore[no-untyped-call]
            for consumer in CONSUMERS
        ],
        task_default_queue=next(iter(CONSUMERS)),
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        task_send_sent_event=False,
        # A thread cannot be cancelled; and what it finishes without its broker is finished.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_soft_shutdown_timeout=10,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=3,
        broker_transport_options=_REDIS,
        task_publish_retry=False,  # the courier's own loop retries
    )
    if on_rabbitmq:
        app.conf.update(rabbitmq.celery_settings(name=name, broker_url=broker_url))
    else:
        from shared.bus.redis import keep_places  # as late as can be: redis-py brings OpenTelemetry along

        keep_places()
    return app


class CeleryPublisher:
    """Puts messages on their queues as Celery tasks, in one round trip."""

    def __init__(self, app: Celery, ids: IdSource) -> None:
        self._app = app
        self._ids = ids
        on_rabbitmq = rabbitmq.is_rabbitmq(app.conf.broker_url)
        self._batch = (rabbitmq.ConfirmedPublishing(app) if on_rabbitmq else _PipelinedPublishing(app)).batch

    def publish(self, messages: Sequence[Message]) -> None:
        """Raises BrokerUnavailable."""
        with self._batch([message.queue for message in messages]) as producer:
            for message in messages:
                self._send(producer, message)

    def _send(self, producer: Any, message: Message) -> None:
        self._app.amqp.send_task_message(
            producer,
            message.event_type,
            self._app.amqp.create_task_message(
                str(self._ids.uuid()),
                message.event_type,
                args=([str(event_id) for event_id in message.event_ids], message.alone),
                argsrepr=f"{len(message.event_ids)} from {message.event_ids[0]}",
                kwargsrepr="",
                origin="courier",
                ignore_result=True,
            ),
            queue=message.queue,
            retry=False,
            declare=[],
            mandatory=True,  # RabbitMQ would drop what has no queue, and say that all is well
        )


class _PipelinedPublishing:
    """What is published to Redis goes there in one round trip."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        connection = app.connection_for_write()
        self._errors = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)

    @contextmanager
    def batch(self, queues: Sequence[str]) -> Iterator[Any]:
        """A kombu Producer, for a message to each of these: all are there at the end. Raises BrokerUnavailable."""
        try:
            with self._app.producer_pool.acquire(block=True, timeout=5) as producer, producer.batch(len(queues)):
                yield producer
        except self._errors as error:
            raise BrokerUnavailable(type(error).__name__) from error


def serve_consumer(
    name: ConsumerName,
    handlers: Mapping[str, InBatches | OneByOne[Any]],
    *,
    engine: Engine,
    settings: WorkerSettings,
    threads: int,
    outside_calls: int = 1,
) -> None:
    """Runs one consumer as a Celery worker until it is told to stop (SIGTERM: it finishes what it has).

    `threads`: messages at a time. `outside_calls`: of handlers that ask somebody outside, events at a time, whatever
    message they came in.
    """
    configure_logging(service=name, level=settings.log_level)
    tracing.start(service=name, settings=settings)
    look_for_cycles_seldom()
    begin_consuming(name, types_for(name))
    serve_metrics(settings)
    waker = Waker(engine)
    runtime = ConsumerRuntime(consumer=CONSUMERS[name], handlers=handlers, engine=engine, waker=waker, ids=system_ids())
    app = celery_app(name=name, broker_url=settings.broker_url.get_secret_value())
    serve(app, [runtime], outside_calls=outside_calls)
    heartbeat = Heartbeat(settings.heartbeat_file)
    signals.heartbeat_sent.connect(heartbeat.beat, weak=False)
    work(app, consumers=[name], threads=threads, log_level=settings.log_level)
    waker.close()
    engine.dispose()


def look_for_cycles_seldom() -> None:
    """For a process that handles batches: see GC_THRESHOLDS."""
    gc.freeze()  # what was imported stays: it need not be looked at again
    gc.set_threshold(*GC_THRESHOLDS)


def serve(app: Celery, runtimes: Sequence[ConsumerRuntime], *, outside_calls: int) -> None:
    """Registers a task for each event type that these consumers handle."""
    pool = ThreadPoolExecutor(outside_calls, thread_name_prefix="outside")
    short_s = 0.0 if rabbitmq.is_rabbitmq(app.conf.broker_url) else SHORT_RETRY_MAX_S
    for runtime in runtimes:
        for event_type, handler in runtime.handlers.items():
            run = (
                _one_by_one(runtime, event_type, pool, short_s)
                if isinstance(handler, OneByOne)
                else _batch(runtime, event_type)
            )
            app.task(run, name=event_type, bind=True, shared=False, max_retries=None)


def work(app: Celery, *, consumers: Sequence[ConsumerName], threads: int, log_level: str) -> None:
    """Runs a Celery worker on these consumers' queues until it is told to stop (SIGTERM: finishes what it has)."""
    service = "+".join(consumers)
    signals.setup_logging.connect(
        lambda **_: configure_logging(service=service, level=log_level), weak=False, dispatch_uid="purser"
    )
    # quiet: no banner among the JSON lines
    arguments = ["--quiet", "worker", "--pool=threads", f"--concurrency={threads}", f"--queues={','.join(consumers)}"]
    app.worker_main([*arguments, f"--hostname={service}@%h", "--without-gossip", "--without-mingle"])


def _batch(runtime: ConsumerRuntime, event_type: str) -> Callable[..., None]:
    def run(task: Any, event_ids: list[str], alone: bool) -> None:
        ids = _parsed(event_ids)

        def handle() -> None:
            if not alone or runtime.begun(ids[0]):
                runtime.handle(event_type, ids, counted=alone)

        _unless_database_away(task, handle)

    return run


def _one_by_one(
    runtime: ConsumerRuntime, event_type: str, pool: ThreadPoolExecutor, short_s: float
) -> Callable[..., None]:
    def run(task: Any, event_ids: list[str], alone: bool) -> None:
        ids = _parsed(event_ids)
        again: dict[EventId, float] = {}

        def handle() -> None:
            if alone and not runtime.begun(ids[0]):
                return
            opened = runtime.open(ids, counted=alone)
            futures = [pool.submit(runtime.handle_one, event_type, each, short_s=short_s) for each in opened]
            for each, future in zip(opened, futures, strict=True):
                if (delay_s := future.result()) is not None:
                    again[each.event_id] = delay_s

        _unless_database_away(task, handle)
        if again:
            _retry(task, list(again), countdown=max(again.values()))

    return run


def _parsed(event_ids: Sequence[str]) -> list[EventId]:
    return [EventId(UUID(event_id)) for event_id in event_ids]


def _unless_database_away(task: Any, do: Callable[[], None]) -> None:
    """Runs it; when the database is away, the same message comes again in two seconds."""
    try:
        do()
    except Exception as error:
        if not is_unavailable(error):
            raise
        log.warning("the database is away", task=task.name)
        if not rabbitmq.is_rabbitmq(task.app.conf.broker_url):
            raise task.retry(countdown=DATABASE_AWAY_S) from error
    else:
        return
    # A quorum queue holds nothing back, and its worker's prefetch is fixed: it waits here, and goes back to its place.
    Pause().wait(DATABASE_AWAY_S)
    raise Reject("the database is away", requeue=True)


def _retry(task: Any, event_ids: Sequence[EventId], *, countdown: float) -> None:
    raise task.retry(
        args=([str(event_id) for event_id in event_ids], False),
        countdown=countdown,
        argsrepr=f"{len(event_ids)} from {event_ids[0]}",
    )
