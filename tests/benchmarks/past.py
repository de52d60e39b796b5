"""A past for the ledger: books that look as if they had been kept for half a year, made by set-based SQL.

One app, one currency, two entries a transfer. Wallets of all sizes, from a handful of entries to a hundred thousand,
and the hot one, which has a fifth of all transfers. The house has its sixteen accounts of each kind. What every wallet
lives through, again and again, in ten steps:

    0 … 6   a purchase of 100
    7       the refund of the purchase before
    8, 9    a spend of 50: of the oldest lot that has anything left

So whatever the books keep of a step (entry, lot, portion, balance) is a function of the wallet and of the step's place
in its life, and can be written down in a few statements. The ledger's own code would take hours. Beside the books there
is what led to them: each transfer's event in the journal, each purchase's timeline, each spend's answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg2
from psycopg2 import extensions, sql

from shared.clock import Clock
from shared.events import WORD_RANK, Payload, PurchaseVerified, RefundReceived, SpendPosted, StoreTransaction, encode
from shared.ids import AppId, PurchaseId, SpendId, TransactionId
from shared.money import CurrencyId

APP: Final = AppId("game")
GEMS: Final = CurrencyId("gems")
PRODUCT: Final = "com.example.game.gems100"
HOT: Final = "hot"
HOT_SHARE: Final = 0.2
WALLETS_MIN: Final = 5_000
TRANSFERS_PER_WALLET: Final = 20
SKEW: Final = 0.8
"""Zipf's exponent: the n-th wallet has so many transfers as the first one, divided by n to the power of it."""
DAYS: Final = 180
BYTES_PER_ENTRY: Final = 1_600
"""Disk that a past takes, its journal and its write-ahead log with it."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Past:
    """What was made, and how long it took."""

    entries: int
    transfers: int
    wallets: int
    hot_entries: int
    hot_lots: int
    database_bytes: int
    seconds: float


def wallets_of(entries: int) -> int:
    """How many wallets, beside the hot one, books of so many entries have: users `user-1` to `user-n`."""
    return max(WALLETS_MIN, entries // 2 // TRANSFERS_PER_WALLET)


def make_past(database_url: str, *, entries: int, now: datetime, clock: Clock, tell: Tell) -> Past:
    """Fills a migrated database that nothing was written to. `entries` is met but for rounding."""
    began = clock.monotonic()
    with contextlib.closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        for setting in _SESSION:
            cursor.execute(setting)
        connection.commit()
        with _indexes_made_last(cursor, tell):
            for what, statements in _steps(entries, now):
                tell(f"  {what} …")
                for statement in statements:
                    cursor.execute(statement)
                connection.commit()
        connection.commit()
        connection.autocommit = True
        tell("  cleaning up, statistics …")
        for command in _AFTERWARDS:
            cursor.execute(command)
        cursor.execute(_COUNTS, {"hot": HOT})
        ((entries, transfers, wallets, hot_entries, hot_lots, database_bytes),) = cursor.fetchall()
    seconds = clock.monotonic() - began
    return Past(entries, transfers, wallets, hot_entries, hot_lots, database_bytes, seconds)


_SESSION = (
    "set session_replication_role = replica",  # no trigger: the rules are kept by how it is made
    "set synchronous_commit = off",
    "set work_mem = '512MB'",
    "set maintenance_work_mem = '1GB'",
    "set jit = off",
    "set timezone = 'UTC'",
)

_COUNTS = """
select (select count(*) from ledger.entry), (select count(*) from ledger.transfer),
       (select count(*) from ledger.wallet),
       account.version, (select count(*) from ledger.lot where account_id = account.id),
       pg_database_size(current_database())
  from ledger.account join ledger.wallet on wallet.id = wallet_id where user_id = %(hot)s
"""

_BIG = (
    "ledger.entry",
    "ledger.transfer",
    "ledger.store_transaction",
    "ledger.lot",
    "ledger.portion",
    "ledger.answer",
    "journal.event",
    "journal.timeline",
)
_AFTERWARDS = (
    "drop schema past cascade",
    *(f"vacuum (freeze, analyze) {table}" for table in (*_BIG, "ledger.wallet", "ledger.account", "ledger.spend")),
    "checkpoint",
)


@contextlib.contextmanager
def _indexes_made_last(cursor: extensions.cursor, tell: Tell) -> Iterator[None]:
    """The big tables without their indexes meanwhile: sorting once is several times as fast as keeping in order."""
    made_again: list[str] = []
    for table in _BIG:
        cursor.execute(_CONSTRAINTS, {"table": table})
        for name, definition in cursor.fetchall():
            cursor.execute(f'alter table {table} drop constraint "{name}"')
            made_again.append(f'alter table {table} add constraint "{name}" {definition}')
        cursor.execute(_INDEXES, {"table": table})
        for name, definition in cursor.fetchall():
            cursor.execute(f"drop index {name}")
            made_again.append(definition.replace(" ON ONLY ", " ON "))  # a partitioned table's: on its partitions too
    cursor.connection.commit()
    yield
    for statement in made_again:
        tell(f"  {statement.partition(' (')[0]} …")
        cursor.execute(statement)
        cursor.connection.commit()


_CONSTRAINTS = """
select conname, pg_get_constraintdef(oid) from pg_constraint
 where conrelid = %(table)s::regclass and contype in ('p', 'u') order by contype
"""
_INDEXES = (
    "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index where indrelid = %(table)s::regclass"
)


# ---- what is written ----------------------------------------------------------------------------------------------

Step = tuple[str, Sequence[sql.Composable]]


def _steps(entries: int, now: datetime) -> Iterator[Step]:
    """Each thing to be written, with a word for it."""
    transfers, wallets = entries // 2, wallets_of(entries)
    hot = int(transfers * HOT_SHARE)
    since = now - timedelta(days=DAYS)
    values = {
        "app": APP,
        "currency": GEMS,
        "product": PRODUCT,
        "hot": HOT,
        "hot_transfers": hot,
        "wallets": wallets,
        "others": transfers - hot,
        "skew": SKEW,
        "since": since,
        "span_s": (now - timedelta(hours=1) - since).total_seconds(),
        "months": DAYS // 28 + 1,
        "verified_type": PurchaseVerified.TYPE,
        "verified": _template(PurchaseVerified(PurchaseId("@subject@"), _TRANSACTION)),
        "refund_type": RefundReceived.TYPE,
        "refund": _template(RefundReceived(_TRANSACTION, _THEN, "OTHER", purchase_id=PurchaseId("@subject@"))),
        "spend_type": SpendPosted.TYPE,
        "spend": _template(SpendPosted(SpendId("@subject@"), "production", GEMS, 50, "server:backend")),
        "rank": WORD_RANK[PurchaseVerified.TYPE],
    }
    literals = {name: sql.Literal(value) for name, value in values.items()}
    for what, statements in _STATEMENTS.items():
        yield what, [sql.SQL(statement).format(**literals) for statement in statements]


_THEN = datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC)
_TRANSACTION = StoreTransaction(
    store="apple",
    environment="production",
    transaction_id=TransactionId("@transaction@"),
    original_transaction_id=TransactionId("@transaction@"),
    product_id=PRODUCT,
    product_type="consumable",
    quantity=1,
    purchased_at=_THEN,
    signed_at=_THEN,
)


def _template(payload: Payload) -> str:
    """A payload as the journal keeps it, with @words@ where the ids and the time go."""
    return encode(payload).decode().replace(_THEN.isoformat().replace("+00:00", "Z"), "@moment@")


_SCHEMA = """
create schema past;

-- UUIDv7 (RFC 9562): the milliseconds, then a counter, then what tells apart two ids of one moment and counter.
create function past.id(salt text, moment timestamptz, number bigint) returns uuid language sql immutable as $$
    select (lpad(to_hex((extract(epoch from moment) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(number & 4095), 3, '0') || '8' || right(md5(salt || number), 15))::uuid
$$;

-- The n-th step's wallet and place name a transaction of the store, and the transaction names a purchase. Purchases are
-- spread over the whole range of their ids, as digests are: that is what keeping them in an index costs.
create function past.transaction_id(account_id bigint, place bigint) returns text language sql immutable as $$
    select (2000000000000000 + account_id * 10000000 + place)::text
$$;
create function past.purchase_id(transaction_id text) returns text language sql immutable as $$
    select 'pur_' || left(translate(lower(encode(sha256(transaction_id::bytea), 'base64')), '+/0189', 'abcdef'), 26)
$$;

-- A wallet's balance after so many steps, and how many spends were among them.
create function past.balance(steps bigint) returns bigint language sql immutable as $$
    select steps / 10 * 500 + 100 * least(steps % 10, 7) - case steps % 10 when 8 then 100 when 9 then 150 else 0 end
$$;
create function past.spends(steps bigint) returns bigint language sql immutable as $$
    select steps / 10 * 2 + greatest(steps % 10 - 8, 0)
$$;

select journal.ensure_partitions({since}, {months});
"""

# The first wallet has the most steps; `share` is what the first would have if all had to sum up.
_WALLETS = """
create unlogged table past.life as
    select {hot}::text as user_id, {hot_transfers}::bigint as steps, 0 as number
     union all
    select 'user-' || number, floor({others} * weight / sum(weight) over ())::bigint, number
      from (select number, power(number, -{skew}) as weight from generate_series(1, {wallets}) as each (number))
           as wanted;

insert into ledger.wallet (app, environment, user_id, version)
select {app}, 'production', user_id, steps from past.life where steps > 0 order by number;

insert into ledger.account (app, environment, kind, wallet_id, currency, balance, version)
select {app}, 'production', 'wallet', wallet.id, {currency}, past.balance(steps), steps
  from past.life join ledger.wallet using (user_id) order by wallet.id;

insert into ledger.account (app, environment, kind, shard, currency)
select {app}, 'production', kind, shard, {currency}
  from unnest(array['issuance', 'sink']) as house (kind) cross join generate_series(0, 15) as each (shard);
"""

# All wallets live at the same time, each at its own pace; a batch of 200 uses one account of the house.
_LIVES = """
create unlogged table past.step as
    select number, moment, account_id, wallet_id, user_id, place, steps, kind, amount,
           past.id('transfer', moment, number) as transfer_id, past.id('event', moment, number) as event_id,
           transaction_id,
           case kind when 'spend' then 'spd_' || replace(past.id('transfer', moment, number)::text, '-', '')
                     else past.purchase_id(transaction_id) end as subject
      from (select row_number() over (order by moment, account_id) as number, *,
                   case when place % 10 < 7 then 'purchase' when place % 10 = 7 then 'refund' else 'spend' end as kind,
                   case when place % 10 < 7 then 100 when place % 10 = 7 then -100 else -50 end as amount,
                   case when place % 10 < 8 then past.transaction_id(account_id, place - (place % 10 = 7)::int) end
                   as transaction_id
              from (select account.id as account_id, wallet.id as wallet_id, user_id, place, account.version as steps,
                           {since}::timestamptz + interval '1 s' * {span_s}
                           * ((place + (account.id * 7919 % 1000) / 1000.0::float8) / account.version) as moment
                      from ledger.account join ledger.wallet on wallet.id = wallet_id
                           cross join lateral generate_series(0, account.version - 1) as each (place)) as lives)
           as steps;
analyze past.step;
"""

_ENTRIES = """
insert into ledger.entry (account_id, account_version, transfer_id, position, amount, balance_before, balance_after,
                          wallet_id, wallet_version)
select account_id, place + 1, transfer_id, 0, amount, past.balance(place), past.balance(place + 1), wallet_id, place + 1
  from past.step;

insert into ledger.entry (account_id, account_version, transfer_id, position, amount, balance_before, balance_after)
select house.id, row_number() over earlier, transfer_id, 1, -step.amount,
       step.amount - sum(step.amount) over earlier, -sum(step.amount) over earlier
  from past.step join ledger.account house
       on house.kind = case step.kind when 'spend' then 'sink' else 'issuance' end and house.shard = number / 200 % 16
window earlier as (partition by house.id order by number);

update ledger.account set version = entries, balance = total
  from (select account_id, count(*) as entries, sum(amount) as total from ledger.entry where wallet_id is null
         group by account_id) as kept
 where id = account_id;
"""

_TRANSFERS = """
insert into ledger.transfer (id, app, environment, kind, store, transaction_id, sequence, purchase_id, event_id,
                             trace_id, created_at, actor)
select transfer_id, {app}, 'production', kind, case when kind <> 'spend' then 'apple' end, transaction_id,
       case kind when 'purchase' then 0 when 'refund' then 1 end, case when kind <> 'spend' then subject end, event_id,
       md5(number::text), moment, case kind when 'spend' then 'server:backend' end
  from past.step;
"""

_STORE_TRANSACTIONS = """
insert into ledger.store_transaction (app, store, environment, transaction_id, state, user_id, purchase_id, due,
                                      granted, refunded_milli, sequence, revoked_signed_at, product_id,
                                      purchased_at, stated_as, lots)
select {app}, 'apple', 'production', bought.transaction_id, 'granted', bought.user_id, bought.subject,
       jsonb_build_object({currency}::text, 100), jsonb_build_object({currency}::text, 100),
       case when refund.number is null then 0 else 100000 end, (refund.number is not null)::int, refund.moment,
       {product}, bought.moment, bought.transaction_id,
       jsonb_build_object({currency}::text, jsonb_build_array(bought.place + 1))
  from past.step bought left join past.step refund
       on refund.kind = 'refund' and refund.subject = bought.subject
 where bought.kind = 'purchase';
"""

# The six purchases of a round that stand are the lots 6r … 6r + 5 in the order of their use; each pays two spends.
_LOTS = """
insert into ledger.lot (account_id, version, amount, remaining, spent)
select account_id, place + 1, 100, case when place % 10 = 6 and place + 1 < steps then 0 else 100 - spent end, spent
  from past.step cross join lateral (
       select case when place % 10 < 6
                   then 50 * least(2, greatest(0, past.spends(steps) - 2 * (place / 10 * 6 + place % 10)))
                   else 0 end as spent) as used
 where kind = 'purchase';

insert into ledger.portion (transfer_id, account_id, position, source, lot_version, own, amount)
select transfer_id, account_id, 0, 'lot',
       case kind when 'refund' then place else place / 10 / 6 * 10 + place / 10 % 6 + 1 end, kind = 'refund', -amount
  from past.step where kind <> 'purchase';
"""

_SPENDS = """
insert into ledger.spend (id, account_id, amount)
select transfer_id, account_id, -amount from past.step where kind = 'spend';

insert into ledger.answer (app, user_id, call, key, body_sha256, status, document, created_at)
select {app}, user_id, 'spends', md5('key' || number), sha256(number::text::bytea), 201,
       jsonb_build_object('id', subject, 'user_id', user_id, 'amount', 50, 'currency', {currency}::text,
                          'environment', 'production', 'created_at', moment,
                          'wallet', jsonb_build_object('version', place + 1))::text, moment
  from past.step where kind = 'spend';
"""

_JOURNAL = """
insert into journal.event (id, type, version, app, subject, user_id, payload, trace_id, occurred_at, recorded_at)
select event_id, type, 1, {app}, subject, user_id,
       replace(replace(replace(template, '@transaction@', coalesce(transaction_id, '')), '@subject@', subject),
               '@moment@', to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))::jsonb, md5(number::text), moment, moment
  from past.step join (values ('purchase', {verified_type}, {verified}), ('refund', {refund_type}, {refund}),
                              ('spend', {spend_type}, {spend})) as said (kind, type, template) using (kind);

insert into journal.timeline (app, subject, user_id, first_event_id, last_event_id, word_event_id, word_type, word_rank,
                              updated_at)
select {app}, first.subject, first.user_id, first.event_id, coalesce(refund.event_id, first.event_id),
       case first.kind when 'purchase' then first.event_id end,
       case first.kind when 'purchase' then {verified_type} end,
       case first.kind when 'purchase' then {rank} else 0 end, coalesce(refund.moment, first.moment)
  from past.step first left join past.step refund on refund.kind = 'refund' and refund.subject = first.subject
 where first.kind <> 'refund';
"""

_STATEMENTS = {
    "wallets and accounts": (_SCHEMA, _WALLETS),
    "what they live through": (_LIVES,),
    "entries": (_ENTRIES,),
    "transfers": (_TRANSFERS,),
    "store transactions": (_STORE_TRANSACTIONS,),
    "lots, and what was taken from them": (_LOTS,),
    "spends and their answers": (_SPENDS,),
    "the journal": (_JOURNAL,),
}
