"""The `purser` command. Each subcommand is a small file in `deploy/commands/`, imported when called and not before.

A new one is a line in COMMANDS and a file that has a click command (or group) named `command`. Expected trouble is a
DeployError, which ends as one sentence on stderr and exit code 1; 2 is a wrong call or a wrong configuration.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import cast

import click

from deploy.errors import DeployError

COMMANDS: Mapping[str, str] = {
    "up": "The whole system on this machine, with a sample purchase and its refund.",
    "demo": "The sample purchase and its refund, beside a running `purser up`.",
    "run": "One process of the system.",
    "migrate": "Bring the database up to date.",
    "backup": "Write a backup of the database, while the system runs.",
    "restore": "Put a backup into an empty database.",
    "simulate": "Buy, refund, subscribe in the simulated App Store.",
    "timeline": "Why somebody did not get their coins: by purchase, transaction, user or subscription.",
    "subscriptions": "What a user has subscribed to, and how it stands.",
    "entitlements": "What a user may use, until when, and from what.",
    "parked": "What could not be handled: list, retry, drop.",
    "webhooks": "What the apps' backends are told: endpoints, deliveries, resend, replay, test.",
    "users": "All that is held about a user: export it, erase it.",
    "notifications": "What the App Store told us, and what became of it.",
    "reconcile": "Ask the App Store what it said and never came here.",
    "audit": "Compute the ledger's books again, and name what is off.",
    "metrics": "Where each process tells its metrics, and the numbers that say most.",
    "doctor": "What is configured, what runs, and the way to the App Store and back.",
    "apple": "Ask the App Store: transactions, refunds, subscriptions, notifications.",
    "catalog": "Check the apps and the catalogue.",
    "openapi": "The gateway's OpenAPI document.",
}

INTERRUPTED = 130
"""What shells report of a command that Ctrl-C ended: 128 + SIGINT."""


class LazyCommands(click.Group):
    """Knows the names and the one-line descriptions of all commands, and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"deploy.commands.{cmd_name.replace('-', '_')}")
        return cast(click.Command, module.command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="purser", prog_name="purser")
def purser() -> None:
    """The in-app-purchase backend that you run yourself."""


def main() -> None:
    """The entry point: every way to end has its exit code, and none is a traceback unless it is a bug."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line; returns its exit code."""
    try:
        return int(purser.main(args=arguments, prog_name="purser", standalone_mode=False) or 0)
    except DeployError as error:
        click.echo(f"purser: {error}", err=True)
        return 1
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stderr.close()
        return 1
