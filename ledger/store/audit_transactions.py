"""The audit's walk through the store's transactions, as the books know them."""

from __future__ import annotations

from typing import Final

from ledger.store.audit_pages import Walk

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

WALKS: Final = (_STORE_TRANSACTIONS,)
