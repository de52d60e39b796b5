"""`purser users`: all that is held about one user, told in full, and erased."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import click

from deploy.desk import OPERATOR, app_option, chosen_app, database, database_engine, json_option, show
from deploy.errors import StackInvalid
from deploy.settings import StackSettings
from shared.clock import SystemClock, rfc3339
from shared.ids import AppId, UserId, is_pseudonym, system_ids
from shared.settings import read

TIMEOUT_S: Final = 600
"""For one statement: of a user who has a million of everything there is much to read, and much to change."""

ROW_COLUMNS = ("table", "rows")
ERASURE_COLUMNS = ("erased_at", "app", "pseudonym", "actor", "rows")

_ERASURES: Final = """
select app, user_id, occurred_at, payload ->> 'actor',
       (select sum(value::bigint)::bigint from jsonb_each_text(payload -> 'rows'))
  from journal.event
 where type = 'user.erased' and app = coalesce(%(app)s, app) order by id desc limit %(limit)s
"""

user_argument = click.argument("user_id", metavar="USER")


@dataclass(frozen=True, slots=True)
class RowLine:
    """How many rows of a table are about a user."""

    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class ErasureLine:
    """Who somebody who was erased is now; who they were is not known."""

    erased_at: datetime
    app: str
    pseudonym: str
    actor: str
    rows: int


@click.group()
def command() -> None:
    """All that is held about a user: export it, erase it. What that means: docs/data-protection.md."""


@command.command()
@user_argument
@click.option("--proofs", is_flag=True, help="With receipts and what the store signed, whole.")
@app_option
def export(user_id: str, proofs: bool, app_id: str | None) -> None:
    """Everything about the user, production and sandbox, as one JSON document on the standard output."""
    from deploy.users.exporting import export_user

    user = UserId(user_id)
    app = _app(app_id, user)
    exported_at = rfc3339(SystemClock().now())
    with database_engine(timeout_s=TIMEOUT_S) as engine, engine.begin() as connection:
        for piece in export_user(connection, app=app, user_id=user, exported_at=exported_at, proofs=proofs):
            click.echo(piece, nl=False)


@command.command()
@user_argument
@click.option("--dry-run", is_flag=True, help="Only say what there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--by", "actor", default=OPERATOR, show_default=True, help="Who erases: kept with the erasure.")
@app_option
@json_option
def erase(user_id: str, dry_run: bool, yes: bool, actor: str, app_id: str | None, as_json: bool) -> None:
    """Take all that is personal of the user out, for good; the books stay, under a pseudonym.

    Close the user's account in your app first: whoever comes with the old id afterwards begins anew.
    """
    from deploy.users.erasing import erase_user

    user = UserId(user_id)
    if is_pseudonym(user):
        raise click.ClickException(f"{user} is the pseudonym of somebody who was erased")
    app = _app(app_id, user)
    rows = _held(app, user)
    if dry_run or not rows:
        _show_rows(rows, as_json=as_json, empty=f"nothing is held about {user}")
        return
    if not yes:
        click.confirm(
            f"{sum(rows.values()):,} rows are about {user} of {app}. Erase them for good?", abort=True, err=True
        )
    with database_engine(timeout_s=TIMEOUT_S) as engine:
        erased = erase_user(engine, app=app, user_id=user, actor=actor, ids=system_ids(), clock=SystemClock())
    if erased is None:  # somebody else was faster
        _show_rows({}, as_json=as_json, empty=f"nothing is held about {user}")
        return
    if as_json:
        told: dict[str, Any] = {"pseudonym": erased.pseudonym, "erased_at": rfc3339(erased.erased_at)}
        click.echo(json.dumps(told | {"rows": dict(erased.rows)}, indent=2))
        return
    _show_rows(erased.rows, as_json=False, empty="")
    click.echo(f"erased; what moved belongs to {erased.pseudonym} now")


@command.command()
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@click.option("--app", "app_id", help="Of this app only.")
@json_option
def erasures(limit: int, app_id: str | None, as_json: bool) -> None:
    """Who was erased when, the newest first: by pseudonym, since who they were is not kept."""
    with database() as run:
        found = run(
            lambda connection: connection.exec_driver_sql(_ERASURES, {"app": app_id, "limit": limit}).all(),
        )
    rows = [ErasureLine(at, app, pseudonym, actor, rows or 0) for app, pseudonym, at, actor, rows in found]
    show(rows, ERASURE_COLUMNS, as_json=as_json, empty="nobody was erased")


def _app(app_id: str | None, user_id: UserId) -> AppId:
    """The app that is meant: also one that has left the apps file, if something is held about the user there."""
    try:
        return chosen_app(read(StackSettings), app_id).id
    except StackInvalid:
        if app_id is None or not _held(AppId(app_id), user_id):
            raise
        return AppId(app_id)


def _held(app: AppId, user_id: UserId) -> Mapping[str, int]:
    from deploy.users.holdings import held

    with database_engine(timeout_s=TIMEOUT_S) as engine, engine.begin() as connection:
        return held(connection, app=app, user_id=user_id)


def _show_rows(rows: Mapping[str, int], *, as_json: bool, empty: str) -> None:
    if as_json:
        click.echo(json.dumps({"pseudonym": None, "rows": dict(rows)}, indent=2))
        return
    show([RowLine(table, count) for table, count in sorted(rows.items())], ROW_COLUMNS, as_json=False, empty=empty)
