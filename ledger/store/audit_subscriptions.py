"""The audit's walks through what users have beside wallets: subscriptions, what gives entitlements, and those.

They state the rules of `ledger.domain.subscriptions` and `ledger.domain.entitlements` a second time, in another way.
What a product gives is not compared with the catalogue: that may have changed since.

Time alone changes much here, and the ledger looks at it every second by a clock of its own. So what is told may be that
of any moment from five minutes ago until five minutes ahead.
"""

from __future__ import annotations

from typing import Final

from ledger.store.audit_pages import Walk

_LATE: Final = "now() - interval '5 minutes'"
_EARLY: Final = "now() + interval '5 minutes'"

# ---- subscriptions -----------------------------------------------------------------------------------------------

# Where a field is told as it was heard, its JSON is the same.
_SUBSCRIPTIONS = Walk(
    name="subscriptions",
    key=("app", "store", "environment", "original_transaction_id"),
    begin=("", "", "", ""),
    rows=1_000,
    page=f"""
page as materialized (
    select *, false as seen from ledger.subscription
     where (app, store, environment, original_transaction_id)
         > (%(after_0)s::text, %(after_1)s::text, %(after_2)s::text, %(after_3)s::text)
     order by app, store, environment, original_transaction_id limit %(rows)s),
heard as materialized (
    -- the word on refunds counts while it says that there is one, that on the renewal from the period's beginning on
    select app, store, environment, original_transaction_id, user_id, told, version, due_at,
           heard -> 'transaction' as sold, heard #> '{{transaction,period}}' as period, heard -> 'renewal' as renewal,
           (heard #>> '{{transaction,purchased_at}}')::timestamptz as began_at,
           (heard #>> '{{transaction,period,expires_at}}')::timestamptz as expires_at,
           case when (heard #>> '{{revoked,percentage_milli}}')::int > 0 then heard -> 'revoked' end as revoked,
           case when (heard #>> '{{renewal,signed_at}}')::timestamptz
                     >= (heard #>> '{{transaction,purchased_at}}')::timestamptz then heard -> 'renewal' end
                as ending,
           jsonb_build_object('app', app, 'store', store, 'environment', environment,
                              'original_transaction_id', original_transaction_id,
                              'subscription_id', told ->> 'id', 'user_id', user_id) as thing
      from page where heard is not null),
moments as materialized (
    select *, (grace #>> '{{}}')::timestamptz as grace_until, expires_at + interval '60 days' as retried_until,
           case when revoked is null then greatest(expires_at, (grace #>> '{{}}')::timestamptz) end as access_until
      from heard,
           lateral (select coalesce((ending ->> 'in_billing_retry')::boolean, false) as retried,
                           case when (ending ->> 'in_billing_retry')::boolean
                                then ending -> 'grace_period_expires_at' end as grace) as try),
state as materialized (
    select moments.*, statuses,
           jsonb_build_object(
               'store', store, 'environment', environment, 'original_transaction_id', original_transaction_id,
               'transaction_id', sold -> 'transaction_id', 'product_id', sold -> 'product_id',
               'family_shared', sold -> 'family_shared', 'period_starts_at', sold -> 'purchased_at',
               'expires_at', period -> 'expires_at', 'group', period -> 'group', 'offer', period -> 'offer',
               'price_milli', period -> 'price_milli', 'currency', period -> 'currency',
               'trial', coalesce((period ->> 'price_milli')::bigint = 0, false)
                        or coalesce(period #>> '{{offer,discount_type}}' = 'free_trial', false),
               'access_until', case when revoked is not null then null
                                    when grace_until > expires_at then grace
                                    else period -> 'expires_at' end,
               'grace_period_expires_at', grace,
               'expiration_reason', case when told ->> 'status' = 'expired'
                                         then coalesce(ending ->> 'expiration_reason',
                                                       case when retried then 'billing_error' end) end,
               'revoked_at', revoked -> 'at',
               'auto_renew', renewal -> 'auto_renew', 'renewal_product_id', renewal -> 'product_id',
               'renews_at', renewal -> 'renews_at', 'renewal_price_milli', renewal -> 'price_milli',
               'renewal_currency', renewal -> 'currency', 'renewal_offer', renewal -> 'offer',
               'price_increase', renewal -> 'price_increase', 'version', version) as telling
      from moments,
           lateral (select array_agg(distinct case when revoked ->> 'cause' = 'family_sharing_ended' then 'revoked'
                                                   when revoked is not null then 'refunded'
                                                   when moment < expires_at then 'active'
                                                   when not retried then 'expired'
                                                   when moment < grace_until then 'in_grace_period'
                                                   when moment < retried_until then 'in_billing_retry'
                                                   else 'expired' end) as statuses
                      from unnest(array[{_LATE}, expires_at, grace_until, retried_until]) as moment
                     where moment between {_LATE} and {_EARLY}) as possible)""",
    wrong=f"""
select 'subscription-told' as "check", thing, case when told is null then 'nothing' else 'something' end as found,
       case when user_id is null then 'nothing, as nobody has it' else 'something' end as expected
  from state where (told is null) <> (user_id is null)
 union all
select 'subscription-told', thing || jsonb_build_object('field', key),
       coalesce(said::text, 'nothing'), coalesce(expected::text, 'nothing')
  from state,
       lateral (select key, nullif(of_word.value, 'null') as said, nullif(of_state.value, 'null') as expected
                  from jsonb_each(told - array['id', 'status']) as of_word
                  full join jsonb_each(telling) as of_state using (key)) as field
 where told is not null and said is distinct from expected
 union all
select 'subscription-status', thing, told ->> 'status', array_to_string(statuses, ' or ')
  from state where told ->> 'status' <> all (statuses)
 union all
select 'subscription-due', thing, coalesce('at ' || due_at, 'never'), coalesce('at ' || next_at, 'never')
  from (select *, case told ->> 'status' when 'active' then expires_at
                                         when 'in_grace_period' then grace_until
                                         when 'in_billing_retry' then retried_until end as next_at
          from state) as due
 where due_at is distinct from next_at
 union all
select 'subscription-due', thing, 'at ' || due_at, 'within five minutes of it' from state where due_at < {_LATE}
 union all
select 'subscription-gives', thing || jsonb_build_object('entitlement', entitlement),
       'from ' || since || ' until ' || coalesce(until::text, 'ever'),
       coalesce('from ' || began_at || ' until ' || access_until, 'nothing: it was taken back')
  from state,
       lateral (select * from ledger.entitlement_source
                 where (app, environment, user_id, source_id)
                     = (state.app, state.environment, state.user_id, state.told ->> 'id') offset 0) as source
 where access_until is null or until is distinct from access_until or since <> began_at or lasts is not null""",
)

# ---- entitlements ------------------------------------------------------------------------------------------------


def _longest(row: str) -> str:
    """A lateral subquery: up to when all that gives a row's entitlement does so together, and what does so longest.

    What was bought for a time is used up one after the other. Of the starts, one is such that all that was bought from
    there on is used up without a pause; counted from any other, the end would be earlier. Times are days since 1970, so
    that none is out of range, up to the year 10000, which never comes.
    """
    return f"""
lateral (
    select source_id, case when until < '9999-12-31 23:59:59.999999+00' then until else 'infinity' end as until
      from (select source_id,
                   case when lasts is null then coalesce(until, 'infinity')
                        else timestamptz 'epoch'
                             + least(bought + max(since - timestamptz 'epoch' - (bought - lasts)) over in_order,
                                     interval '2932897 days') end as until
              from (select source_id, since, until, lasts, sum(lasts) over in_order as bought
                      from ledger.entitlement_source
                     where (app, environment, user_id, entitlement)
                         = ({row}.app, {row}.environment, {row}.user_id, {row}.entitlement)
                    window in_order as (order by since, source_id collate "C") offset 0) as own
            window in_order as (order by since, source_id collate "C")) as ending
     order by until desc, source_id collate "C" desc limit 1 offset 0)"""


_SOURCES = Walk(
    name="sources of entitlements",
    key=("app", "environment", "user_id", "source_id", "entitlement"),
    begin=("", "", "", "", ""),
    rows=2_000,
    page="""
page as materialized (
    select *, false as seen,
           jsonb_build_object('app', app, 'environment', environment, 'user_id', user_id, 'source', source_id,
                              'entitlement', entitlement) as thing
      from ledger.entitlement_source
     where (app, environment, user_id, source_id, entitlement)
         > (%(after_0)s::text, %(after_1)s::text, %(after_2)s::text, %(after_3)s::text, %(after_4)s::text)
     order by app, environment, user_id, source_id, entitlement limit %(rows)s)""",
    wrong=f"""
select 'source-cause' as "check", thing, 'none' as found, 'a subscription of theirs' as expected
  from page
 where left(source_id, 4) = 'sub_'
   and not exists (select from ledger.subscription as known
                    where (known.app, known.environment, known.user_id)
                        = (page.app, page.environment, page.user_id)
                      and known.told ->> 'id' = page.source_id offset 0)
 union all
select 'source-cause', thing,
       case when known is null then 'none'
            else state || ', ' || refunded_milli || ' refunded, of ' || coalesce(purchased_at::text, 'no date') end,
       'a purchase of theirs, granted and not refunded, of ' || since
  from page
  left join lateral (select * from ledger.store_transaction as known
                      where known.purchase_id = page.source_id
                        and (known.app, known.environment, known.user_id)
                          = (page.app, page.environment, page.user_id) offset 0) as known on true
 where left(source_id, 4) <> 'sub_'
   and (state = 'granted' and refunded_milli < 100000 and purchased_at = since) is not true
 union all
select 'entitlement-told', thing, 'nothing', 'until ' || given.until
  from page, {_longest("page")} as given
 where given.source_id = page.source_id and given.until > {_EARLY}
   and not exists (select from ledger.entitlement as told
                    where (told.app, told.environment, told.user_id, told.entitlement)
                        = (page.app, page.environment, page.user_id, page.entitlement) offset 0)""",
)

_ENTITLEMENTS = Walk(
    name="entitlements",
    key=("app", "environment", "user_id", "entitlement"),
    begin=("", "", "", ""),
    rows=2_000,
    page=f"""
page as materialized (
    select *, false as seen from ledger.entitlement
     where (app, environment, user_id, entitlement)
         > (%(after_0)s::text, %(after_1)s::text, %(after_2)s::text, %(after_3)s::text)
     order by app, environment, user_id, entitlement limit %(rows)s),
known as materialized (
    select active, page.until, coalesce(page.until, 'infinity') as told_until, page.source_id as told_source,
           given.until as given_until, given.source_id as given_source,
           jsonb_build_object('app', app, 'environment', environment, 'user_id', user_id,
                              'entitlement', entitlement) as thing
      from page left join {_longest("page")} as given on true)""",
    wrong=f"""
select 'entitlement-told' as "check", thing,
       case when active then 'until ' || told_until || ' by ' || told_source else 'ended at ' || until end as found,
       coalesce('until ' || given_until || ' by ' || given_source, 'nothing') as expected
  from known
 where case when active then (told_until, told_source) is distinct from (given_until, given_source)
            else given_until > {_EARLY} end
 union all
select 'entitlement-ended', thing, 'until ' || until, 'within five minutes of it'
  from known where active and until < {_LATE}""",
)

WALKS: Final = (_SUBSCRIPTIONS, _SOURCES, _ENTITLEMENTS)
