"""The broker and who listens there: does it answer, does it keep what it is given, does each consumer have a worker?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from kombu.exceptions import KombuError

from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from shared.bus import rabbitmq
from shared.bus.routes import CONSUMERS, ConsumerName
from shared.bus.worker import celery_app

NAME = "broker"
PONG_WITHIN_S = 2.0
"""Every worker answers a ping at once; this is how long is waited for all of them."""
MEMORY_SHARE_MAX = 0.9


def check_broker(url: str) -> list[Finding]:
    """Whether it answers, its settings, the depth of its queues."""
    app = celery_app(name="doctor", broker_url=url)
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
            if rabbitmq.is_rabbitmq(url):
                return [*_guest(url), *_rabbitmq(app)]
            client = connection.default_channel.client
            return [*_redis(client), _queues({name: client.llen(name) for name in CONSUMERS})]
        except _errors(connection) as error:
            return [
                failed(NAME, f"it cannot be used: {_kind(error)}", "start it, or mend PURSER_BROKER_URL"),
                unchecked("queues", "no broker"),
            ]


def check_workers(url: str) -> list[Finding]:
    """Whether each consumer has a worker that answers Celery's ping."""
    app = celery_app(name="doctor", broker_url=url)
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
            served = _served(app)
        except _errors(connection):
            return [unchecked("workers", "no broker")]
    missing = [name for name in CONSUMERS if name not in served]
    found = [ok("workers", f"{', '.join(name for name in CONSUMERS if name in served)} answer")] if served else []
    return found + [failed("workers", f"no {name} answers", f"purser run {name}") for name in missing]


def _errors(connection: Any) -> tuple[type[Exception], ...]:
    return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)


def _kind(error: Exception) -> str:
    """`AuthenticationError`, `ConnectionError`: what is behind kombu's own. Its message may hold the URL."""
    return type(error.__cause__ or error).__name__


def _redis(client: Any) -> Iterable[Finding]:
    """It throws away what it holds when it is full and not told otherwise."""
    memory = client.info("memory")
    yield ok(NAME, f"Redis or Valkey answers, {memory['used_memory_human']} in use")
    policy = memory.get("maxmemory_policy", "unknown")
    if policy != "noeviction":
        yield warning(NAME, f"maxmemory-policy {policy}", "maxmemory-policy noeviction")
    if memory.get("maxmemory") and memory["used_memory"] > MEMORY_SHARE_MAX * memory["maxmemory"]:
        yield warning(NAME, "more than nine tenths of its memory are in use", "raise maxmemory")


def _guest(url: str) -> Iterable[Finding]:
    if urlsplit(url).username in (None, "guest"):
        yield warning(NAME, "its login is guest, which everybody knows", "rabbitmqctl add_user, and delete_user guest")


def _rabbitmq(app: Celery) -> Iterable[Finding]:
    """Without memory or disk it takes nothing, and only who publishes is told; a queue may be of an older kind."""
    with closing(rabbitmq.Link(app)) as link:
        yield _taking(link)
    with closing(rabbitmq.Link(app)) as link:  # the other one may not be listened to any more
        queues = {name: looked for name in CONSUMERS if (looked := link.look_at(name)) is not None}
        yield _queues({name: queues[name].messages if name in queues else 0 for name in CONSUMERS})
        for name in queues:
            yield from _kind_of(link, name)
        yield from _idle([name for name, looked in queues.items() if not looked.workers])


def _taking(link: rabbitmq.Link) -> Finding:
    try:
        link.require_taken()
    except rabbitmq.Blocked as error:
        return failed(NAME, str(error), "give it memory or disk: accepting goes on meanwhile, and nothing is lost")
    return ok(NAME, f"{link.server} answers, and takes messages")


def _kind_of(link: rabbitmq.Link, queue: str) -> Iterable[Finding]:
    """Of one that is there, which declaring it does not change."""
    try:
        link.declare_queue(queue)
    except rabbitmq.OfAnotherKind as error:
        yield failed("queues", f"{queue} is no quorum queue", error.remedy)


def _idle(names: Sequence[ConsumerName]) -> Iterable[Finding]:
    """A quorum queue whose node died when it had just been made may stand still for good, and its worker with it."""
    if names:
        remedy = f"start it; where it runs all the same, {rabbitmq.remedy_of(names[0])}"
        yield warning("queues", f"no worker takes from {', '.join(names)}", remedy)


def _queues(depths: Mapping[ConsumerName, int]) -> Finding:
    """The courier makes them when it first hands something over, the workers when they start."""
    return ok("queues", ", ".join(f"{name} {depth}" for name, depth in depths.items()))


def _served(app: Celery) -> set[str]:
    """The consumers of the workers that answer; a worker is named `consumer[+consumer…]@host`."""
    answers = app.control.ping(timeout=PONG_WITHIN_S) or []
    nodes = [node for answer in answers for node in answer]
    return {consumer for node in nodes for consumer in node.partition("@")[0].split("+")}
