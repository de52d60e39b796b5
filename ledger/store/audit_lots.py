"""The audit's walks through what a balance is made of, lots, and what takes from it: spends and holds."""

from __future__ import annotations

from typing import Final

from ledger.store.audit_pages import NO_UUID, Walk

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

WALKS: Final = (_LOTS, _SPENDS, _HOLDS)
