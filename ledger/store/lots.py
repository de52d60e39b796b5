"""Lots, and the portions that debits are made of. All are of accounts that the caller's transaction has locked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection

from ledger.domain.books import AccountId, TransactionKey, TransferId
from ledger.domain.lots import Lot, LotKey, LotsFound, LotsWanted, Portion, Reservation
from ledger.domain.postings import Posting
from ledger.store.statements import columns
from shared.database import array_literal

_LOT: Final = "lot.account_id, lot.version, lot.amount, lot.remaining, lot.held, lot.spent"
_PORTION: Final = (
    "portion.transfer_id, portion.account_id, portion.position, portion.source, portion.amount, portion.lot_version,"
    " portion.own, portion.returned, portion.settled, portion.own_lots"
)

# From lot to lot along the index, until enough is there: as many rows are read as are used.
_OLDEST = f"""
select {_LOT}
  from unnest(%(account_ids)s::bigint[], %(amounts)s::bigint[]) as wanted (account_id, amount)
 cross join lateral (
       with recursive taken as (
           (select lot.*, lot.remaining::numeric as enough
              from ledger.lot
             where lot.account_id = wanted.account_id and lot.remaining > 0
             order by lot.version limit 1)
         union all
           (select following.*, taken.enough + following.remaining
              from taken cross join lateral (
                   select lot.* from ledger.lot
                    where lot.account_id = wanted.account_id and lot.remaining > 0 and lot.version > taken.version
                    order by lot.version limit 1) as following
             where taken.enough < wanted.amount))
       select * from taken) as lot
"""

_NAMED = f"""
select {_LOT}
  from ledger.lot
  join unnest(%(account_ids)s::bigint[], %(versions)s::bigint[]) as wanted (account_id, version)
       using (account_id, version)
"""

_REFUNDS = """
select transfer.app, transfer.store, transfer.environment, transfer.transaction_id, transfer.id
  from ledger.transfer
  join unnest(%(apps)s::text[], %(stores)s::text[], %(environments)s::text[], %(transaction_ids)s::text[])
       as wanted (app, store, environment, transaction_id) using (app, store, environment, transaction_id)
 where transfer.kind = 'refund'
 order by transfer.sequence
"""

_PORTIONS = f"select {_PORTION} from ledger.portion where transfer_id = any(%(ids)s::uuid[])"

# What a debit has not come by yet, and how many portions it has by now: what pays it goes on from there.
_UNPAID = f"""
select {_PORTION}, last.position
  from ledger.portion
 cross join lateral (
       select position from ledger.portion as other
        where (other.transfer_id, other.account_id) = (portion.transfer_id, portion.account_id)
        order by position desc limit 1) as last
 where portion.account_id = any(%(ids)s::bigint[]) and portion.returned + portion.settled < portion.amount
"""
_OWED = f"{_UNPAID} and portion.source = 'owed'"
_WRITTEN_OFF = f"{_UNPAID} and portion.source = 'written_off'"

_RESERVATIONS = """
select hold_id, position, account_id, lot_version, amount
  from ledger.reservation where hold_id = any(%(ids)s::uuid[]) order by hold_id, position
"""

_INSERT_LOTS = """
insert into ledger.lot (account_id, version, amount, remaining, held, spent)
select * from unnest(%(account_ids)s::bigint[], %(versions)s::bigint[], %(amounts)s::bigint[], %(remainings)s::bigint[],
                     %(helds)s::bigint[], %(spents)s::bigint[])
"""

_UPDATE_LOTS = """
update ledger.lot set remaining = new.remaining, held = new.held, spent = new.spent
  from unnest(%(account_ids)s::bigint[], %(versions)s::bigint[], %(amounts)s::bigint[], %(remainings)s::bigint[],
              %(helds)s::bigint[], %(spents)s::bigint[])
       as new (account_id, version, amount, remaining, held, spent)
 where (lot.account_id, lot.version) = (new.account_id, new.version)
"""

_INSERT_PORTIONS = """
insert into ledger.portion
       (transfer_id, account_id, position, source, amount, lot_version, own, returned, settled, own_lots)
select transfer_id, account_id, position, source, amount, lot_version, own, returned, settled, own_lots::bigint[]
  from unnest(%(transfer_ids)s::uuid[], %(account_ids)s::bigint[], %(positions)s::int[], %(sources)s::text[],
              %(amounts)s::bigint[], %(lot_versions)s::bigint[], %(owns)s::boolean[], %(returneds)s::bigint[],
              %(settleds)s::bigint[], %(own_lots)s::text[])
       as new (transfer_id, account_id, position, source, amount, lot_version, own, returned, settled, own_lots)
"""

_UPDATE_PORTIONS = """
update ledger.portion set returned = new.returned, settled = new.settled
  from unnest(%(transfer_ids)s::uuid[], %(account_ids)s::bigint[], %(positions)s::int[], %(returneds)s::bigint[],
              %(settleds)s::bigint[]) as new (transfer_id, account_id, position, returned, settled)
 where (portion.transfer_id, portion.account_id, portion.position)
     = (new.transfer_id, new.account_id, new.position)
"""


def load_lots(connection: Connection, wanted: LotsWanted) -> LotsFound:
    """What a batch needs of the lots of accounts that are locked."""
    refunds = _refunds(connection, wanted.transactions)
    debits = [*wanted.transfers, *(transfer for of_one in refunds.values() for transfer in of_one)]
    portions = [_portion(row) for row in _with_ids(connection, _PORTIONS, debits)]
    unpaid = [
        (_portion(row[:-1]), row[-1])
        for statement, accounts in ((_OWED, wanted.indebted), (_WRITTEN_OFF, wanted.forgiven))
        for row in _with_ids(connection, statement, accounts)
    ]
    reservations = [_reservation(row) for row in _with_ids(connection, _RESERVATIONS, wanted.holds)]
    named = {
        *wanted.lots,
        *(LotKey(each.account_id, each.lot_version) for each in portions if each.lot_version is not None),
        *(each.key for each in reservations),
    }
    lots = {lot.key: lot for lot in [*_oldest(connection, wanted.oldest), *_named(connection, named)]}
    return LotsFound(
        lots=list(lots.values()),
        portions=list(
            {(each.account_id, each.key): each for each in [*portions, *(each for each, _ in unpaid)]}.values()
        ),
        last_positions={(each.transfer_id, each.account_id): last for each, last in unpaid},
        reservations=reservations,
        refunds=refunds,
    )


def write_lots(connection: Connection, posting: Posting) -> None:
    """Writes the lots and portions that a posting has made or changed."""
    for lots, statement in ((posting.new_lots, _INSERT_LOTS), (posting.changed_lots, _UPDATE_LOTS)):
        if lots:
            rows = [(*lot.key, lot.amount, lot.remaining, lot.held, lot.spent) for lot in lots]
            names = ("account_ids", "versions", "amounts", "remainings", "helds", "spents")
            connection.exec_driver_sql(statement, columns(rows, names))
    if posting.new_portions:
        connection.exec_driver_sql(_INSERT_PORTIONS, _portion_columns(posting.new_portions))
    if posting.changed_portions:
        connection.exec_driver_sql(_UPDATE_PORTIONS, _portion_columns(posting.changed_portions))


def _refunds(connection: Connection, keys: Collection[TransactionKey]) -> dict[TransactionKey, list[TransferId]]:
    found: dict[TransactionKey, list[TransferId]] = {}
    if keys:
        parameters = columns(keys, ("apps", "stores", "environments", "transaction_ids"))
        for *key, transfer_id in connection.exec_driver_sql(_REFUNDS, parameters):
            found.setdefault(TransactionKey(*key), []).append(transfer_id)
    return found


def _oldest(connection: Connection, amounts: Mapping[AccountId, int]) -> Iterable[Lot]:
    if not amounts:
        return []
    rows = connection.exec_driver_sql(_OLDEST, columns(amounts.items(), ("account_ids", "amounts")))
    return [_lot(row) for row in rows]


def _named(connection: Connection, keys: Collection[LotKey]) -> Iterable[Lot]:
    if not keys:
        return []
    return [_lot(row) for row in connection.exec_driver_sql(_NAMED, columns(keys, ("account_ids", "versions")))]


def _with_ids(connection: Connection, statement: str, ids: Collection[UUID | int]) -> Sequence[Any]:
    return connection.exec_driver_sql(statement, {"ids": array_literal(ids)}).all() if ids else []


def _lot(row: Any) -> Lot:
    account_id, version, *rest = row
    return Lot(LotKey(account_id, version), *rest)


def _portion(row: Any) -> Portion:
    transfer_id, account_id, position, source, amount, lot_version, own, returned, settled, own_lots = row
    return Portion(
        transfer_id=transfer_id,
        account_id=account_id,
        position=position,
        source=source,
        amount=amount,
        lot_version=lot_version,
        own=own,
        returned=returned,
        settled=settled,
        own_lots=tuple(own_lots),
    )


def _reservation(row: Any) -> Reservation:
    hold_id, position, account_id, version, amount = row
    return Reservation(hold_id, position, LotKey(account_id, version), amount)


def _portion_columns(portions: Sequence[Portion]) -> dict[str, Any]:
    return {
        "transfer_ids": array_literal(each.transfer_id for each in portions),
        "account_ids": array_literal(each.account_id for each in portions),
        "positions": array_literal(each.position for each in portions),
        "sources": array_literal(each.source for each in portions),
        "amounts": array_literal(each.amount for each in portions),
        "lot_versions": array_literal(each.lot_version for each in portions),
        "owns": array_literal(str(each.own) for each in portions),
        "returneds": array_literal(each.returned for each in portions),
        "settleds": array_literal(each.settled for each in portions),
        "own_lots": array_literal(array_literal(each.own_lots) for each in portions),
    }
