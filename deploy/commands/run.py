"""`purser run NAME`: becomes one process of the system. What compose files and other supervisors call."""

from __future__ import annotations

import os

import click

from deploy.addresses import known_environment
from deploy.errors import StackInvalid
from deploy.processes import PROCESSES
from deploy.settings import StackSettings, environment_with
from shared.settings import read


@click.command(epilog="Processes: " + ", ".join(PROCESSES))
@click.argument("name", type=click.Choice(list(PROCESSES)), metavar="NAME")
def command(name: str) -> None:
    """Become one process of the system: signals go straight to it, its end is the command's end.

    What no PURSER_ variable says is taken from the `purser up` that this data directory belongs to, if there is one.
    """
    settings = read(StackSettings)
    argv = PROCESSES[name].argv(settings)
    env = environment_with(known_environment(settings))
    try:
        os.execvpe(argv[0], argv, env)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise StackInvalid(f"{argv[0]} cannot be run: {error.strerror}") from error
