"""RabbitMQ as the broker: quorum queues, a publisher that waits for the broker's word, and Celery without delays.

What Celery would do there by itself, and is not wanted, is in docs/decisions/0017.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from celery.worker.consumer import Consumer
from kombu.exceptions import ChannelError, ConnectionError, KombuError

from shared.bus.courier import BrokerUnavailable
from shared.log import get_logger

log = get_logger(__name__)

QUEUE_ARGUMENTS: Final = {"x-queue-type": "quorum"}
ANSWER_WITHIN_S: Final = 5
"""So long a broker may say nothing: to a question, or while messages wait to be confirmed."""
HEARTBEAT_S: Final = 20
"""A worker whose broker is gone without a word notices after two of these, and so does the broker of a worker."""
FAILURES: Final = (ConnectionError, ChannelError, KombuError, OSError)
_NOT_FOUND: Final = 404
_PRECONDITION_FAILED: Final = 406
_NOWHERE: Final = "purser-is-it-taken"
"""A queue that nobody declares."""


class ConsumerWithoutDelays(Consumer):  # type: ignore[misc]
    """Celery's consumer, but for the step that declares 28 queues and exchanges to hold messages back in.

    Nothing is held back on RabbitMQ: what is to come later waits in the journal.
    """

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        default_steps = tuple(
            step for step in Consumer.Blueprint.default_steps if not str(step).endswith(":DelayedDelivery")
        )


def is_rabbitmq(broker_url: str) -> bool:
    """`amqp://…`, or `amqps://…` with TLS."""
    return broker_url.startswith(("amqp://", "amqps://"))


def celery_settings(*, name: str, broker_url: str) -> Mapping[str, Any]:
    """What a Celery app needs besides what every broker does."""
    transport_options = {
        "read_timeout": ANSWER_WITHIN_S,
        "write_timeout": ANSWER_WITHIN_S,
        "client_properties": {"connection_name": name},
    }
    return {
        "broker_transport_options": transport_options,
        "broker_heartbeat": HEARTBEAT_S,
        # the certificate has to be of the URL's host: without this any that is valid would do
        "broker_use_ssl": {"server_hostname": None} if broker_url.startswith("amqps://") else False,
        "task_default_exchange": "",  # RabbitMQ's own, which leads to a queue by its name
        "worker_consumer": f"{__name__}:{ConsumerWithoutDelays.__name__}",
    }


class ConfirmedPublishing:
    """A connection on which nothing counts as published before RabbitMQ has confirmed it. Not thread-safe.

    It is made when it is needed, with the queues, and given up after any error: the next one finds out how things are.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._link: Link | None = None

    @contextmanager
    def batch(self, queues: Sequence[str]) -> Iterator[Any]:
        """A kombu Producer, for a message to each of these in their order: at the end all are on the disks of most of
        their queue's nodes.

        Raises BrokerUnavailable, which names the queues where it is not all of them.
        """
        try:
            link = self._ready()
            link.expect(queues)
            yield link.producer
            link.wait_for_confirms()
        except Blocked:  # the connection will say when it goes on; a new one would be blocked too
            raise
        except BrokerUnavailable:
            self._give_up()
            raise
        except FAILURES as error:
            self._give_up()
            raise BrokerUnavailable(type(error).__name__) from error

    def _ready(self) -> Link:
        if self._link is None:
            self._link = Link(self._app)
            self._declare_queues(self._link)
        self._link.require_unblocked()
        return self._link

    def _declare_queues(self, link: Link) -> None:
        for name in self._app.amqp.queues:
            try:
                link.declare_queue(name)
            except OfAnotherKind as error:  # it takes messages too, and the others have to have theirs
                log.error("a queue has to be made anew", queue=name, reason=str(error))

    def _give_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()


class Blocked(BrokerUnavailable):
    """RabbitMQ has run out of memory or disk, and takes nothing from whoever publishes until it has some again."""

    def __init__(self) -> None:
        super().__init__("RabbitMQ takes nothing: it has run out of memory or disk (rabbitmq-diagnostics alarms)")


class OfAnotherKind(Exception):
    """A queue is there, and is no quorum queue: an older broker's, say. Workers do not start on it."""

    def __init__(self, queue: str) -> None:
        self.remedy = remedy_of(queue)
        super().__init__(f"the queue {queue} is no quorum queue ({self.remedy})")


def remedy_of(queue: str) -> str:
    """What an operator does about a queue that is no good. It is made anew at the next hand-over."""
    return f"rabbitmqctl delete_queue {queue}: what is in it is handed over again"


@dataclass(frozen=True, slots=True)
class Looked:
    """How many messages wait in a queue, and how many workers take from it."""

    messages: int
    workers: int


class Link:
    """One connection with one channel, whose messages are confirmed. Raises BrokerUnavailable or one of FAILURES.

    It is py-amqp's own connection: kombu's would be made anew by itself, without the channel and what is said on it.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._blocked = False
        self._sent = 0
        self._unconfirmed: dict[int, str] = {}
        self._refused: set[str] = set()
        self._returned: set[str] = set()
        callbacks = {"on_blocked": self._on_blocked, "on_unblocked": self._on_unblocked}
        self._connecting = app.connection_for_write(transport_options=callbacks)
        try:
            self._connecting.ensure_connection(max_retries=1, interval_start=0, timeout=ANSWER_WITHIN_S)
            self._connection = self._connecting.connection
            self.producer = app.amqp.Producer(self._channel_that_confirms())
        except FAILURES:
            self.close()
            raise

    def _channel_that_confirms(self) -> Any:
        channel = self._connection.channel()
        for event, heed in (("ack", self._on_ack), ("nack", self._on_nack), ("return", self._on_return)):
            channel.events[f"basic_{event}"].add(heed)
        channel.confirm_select()
        return channel

    @property
    def server(self) -> str:
        """`RabbitMQ 4.0.5`."""
        properties = self._connection.server_properties
        return f"{properties.get('product', 'a broker')} {properties.get('version', '')}".rstrip()

    def declare_queue(self, name: str) -> None:
        """Makes it if it is not there. Raises OfAnotherKind when it is and is not as it should be."""
        with self._another_channel() as channel:
            try:
                self._app.amqp.queues[name].bind(channel).declare()
            except ChannelError as error:
                if error.reply_code != _PRECONDITION_FAILED:
                    raise
                raise OfAnotherKind(name) from error

    def look_at(self, name: str) -> Looked | None:
        """None when the queue is not there."""
        with self._another_channel() as channel:
            try:
                answer = channel.queue_declare(queue=name, passive=True)
                return Looked(messages=answer.message_count, workers=answer.consumer_count)
            except ChannelError as error:
                if error.reply_code != _NOT_FOUND:
                    raise
                return None

    def _another_channel(self) -> Any:
        """RabbitMQ closes a channel on which something was wrong; the one for publishing has to stay."""
        return self._connection.channel()

    def expect(self, queues: Sequence[str]) -> None:
        """A message to each of these is about to be published, in this order."""
        self._unconfirmed = dict(enumerate(queues, start=self._sent + 1))
        self._sent += len(queues)
        self._refused = set()
        self._returned = set()

    def wait_for_confirms(self) -> None:
        """Returns when all of them are confirmed. Raises Blocked, or BrokerUnavailable with the queues that it is."""
        with suppress(TimeoutError):
            self._until_confirmed()
        said = {
            "has no queue": self._returned,
            "refuses what is for": self._refused,
            "does not confirm what is for": set(self._unconfirmed.values()),
        }
        if self._unconfirmed:
            self.require_taken()  # or it is the broker that says nothing, and no queue's fault
        if untaken := set().union(*said.values()):
            reasons = [f"{what} {', '.join(sorted(queues))}" for what, queues in said.items() if queues]
            raise BrokerUnavailable(f"RabbitMQ {'; '.join(reasons)}", queues=untaken)

    def _until_confirmed(self) -> None:
        while self._unconfirmed:
            if self._blocked:
                raise Blocked
            self._connection.drain_events(timeout=ANSWER_WITHIN_S)

    def require_unblocked(self) -> None:
        """Heeds what the broker has said meanwhile. Raises Blocked."""
        with suppress(TimeoutError):
            while True:
                self._connection.drain_events(timeout=0)
        if self._blocked:
            raise Blocked

    def require_taken(self) -> None:
        """Publishes a message that leads nowhere, to see whether one is taken. Raises Blocked, or TimeoutError."""
        self.expect([_NOWHERE])
        self.producer.publish("", exchange="", routing_key=_NOWHERE, mandatory=True)
        self._until_confirmed()

    def close(self) -> None:
        """Without a word: who does not answer would not answer to that either."""
        self._connecting.collect()

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._settled(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        self._refused |= self._settled(tag, multiple)

    def _on_return(self, _error: Exception, _exchange: str, routing_key: str, _message: object) -> None:
        self._returned.add(routing_key)

    def _on_blocked(self, _reason: str) -> None:
        self._blocked = True

    def _on_unblocked(self) -> None:
        self._blocked = False

    def _settled(self, tag: int, multiple: bool) -> set[str]:
        """The queues of the messages that are meant. A tag of an earlier hand-over means none."""
        meant = [each for each in self._unconfirmed if each == tag or (multiple and each < tag)]
        return {self._unconfirmed.pop(each) for each in meant}
