"""Waiting for a purchase to come to an end, and never at the expense of those who do not wait."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from gateway.store.waiting import WaitingRoom
from shared.clock import SystemClock
from shared.database import connect_engine
from shared.events import PurchaseRejected
from shared.ids import AppId, PurchaseId, TransactionId
from tests.support.gateway import Gateway, gateway_on
from tests.support.stack import wait_until

NUMBERS = itertools.count(9000)
SEATS = 2


@pytest.fixture(scope="module")
def gateway(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """With so many threads that two may wait."""
    directory = tmp_path_factory.mktemp("gateway")
    with gateway_on(module_database, directory, changes={"gateway_threads": 2 * SEATS}) as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def bought(gateway: Gateway) -> PurchaseId:
    return PurchaseId((gateway.submit(str(next(NUMBERS))).json or {})["id"])


def finish(gateway: Gateway, purchase: PurchaseId) -> None:
    rejected = PurchaseRejected(
        purchase_id=purchase,
        store="apple",
        transaction_id=TransactionId("1"),
        code="wrong_app",
        detail="another app's",
    )
    gateway.tell(purchase, rejected)
    gateway.bus.execute("notify purser_journal")


def show(gateway: Gateway, purchase: PurchaseId, **headers: str) -> TestResponse:
    return gateway.client().get(f"/v1/purchases/{purchase}", headers=gateway.as_user() | headers)


def listeners(gateway: Gateway) -> int:
    sql = "select count(*) from pg_stat_activity where datname = current_database() and query like 'listen %%'"
    return int(gateway.bus.execute(sql)[0][0])


def test_who_waits_is_answered_as_soon_as_the_purchase_is_final(
    gateway: Gateway, elsewhere: ThreadPoolExecutor
) -> None:
    purchase = bought(gateway)
    waits = elsewhere.submit(show, gateway, purchase, Prefer="wait=30")
    wait_until(lambda: listeners(gateway) > 0, what="a listener")
    assert not waits.done()
    began = SystemClock().monotonic()
    finish(gateway, purchase)
    response = waits.result(timeout=20)
    assert SystemClock().monotonic() - began < 15
    assert (response.json or {})["status"] == "rejected"
    assert response.headers["Preference-Applied"] == "wait=30"


def test_a_purchase_can_be_waited_for_where_it_is_submitted(gateway: Gateway, elsewhere: ThreadPoolExecutor) -> None:
    transaction_id = str(next(NUMBERS))
    waits = elsewhere.submit(gateway.submit, transaction_id, wait=30)
    sql = "select subject from journal.event where payload->>'transaction_id' = %(id)s"
    wait_until(lambda: bool(gateway.bus.execute(sql, id=transaction_id)), what="the submission")
    purchase = PurchaseId(gateway.bus.execute(sql, id=transaction_id)[0][0])
    finish(gateway, purchase)
    response = waits.result(timeout=20)
    assert response.status_code == 200
    assert (response.json or {})["rejection"]["code"] == "wrong_app"
    assert response.headers["Location"] == f"/v1/purchases/{purchase}"
    assert "Preference-Applied" not in response.headers  # the query asked, not a preference


def test_when_the_time_is_up_the_answer_is_what_there_is(gateway: Gateway) -> None:
    response = gateway.submit(str(next(NUMBERS)), wait=1)
    assert (response.status_code, (response.json or {})["status"]) == (202, "accepted")
    shown = show(gateway, PurchaseId((response.json or {})["id"]), Prefer="wait=1")
    assert (shown.status_code, (shown.json or {})["status"]) == (200, "accepted")
    assert shown.headers["Preference-Applied"] == "wait=1"


def test_beyond_the_seats_the_answer_comes_at_once(database: str, tmp_path: Path) -> None:
    with gateway_on(database, tmp_path, changes={"gateway_threads": 1}) as crowded:
        began = SystemClock().monotonic()
        submitted = crowded.submit(str(next(NUMBERS)), wait=30)
        shown = show(crowded, PurchaseId((submitted.json or {})["id"]), Prefer="wait=30")
        assert SystemClock().monotonic() - began < 15
    assert (submitted.status_code, shown.status_code) == (202, 200)
    assert "Preference-Applied" not in shown.headers


def test_a_final_purchase_is_not_waited_for(gateway: Gateway) -> None:
    purchase = bought(gateway)
    finish(gateway, purchase)
    began = SystemClock().monotonic()
    assert show(gateway, purchase, Prefer="wait=30").headers["Preference-Applied"] == "wait=30"
    assert SystemClock().monotonic() - began < 15


@pytest.mark.parametrize(
    "preference", ["", "wait", "wait=", "wait=-1", "wait=x", "wait=1e9", "respond-async", "wait=٣"]
)
def test_a_preference_that_makes_no_sense_is_ignored(gateway: Gateway, preference: str) -> None:
    environ = {"HTTP_PREFER": preference.encode().decode("latin-1")}
    path = f"/v1/purchases/{bought(gateway)}"
    response = gateway.client().get(path, headers=gateway.as_user(), environ_overrides=environ)
    assert response.status_code == 200
    assert "Preference-Applied" not in response.headers


@pytest.mark.parametrize("preference", ["respond-async, wait=99", 'Wait="99"', "wait=99; x=y", "wait=99,wait=1"])
def test_a_preference_is_read_as_the_standard_says_and_cut_to_what_we_allow(gateway: Gateway, preference: str) -> None:
    purchase = bought(gateway)
    finish(gateway, purchase)
    assert show(gateway, purchase, Prefer=preference).headers["Preference-Applied"] == "wait=30"


@pytest.mark.parametrize("wait", ["-1", "31", "x", "1.5"])
def test_a_wait_in_the_query_that_cannot_be_is_refused(gateway: Gateway, wait: str) -> None:
    assert gateway.submit(str(next(NUMBERS)), wait=wait).status_code == 400


def test_nobody_is_listened_for_before_the_first_who_waits(database: str, tmp_path: Path) -> None:
    with gateway_on(database, tmp_path) as quiet:
        bought(quiet)
        assert listeners(quiet) == 0


@pytest.fixture
def room(database: str) -> Iterator[WaitingRoom]:
    """A room with two seats, that nobody's purchase comes to an end in."""
    engine = connect_engine(database, role="purser_gateway", pool_size=4, application_name="gateway")
    with closing(WaitingRoom(engine=engine, seats=SEATS)) as open_room:
        yield open_room
    engine.dispose()


def sit(room: WaitingRoom, within_s: float) -> bool:
    return room.until_final(app=AppId("game"), purchase_id=PurchaseId("pur_" + "a" * 26), within_s=within_s)


def sit_down(room: WaitingRoom) -> bool:
    """Sits for long, as soon as there is a seat: whoever probes for one takes it for a moment."""
    while not sit(room, 300):
        pass
    return True


def test_a_room_has_so_many_seats_and_sends_everybody_away_when_it_closes(
    room: WaitingRoom, elsewhere: ThreadPoolExecutor
) -> None:
    guests = [elsewhere.submit(sit_down, room) for _ in range(SEATS)]
    wait_until(lambda: not sit(room, 0), what="a full room")
    assert not any(guest.done() for guest in guests)
    room.close()
    assert [guest.result(timeout=20) for guest in guests] == [True] * SEATS


def test_a_seat_is_free_again_when_its_guest_has_gone(room: WaitingRoom) -> None:
    assert [sit(room, 0) for _ in range(3 * SEATS)] == [True] * 3 * SEATS


def test_who_comes_when_the_room_has_closed_does_not_wait(room: WaitingRoom) -> None:
    room.close()
    began = SystemClock().monotonic()
    assert sit(room, 60)
    assert SystemClock().monotonic() - began < 15
