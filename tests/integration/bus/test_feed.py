"""The feed on a real PostgreSQL: one order for everybody, in which nothing comes before what was seen already."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from shared.bus import feed, journal
from shared.bus.feed import Feed, Place
from shared.database import connect_engine, transact
from shared.events import Event, Payload
from shared.ids import AppId, EventId, UserId
from tests.support.bus import Bus, bus_in
from tests.support.outward import EVENTS, PAYLOADS
from tests.support.seeded import seeded_ids
from tests.support.stack import wait_until

numbers = itertools.count(1)
WRITERS, ROUNDS = 4, 40
FILLED, USERS = 200_000, 20_000


class RolledBack(Exception):
    """A writer that thinks better of it."""


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        yield bus


def engine_as(database_url: str, role: str) -> Iterator[Engine]:
    engine = connect_engine(database_url, role=role, pool_size=WRITERS + 1, application_name=f"test-{role}")
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def notifier(module_database: str) -> Iterator[Engine]:
    """Who puts events into the feed."""
    yield from engine_as(module_database, "purser_notifier")


@pytest.fixture(scope="module")
def gateway(module_database: str) -> Iterator[Engine]:
    """Who reads it."""
    yield from engine_as(module_database, "purser_gateway")


@pytest.fixture
def app() -> AppId:
    """An app whose feed is empty."""
    return AppId(f"app-{next(numbers)}")


def told(bus: Bus, app: AppId, user_id: str | None = "alice") -> Event[Payload]:
    """An event that the feed has not got yet, nor the journal."""
    whose = None if user_id is None else UserId(user_id)
    return replace(EVENTS["wallet.credited"], id=bus.ids.event_id(), app=app, user_id=whose)


def append(engine: Engine, *events: Event[Payload]) -> list[EventId]:
    """Puts them into the feed, in a transaction of their own. Their ids, in the feed's order."""
    transact(engine, lambda connection: Feed(connection).append(events))
    return [event.id for event in events]


def read(engine: Engine, app: AppId, *, after: int = 0, limit: int = 1000, user_id: str | None = None) -> list[Place]:
    whose = None if user_id is None else UserId(user_id)
    return transact(engine, lambda connection: feed.page(connection, app=app, after=after, limit=limit, user_id=whose))


def ids(places: Sequence[Place]) -> list[EventId]:
    return [place.event_id for place in places]


# ---- one order --------------------------------------------------------------------------------------------------


def test_events_stand_in_the_order_in_which_they_came_and_are_numbered_without_a_gap(
    bus: Bus, notifier: Engine, gateway: Engine, app: AppId
) -> None:
    first, second, third = (told(bus, app) for _ in range(3))
    seen = append(notifier, third) + append(notifier, first, second)
    assert read(gateway, app) == [Place(position, event_id) for position, event_id in enumerate(seen, start=1)]


def test_each_app_has_a_feed_of_its_own(bus: Bus, notifier: Engine, gateway: Engine, app: AppId) -> None:
    other = AppId(f"{app}-other")
    mine, theirs, mine_too = told(bus, app), told(bus, other), told(bus, app)
    append(notifier, mine, theirs, mine_too)
    assert read(gateway, app) == [Place(1, mine.id), Place(2, mine_too.id)]
    assert read(gateway, other) == [Place(1, theirs.id)]


def test_an_event_is_in_the_feed_once_or_the_transaction_fails(bus: Bus, notifier: Engine, app: AppId) -> None:
    event = told(bus, app)
    append(notifier, event)
    with pytest.raises(Exception, match="outward_event"):
        append(notifier, event)


def test_who_comes_later_waits_for_its_place_and_is_not_seen_before_the_first(
    bus: Bus, notifier: Engine, gateway: Engine, app: AppId, hold: Callable[[Event[Payload]], Callable[[], None]]
) -> None:
    slow, quick = told(bus, app), told(bus, app)
    commit = hold(slow)
    with ThreadPoolExecutor(1) as elsewhere:
        later = elsewhere.submit(append, notifier, quick)
        wait_until(lambda: somebody_waits(bus), what="the second writer to wait")
        assert read(gateway, app) == []
        commit()
        later.result(timeout=20)
    assert read(gateway, app) == [Place(1, slow.id), Place(2, quick.id)]


def test_one_that_is_taken_back_leaves_no_gap(bus: Bus, notifier: Engine, gateway: Engine, app: AppId) -> None:
    def think_better_of_it(connection: Connection) -> None:
        Feed(connection).append([told(bus, app)])
        raise RolledBack

    with pytest.raises(RolledBack):
        transact(notifier, think_better_of_it)
    kept = told(bus, app)
    append(notifier, kept)
    assert read(gateway, app) == [Place(1, kept.id)]


def test_a_feed_waits_for_no_other(
    bus: Bus, notifier: Engine, gateway: Engine, app: AppId, hold: Callable[[Event[Payload]], Callable[[], None]]
) -> None:
    commit = hold(told(bus, AppId(f"{app}-slow")))
    quick = told(bus, app)
    append(notifier, quick)
    assert ids(read(gateway, app)) == [quick.id]
    commit()


@pytest.mark.timeout(120)
def test_a_reader_who_goes_on_behind_what_it_saw_sees_each_event_once_whenever_it_was_committed(
    bus: Bus, notifier: Engine, gateway: Engine, app: AppId
) -> None:
    """Four writers, who take their time before they commit, or do not; one reader, who asks all the time."""
    done = threading.Event()

    def write(writer: int) -> set[EventId]:
        chance, committed = seeded_ids(writer), set()
        for _ in range(ROUNDS):
            batch = [told(bus, app, f"user-{writer}") for _ in range(1 + int(chance.uniform(0, 3)))]
            try:
                transact(notifier, lambda connection: appended(connection, batch, chance.uniform))  # noqa: B023
            except RolledBack:
                continue
            committed |= {event.id for event in batch}
        return committed

    def follow() -> list[Place]:
        seen: list[Place] = []
        while True:
            last_look = done.is_set()
            page = read(gateway, app, after=seen[-1].position if seen else 0, limit=7)
            seen += page
            if last_look and not page:
                return seen

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        follower = pool.submit(follow)
        committed = set().union(*pool.map(write, range(WRITERS)))
        done.set()
        seen = follower.result(timeout=60)
    assert len(committed) > WRITERS * ROUNDS / 2
    assert [place.position for place in seen] == list(range(1, len(committed) + 1))
    assert set(ids(seen)) == committed
    assert read(gateway, app) == seen


def appended(connection: Connection, batch: Sequence[Event[Payload]], chance: Callable[[float, float], float]) -> None:
    """As the notifier does, but that the transaction lives on for a while, and one in five comes to nothing."""
    Feed(connection).append(batch)
    connection.exec_driver_sql("select pg_sleep(%(s)s)", {"s": chance(0, 0.02)})
    if chance(0, 1) < 0.2:
        raise RolledBack


@pytest.fixture
def hold(notifier: Engine) -> Iterator[Callable[[Event[Payload]], Callable[[], None]]]:
    """Puts an event into the feed and does not commit before it is told to."""
    connections: list[Connection] = []

    def begin(event: Event[Payload]) -> Callable[[], None]:
        connection = notifier.connect()
        connections.append(connection)
        Feed(connection).append([event])
        return connection.commit

    yield begin
    for connection in connections:
        connection.close()


def somebody_waits(bus: Bus) -> bool:
    return bool(bus.execute("select from pg_locks where not granted"))


# ---- reading ----------------------------------------------------------------------------------------------------


def test_a_feed_is_read_page_by_page(bus: Bus, notifier: Engine, gateway: Engine, app: AppId) -> None:
    all_of_it = append(notifier, *(told(bus, app) for _ in range(5)))
    pages = [read(gateway, app, after=after, limit=2) for after in (0, 2, 4, 5)]
    assert [ids(page) for page in pages] == [all_of_it[:2], all_of_it[2:4], all_of_it[4:], []]


def test_a_users_part_has_the_places_of_the_whole(bus: Bus, notifier: Engine, gateway: Engine, app: AppId) -> None:
    events = [told(bus, app, user) for user in ("alice", "bob", None, "alice", "bob")]
    append(notifier, *events)
    assert read(gateway, app, user_id="alice") == [Place(1, events[0].id), Place(4, events[3].id)]
    assert read(gateway, app, user_id="bob", after=2) == [Place(5, events[4].id)]
    assert read(gateway, app, user_id="nobody") == []
    assert read(gateway, AppId("elsewhere"), user_id="alice") == []


def test_the_newest_place_is_that_of_the_app_or_of_the_user(
    bus: Bus, notifier: Engine, gateway: Engine, app: AppId
) -> None:
    def newest(user_id: UserId | None = None) -> Place | None:
        return transact(gateway, lambda connection: feed.newest(connection, app=app, user_id=user_id))

    assert newest() is None
    of_alice, of_bob = told(bus, app, "alice"), told(bus, app, "bob")
    append(notifier, of_alice, of_bob)
    assert (newest(), newest(UserId("alice"))) == (Place(2, of_bob.id), Place(1, of_alice.id))
    assert newest(UserId("nobody")) is None


def test_the_place_of_an_event_is_known_in_its_own_feed_alone(
    bus: Bus, notifier: Engine, gateway: Engine, app: AppId
) -> None:
    event = told(bus, app, "alice")
    append(notifier, event)

    def place(app: AppId, user_id: str | None) -> Place | None:
        whose = None if user_id is None else UserId(user_id)
        return transact(
            gateway, lambda connection: feed.place_of(connection, app=app, event_id=event.id, user_id=whose)
        )

    assert place(app, None) == place(app, "alice") == Place(1, event.id)
    assert place(app, "bob") is None
    assert place(AppId("elsewhere"), None) is None


def test_the_events_are_read_in_the_order_of_their_places(bus: Bus, notifier: Engine, gateway: Engine) -> None:
    recorded = bus.record(*(bus.draft(payload, user_id="ordered") for payload in PAYLOADS))
    events = transact(gateway, lambda connection: journal.load(connection, recorded))
    for event in reversed(events):
        append(notifier, event)
    places = read(gateway, events[0].app, user_id="ordered")
    assert ids(places) == recorded[::-1]
    assert transact(gateway, lambda connection: feed.events_at(connection, places)) == events[::-1]


def test_an_event_that_the_journal_has_no_more_is_left_out(bus: Bus, notifier: Engine, gateway: Engine) -> None:
    (kept,) = bus.record(bus.draft(PAYLOADS[0], user_id="archived"))
    (event,) = transact(gateway, lambda connection: journal.load(connection, [kept]))
    append(notifier, told(bus, event.app, "archived"), event)
    places = read(gateway, event.app, user_id="archived")
    assert len(places) == 2
    assert transact(gateway, lambda connection: feed.events_at(connection, places)) == [event]


# ---- how it is read ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(bus: Bus) -> AppId:
    """A feed that is long, of an app with many users."""
    app = AppId("filled")
    bus.execute(
        "insert into journal.outward select %(app)s, n, gen_random_uuid(), 'user-' || n %% %(users)s"
        "  from generate_series(1, %(size)s) as n",
        app=app,
        users=USERS,
        size=FILLED,
    )
    bus.execute("insert into journal.outward_head values (%(app)s, %(size)s)", app=app, size=FILLED)
    bus.execute("analyze journal.outward")
    return app


@pytest.fixture
def plans(gateway: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Connection], Any]], list[str]]:
    """The plans of the statements that something executes as the gateway."""

    def planned(work: Callable[[Connection], Any]) -> list[str]:
        found: list[str] = []
        execute = Connection.exec_driver_sql

        def explained(connection: Connection, statement: str, *parameters: Any) -> Any:
            found.append("\n".join(execute(connection, f"explain analyze {statement}", *parameters).scalars()))
            return execute(connection, statement, *parameters)

        with monkeypatch.context() as patched:
            patched.setattr(Connection, "exec_driver_sql", explained)
            transact(gateway, work)
        return found

    return planned


@pytest.mark.parametrize("user_id", [None, "user-7", "nobody"])
@pytest.mark.parametrize("after", [0, FILLED // 2, FILLED])
def test_no_page_is_read_by_a_scan(
    filled: AppId, plans: Callable[[Callable[[Connection], Any]], list[str]], user_id: str | None, after: int
) -> None:
    whose = None if user_id is None else UserId(user_id)
    event_id = EventId(seeded_ids(1).uuid())

    def read_everything(connection: Connection) -> None:
        feed.page(connection, app=filled, after=after, limit=50, user_id=whose)
        feed.newest(connection, app=filled, user_id=whose)
        feed.place_of(connection, app=filled, event_id=event_id, user_id=whose)

    said = plans(read_everything)
    assert len(said) == 3
    for plan in said:
        assert "Seq Scan" not in plan
        assert "Index" in plan
        assert "Sort" not in plan
        assert "Rows Removed by Filter" not in plan


def test_the_events_of_a_page_are_looked_for_in_the_months_of_their_ids_alone(
    bus: Bus, plans: Callable[[Callable[[Connection], Any]], list[str]]
) -> None:
    (recorded,) = bus.record(bus.draft(PAYLOADS[0]))
    months = bus.execute("select count(*) from pg_inherits where inhparent = 'journal.event'::regclass")[0][0]
    (plan,) = plans(lambda connection: feed.events_at(connection, [Place(1, recorded)]))
    assert months > 1
    assert plan.count(" on event_") == 1
