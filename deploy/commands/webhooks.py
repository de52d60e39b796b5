"""`purser webhooks`: what an app's backend is told, what became of it, and telling it once more."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, get_args
from uuid import UUID

import click

from deploy.addresses import known_environment
from deploy.desk import (
    OPERATOR,
    app_option,
    chosen_app,
    database_engine,
    json_option,
    read_since,
)
from deploy.settings import StackSettings
from deploy.webhook_views import (
    say_endpoint,
    say_queued,
    show_deliveries,
    show_endpoints,
    show_progress,
    show_told,
    show_trial,
)
from notifier.domain.deliveries import DeliveryState
from shared.apps import Apps, EndpointId
from shared.clock import SystemClock
from shared.ids import AppId, EventId, system_ids
from shared.settings import read

if TYPE_CHECKING:
    from notifier.desk import Desk
    from notifier.domain.desk import DeliveryView, EndpointView
    from notifier.handlers.desk import DroppedState

CONNECTIONS: Final = 2
"""One to work with, and one to wake who sends."""
PAGE: Final = 200
DROPPED: Final = ("waiting", "exhausted", "parked")
SECRET_BYTES: Final = 32
"""Standard Webhooks, "Symmetric signing secrets": 24 to 64 random bytes."""

ROTATION = """\
In the apps file, of that webhook:
  secret = "(the new one, above)"
  previous_secret = "(the one that was `secret` until now)"
1. Start the processes `webhooks` and `notifier-api` again: from then on both sign.
2. Give the new one to the receiver, in place of the old one, whenever that suits it.
3. Take `previous_secret` out, and start them again."""

endpoint_argument = click.argument("endpoint_id", metavar="ENDPOINT")
endpoint_option = click.option("--endpoint", "endpoint_id", help="Only this one's; its id in the apps file.")


@click.group()
def command() -> None:
    """What the app's backend is told by webhook: who is told, what became of it, and telling it once more."""


@command.command()
@app_option
@json_option
def endpoints(app_id: str | None, as_json: bool) -> None:
    """Each endpoint, how it does, and what waits for it. Exit code 1 unless all take what they are told.

    on, failing (it has taken nothing since its last failure), disabled (it is not told), or not_configured any more.
    """
    with _desk(app_id) as (desk, app):
        found = desk.endpoints(app)
    show_endpoints(found, as_json=as_json)
    if not all(map(_is_well, found)):
        raise click.exceptions.Exit(1)


@command.command("list")
@endpoint_option
@click.option("--state", type=click.Choice(get_args(DeliveryState)), help="Only what stands so.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@app_option
@json_option
def list_deliveries(
    endpoint_id: str | None, state: DeliveryState | None, limit: int, app_id: str | None, as_json: bool
) -> None:
    """Events and the endpoints that were to hear of them, the newest event first."""
    with _desk(app_id) as (desk, app):
        rows = list(_deliveries(desk, app, endpoint=_named(endpoint_id), state=state, limit=limit))
    show_deliveries(rows, as_json=as_json)


@command.command("show")
@click.argument("event_id", type=click.UUID)
@app_option
@json_option
def show_event(event_id: UUID, app_id: str | None, as_json: bool) -> None:
    """One event: the message as it is posted, and every attempt, with how the answer began."""
    with _desk(app_id) as (desk, app):
        told = desk.delivery(app, EventId(event_id))
    show_told(told, as_json=as_json)


@command.command()
@click.argument("event_ids", nargs=-1, required=True, type=click.UUID)
@endpoint_option
@app_option
@json_option
def resend(event_ids: Sequence[UUID], endpoint_id: str | None, app_id: str | None, as_json: bool) -> None:
    """Tell of these events once more, whatever became of it before, with all attempts ahead.

    The ids stay the same: a receiver that has an event knows it. An attempt under way now does not count.
    """
    from notifier.handlers.desk import DeliveryUnknown

    queued, unknown = 0, []
    with _desk(app_id) as (desk, app):
        for event_id in event_ids:
            try:
                queued += desk.resend(app, EventId(event_id), endpoint=_named(endpoint_id), actor=OPERATOR)
            except DeliveryUnknown as error:
                unknown.append(str(error))
        held_up = [each for each in _held_up(desk, app) if endpoint_id in (None, each)]
    say_queued(queued, {"queued": queued}, f"{queued} due again", as_json=as_json, held_up=held_up)
    if unknown:
        raise click.ClickException("; ".join(unknown))


@command.command()
@endpoint_argument
@click.option("--since", required=True, callback=read_since, help="From then on: 7d, 12h, 30m, or an ISO 8601 date.")
@click.option("--until", callback=read_since, help="Up to then, likewise; up to now if not given.")
@click.option("--delivered", is_flag=True, help="Also what the endpoint has taken.")
@app_option
@json_option
def replay(
    endpoint_id: str, since: datetime, until: datetime | None, delivered: bool, app_id: str | None, as_json: bool
) -> None:
    """Tell the endpoint of all that it wants of a time and has not taken: what failed, what it was not there for."""
    if until is not None and until < since:
        raise click.BadParameter("it is before --since", param_hint="--until")
    with _desk(app_id) as (desk, app):
        endpoint = EndpointId(endpoint_id)
        replayed = desk.replay(
            app, endpoint, since=since, until=until, delivered=delivered, actor=OPERATOR, observe=show_progress
        )
        held_up = [each for each in _held_up(desk, app) if endpoint_id == each]
    document = {"queued": replayed.queued, "looked_at": replayed.looked_at}
    sentence = f"{replayed.queued:,} due, of {replayed.looked_at:,} events of that time"
    say_queued(replayed.queued, document, sentence, as_json=as_json, held_up=held_up)


@command.command()
@endpoint_argument
@app_option
@json_option
def test(endpoint_id: str, app_id: str | None, as_json: bool) -> None:
    """Post a signed message that tells nothing (`webhook.test`), now. Exit code 0 only when it is taken.

    From this machine, which may reach other places than the process `webhooks` does. Nothing is recorded.
    """
    with _desk(app_id) as (desk, app):
        trial = desk.test(app, EndpointId(endpoint_id))
    show_trial(trial, as_json=as_json)
    if not trial.taken:
        raise click.exceptions.Exit(1)


@command.command()
@endpoint_argument
@app_option
@json_option
def enable(endpoint_id: str, app_id: str | None, as_json: bool) -> None:
    """Tell the endpoint again, first of all what it has missed: now, not when its next attempt would have come."""
    with _desk(app_id) as (desk, app):
        view = desk.enable(app, EndpointId(endpoint_id), actor=OPERATOR)
    say_endpoint(view, f"{view.id} is enabled; {view.waiting} to be told", as_json=as_json)


@command.command()
@endpoint_argument
@click.option("--reason", required=True, help="For who asks why; it is kept with the endpoint, and in the journal.")
@app_option
@json_option
def disable(endpoint_id: str, reason: str, app_id: str | None, as_json: bool) -> None:
    """Do not tell the endpoint any more: what is for it waits until it is enabled, or has another URL."""
    with _desk(app_id) as (desk, app):
        view = desk.disable(app, EndpointId(endpoint_id), reason=reason, actor=OPERATOR)
    say_endpoint(view, f"{view.id} is disabled: {view.reason}", as_json=as_json)


@command.command()
@endpoint_argument
@click.option(
    "--state",
    "states",
    type=click.Choice(DROPPED),
    multiple=True,
    default=DROPPED,
    show_default=True,
    help="Only what stands so; may be given several times.",
)
@click.confirmation_option(prompt="They will not be told, unless they are replayed. Drop them?")
@app_option
@json_option
def drop(endpoint_id: str, states: Sequence[DroppedState], app_id: str | None, as_json: bool) -> None:
    """Give up what the endpoint has not taken, with the record of its attempts: to retire it, or to acknowledge it.

    What waits, only of an endpoint that is disabled or not configured. The events stay in the feed, to be replayed.
    """
    with _desk(app_id) as (desk, app):
        dropped = desk.drop(app, EndpointId(endpoint_id), states=states, actor=OPERATOR)
    click.echo(json.dumps({"dropped": dropped}) if as_json else f"{dropped:,} dropped")


@command.command()
@json_option
def secret(as_json: bool) -> None:
    """Make a new secret, and say how to come to use it without a message lost. Changes nothing."""
    made = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    click.echo(json.dumps({"secret": made}) if as_json else made)
    click.echo(ROTATION, err=True)


# ---- the desk ----------------------------------------------------------------------------------------------------


@contextmanager
def _desk(app_id: str | None) -> Iterator[tuple[Desk, AppId]]:
    """The desk, as the database's owner, and the app that is meant; what it does not know ends the command."""
    from notifier.app import webhook_poster
    from notifier.desk import Desk
    from notifier.handlers.desk import DeliveryUnknown, DropRefused, EndpointUnknown
    from notifier.settings import PostingSettings

    stack = read(StackSettings)
    app = chosen_app(stack, app_id)
    clock = SystemClock()
    poster = webhook_poster(read(PostingSettings, known_environment(stack)), clock=clock)
    with database_engine(connections=CONNECTIONS) as engine:
        desk = Desk(engine=engine, apps=Apps.of((app,)), poster=poster, clock=clock, ids=system_ids())
        try:
            yield desk, app.id
        except (EndpointUnknown, DeliveryUnknown, DropRefused) as error:
            raise click.ClickException(str(error)) from error
        finally:
            desk.close()


def _named(endpoint_id: str | None) -> EndpointId | None:
    return None if endpoint_id is None else EndpointId(endpoint_id)


def _deliveries(
    desk: Desk, app: AppId, *, endpoint: EndpointId | None, state: DeliveryState | None, limit: int
) -> Iterator[DeliveryView]:
    """So many of them, page by page."""
    after = None
    while limit > 0:
        page = desk.deliveries(app, endpoint=endpoint, state=state, after=after, limit=min(limit, PAGE))
        yield from page.deliveries
        limit, after = limit - len(page.deliveries), page.next_after
        if after is None:
            return


def _held_up(desk: Desk, app: AppId) -> list[EndpointId]:
    """Those that are not told what waits for them."""
    return [each.id for each in desk.endpoints(app) if each.state == "disabled"]


def _is_well(view: EndpointView) -> bool:
    if view.state == "not_configured":
        return view.waiting == 0
    return view.state == "on" and view.failed == 0
