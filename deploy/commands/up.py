"""`purser up`: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from datetime import timedelta

import click
from rich.console import Console

from deploy.demo import demo_app, local_endpoint, run_demo
from deploy.errors import DeployError, ProcessUnavailable
from deploy.interruption import Interrupted, interruptible
from deploy.narrator import Narrator
from deploy.receiver import Receiver
from deploy.settings import StackSettings
from deploy.stack import Parts, Stack
from shared.apps import App
from shared.clock import SystemClock
from shared.ids import system_ids
from shared.settings import checked_apps, checked_catalog, read

INTERRUPTED = 130


@click.command()
@click.option("--no-demo", is_flag=True, help="Without the sample purchase.")
@click.option("--no-simulator", is_flag=True, help="Without the simulated App Store, and so without the demo.")
@click.option("--no-flower", is_flag=True, help="Without Flower.")
def command(no_demo: bool, no_simulator: bool, no_flower: bool) -> None:
    """Run the whole system on this machine until Ctrl-C.

    PostgreSQL and Redis are its own, unless PURSER_DATABASE_URL and PURSER_BROKER_URL are given; their data is in
    PURSER_DATA_DIR and survives a restart. Whatever dies is started again.
    """
    settings = read(StackSettings)
    parts = Parts(simulator=not no_simulator, flower=not no_flower)
    raise SystemExit(_Up(settings, parts, with_demo=not (no_demo or no_simulator)).run())


class _Up:
    """One run of the command."""

    def __init__(self, settings: StackSettings, parts: Parts, *, with_demo: bool) -> None:
        self._settings = settings
        self._parts = parts
        self._with_demo = with_demo
        self._clock = SystemClock()
        self._ids = system_ids()
        self._narrator = Narrator(Console(highlight=False))
        self._stack = Stack(settings=settings, parts=parts, clock=self._clock, ids=self._ids, tell=self._narrator.hear)
        self._exit_code = INTERRUPTED  # until it is up

    def run(self) -> int:
        """The exit code: 0 when it came up, the demo was right, and somebody stopped it."""
        self._narrator.title(self._settings.data_dir)
        try:
            with interruptible(), ExitStack() as held:
                self._bring_up(held)
                threading.Event().wait()
        except Interrupted:
            pass
        except ProcessUnavailable as error:
            self._narrator.last_lines(error.last_lines)
            raise
        finally:
            self._stop()
        return self._exit_code

    def _bring_up(self, held: ExitStack) -> None:
        self._stack.claim()  # before the demo's receiver: that its port is taken would say less about a second `up`
        app = demo_app(list(checked_apps(self._settings, production=False))) if self._with_demo else None
        receiver = None
        if app is not None and (endpoint := local_endpoint(app)) is not None:
            # for as long as the system runs: what the simulator is made to do later is told to it too
            receiver = held.enter_context(Receiver(endpoint, clock=self._clock))
        self._stack.start()
        all_well = self._demo(app, receiver) if app is not None else True
        self._exit_code = 0 if all_well else 1
        self._narrator.where(
            self._stack.addresses,
            simulator=self._parts.simulator,
            flower=self._parts.flower,
            log_dir=self._stack.log_dir,
        )

    def _demo(self, app: App, receiver: Receiver | None) -> bool:
        """Whether it went well. One that did not leaves the system up, to be looked at."""
        self._narrator.chapter("A purchase and its refund")
        try:
            run_demo(
                where=self._stack.addresses,
                app=app,
                catalog=checked_catalog(self._settings),
                receiver=receiver,
                audience=self._narrator,
                clock=self._clock,
                ids=self._ids,
            )
        except DeployError as error:
            self._narrator.failed(str(error))
            return False
        return True

    def _stop(self) -> None:
        if not self._stack.status():
            self._stack.stop()
            return
        began = self._clock.monotonic()
        self._narrator.stopping()
        self._stack.stop()
        self._narrator.stopped(timedelta(seconds=self._clock.monotonic() - began))
