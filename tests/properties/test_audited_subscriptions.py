"""The audit states the rules of subscriptions and entitlements in SQL, and agrees with the ledger whatever is heard.

And whatever the clocks say, as long as they differ by less than five minutes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from ledger.domain.audit import Finding
from ledger.domain.entitlements import FOR_EVER, Holder, Source, changed
from ledger.domain.subscriptions import (
    KnownSubscription,
    Statement,
    Subscription,
    SubscriptionKey,
    due_at,
    heard,
    restated,
)
from ledger.store import PostgresEntitlements, PostgresEvidence, PostgresSubscriptions
from shared.events import Offer, Period, Renewal, Revoked, StoreTransaction
from shared.ids import EntitlementId, PurchaseId, SubscriptionId, TransactionId
from tests.support.ledger import ALICE, GAME

CLOCKS_DIFFER_MAX_S = 290
HOLDER = Holder(GAME, "production", ALICE)
KEY = SubscriptionKey(GAME, "apple", "production", TransactionId("1"))
LONGER_THAN_THERE_ARE_DATES = timedelta(days=3_660 * 900)

moments = st.one_of(
    st.integers(-400, 400).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(-100, 100).map(lambda days: timedelta(days=days)),
    st.just(timedelta(days=-60)),
)
"""How long from now. Many are so near that it matters whose clock one goes by."""
clocks = st.integers(-CLOCKS_DIFFER_MAX_S, CLOCKS_DIFFER_MAX_S).map(lambda seconds: timedelta(seconds=seconds))
offers = st.none() | st.builds(
    Offer,
    type=st.sampled_from(("introductory", "promotional")),
    identifier=st.none() | st.just("fall"),
    discount_type=st.sampled_from((None, "free_trial", "pay_up_front")),
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a store says at once, its moments as they are drawn."""

    number: int
    began: timedelta
    expires: timedelta
    signed: timedelta
    offer: Offer | None
    price_milli: int | None
    family_shared: bool
    renewal: tuple[timedelta, bool, bool, timedelta | None, str | None] | None
    revoked: tuple[timedelta, int, bool] | None


drawn = st.builds(
    Drawn,
    number=st.integers(1, 3),
    began=moments,
    expires=moments,
    signed=moments,
    offer=offers,
    price_milli=st.sampled_from((None, 0, 9_990)),
    family_shared=st.booleans(),
    renewal=st.none()
    | st.tuples(
        moments,
        st.booleans(),
        st.booleans(),
        st.none() | moments,
        st.sampled_from((None, "customer_cancelled", "billing_error")),
    ),
    revoked=st.none() | st.tuples(moments, st.sampled_from((0, 1, 100_000)), st.booleans()),
)


def said(it: Drawn, now: datetime) -> Statement:
    transaction = StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=TransactionId(str(it.number)),
        original_transaction_id=KEY.original_transaction_id,
        product_id=f"vip-{it.number}",
        product_type="auto_renewable",
        quantity=1,
        purchased_at=now + it.began,
        signed_at=now + it.signed,
        family_shared=it.family_shared,
        period=Period(now + it.expires, "vip", it.offer, it.price_milli, "USD" if it.price_milli else None),
    )
    revoked, next_one = None, None
    if it.revoked is not None:
        signed, milli, family = it.revoked
        revoked = Revoked(now + signed, milli, now + signed, "family_sharing_ended" if family else "refund")
    if it.renewal is not None:
        signed, auto_renew, retried, grace, reason = it.renewal
        next_one = Renewal(
            signed_at=now + signed,
            auto_renew=auto_renew,
            product_id="vip-9",
            renews_at=now + it.expires,
            in_billing_retry=retried,
            grace_period_expires_at=None if grace is None else now + grace,
            expiration_reason=reason,
            offer=it.offer,
        )
    return Statement(transaction, revoked, next_one)


def findings_of(connection: Connection, *walks: str, but: Collection[str] = ()) -> list[Finding]:
    """What these walks find within the connection's own transaction."""
    evidence = PostgresEvidence(lambda work: work(connection))
    pages = [evidence.page(walk, after=evidence.first(walk, since=None)) for walk in walks]
    return [finding for page in pages for finding in page.findings if finding.check not in but]


def now_of(connection: Connection) -> datetime:
    now: datetime = connection.exec_driver_sql("select now()").scalar_one()
    return now


@settings(deadline=None)
@given(words=st.lists(drawn, min_size=1, max_size=4), clock=clocks, owned=st.booleans())
def test_whatever_was_heard_of_a_subscription_an_audit_agrees_with_what_the_ledger_tells_of_it(
    engine: Engine, words: Sequence[Drawn], clock: timedelta, owned: bool
) -> None:
    with engine.connect() as connection:
        now, table = now_of(connection), PostgresSubscriptions(connection)
        subscription = folded([said(word, now) for word in words])
        known = restated(KEY, KnownSubscription(ALICE if owned else None, subscription), now=now + clock)
        table.lock([KEY])
        table.save({KEY: (known, due_at(subscription, now + clock) if owned else None)})
        assert findings_of(connection, "subscriptions") == []
        connection.rollback()


def folded(statements: Sequence[Statement]) -> Subscription:
    subscription = heard(None, statements[0])
    for statement in statements[1:]:
        subscription = heard(subscription, statement)
    return subscription


@dataclass(frozen=True, slots=True)
class DrawnSource:
    """What gives an entitlement, its moments as they are drawn; what `lasts` is a purchase, anything else not."""

    number: int
    entitlement: str
    since: timedelta
    until: timedelta | None
    lasts: timedelta | None


drawn_sources = st.lists(
    st.builds(
        DrawnSource,
        number=st.integers(1, 5),
        entitlement=st.sampled_from(("vip", "gold")),
        since=moments,
        until=st.none() | moments,
        lasts=st.none()
        | st.integers(0, 60).map(lambda days: timedelta(days=days))
        | st.just(LONGER_THAN_THERE_ARE_DATES),
    ),
    max_size=6,
    unique_by=lambda source: (source.number, source.entitlement),
)


def source_of(it: DrawnSource, now: datetime) -> Source:
    entitlement = EntitlementId(it.entitlement)
    if it.lasts is not None:
        return Source(PurchaseId(f"pur_{it.number}"), entitlement, now + it.since, lasts=it.lasts)
    until = FOR_EVER if it.until is None else now + it.until
    return Source(SubscriptionId(f"sub_{it.number}"), entitlement, now + it.since, until)


@settings(deadline=None)
@given(batches=st.lists(drawn_sources, min_size=1, max_size=3), clock=clocks)
def test_whatever_gives_an_entitlement_an_audit_agrees_with_what_the_ledger_tells_of_it(
    engine: Engine, batches: Sequence[Sequence[DrawnSource]], clock: timedelta
) -> None:
    """Each batch is all that gives the user something from then on. What it is from, this does not ask."""
    with engine.connect() as connection:
        now, table = now_of(connection), PostgresEntitlements(connection)
        for batch in batches:
            sources = [source_of(each, now) for each in batch]
            held = table.lock([HOLDER])[HOLDER]
            ids = {source.id for source in [*held.sources, *sources]}
            table.replace({(HOLDER, id): [source for source in sources if source.id == id] for id in ids})
            news = changed(held.told, sources, now=now + clock)
            table.tell([(HOLDER, each) for each in news], now=now + clock)
        assert findings_of(connection, "entitlements", "sources of entitlements", but={"source-cause"}) == []
        connection.rollback()
