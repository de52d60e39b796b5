"""The audit's walks through double entry: transfers, entries, and the wallets and accounts that they add up to.

An account's balance is proved in two steps, so that millions of entries need not be summed at once: each entry follows
from the one before it (`entries`), and the account is where its last entry left it (`accounts`).
"""

from __future__ import annotations

from typing import Final

from ledger.store.audit_pages import NO_UUID, Walk

# ---- transfers ---------------------------------------------------------------------------------------------------

# What a transfer of each kind follows from, and the house's accounts that it is with: the first in any case. A refund
# of less than the one before it gives back what that took (ledger.domain.decisions).
_RULES = """
rule (kind, types, houses) as (values
    ('purchase', array['purchase.verified'], array['issuance']),
    ('refund', array['refund.received'], array['issuance', 'write_off']),
    ('refund_reversal', array['refund.reversed', 'refund.received'], array['issuance', 'write_off']),
    ('spend', array['spend.posted'], array['sink']),
    ('spend_reversal', array['spend.reversed'], array['sink']),
    ('grant', array['grant.posted'], array['goodwill']),
    ('write_off', array['hold.ended', 'spend.reversed'], array['write_off']))"""

_TRANSFERS = Walk(
    name="transfers",
    key=("id",),
    begin=(NO_UUID,),
    rows=2_000,
    by_time=True,
    page=f"""
page as materialized (
    select *, false as seen from ledger.transfer where id > %(after_0)s::uuid order by id limit %(rows)s),
{_RULES},
leg as materialized (
    select page.id, page.kind, page.app, page.environment, entry.position, entry.account_version, entry.amount,
           entry.wallet_id, account.id as account_id, account.kind as account_kind, account.currency,
           account.app as account_app, account.environment as account_environment, lot.amount as lot_amount
      from page
      left join lateral (select * from ledger.entry where transfer_id = page.id offset 0) as entry on true
      left join lateral (select * from ledger.account where id = entry.account_id offset 0) as account on true
      left join lateral (select amount from ledger.lot
                          where account_id = entry.account_id and version = entry.account_version offset 0) as lot
           on page.kind in ('purchase', 'grant') and entry.wallet_id is not null),
part as materialized (
    select page.id, portion.account_id, portion.position, portion.amount, portion.settled, portion.own,
           account.currency, coalesce(known.lots -> account.currency @> to_jsonb(portion.lot_version), false) as of_own
      from page, lateral (select * from ledger.portion where transfer_id = page.id offset 0) as portion
      left join lateral (select currency from ledger.account where id = portion.account_id offset 0) as account
           on true
      left join lateral (select lots from ledger.store_transaction
                          where (app, store, environment, transaction_id)
                              = (page.app, page.store, page.environment, page.transaction_id) offset 0) as known
           on true)""",
    wrong="""
select 'transfer-entries' as "check", jsonb_build_object('transfer_id', id) as thing,
       count(position)::text as found, '2 or more' as expected
  from leg group by id having count(position) < 2
 union all
select 'transfer-sum', jsonb_build_object('transfer_id', id, 'currency', currency), sum(amount)::text, '0'
  from leg group by id, currency having sum(amount) <> 0
 union all
select 'transfer-place', jsonb_build_object('transfer_id', id, 'account_id', account_id),
       account_app || ' ' || account_environment, app || ' ' || environment
  from leg where (account_app, account_environment) <> (app, environment)
 union all
select 'transfer-event', jsonb_build_object('transfer_id', page.id, 'event_id', event_id),
       coalesce(event.type || ' of ' || event.app || ' about ' || event.subject, 'no such event'),
       array_to_string(types, ' or ') || ' of ' || page.app || ' and what it names in ' || environment
  from page join rule using (kind)
  left join lateral (select * from journal.event where id = page.event_id offset 0) as event on true
 where (event.type = any (types) and event.app = page.app
        and case when transaction_id is not null
                 then (payload #>> '{transaction,store}', payload #>> '{transaction,environment}',
                       coalesce(payload #>> '{transaction,charge_id}', payload #>> '{transaction,transaction_id}'))
                      = (store, environment, transaction_id)
                 else payload ->> 'environment' = environment
                      and (kind = 'write_off' or subject = case kind when 'grant' then 'grt_' else 'spd_' end
                                                           || replace(coalesce(reverses, page.id)::text, '-', ''))
            end) is not true
 union all
select 'transfer-house', jsonb_build_object('transfer_id', id, 'currency', currency),
       string_agg(account_kind, ', ' order by wallet_id, position), 'wallet, ' || array_to_string(houses, ' perhaps ')
  from leg join rule using (kind)
 group by id, currency, houses
having not bool_or(account_kind = houses[1]) or bool_or(account_kind <> all (array['wallet'] || houses))
 union all
select 'transfer-cause', jsonb_build_object('transfer_id', id, 'store', store, 'transaction_id', transaction_id),
       'no such transaction of ' || purchase_id, 'a store transaction'
  from page where transaction_id is not null
   and not exists (select from ledger.store_transaction as known
                    where (known.app, known.store, known.environment, known.transaction_id)
                        = (page.app, page.store, page.environment, page.transaction_id)
                      and known.purchase_id = page.purchase_id offset 0)
 union all
select 'transfer-cause', jsonb_build_object('transfer_id', id, 'spend_id', coalesce(reverses, id)),
       'no such spend', 'a spend'
  from page where kind in ('spend', 'spend_reversal')
   and not exists (select from ledger.spend where spend.id = coalesce(page.reverses, page.id) offset 0)
 union all
select 'credit-lot', jsonb_build_object('transfer_id', id, 'account_id', account_id, 'version', account_version),
       coalesce('a lot of ' || lot_amount, 'no lot'), 'a lot of ' || amount
  from leg where kind in ('purchase', 'grant') and wallet_id is not null and lot_amount is distinct from amount
 union all
select 'debit-portions', jsonb_build_object('transfer_id', id, 'currency', currency),
       sum(made)::text, sum(posted)::text
  from (select id, currency, 0 as made, amount as posted
          from leg where kind in ('spend', 'refund') and account_kind in ('sink', 'issuance')
         union all
        select id, currency, amount - settled, 0 from part) as debit
 group by id, currency having sum(made) <> sum(posted)
 union all
select 'portion-own', jsonb_build_object('transfer_id', id, 'account_id', account_id, 'position', position),
       own::text, of_own::text
  from part where own <> of_own""",
)

# ---- entries -----------------------------------------------------------------------------------------------------

_ENTRIES = Walk(
    name="entries",
    key=("account_id", "account_version"),
    begin=("0", "0"),
    rows=10_000,
    page="""
page as materialized (
    select *, (account_id, account_version) = (%(after_0)s::bigint, %(after_1)s::bigint) as seen
      from ledger.entry where (account_id, account_version) >= (%(after_0)s::bigint, %(after_1)s::bigint)
     order by account_id, account_version limit %(rows)s + 1),
chain as materialized (
    select account_id, account_version, transfer_id, amount, balance_before, balance_after, wallet_id, seen,
           lag(account_version, 1, 0::bigint) over earlier + 1 as next_version,
           lag(balance_after, 1, 0::bigint) over earlier as balance
      from page window earlier as (partition by account_id order by account_version))""",
    wrong="""
select "check", jsonb_build_object('account_id', account_id, 'version', account_version,
                                   'transfer_id', transfer_id) as thing, found, expected
  from (select 'entry-version' as "check", account_id, account_version, transfer_id,
               account_version::text as found, next_version::text as expected
          from chain where not seen and account_version <> next_version
         union all
        select 'entry-balance', account_id, account_version, transfer_id, balance_before::text, balance::text
          from chain where not seen and balance_before <> balance
         union all
        select 'entry-amount', account_id, account_version, transfer_id,
               balance_after::text, (balance_before + amount)::text
          from chain where not seen and balance_after <> balance_before + amount
         union all
        select 'entry-account', account_id, account_version, transfer_id,
               coalesce('wallet ' || chain.wallet_id, 'no wallet'),
               case when account.id is null then 'an account'
                    else coalesce('wallet ' || account.wallet_id, 'no wallet') end
          from chain
          left join lateral (select * from ledger.account where id = chain.account_id offset 0) as account on true
         where not seen and (account.id is null or account.wallet_id is distinct from chain.wallet_id)
         union all
        select 'entry-transfer', account_id, account_version, transfer_id, 'no such transfer', 'a transfer'
          from chain
         where not seen
           and not exists (select from ledger.transfer where id = chain.transfer_id offset 0)) as broken""",
)

_WALLET_ENTRIES = Walk(
    name="wallet entries",
    key=("wallet_id", "wallet_version"),
    begin=("0", "0"),
    rows=20_000,
    page="""
page as materialized (
    select wallet_id, wallet_version,
           (wallet_id, wallet_version) = (%(after_0)s::bigint, %(after_1)s::bigint) as seen
      from ledger.entry
     where wallet_id is not null
       and (wallet_id, wallet_version) >= (%(after_0)s::bigint, %(after_1)s::bigint)
     order by wallet_id, wallet_version limit %(rows)s + 1),
chain as materialized (
    select *, lag(wallet_version, 1, 0::bigint) over earlier + 1 as next_version
      from page window earlier as (partition by wallet_id order by wallet_version))""",
    wrong="""
select 'wallet-entry-version' as "check",
       jsonb_build_object('wallet_id', wallet_id, 'version', wallet_version) as thing,
       wallet_version::text as found, next_version::text as expected
  from chain where not seen and wallet_version <> next_version""",
)

# ---- wallets and accounts ----------------------------------------------------------------------------------------

_WALLETS = Walk(
    name="wallets",
    key=("id",),
    begin=("0",),
    rows=5_000,
    page="""
page as materialized (
    select *, false as seen from ledger.wallet where id > %(after_0)s::bigint order by id limit %(rows)s)""",
    wrong="""
select 'wallet-version' as "check",
       jsonb_build_object('wallet_id', page.id, 'app', app, 'environment', environment, 'user_id', user_id) as thing,
       version::text as found, newest::text as expected
  from page, lateral (select coalesce(max(wallet_version), 0) as newest
                        from ledger.entry where wallet_id = page.id) as entries
 where version <> newest""",
)

_ACCOUNTS = Walk(
    name="accounts",
    key=("id",),
    begin=("0",),
    rows=500,
    page="""
page as materialized (
    select *, false as seen from ledger.account where id > %(after_0)s::bigint order by id limit %(rows)s),
known as materialized (
    select page.*, newest, coalesce(left_at, 0) as left_at, remaining, lots_held, set_aside, open_debts,
           jsonb_build_object('account_id', page.id, 'app', page.app, 'environment', page.environment,
                              'kind', page.kind, 'currency', page.currency,
                              'user_id', (select user_id from ledger.wallet where id = page.wallet_id)) as thing
      from page,
           lateral (select coalesce(max(account_version), 0) as newest,
                           (select balance_after from ledger.entry where account_id = page.id
                             order by account_version desc limit 1) as left_at
                      from ledger.entry where account_id = page.id) as entries,
           lateral (select coalesce(sum(remaining), 0) as remaining, coalesce(sum(held), 0) as lots_held
                      from ledger.lot where account_id = page.id) as lots,
           lateral (select coalesce(sum(amount), 0) as set_aside
                      from ledger.hold where account_id = page.id and state = 'open') as holds,
           lateral (select coalesce(sum(amount - returned - settled), 0) as open_debts
                      from ledger.portion where account_id = page.id and source = 'owed'
                       and returned + settled < amount) as debts)""",
    wrong="""
select 'account-version' as "check", thing, version::text as found, newest::text as expected
  from known where version <> newest
 union all
select 'account-balance', thing, balance::text, left_at::text from known where balance <> left_at
 union all
select 'account-lots', thing, balance::text, (remaining + lots_held - owed)::text
  from known where kind = 'wallet' and balance <> remaining + lots_held - owed
 union all
select 'account-held', thing, held::text, lots_held::text from known where held <> lots_held
 union all
select 'account-holds', thing, held::text, set_aside::text from known where held <> set_aside
 union all
select 'account-owed', thing, owed::text, open_debts::text from known where owed <> open_debts
 union all
select 'account-reserved', thing || jsonb_build_object('lot', version), lot_held::text, reserved::text
  from (select id, thing from known where held <> 0 or lots_held <> 0 or set_aside <> 0) as holding,
       lateral (select version, sum(lot_held) as lot_held, sum(reserved) as reserved
                  from (select lot.version, lot.held as lot_held, 0 as reserved
                          from ledger.lot where lot.account_id = holding.id and lot.held <> 0
                         union all
                        select reservation.lot_version, 0, reservation.amount
                          from (select id from ledger.hold
                                 where account_id = holding.id and state = 'open' offset 0) as hold,
                               lateral (select * from ledger.reservation where hold_id = hold.id offset 0)
                                    as reservation) as each
                 group by version having sum(lot_held) <> sum(reserved)) as differing""",
)

WALKS: Final = (_TRANSFERS, _ENTRIES, _WALLET_ENTRIES, _WALLETS, _ACCOUNTS)
