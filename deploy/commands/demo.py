"""`purser demo`: the sample purchase and its refund, beside a running `purser up`."""

from __future__ import annotations

from contextlib import ExitStack

import click
from rich.console import Console

from deploy.addresses import recalled_addresses
from deploy.demo import demo_app, local_endpoint, run_demo
from deploy.errors import PortUnavailable
from deploy.narrator import Narrator
from deploy.receiver import Receiver
from deploy.settings import StackSettings
from shared.apps import App
from shared.clock import Clock, SystemClock
from shared.ids import system_ids
from shared.settings import checked_apps, checked_catalog, read


@click.command()
def command() -> None:
    """Buy in the simulated App Store, be credited, be refunded, be debited; each step with its time.

    The webhooks are received and shown where nobody else listens at their URL: a `purser up` with its demo does.
    """
    settings = read(StackSettings)
    clock = SystemClock()
    app = demo_app(list(checked_apps(settings, production=settings.production)))
    with ExitStack() as held:
        run_demo(
            where=recalled_addresses(settings),
            app=app,
            catalog=checked_catalog(settings),
            receiver=_receiver(app, clock, held),
            audience=Narrator(Console(highlight=False)),
            clock=clock,
            ids=system_ids(),
        )


def _receiver(app: App, clock: Clock, held: ExitStack) -> Receiver | None:
    endpoint = local_endpoint(app)
    try:
        return held.enter_context(Receiver(endpoint, clock=clock)) if endpoint is not None else None
    except PortUnavailable:
        return None
