"""What an audit sees in Postgres, a page of a walk in one statement; and the audits that were made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine

from ledger.domain.audit import Cursor, Finding, Newest, Page, Report, Waiting
from ledger.store.audit_pages import BY_INDEX
from ledger.store.audit_walks import WALKS
from shared.ids import uuid7_floor

Run = Callable[[Callable[[Connection], Any]], Any]
"""Runs a function in a transaction of its own. Raises DatabaseUnavailable."""


class PostgresEvidence:
    """What is written down in one database. Each page is a transaction of its own."""

    walks: Sequence[str] = tuple(WALKS)

    def __init__(self, run: Run, *, rows: int | None = None) -> None:
        """`rows`: of each page; None: as many as suit each walk."""
        self._run = run
        self._rows = rows
        self._statements = {name: walk.statement() for name, walk in WALKS.items()}

    def first(self, walk: str, *, since: datetime | None) -> Cursor:
        chosen = WALKS[walk]
        return (str(uuid7_floor(since)),) if since is not None and chosen.by_time else chosen.begin

    def page(self, walk: str, *, after: Cursor) -> Page:
        """Raises DatabaseUnavailable."""
        limit = self._rows or WALKS[walk].rows
        parameters: dict[str, Any] = {f"after_{place}": value for place, value in enumerate(after)} | {"rows": limit}

        def read(connection: Connection) -> Any:
            connection.exec_driver_sql(BY_INDEX)
            return connection.exec_driver_sql(self._statements[walk], parameters).one()

        rows, last, problems, findings, refunds_waiting, waiting = self._run(read)
        return Page(
            rows=rows,
            problems=problems,
            findings=msgspec.json.decode(findings, type=list[Finding]),
            refunds_waiting=refunds_waiting,
            waiting=msgspec.json.decode(waiting, type=list[Waiting]),
            last=tuple(last) if rows >= limit else None,
        )


# ---- the audits that were made -----------------------------------------------------------------------------------

_BEGIN = "insert into ledger.audit (started_at) values (%(at)s) returning id"

_FINISH = """
update ledger.audit
   set finished_at = %(finished_at)s, checked = %(checked)s::jsonb, problems = %(problems)s,
       findings = %(findings)s::jsonb
 where id = %(id)s
"""

_FAIL = "update ledger.audit set error = %(error)s where id = %(id)s"

_NEWEST_BEGAN = "select started_at from ledger.audit order by id desc limit 1"

_NEWEST = """
select problems, finished_at, extract(epoch from finished_at - started_at)::float8
  from ledger.audit where finished_at is not null order by id desc limit 1
"""

_FORGET = "delete from ledger.audit where started_at < %(before)s"


_ALONE = "select pg_try_advisory_lock(hashtext('ledger.audit'))"


@contextmanager
def audits_alone(engine: Engine) -> Iterator[bool]:
    """Whether nobody else audits; nobody begins to while the context is open.

    The lock belongs to a session of its own, and goes with it, however that ends. It is idle, within no transaction.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # closed in the end, and not given back to the pool with the lock on it
        yield bool(connection.exec_driver_sql(_ALONE).scalar_one())


class PostgresAudits:
    """The audits that are kept in one database. Every method raises DatabaseUnavailable."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def begin(self, *, at: datetime) -> int:
        return int(self._run(lambda connection: connection.exec_driver_sql(_BEGIN, {"at": at}).scalar_one()))

    def finish(self, audit: int, report: Report) -> None:
        parameters = {
            "id": audit,
            "finished_at": report.finished_at,
            "checked": _json(dict(report.checked)),
            "problems": report.problems,
            "findings": _json([asdict(finding) for finding in report.findings]),
        }
        self._run(lambda connection: connection.exec_driver_sql(_FINISH, parameters))

    def fail(self, audit: int, *, error: str) -> None:
        self._run(lambda connection: connection.exec_driver_sql(_FAIL, {"id": audit, "error": error}))

    def newest_began_at(self) -> datetime | None:
        found: datetime | None = self._run(
            lambda connection: connection.exec_driver_sql(_NEWEST_BEGAN).scalar_one_or_none()
        )
        return found

    def newest(self) -> Newest | None:
        row = self._run(lambda connection: connection.exec_driver_sql(_NEWEST).one_or_none())
        return None if row is None else Newest(*row)

    def forget(self, *, before: datetime) -> int:
        return int(self._run(lambda connection: connection.exec_driver_sql(_FORGET, {"before": before}).rowcount))


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()
