"""What the App Store told us: the notifications of the journal, and what became of each.

Read over indexes alone: what followed from a notification is looked for under the purchase that it is about, and under
its subscription.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from shared.bus import journal
from shared.bus.journal import Pending
from shared.events import PROOF_REMOVED, Environment, NotificationReceived
from shared.ids import AppId, EventId, SubscriptionId, TransactionId, subscription_id, transaction_subject
from shared.jws import JwsError, peek_claims
from verifier.domain import (
    Act,
    AppleNotification,
    AppleTransaction,
    RecordOnly,
    RecordUnknown,
    intent_of,
    read_notification,
    read_transaction,
)

DAYS = 30
"""How far back is looked when nothing else is said: the journal has no index by type."""

STORE = "apple"

_NEWEST = """
select id, app, recorded_at, payload ->> 'notification_id', payload ->> 'notification_type', payload ->> 'subtype',
       payload ->> 'signed_payload'
  from journal.event
 where type = %(type)s and id >= journal.uuid_floor(now() - make_interval(days => %(days)s))
   and app = coalesce(%(app)s, app)
   and payload ->> 'notification_type' = coalesce(%(notification_type)s, payload ->> 'notification_type')
 order by id desc limit %(limit)s
"""

_PURCHASES = """
select known.app, known.environment, known.transaction_id, known.purchase_id
  from verifier.store_transaction as known
  join unnest(%(apps)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])
       as wanted (app, environment, transaction_id)
       using (app, environment, transaction_id)
 where known.store = %(store)s and known.purchase_id is not null
"""

_FOLLOWED = """
select causation_id, type from journal.event
 where subject = any(%(subjects)s) and id > %(oldest)s and causation_id = any(%(causes)s) order by id
"""

TransactionName = tuple[AppId, Environment, TransactionId]


@dataclass(frozen=True, slots=True)
class Told:
    """A notification.

    `became` begins with what it came to: `acted on`, `recorded`, `unknown`, `waiting`, `parked` or `dead`.
    """

    received_at: datetime
    app: str
    environment: str | None
    type: str
    subtype: str | None
    notification_id: str
    event_id: EventId
    transaction_id: str | None
    became: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A notification as it was recorded, and as it says itself (its signature was checked before it was recorded)."""

    event_id: EventId
    app: AppId
    received_at: datetime
    notification_id: str
    type: str
    subtype: str | None
    stated: AppleNotification | None
    transaction: AppleTransaction | None
    is_removed: bool

    @classmethod
    def of(cls, row: Any) -> _Row:
        event_id, app, received_at, notification_id, notification_type, subtype, signed_payload = row
        stated = _stated(signed_payload)
        return cls(
            event_id=event_id,
            app=app,
            received_at=received_at,
            notification_id=notification_id,
            type=notification_type,
            subtype=subtype,
            stated=stated,
            transaction=_transaction(stated),
            is_removed=signed_payload == PROOF_REMOVED,
        )

    @property
    def name(self) -> TransactionName | None:
        if self.transaction is None:
            return None
        transaction = self.transaction.transaction
        return self.app, transaction.environment, transaction.transaction_id

    @property
    def subscription(self) -> SubscriptionId | None:
        if self.transaction is None or self.transaction.transaction.period is None:
            return None
        transaction = self.transaction.transaction
        return subscription_id(
            app=self.app,
            store=STORE,
            environment=transaction.environment,
            original_transaction_id=transaction.original_transaction_id,
        )


def told(
    connection: Connection,
    *,
    limit: int,
    app: str | None = None,
    notification_type: str | None = None,
    days: int = DAYS,
) -> list[Told]:
    """The notifications of the last `days`, newest first."""
    found = connection.exec_driver_sql(
        _NEWEST,
        {
            "type": NotificationReceived.TYPE,
            "days": days,
            "app": app,
            "notification_type": notification_type,
            "limit": limit,
        },
    )
    rows = [_Row.of(row) for row in found]
    if not rows:
        return []
    pending = {one.event_id: one for one in journal.pending(connection, [row.event_id for row in rows])}
    followed = _followed(connection, rows)
    return [_told(row, pending.get(row.event_id), followed.get(row.event_id, [])) for row in rows]


def _stated(signed_payload: str) -> AppleNotification | None:
    try:
        notification = read_notification(peek_claims(signed_payload))
    except JwsError:
        return None
    return notification if isinstance(notification, AppleNotification) else None


def _transaction(stated: AppleNotification | None) -> AppleTransaction | None:
    if stated is None or stated.signed_transaction is None:
        return None
    try:
        transaction = read_transaction(peek_claims(stated.signed_transaction))
    except JwsError:
        return None
    return transaction if isinstance(transaction, AppleTransaction) else None


def _followed(connection: Connection, rows: Sequence[_Row]) -> Mapping[UUID, list[str]]:
    """By the notification's event, the types of the events that it led to."""
    names = sorted({row.name for row in rows if row.name is not None})
    if not names:
        return {}
    subscriptions = {row.subscription for row in rows if row.subscription is not None}
    events = connection.exec_driver_sql(
        _FOLLOWED,
        {
            "subjects": [*_purchases(connection, names), *(_unclaimed(name) for name in names), *subscriptions],
            "oldest": min(row.event_id for row in rows),
            "causes": [row.event_id for row in rows],
        },
    )
    followed: dict[UUID, list[str]] = {}
    for cause, event_type in events:
        followed.setdefault(cause, []).append(event_type)
    return followed


def _purchases(connection: Connection, names: Sequence[TransactionName]) -> list[str]:
    apps, environments, transaction_ids = zip(*names, strict=True)
    rows = connection.exec_driver_sql(
        _PURCHASES,
        {
            "store": STORE,
            "apps": list(apps),
            "environments": list(environments),
            "transaction_ids": list(transaction_ids),
        },
    )
    return [row.purchase_id for row in rows]


def _unclaimed(name: TransactionName) -> str:
    app, environment, transaction_id = name
    return transaction_subject(app=app, store=STORE, environment=environment, transaction_id=transaction_id)


def _told(row: _Row, pending: Pending | None, followed: Sequence[str]) -> Told:
    return Told(
        received_at=row.received_at,
        app=row.app,
        environment=None if row.stated is None else row.stated.environment,
        type=row.type,
        subtype=row.subtype,
        notification_id=row.notification_id,
        event_id=row.event_id,
        transaction_id=None if row.name is None else row.name[2],
        became=_became(row, pending, followed),
    )


def _became(row: _Row, pending: Pending | None, followed: Sequence[str]) -> str:
    """In one phrase; the first word says which of the outcomes it is."""
    if pending is not None and pending.state in {"parked", "dead"}:
        return f"{pending.state}: {pending.error or 'no reason'}"
    if pending is not None:
        return f"waiting ({pending.attempts} attempts: {pending.error})" if pending.error else "waiting"
    if followed:
        return f"acted on: {', '.join(followed)}"
    if row.is_removed:
        return "recorded: its text is not kept any more"
    match None if row.stated is None else intent_of(row.stated):
        case Act():
            return "acted on: nothing new, or nobody's yet"
        case RecordOnly(why):
            return f"recorded: {why.replace('_', ' ')}"
        case RecordUnknown():
            return "unknown: recorded as it came"
        case _:
            return "recorded: it cannot be read"
