"""Erasing a user: what is personal is gone, and what moved stays, under a pseudonym that leads back to nobody.

All of it is one transaction. Most of what there is about a user is written once and changed by nobody, so that part
needs no peace: it is done first. For the rest, nobody may record or handle an event meanwhile, or the id would come
back with what was on its way: for that moment recording waits. Whoever holds something that is needed then, and waits
to record, is waited for no longer than LOCK_TIMEOUT_MS; then we step back, and try again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from deploy.errors import DeployError
from deploy.users.holdings import held, originals, under_way
from shared.bus import journal
from shared.clock import Clock
from shared.database import transact
from shared.events import Draft, UserErased
from shared.ids import AppId, IdSource, UserId, erasure_subject, pseudonym, uuid7_floor

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

HISTORY: Final = timedelta(hours=1)
"""What was recorded so long ago is recorded: no transaction is open for so long, and no clock is so wrong."""
PATIENCE_S: Final = 30.0
"""So long what is under way is waited for, and a moment in which nobody holds what we need."""
STOP_TIMEOUT_MS: Final = 300
"""So long we wait for those who are recording to end; whoever wants to begin waits behind us."""
LOCK_TIMEOUT_MS: Final = 200
"""So long we wait for a row while nobody can record. Less than PostgreSQL's deadlock_timeout."""
PAUSE_S: Final = 0.2
STEPS_BACK: Final = 100

_ONE_AT_A_TIME: Final = "select pg_advisory_xact_lock(hashtext('purser.users.erase'))"

_NO_EVENTS: Final = "00000000-0000-0000-0000-000000000000"

_HISTORY: Final = {
    "ledger.transfer": (
        "select ledger.erase_history(%(app)s, %(erased)s, %(pseudonym)s, %(salt)s, %(first)s, %(since)s)"
    ),
    "notifier.attempt": "select notifier.erase_history(%(app)s, %(erased)s, %(pseudonym)s, %(first)s)",
    "journal.event": (
        "select journal.erase_history(%(app)s, %(erased)s, %(pseudonym)s, %(salt)s, %(first)s, %(since)s)"
    ),
}

# In the order in which rows are locked along an event's road.
_REST: Final = (
    "select verifier.erase_user(%(app)s, %(erased)s, %(pseudonym)s, %(salt)s)",
    "select ledger.erase_user(%(app)s, %(erased)s, %(pseudonym)s, %(salt)s, %(since)s)",
    "select notifier.erase_user(%(app)s, %(erased)s, %(pseudonym)s, %(since)s)",
    "select journal.erase_user(%(app)s, %(erased)s, %(pseudonym)s, %(salt)s, %(originals)s, %(since)s)",
)

# Everybody who records an event, or handles one, writes to this table before anything of it can be seen. A statement
# that waits for it begins with what was committed by then.
_STOP: Final = "lock table journal.delivery in share row exclusive mode"


class UserUnderWay(DeployError):
    """Something of the user is still being looked at, or the system is too busy for now."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of a user: whom the rest belongs to now, and how many rows were changed, by table."""

    pseudonym: UserId
    erased_at: datetime
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Erasure:
    """Who is erased, and by whom. `salt` makes the pseudonym's ids of the user's, and is kept nowhere."""

    app: AppId
    user_id: UserId
    pseudonym: UserId
    salt: str
    actor: str
    at: datetime

    @property
    def since(self) -> UUID:
        """Where history ends."""
        return uuid7_floor(self.at - HISTORY)

    def parameters(self) -> dict[str, Any]:
        return {
            "app": self.app,
            "erased": self.user_id,
            "pseudonym": self.pseudonym,
            "salt": self.salt,
            "first": _NO_EVENTS,
            "since": str(self.since),
        }


def erase_user(
    engine: Engine,
    *,
    app: AppId,
    user_id: UserId,
    actor: str,
    ids: IdSource,
    clock: Clock,
    patience_s: float = PATIENCE_S,
) -> Erased | None:
    """Erases the user; None: nothing is held about them.

    Raises UserUnderWay when it cannot be done within `patience_s`; nothing was changed then.
    """
    deadline = clock.monotonic() + patience_s
    while True:
        erasure = Erasure(
            app=app,
            user_id=user_id,
            pseudonym=pseudonym(ids.uuid()),
            salt=ids.uuid().hex,
            actor=actor,
            at=clock.now(),
        )
        try:
            return transact(engine, lambda connection: _erase(connection, erasure, ids))  # noqa: B023 - called at once
        except UserUnderWay:
            if clock.monotonic() > deadline:
                raise
        threading.Event().wait(PAUSE_S)


def _erase(connection: Connection, erasure: Erasure, ids: IdSource) -> Erased | None:
    connection.exec_driver_sql(_ONE_AT_A_TIME)
    if not held(connection, app=erasure.app, user_id=erasure.user_id):
        return None
    _refuse_under_way(connection, erasure)
    rows = erase_rows(connection, erasure)
    journal.append(connection, [_word_of(erasure, rows, ids)], ids=ids)
    return Erased(erasure.pseudonym, erasure.at, rows)


def erase_rows(connection: Connection, erasure: Erasure) -> Mapping[str, int]:
    """Takes the user out of every table, in the caller's transaction; how many rows were changed, by table.

    Raises UserUnderWay.
    """
    rows = Counter({table: _scalar(connection, sql, erasure.parameters()) for table, sql in _HISTORY.items()})
    rows.update(_in_peace(connection, lambda: _erase_rest(connection, erasure)))
    return {table: count for table, count in rows.items() if count}


def _in_peace(connection: Connection, work: Callable[[], Mapping[str, int]]) -> Mapping[str, int]:
    """Does it while nobody records anything. Raises UserUnderWay when there was no such moment."""
    for _ in range(STEPS_BACK):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(f"set local lock_timeout = {STOP_TIMEOUT_MS}")
                connection.exec_driver_sql(_STOP)
                connection.exec_driver_sql(f"set local lock_timeout = {LOCK_TIMEOUT_MS}")
                return work()
        except DBAPIError as error:
            if not _held_by_others(error):
                raise
        threading.Event().wait(PAUSE_S)
    raise UserUnderWay("the system is too busy to erase somebody now; nothing was changed: try again")


def _held_by_others(error: DBAPIError) -> bool:
    # 55P03 lock not available, 40P01 deadlock detected (PostgreSQL documentation, appendix A)
    return getattr(error.orig, "pgcode", None) in {"55P03", "40P01"}


def _erase_rest(connection: Connection, erasure: Erasure) -> Mapping[str, int]:
    _refuse_under_way(connection, erasure)
    known = list(originals(connection, app=erasure.app, user_id=erasure.user_id))
    parameters = erasure.parameters() | {"originals": known}
    rows: Counter[str] = Counter()
    for sql in _REST:
        rows.update(_scalar(connection, sql, parameters))
    return rows


def _refuse_under_way(connection: Connection, erasure: Erasure) -> None:
    count = under_way(connection, app=erasure.app, user_id=erasure.user_id)
    if count:
        raise UserUnderWay(
            f"{count} of what the user sent, or the store said of it, is still to be looked at; nothing was changed: "
            "`purser timeline` says what it waits for, and once that has come, or is parked, erase again"
        )


def _word_of(erasure: Erasure, rows: Mapping[str, int], ids: IdSource) -> Draft:
    return Draft(
        payload=UserErased(actor=erasure.actor, rows=rows),
        app=erasure.app,
        subject=erasure_subject(app=erasure.app, user_id=erasure.pseudonym),
        user_id=erasure.pseudonym,
        occurred_at=erasure.at,
        trace_id=ids.trace_id(),
    )


def _scalar(connection: Connection, sql: str, parameters: Mapping[str, Any]) -> Any:
    return connection.exec_driver_sql(sql, dict(parameters)).scalar_one()
