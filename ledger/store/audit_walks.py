"""The ways that an audit takes through what is written down: for each a page of rows, and what may be wrong with them.

A walk reads a table along a key. For each row of its page it looks up what belongs to it, by key. An account's balance
is proved in two steps, so that millions of entries need not be summed at once: each entry follows from the one before
it (`entries`), and the account is where its last entry left it (`accounts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.store import audit_subscriptions
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

# ---- lots --------------------------------------------------------------------------------------------------------

_LOTS = Walk(
    name="lots",
    key=("account_id", "version"),
    begin=("0", "0"),
    rows=2_000,
    page="""
page as materialized (
    select *, false as seen from ledger.lot where (account_id, version) > (%(after_0)s::bigint, %(after_1)s::bigint)
     order by account_id, version limit %(rows)s),
known as materialized (
    select page.*, entry.amount as credited, entry.wallet_id, transfer.kind, used.taken, used.others,
           jsonb_build_object('account_id', page.account_id, 'lot', page.version, 'user_id',
                              (select user_id from ledger.wallet where id = entry.wallet_id)) as thing
      from page
      left join lateral (select * from ledger.entry
                          where account_id = page.account_id and account_version = page.version offset 0) as entry
           on true
      left join lateral (select kind from ledger.transfer where id = entry.transfer_id offset 0) as transfer on true,
           lateral (select coalesce(sum(portion.amount - returned), 0) as taken,
                           coalesce(sum(portion.amount - returned) filter (where not own), 0) as others
                      from ledger.portion
                     where portion.account_id = page.account_id and lot_version = page.version) as used)""",
    wrong="""
select 'lot-credit' as "check", thing, amount::text as found,
       coalesce(kind || ' of ' || credited, 'a credit') as expected
  from known
 where wallet_id is null or kind is null or credited < amount
    or case when kind in ('purchase', 'grant') then credited <> amount else kind <> 'refund_reversal' end
 union all
select 'lot-parts', thing, (remaining + held + taken)::text, amount::text
  from known where remaining + held + taken <> amount
 union all
select 'lot-spent', thing, spent::text, others::text from known where spent <> others""",
)

# ---- spends and holds --------------------------------------------------------------------------------------------

_SPENDS = Walk(
    name="spends",
    key=("id",),
    begin=(NO_UUID,),
    rows=2_000,
    by_time=True,
    page="""
page as materialized (
    select *, false as seen from ledger.spend where id > %(after_0)s::uuid order by id limit %(rows)s),
known as materialized (
    select page.*, posted.debited, back.brought, made.returned, hold.captured,
           jsonb_build_object('spend_id', page.id, 'account_id', page.account_id, 'hold_id', page.hold_id) as thing
      from page
      left join lateral (select captured from ledger.hold
                          where id = page.hold_id and account_id = page.account_id offset 0) as hold on true,
           lateral (select -sum(entry.amount) filter (where entry.account_id = page.account_id) as debited
                      from (select id from ledger.transfer where id = page.id and kind = 'spend' offset 0) as transfer,
                           lateral (select * from ledger.entry where transfer_id = transfer.id offset 0) as entry)
                 as posted,
           lateral (select coalesce(sum(entry.amount) filter (where entry.account_id = page.account_id), 0) as brought
                      from (select id from ledger.transfer where reverses = page.id offset 0) as transfer,
                           lateral (select * from ledger.entry where transfer_id = transfer.id offset 0) as entry)
                 as back,
           lateral (select coalesce(sum(returned) filter (where portion.account_id = page.account_id), 0) as returned
                      from ledger.portion where portion.transfer_id = page.id) as made)""",
    wrong="""
select 'spend-posted' as "check", thing, amount::text as found,
       coalesce(debited::text, 'a transfer') as expected
  from known where debited is distinct from amount
 union all
select 'spend-reversed', thing, reversed::text, brought::text from known where reversed <> brought
 union all
select 'spend-returned', thing, reversed::text, returned::text from known where reversed <> returned
 union all
select 'spend-hold', thing, amount::text, coalesce(captured::text, 'a hold')
  from known where hold_id is not null and captured is distinct from amount""",
)

_HOLDS = Walk(
    name="holds",
    key=("id",),
    begin=(NO_UUID,),
    rows=2_000,
    by_time=True,
    page="""
page as materialized (
    select *, false as seen from ledger.hold where id > %(after_0)s::uuid order by id limit %(rows)s),
known as materialized (
    select page.*, jsonb_build_object('hold_id', page.id, 'account_id', page.account_id) as thing, reserved,
           (select spend.amount from ledger.spend where spend.hold_id = page.id) as spent,
           (select request.state from ledger.refund_request request where request.id = page.refund_request_id)
               as request
      from page,
           lateral (select coalesce(sum(reservation.amount) filter (where reservation.account_id = page.account_id), 0)
                           as reserved
                      from ledger.reservation where hold_id = page.id) as made)""",
    wrong="""
select 'hold-reserved' as "check", thing, reserved::text as found, amount::text as expected
  from known where reserved <> amount
 union all
select 'hold-captured', thing, coalesce('a spend of ' || spent, 'no spend'), 'a spend of ' || captured
  from known where coalesce(spent, 0) <> captured
 union all
select 'hold-request', thing || jsonb_build_object('refund_request_id', refund_request_id),
       coalesce('one that is ' || request, 'no such request'), 'an open request'
  from known where refund_request_id is not null and state = 'open' and request is distinct from 'open'""",
)

# ---- store transactions and the journal --------------------------------------------------------------------------

_STORE_TRANSACTIONS = Walk(
    name="store transactions",
    key=("app", "store", "environment", "transaction_id"),
    begin=("", "", "", ""),
    rows=1_000,
    page="""
page as materialized (
    select *, false as seen, row_number() over () as number,
           (select id from ledger.wallet
             where (wallet.app, wallet.environment, wallet.user_id)
                 = (known.app, known.environment, known.user_id)) as wallet_id
      from (select * from ledger.store_transaction
             where (app, store, environment, transaction_id)
                 > (%(after_0)s::text, %(after_1)s::text, %(after_2)s::text, %(after_3)s::text)
             order by app, store, environment, transaction_id limit %(rows)s) as known),
posting as materialized (
    select page.number, page.wallet_id as owners_wallet, transfer.id, transfer.kind, transfer.sequence, entry.position,
           entry.amount, account.wallet_id, account.kind as account_kind, account.currency
      from page,
           lateral (select * from ledger.transfer
                     where (app, store, environment, transaction_id)
                         = (page.app, page.store, page.environment, page.transaction_id)
                       and transaction_id is not null offset 0) as transfer
      left join lateral (select * from ledger.entry where transfer_id = transfer.id offset 0) as entry on true
      left join lateral (select * from ledger.account where id = entry.account_id offset 0) as account on true),
standing as materialized (
    -- by currency: what should stand, what was granted, and what of that the lots are
    select page.number, amounts.*
      from page,
           lateral (select currency, sum(stands) as stands, sum(granted) as granted, sum(of_lots) as of_lots
                      from (select key as currency, 0 as granted, 0 as of_lots,
                                   value::bigint - div(value::numeric * refunded_milli, 100000) as stands
                              from jsonb_each_text(due) where state = 'granted'
                             union all
                            select key, value::bigint, 0, 0 from jsonb_each_text(granted)
                             union all
                            select made.key, 0, lot.amount, 0
                              from jsonb_each(lots) as made, jsonb_array_elements_text(made.value) as credit (version),
                                   lateral (select amount from ledger.lot
                                             where lot.account_id = (select account.id from ledger.account
                                                                      where account.wallet_id = page.wallet_id
                                                                        and account.currency = made.key)
                                               and lot.version = credit.version::bigint offset 0) as lot) as each
                     group by currency) as amounts)""",
    wrong="""
with broken as materialized (
        select 'transaction-posted' as "check", number, jsonb_build_object('currency', currency) as details,
               sum(posted)::text as found, sum(stands)::text as expected
          from (select number, currency, -amount as posted, 0 as stands from posting where account_kind = 'issuance'
                 union all
                select number, currency, 0, stands from standing) as each
         group by number, currency having sum(posted) <> sum(stands)
         union all
        select 'transaction-lots', number, jsonb_build_object('currency', currency), of_lots::text, granted::text
          from standing where of_lots <> granted
         union all
        select 'transaction-refunds', number, jsonb_build_object('currency', currency),
               sum(kept)::text, sum(stands)::text
          from (select number, currency, granted as kept, stands from standing
                 union all
                select refund.number, account.currency, portion.returned + portion.settled - portion.amount, 0
                  from (select distinct number, id from posting where kind = 'refund') as refund,
                       lateral (select * from ledger.portion where transfer_id = refund.id offset 0) as portion,
                       lateral (select currency from ledger.account where id = portion.account_id offset 0)
                            as account) as each
         group by number, currency having sum(kept) <> sum(stands)
         union all
        select 'transaction-wallet', number, jsonb_build_object('transfer_id', id), 'wallet ' || wallet_id,
               coalesce('wallet ' || owners_wallet, 'none')
          from posting where wallet_id is distinct from owners_wallet and wallet_id is not null
         union all
        select 'transaction-purchase', number, '{}', count(distinct id)::text, '1 at most'
          from posting where kind = 'purchase' group by number having count(distinct id) > 1
         union all
        select 'transaction-sequence', number, '{}', known || ', of ' || later || ' postings', newest::text
          from (select number, max(known) as known, count(distinct sequence) filter (where sequence > 0) as later,
                       coalesce(max(sequence), 0) as newest
                  from (select number, sequence as known, null as sequence from page
                         union all
                        select number, null, sequence from posting) as each
                 group by number) as counted
         where known <> newest or later <> newest
         union all
        select 'transaction-stated', number, '{}', 'none', 'the id that the store gave it'
          from page where state = 'granted' and stated_as is null
         union all
        select 'transaction-signed', number, '{}', revoked_signed_at::text, 'by ' || now()
          from page where revoked_signed_at > now() + interval '1 day')  -- clocks differ, by less than that
select "check", jsonb_build_object('app', app, 'store', store, 'environment', environment,
                                   'transaction_id', transaction_id, 'purchase_id', purchase_id, 'user_id', user_id)
                || details as thing, found, expected
  from broken join page using (number)""",
    waiting="""
select app, store, environment, transaction_id, refunded_milli
  from page where state = 'awaited' and refunded_milli > 0""",
)

# The rule of the books: of two statements about a refund the one that was signed later counts, and of two of the same
# moment the larger refund. Of refunds from before the date was kept, the larger counts.
_FACTS = Walk(
    name="facts",
    key=("id",),
    begin=(NO_UUID,),
    rows=2_000,
    by_time=True,
    page="""
page as materialized (
    select id, type, app, subject, user_id, payload -> 'transaction' as transaction,
           coalesce(payload #>> '{transaction,charge_id}', payload #>> '{transaction,transaction_id}') as charge,
           case when type = 'refund.reversed' then 0
                else coalesce((payload ->> 'percentage_milli')::int, 100000) end as milli,
           (payload #>> '{renewal,signed_at}')::timestamptz as renewal_signed_at,
           case when type = 'subscription.changed' then payload #>> '{revoked,signed_at}'
                when type <> 'purchase.verified' then payload #>> '{transaction,signed_at}'
                end::timestamptz as revoked_signed_at, false as seen
      from journal.event
     where type in ('purchase.verified', 'refund.received', 'refund.reversed', 'subscription.changed',
                    'spend.posted', 'spend.reversed', 'grant.posted') and id > %(after_0)s::uuid
     order by id limit %(rows)s),
done as materialized (
    -- what the ledger says that it did itself, and of which spend or grant: said with the transfer, or never
    select id, type, jsonb_build_object('event_id', id, 'app', app, 'subject', subject) as thing,
           case when subject ~ '^(spd|grt)_[0-9a-f]{32}$' then right(subject, 32)::uuid end as about
      from page where type in ('spend.posted', 'spend.reversed', 'grant.posted')),
handled as materialized (
    -- what stores said, and what the ledger has to do no more
    select page.*, (transaction ->> 'signed_at')::timestamptz as signed_at,
           jsonb_build_object('event_id', page.id, 'app', page.app, 'subject', page.subject,
                              'transaction_id', transaction ->> 'transaction_id') as thing
      from page
     where page.type not in ('spend.posted', 'spend.reversed', 'grant.posted')
       and not exists (select from journal.delivery where consumer = 'ledger' and event_id = page.id offset 0)),
purchase as materialized (
    select handled.type, handled.thing, handled.signed_at, handled.milli,
           known.state, known.refunded_milli, known.revoked_signed_at
      from handled
      left join lateral (select * from ledger.store_transaction
                          where (app, store, environment, transaction_id)
                              = (handled.app, handled.transaction ->> 'store', handled.transaction ->> 'environment',
                                 handled.charge) offset 0) as known on true
     where handled.type <> 'subscription.changed'),
period as materialized (
    -- what was said of a subscription, but for what another than its owner claimed, and beside it what counts of all
    select handled.thing, handled.user_id, known.user_id as owner,
           (transaction ->> 'purchased_at')::timestamptz as began_at,
           handled.signed_at, handled.revoked_signed_at, handled.renewal_signed_at,
           (heard #>> '{transaction,purchased_at}')::timestamptz as heard_began_at,
           (heard #>> '{transaction,signed_at}')::timestamptz as heard_signed_at,
           (heard #>> '{revoked,signed_at}')::timestamptz as heard_revoked_signed_at,
           (heard #>> '{renewal,signed_at}')::timestamptz as heard_renewal_signed_at,
           charge = coalesce(heard #>> '{transaction,charge_id}', heard #>> '{transaction,transaction_id}')
               as is_current
      from handled
      left join lateral (select * from ledger.subscription
                          where (app, store, environment, original_transaction_id)
                              = (handled.app, handled.transaction ->> 'store', handled.transaction ->> 'environment',
                                 handled.transaction ->> 'original_transaction_id') offset 0) as known on true
     where jsonb_typeof(transaction -> 'period') = 'object' and (handled.user_id <> known.user_id) is not true)""",
    wrong="""
select 'event-posted' as "check", thing, 'no such transfer' as found, 'a transfer' as expected
  from done
 where case type when 'spend.reversed'
            then not exists (select from ledger.transfer where reverses = about and event_id = done.id offset 0)
            else not exists (select from ledger.transfer where transfer.id = about and event_id = done.id offset 0) end
 union all
select 'verified-granted', thing, coalesce(state, 'unknown'), 'granted or parked'
  from purchase where type = 'purchase.verified' and coalesce(state, 'awaited') = 'awaited'
 union all
select 'refund-applied', thing, coalesce(refunded_milli || ' as of ' || revoked_signed_at, 'unknown'),
       milli || ' as of ' || signed_at
  from purchase
 where type <> 'purchase.verified'
   and not coalesce(revoked_signed_at > signed_at
                    or revoked_signed_at = signed_at and refunded_milli >= milli
                    or revoked_signed_at is null and type = 'refund.received' and refunded_milli >= milli, false)
 union all
select 'subscription-heard', thing,
       concat_ws(', ', coalesce('a period of ' || heard_began_at || ' as of ' || heard_signed_at, 'unknown'),
                 'refunded as of ' || heard_revoked_signed_at, 'renewal as of ' || heard_renewal_signed_at,
                 coalesce('of ' || owner, 'of nobody')),
       concat_ws(', ', 'a period of ' || began_at || ' as of ' || signed_at, 'refunded as of ' || revoked_signed_at,
                 'renewal as of ' || renewal_signed_at, 'of ' || user_id) || '; or newer'
  from period
 where coalesce(heard_began_at < began_at, true)
    or is_current and heard_signed_at < signed_at
    or is_current and revoked_signed_at is not null and coalesce(heard_revoked_signed_at < revoked_signed_at, true)
    or renewal_signed_at is not null and coalesce(heard_renewal_signed_at < renewal_signed_at, true)
    or user_id is not null and owner is null""",
)

WALKS: Final[Mapping[str, Walk]] = {
    walk.name: walk
    for walk in (
        _TRANSFERS,
        _ENTRIES,
        _WALLET_ENTRIES,
        _WALLETS,
        _ACCOUNTS,
        _LOTS,
        _SPENDS,
        _HOLDS,
        _STORE_TRANSACTIONS,
        *audit_subscriptions.WALKS,
        _FACTS,
    )
}
