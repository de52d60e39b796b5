"""`purser openapi`: the gateway's contract, for generators of clients and for whoever compares two versions."""

from __future__ import annotations

import json

import click


@click.command("openapi")
def command() -> None:
    """Print the gateway's OpenAPI 3.1 document."""
    from gateway.api.openapi import document

    click.echo(json.dumps(document(), indent=2, ensure_ascii=False))
