"""An outward event comes over the bus: it has its place in the feed, and a delivery for whoever wants it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.bus.feed import Feed
from shared.events import Event
from shared.ids import EventId
from tests.support.notifier import CREDITED, REJECTED, Notifier, apps_with, credited, endpoint
from tests.support.receiver import Receiver


def feed(notifier: Notifier, app: str = "game") -> list[EventId]:
    """The app's feed, from its beginning; its places have to be without a gap."""
    rows = notifier.rows(
        "select position, event_id from journal.outward where app = %(app)s order by position", app=app
    )
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["event_id"] for row in rows]


def open_deliveries(notifier: Notifier) -> list[EventId]:
    """What the bus still has to do."""
    return [row["event_id"] for row in notifier.rows("select event_id from journal.delivery")]


def test_a_delivery_waits_for_each_endpoint_that_wants_the_event(notifier: Notifier, receiver: Receiver) -> None:
    notifier.apps = apps_with(
        endpoint(receiver.url), endpoint(receiver.url, id="rejections", events=["purchase.rejected"])
    )
    credit, rejection = notifier.tell(CREDITED, REJECTED)
    assert notifier.states() == {("backend", "waiting"): 2, ("rejections", "waiting"): 1}
    assert feed(notifier) == [credit, rejection]
    assert open_deliveries(notifier) == []
    row = notifier.delivery(credit)
    assert (row["type"], row["attempts"], row["settled_at"]) == ("wallet.credited", 0, None)
    assert row["due_at"] == row["created_at"] <= notifier.clock.now()


def test_an_app_without_an_endpoint_that_wants_it_has_it_in_its_feed_alone(notifier: Notifier) -> None:
    told = notifier.tell(CREDITED, app="unheard-of")
    assert notifier.states() == {}
    assert feed(notifier, "unheard-of") == told
    assert open_deliveries(notifier) == []


def test_a_second_copy_of_the_message_changes_nothing(notifier: Notifier) -> None:
    told = notifier.record(CREDITED)
    for _ in range(2):
        notifier.consumer().handle(CREDITED.TYPE, told * 2)
    assert notifier.states() == {("backend", "waiting"): 1}
    assert feed(notifier) == told


def test_copies_that_are_handled_at_once_are_queued_once(notifier: Notifier) -> None:
    told = notifier.record(*(credited(version) for version in range(1, 101)))
    consumer = notifier.consumer()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: consumer.handle(CREDITED.TYPE, told), range(4)))
    assert notifier.states() == {("backend", "waiting"): 100}
    assert sorted(feed(notifier)) == sorted(told)


def test_events_of_several_apps_go_together_each_into_its_own_feed(notifier: Notifier) -> None:
    here, there = notifier.record(CREDITED), notifier.record(CREDITED, app="other")
    notifier.consumer().handle(CREDITED.TYPE, [*there, *here])
    assert (feed(notifier), feed(notifier, "other")) == (here, there)
    assert notifier.states() == {("backend", "waiting"): 1}


def test_what_fails_in_the_middle_leaves_neither_a_delivery_nor_a_place_and_is_queued_later(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_feed: Feed, _events: object) -> None:
        raise RuntimeError("a bug")

    told = notifier.record(CREDITED, credited(2))
    with monkeypatch.context() as broken:
        broken.setattr(Feed, "append", fail)
        notifier.consumer().handle(CREDITED.TYPE, told)
    assert (notifier.states(), feed(notifier)) == ({}, [])
    assert sorted(open_deliveries(notifier)) == sorted(told)
    notifier.consumer().handle(CREDITED.TYPE, told)
    assert (notifier.states(), feed(notifier)) == ({("backend", "waiting"): 2}, told)


def test_one_that_cannot_be_queued_does_not_keep_the_others_of_its_batch(
    notifier: Notifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = notifier.record(CREDITED, credited(2))
    append = Feed.append

    def append_but_not_that(into: Feed, events: Sequence[Event[Any]]) -> None:
        if any(event.id == bad for event in events):
            raise RuntimeError("a bug")
        append(into, events)

    monkeypatch.setattr(Feed, "append", append_but_not_that)
    notifier.consumer().handle(CREDITED.TYPE, [good, bad])
    assert feed(notifier) == [good]
    assert open_deliveries(notifier) == [bad]
    assert notifier.states() == {("backend", "waiting"): 1}
