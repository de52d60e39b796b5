"""The pull side: the events of an app, or of one user of it, in their order; and waiting for the next one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gateway.store.waiting import READERS_OF_ONE_FEED_MAX
from shared.apps import load_apps
from shared.clock import SystemClock
from shared.events import PurchaseRejected, WalletCredited
from shared.ids import EventId, PurchaseId, TransactionId
from tests.support.gateway import EXAMPLES, Gateway, gateway_on
from tests.support.notifier import notifying
from tests.support.outward import EVENTS, PAYLOADS, change
from tests.support.stack import wait_until

BEGINNING = "0" * 32
SEATS, READERS_SEATS = 4, 3
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def gateway(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With so many threads that four may wait, three of them for events."""
    directory = tmp_path_factory.mktemp("gateway")
    with gateway_on(module_database, directory, changes={"gateway_threads": 2 * SEATS}) as running:
        yield running


@pytest.fixture
def user() -> str:
    """Somebody of whom nothing is told yet, and whose id is as an id may be."""
    return f'auth0|"{next(numbers)}" \\ {{ä, NULL}}'


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def credit(version: int = 1) -> WalletCredited:
    return WalletCredited(change(100, balance_after=100 * version, version=version, kind="purchase"))


def ask(
    gateway: Gateway, path: str, headers: dict[str, str] | None = None, /, **query: str | int
) -> tuple[int, dict[str, Any]]:
    whose = gateway.as_server() if headers is None else headers
    response = gateway.client().get(path, headers=whose, query_string=query)
    return response.status_code, response.json or {}


def read(gateway: Gateway, user: str, **query: str | int) -> dict[str, Any]:
    """What the user's own device is answered."""
    status, document = ask(gateway, "/v1/users/me/events", gateway.as_user(user), **query)
    assert status == 200, document
    return document


def ids(document: dict[str, Any]) -> list[EventId]:
    return [EventId(UUID(event["id"])) for event in document["events"]]


# ---- what there is ----------------------------------------------------------------------------------------------


def test_an_event_is_told_as_a_webhook_tells_it_with_its_id(gateway: Gateway, user: str) -> None:
    event_ids = gateway.announce(*PAYLOADS, user_id=user)
    events = read(gateway, user)["events"]
    assert [event["id"] for event in events] == [str(event_id) for event_id in event_ids]
    assert [event["type"] for event in events] == list(EVENTS)
    assert {event["timestamp"] for event in events} == {"2026-11-22T12:00:00.000Z"}
    assert {event["data"]["user_id"] for event in events} == {user}
    credited = next(event for event in events if event["type"] == "wallet.credited")
    assert (credited["data"]["balance_after"], credited["data"]["version"]) == (100, 1)


def test_a_feed_is_read_page_by_page_and_says_where_it_goes_on_even_at_its_end(gateway: Gateway, user: str) -> None:
    event_ids = gateway.announce(*(credit(version) for version in range(1, 6)), user_id=user)
    seen: list[EventId] = []
    page = read(gateway, user, limit=2)
    while page["events"]:
        seen += ids(page)
        assert page["next"] == seen[-1].hex
        page = read(gateway, user, limit=2, after=page["next"])
    assert seen == event_ids
    assert page == {"events": [], "next": event_ids[-1].hex}
    more = gateway.announce(credit(6), user_id=user)
    assert ids(read(gateway, user, after=page["next"])) == more


def test_the_app_reads_everybodys_events_and_a_user_its_own(gateway: Gateway) -> None:
    start = ask(gateway, "/v1/events", after="latest")[1]["next"]
    of_ann = gateway.announce(credit(), user_id="ann")
    of_nobody = gateway.announce(credit(), user_id=None)
    of_ben = gateway.announce(credit(), user_id="ben")
    assert ids(ask(gateway, "/v1/events", after=start)[1]) == of_ann + of_nobody + of_ben
    assert ids(read(gateway, "ann")) == ids(ask(gateway, "/v1/users/ann/events")[1]) == of_ann
    assert ids(read(gateway, "ben")) == of_ben


def test_another_users_events_are_not_there_and_the_apps_are_for_its_backend(gateway: Gateway) -> None:
    gateway.announce(credit(), user_id="victim")
    assert ask(gateway, "/v1/users/victim/events", gateway.as_user("mallory"))[0] == 404
    assert ask(gateway, "/v1/events", gateway.as_user("mallory"))[0] == 403
    assert ask(gateway, "/v1/users/me/events")[0] == 400
    assert ids(read(gateway, "mallory")) == []


def test_of_a_user_whom_nobody_knows_nothing_is_told(gateway: Gateway) -> None:
    assert ask(gateway, "/v1/users/stranger/events") == (200, {"events": [], "next": BEGINNING})
    assert read(gateway, "stranger", after=BEGINNING) == {"events": [], "next": BEGINNING}


def test_latest_is_nothing_of_the_past_and_all_that_comes(gateway: Gateway, user: str) -> None:
    assert read(gateway, user, after="latest") == {"events": [], "next": BEGINNING}
    past = gateway.announce(credit(1), credit(2), user_id=user)
    latest = read(gateway, user, after="latest")
    assert latest == {"events": [], "next": past[-1].hex}
    gateway.announce(credit(), user_id="somebody-else")
    assert read(gateway, user, after="latest") == latest
    coming = gateway.announce(credit(3), user_id=user)
    assert ids(read(gateway, user, after=latest["next"])) == coming


def test_a_place_that_a_list_does_not_have_is_refused_rather_than_passed_over(gateway: Gateway, user: str) -> None:
    (of_another,) = gateway.announce(credit(), user_id="another")
    assert ids(ask(gateway, "/v1/events", after=of_another.hex)[1]) == []
    for after in (of_another.hex, "f" * 32):
        status, document = ask(gateway, "/v1/users/me/events", gateway.as_user(user), after=after)
        assert (status, document["code"]) == (400, "malformed-request")
        assert document["detail"].startswith("after: ")


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "after=",
        "after=x",
        "after=LATEST",
        "after=" + "F" * 32,
        "wait=-1",
        "wait=31",
        "wait=1.5",
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_the_name_of_its_parameter(gateway: Gateway, query: str) -> None:
    for path in ("/v1/events", "/v1/users/alice/events"):
        name, _, value = query.partition("=")
        status, document = ask(gateway, path, **{name: value})
        assert (status, document["detail"].partition(":")[0]) == (400, name)


def test_an_event_of_a_newer_release_is_for_a_process_that_knows_it_and_is_not_passed_over(
    gateway: Gateway, user: str
) -> None:
    (known,) = gateway.announce(credit(), user_id=user)
    (newer,) = gateway.announce(credit(), user_id=user)
    with gateway.bus.engine.begin() as connection:  # the journal refuses changes, so its trigger has to look away
        connection.exec_driver_sql("set local session_replication_role = replica")
        connection.exec_driver_sql("update journal.event set type = 'wallet.blessed' where id = %(id)s", {"id": newer})
    assert ids(read(gateway, user, limit=1)) == [known]
    path = f"/v1/users/me/events?after={known.hex}"
    response = gateway.client().get(path, headers=gateway.as_user(user))
    assert (response.status_code, (response.json or {})["code"]) == (503, "temporarily-unavailable")
    assert int(response.headers["Retry-After"]) > 0


# ---- waiting ----------------------------------------------------------------------------------------------------

Waits = Callable[..., Future[dict[str, Any]]]


@pytest.fixture
def waits(gateway: Gateway, elsewhere: ThreadPoolExecutor) -> Waits:
    """Has a user wait for its events; when it returns, it does."""

    def sit_down(user: str, **query: str | int) -> Future[dict[str, Any]]:
        seated = gateway.waiting.guests()
        waiting = elsewhere.submit(read, gateway, user, **{"wait": 30} | query)
        wait_until(lambda: gateway.waiting.guests() > seated or waiting.done(), what="a guest")
        assert not waiting.done()
        return waiting

    return sit_down


def seconds(work: Callable[[], object]) -> float:
    began = SystemClock().monotonic()
    work()
    return SystemClock().monotonic() - began


def test_who_waits_is_told_within_a_second(gateway: Gateway, user: str, waits: Waits) -> None:
    waiting = waits(user)
    announced: list[EventId] = []

    def told() -> None:
        announced.extend(gateway.announce(credit(), user_id=user))
        waiting.result(timeout=20)

    assert seconds(told) < 1
    assert ids(waiting.result()) == announced


def test_who_waits_for_the_app_is_told_of_anybody(gateway: Gateway, elsewhere: ThreadPoolExecutor, user: str) -> None:
    start = ask(gateway, "/v1/events", after="latest")[1]["next"]
    waiting = elsewhere.submit(ask, gateway, "/v1/events", after=start, wait=30)
    wait_until(lambda: gateway.waiting.guests() > 0, what="a guest")
    announced = gateway.announce(credit(), user_id=user)
    assert ids(waiting.result(timeout=20)[1]) == announced


def test_who_waits_from_now_on_is_told_of_what_comes_alone(gateway: Gateway, user: str, waits: Waits) -> None:
    gateway.announce(credit(1), user_id=user)
    waiting = waits(user, after="latest")
    coming = gateway.announce(credit(2), user_id=user)
    assert ids(waiting.result(timeout=20)) == coming


def test_somebody_elses_event_wakes_nobody(gateway: Gateway, user: str, waits: Waits) -> None:
    (before,) = gateway.announce(credit(), user_id=user)
    mine, another = waits(user, after=before.hex), waits("another-one")
    gateway.announce(credit(), user_id="another-one")
    assert another.result(timeout=20)["events"]
    assert not mine.done()
    gateway.announce(credit(), user_id=user)
    assert mine.result(timeout=20)["events"]


def test_what_is_there_is_not_waited_for(gateway: Gateway, user: str) -> None:
    gateway.announce(credit(), user_id=user)
    assert seconds(lambda: read(gateway, user, wait=30)) < 15


def test_when_the_time_is_up_the_list_is_empty_and_goes_on_where_it_was(gateway: Gateway, user: str) -> None:
    (event_id,) = gateway.announce(credit(), user_id=user)
    assert read(gateway, user, after=event_id.hex, wait=1) == {"events": [], "next": event_id.hex}


def test_beyond_the_seats_the_answer_comes_at_once_and_purchases_keep_theirs(
    gateway: Gateway, elsewhere: ThreadPoolExecutor, user: str, waits: Waits
) -> None:
    users = [f"{user} {number}" for number in range(READERS_SEATS)]
    waiting = [waits(each) for each in users]
    assert seconds(lambda: read(gateway, user, wait=30)) < 15
    purchase = PurchaseId((gateway.submit("31337", user_id=user).json or {})["id"])
    shown = elsewhere.submit(ask, gateway, f"/v1/purchases/{purchase}", wait=30)
    wait_until(lambda: gateway.waiting.guests() == SEATS, what="somebody who waits for a purchase")
    assert gateway.submit("31338", user_id=user, wait=30).status_code == 202  # accepting goes on
    assert not any(each.done() for each in waiting)
    assert not shown.done()
    gateway.tell(purchase, PurchaseRejected(purchase, "apple", TransactionId("31337"), "wrong_app", "another app's"))
    for each in users:
        gateway.announce(credit(), user_id=each)
    assert shown.result(timeout=20)[1]["status"] == "rejected"
    assert all(each.result(timeout=20)["events"] for each in waiting)


def test_one_user_does_not_take_all_the_seats(gateway: Gateway, user: str, waits: Waits) -> None:
    mine = [waits(user) for _ in range(READERS_OF_ONE_FEED_MAX)]
    assert seconds(lambda: read(gateway, user, wait=30)) < 15
    another = waits(f"{user} as well")
    assert not any(each.done() for each in mine)
    gateway.announce(credit(), user_id=user)
    gateway.announce(credit(), user_id=f"{user} as well")
    assert all(each.result(timeout=20)["events"] for each in [*mine, another])
    again = waits(user, after="latest")  # the seats are free again
    gateway.announce(credit(2), user_id=user)
    assert again.result(timeout=20)["events"]


def test_when_the_room_closes_everybody_is_answered(
    database: str, tmp_path: Path, elsewhere: ThreadPoolExecutor
) -> None:
    with gateway_on(database, tmp_path) as closing_soon:
        waiting = elsewhere.submit(read, closing_soon, "alice", wait=30)
        wait_until(lambda: closing_soon.waiting.guests() == 1, what="a guest")
        closing_soon.waiting.close()
        assert waiting.result(timeout=20) == {"events": [], "next": BEGINNING}


def test_what_the_notifier_has_handled_is_told_without_being_looked_for(
    module_database: str, gateway: Gateway, user: str, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.store.waiting.POLL_S", 60)
    waiting = waits(user)
    with notifying(module_database, load_apps(EXAMPLES / "apps.toml")) as notifier:
        told = notifier.tell(credit(), user_id=user)
        assert ids(waiting.result(timeout=20)) == told
