"""What `purser webhooks` shows of endpoints, deliveries and attempts, to people and to programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from deploy.desk import plain, printable, show
from shared.apps import EndpointId

if TYPE_CHECKING:
    from notifier.domain.desk import DeliveryView, EndpointView, Replayed, Told, Trial

ENDPOINT_COLUMNS = (
    "id",
    "host",
    "events",
    "state",
    "waiting",
    "oldest_waiting_at",
    "failed",
    "delivered_at",
    "trouble",
)
DELIVERY_COLUMNS = ("event_id", "endpoint", "type", "state", "attempts", "due_at", "settled_at", "last_error")
ATTEMPT_COLUMNS = ("endpoint", "number", "at", "status", "duration_ms", "retry_after_s", "error", "answer")


@dataclass(frozen=True, slots=True)
class EndpointLine:
    """An endpoint on one line."""

    id: str
    host: str
    events: str
    state: str
    waiting: int
    oldest_waiting_at: datetime | None
    failed: int
    delivered_at: datetime | None
    trouble: str


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One attempt on one line."""

    endpoint: str
    number: int
    at: datetime
    status: int | None
    duration_ms: int
    retry_after_s: float | None
    error: str | None
    answer: str


def show_endpoints(found: Sequence[EndpointView], *, as_json: bool) -> None:
    if as_json:
        _print(found)
    else:
        show(list(map(_line, found)), ENDPOINT_COLUMNS, as_json=False, empty="the app has no webhooks")


def _line(view: EndpointView) -> EndpointLine:
    return EndpointLine(
        id=view.id,
        host=view.host or "",
        events=" ".join(view.events),
        state=view.state,
        waiting=view.waiting,
        oldest_waiting_at=view.oldest_waiting_at,
        failed=view.failed,
        delivered_at=view.delivered_at,
        trouble=_trouble(view),
    )


def _trouble(view: EndpointView) -> str:
    if view.state == "disabled":
        return view.reason or ""
    if view.failing_since is None:
        return ""
    return f"{view.failures} failures since {view.failing_since:%Y-%m-%d %H:%M} UTC"


def show_deliveries(rows: Sequence[DeliveryView], *, as_json: bool) -> None:
    show(rows, DELIVERY_COLUMNS, as_json=as_json, empty="there are none")


def _document(told: Told) -> dict[str, Any]:
    """As `GET /v1/webhooks/deliveries/{event}`."""
    return {
        "event_id": str(told.event_id),
        "message": told.message,
        "deliveries": [
            plain(asdict(each.delivery) | {"attempt_list": [asdict(attempt) for attempt in each.attempt_list]})
            for each in told.deliveries
        ],
    }


def show_told(told: Told, *, as_json: bool) -> None:
    """One event, and all that became of it."""
    if as_json:
        click.echo(json.dumps(_document(told), indent=2))
        return
    message = "it cannot be told by this release" if told.message is None else json.dumps(told.message, indent=2)
    click.echo(message + "\n")
    deliveries = [each.delivery for each in told.deliveries]
    show(deliveries, DELIVERY_COLUMNS, as_json=False, empty="no endpoint wants to hear of it, or it was long ago")
    attempts = [
        AttemptLine(
            endpoint=each.delivery.endpoint,
            number=attempt.number,
            at=attempt.at,
            status=attempt.status,
            duration_ms=attempt.duration_ms,
            retry_after_s=attempt.retry_after_s,
            error=attempt.error,
            answer=attempt.answer,
        )
        for each in told.deliveries
        for attempt in each.attempt_list
    ]
    if deliveries:
        click.echo()
        show(attempts, ATTEMPT_COLUMNS, as_json=False, empty="not attempted yet")


def show_trial(trial: Trial, *, as_json: bool) -> None:
    if as_json:
        _print(trial)
    else:
        click.echo(_said(trial))


def _said(trial: Trial) -> str:
    """`taken: 200, in 12 ms`, or what came back instead."""
    if trial.taken:
        return f"taken: {trial.status}, in {trial.duration_ms} ms"
    began = f": {printable(trial.answer)}" if trial.answer else ""
    return f"not taken: {trial.error}, in {trial.duration_ms} ms{began}"


def show_progress(replayed: Replayed) -> None:
    """Says on a terminal how far it is, on one line that each new one replaces."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{replayed.queued:,} due, of {replayed.looked_at:,} events", err=True, nl=False)


def say_queued(
    queued: int, document: dict[str, int], sentence: str, *, as_json: bool, held_up: Sequence[EndpointId]
) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    click.echo(json.dumps(document) if as_json else sentence)
    if queued and held_up:
        click.echo(f"disabled, so what is for it waits: {', '.join(held_up)} (purser webhooks enable)", err=True)


def say_endpoint(view: EndpointView, sentence: str, *, as_json: bool) -> None:
    if as_json:
        _print(view)
    else:
        click.echo(sentence)


def _print(value: Any) -> None:
    """A dataclass, or several, as JSON."""
    document = [plain(asdict(each)) for each in value] if isinstance(value, Sequence) else plain(asdict(value))
    click.echo(json.dumps(document, indent=2))
