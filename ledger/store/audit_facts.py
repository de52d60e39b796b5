"""The audit's walk through the facts of the journal: each has to be in the books."""

from __future__ import annotations

from typing import Final

from ledger.store.audit_pages import NO_UUID, Walk

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

WALKS: Final = (_FACTS,)
