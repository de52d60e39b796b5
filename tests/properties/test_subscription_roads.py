"""Random lives of subscriptions, as notifications, claims and receipts that arrive in any order and repeatedly, through
the verifier and the ledger on a real database: both end as Apple's books have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random  # noqa: TID251 - Hypothesis gives the seeded ones
from typing import Final

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from shared.apps import Apps, load_apps
from shared.catalog import Catalog, load_catalog
from shared.database import connect_engine
from shared.events import Draft, SubscriptionStatus
from shared.ids import UserId
from tests.support.app_store import AppStore
from tests.support.ledger import faults
from tests.support.subscriber_life import Life
from tests.support.subscriber_lives import lives
from tests.support.subscriber_road import Road, Subscriber, due_gems, usable_until
from tests.support.verifying import NOW

BORN: Final = datetime(2021, 1, 31, 9, 30, tzinfo=UTC)
YEARS: Final = 4
ALICE, BOB = UserId("alice"), UserId("bob")
APPLE: Final[dict[SubscriptionStatus, int]] = {
    "active": 1,
    "expired": 2,
    "in_billing_retry": 3,
    "in_grace_period": 4,
    "revoked": 5,
    "refunded": 5,
}
WITH_DATABASE = settings(deadline=None, suppress_health_check=list(HealthCheck))
RANDOM = st.randoms(use_true_random=False)
CLAIMS = ("token", "signed", "receipt")
"""The first is not for what a family member shares: the account token is the buyer's."""
Step = Callable[[], None]


@pytest.fixture(scope="module")
def owner(module_database: str) -> Iterator[Engine]:
    """Both services' tables, in one transaction."""
    engine = connect_engine(module_database, role=None, pool_size=2, application_name="test-subscriptions")
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def apps() -> Apps:
    return load_apps(Path("deploy/examples/apps.toml"))


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(Path("deploy/examples/catalog.toml"))


@pytest.fixture(scope="module")
def store() -> AppStore:
    return AppStore(now=NOW)


@st.composite
def subscribers(draw: st.DrawFn) -> list[tuple[Subscriber, str]]:
    """One or two subscriptions, of one user or of two, up to the same moment; and how each is claimed."""
    drawn = [
        draw(lives(moves=8, original=original, born=BORN, years=YEARS))
        for original in draw(st.sampled_from((["1000"], ["1000", "2000"])))
    ]
    for life in drawn:
        _catches_up(life, max(each.now for each in drawn))
    users = [ALICE, draw(st.sampled_from((ALICE, BOB)))]
    made = []
    for user, life in zip(users, drawn, strict=False):
        claim = draw(st.sampled_from(CLAIMS[life.family :]))
        made.append((Subscriber(user, life, draw(st.uuids(version=4)) if claim == "token" else None), claim))
    return made


def _catches_up(life: Life, now: datetime) -> None:
    while life.due is not None and life.due <= now:
        life.lets_due_happen()
    life.now = max(life.now, now)


@pytest.mark.slow
@settings(WITH_DATABASE, max_examples=max(10, settings().max_examples // 4))
@given(people=subscribers(), random=RANDOM)
def test_whatever_order_things_arrive_in_all_ends_as_apples_books_have_it(
    owner: Engine, apps: Apps, catalog: Catalog, store: AppStore, people: list[tuple[Subscriber, str]], random: Random
) -> None:
    note([(one.user, claim, [said.kind for said in one.life.said]) for one, claim in people])
    with owner.connect() as connection:
        road = Road(connection, store, apps, catalog, max(one.life.now for one, _ in people))
        _travels(road, [step for one, claim in people for step in _steps(road, one, claim, random)], random)
        _is_as_apple_has_it(road, [one for one, _ in people])
        assert faults(connection) == []
        connection.rollback()


def _steps(road: Road, one: Subscriber, claim: str, random: Random) -> list[Step]:
    """All that was told of it, some of it twice, and the user's claim."""
    told = [said for said in one.life.said if said.kind is not None]
    again = random.sample(told, len(told) // 3)
    steps: list[Step] = [partial(road.is_notified, one, said) for said in told + again]
    match claim:
        case "token":
            steps.append(partial(road.is_told_the_token, one))
        case "receipt":
            steps.append(partial(road.is_shown_a_receipt, one))
        case _:
            steps.append(partial(road.is_posted, one, random.choice(one.life.said)))
    return steps


def _travels(road: Road, steps: list[Step], random: Random) -> None:
    """Whatever the verifier says arrives at the ledger some time later, and some of it again."""
    on_its_way: list[Draft] = []
    for step in random.sample(steps, len(steps)):
        step()
        on_its_way += [draft for draft in road.said for _ in range(random.randint(1, 2))]
        road.said.clear()
        random.shuffle(on_its_way)
        while on_its_way and random.random() < 0.5:
            road.hears(on_its_way.pop())
    for draft in on_its_way:
        road.hears(draft)


def _is_as_apple_has_it(road: Road, people: list[Subscriber]) -> None:
    for one in people:
        state = road.standing(one)
        assert state is not None
        assert (APPLE[state.status], state.product_id) == (one.life.status, one.life.last.product)
        assert (state.auto_renew, state.renewal_product_id) == (one.life.auto_renew, one.life.next_product)
    for user in {one.user for one in people}:
        owned = [one.life for one in people if one.user == user]
        assert road.gems(user) == due_gems(owned, road.catalog)
        vip = road.entitlements(user).get("vip")
        assert (vip.until if vip else None) == usable_until(owned)


@pytest.mark.parametrize("receipt_comes_first", [False, True])
def test_a_receipt_that_shows_a_refund_does_not_make_it_a_whole_one(
    owner: Engine, apps: Apps, catalog: Catalog, store: AppStore, receipt_comes_first: bool
) -> None:
    """It does not say how much; the notification does, before it or after it."""
    life = Life(now=BORN)
    life.begins()
    life.takes_back(life.last, milli=33_333)
    one = Subscriber(ALICE, life)
    with owner.connect() as connection:
        road = Road(connection, store, apps, catalog, life.now)
        steps: list[Step] = [partial(road.is_notified, one, said) for said in life.said]
        steps.insert(0 if receipt_comes_first else len(steps), partial(road.is_shown_a_receipt, one))
        for step in steps:
            step()
        for draft in road.said:
            road.hears(draft)
        _is_as_apple_has_it(road, [one])
        connection.rollback()
