"""The simulated App Store of a running `purser up`, asked over HTTP by the operator's commands."""

from __future__ import annotations

import json
from typing import Any

import click

from deploy.addresses import recalled_addresses
from deploy.errors import StackInvalid, StackUnavailable
from deploy.settings import StackSettings
from shared.settings import read

TIMEOUT_S = (3.05, 30)

notify_option = click.option("--notify/--no-notify", default=True, help="Whether the App Store tells the gateway.")


def ask(
    method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What the simulator answers. Raises StackUnavailable, StackInvalid, or ClickException with its own sentence."""
    import requests

    simulator = recalled_addresses(read(StackSettings)).simulator
    try:
        response = requests.request(method, simulator + path, json=body, params=query, timeout=TIMEOUT_S)
        answer: dict[str, Any] = response.json()
    except requests.JSONDecodeError as error:
        raise StackInvalid(f"what answers at {simulator} is no simulator: set PURSER_SIMULATOR_PORT") from error
    except requests.RequestException as error:
        raise StackUnavailable(f"the simulator at {simulator} does not answer: is `purser up` running?") from error
    if not response.ok:
        raise click.ClickException(str(answer.get("detail", response.reason)))
    return answer


def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The same for a command; what is None is not given."""
    return ask("POST", path, {name: value for name, value in body.items() if value is not None})


def show(answer: dict[str, Any]) -> None:
    """An answer as JSON."""
    click.echo(json.dumps(answer, indent=2))
