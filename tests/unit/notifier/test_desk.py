"""What an operator is told of endpoints, and how a replay goes on, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from notifier.domain.desk import EndpointRecord, Replayed, Span, Stretch, endpoint_view, message_shown, types_wanted
from notifier.handlers.desk import Replay, replay
from shared.apps import EndpointId, WebhookEndpoint
from shared.events import OUTWARD, UnreadEvent
from shared.ids import AppId, EventId, uuid7_floor, uuid7_moment

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GAME, BACKEND = AppId("game"), EndpointId("backend")
URL = "https://user:hush@example.com:8443/hooks/hush?token=hush"
CONFIGURED = WebhookEndpoint(id=BACKEND, url=URL, secret="whsec_hush")
FAILING = EndpointRecord(BACKEND, failing_since=NOW, failures=3)
DISABLED = replace(FAILING, disabled_at=NOW, disabled_url=URL, reason="gone")
ASKED = Replay(GAME, BACKEND, since=NOW - timedelta(hours=1), until=NOW)


@pytest.mark.parametrize(
    ("record", "configured", "state"),
    [
        (EndpointRecord(BACKEND), CONFIGURED, "on"),
        (FAILING, CONFIGURED, "failing"),
        (DISABLED, CONFIGURED, "disabled"),
        (replace(DISABLED, disabled_url="https://example.com/before"), CONFIGURED, "failing"),
        (DISABLED, None, "not_configured"),
    ],
)
def test_an_endpoint_is_in_one_state(record: EndpointRecord, configured: WebhookEndpoint | None, state: str) -> None:
    view = endpoint_view(record, configured)
    assert view.state == state
    assert (view.reason is not None) == (view.disabled_at is not None) == (state == "disabled")


def test_of_a_url_only_the_host_and_port_are_shown() -> None:
    view = endpoint_view(DISABLED, CONFIGURED)
    assert view.host == "example.com:8443"
    assert "hush" not in f"{view} {DISABLED}"


def test_an_event_that_cannot_be_read_has_no_message() -> None:
    id = EventId(UUID(int=1))
    unread = UnreadEvent(id, "wallet.credited", 9, GAME, "pur_1", None, "0" * 32, None, NOW, NOW)
    assert message_shown(unread) is None
    assert message_shown(None) is None


def test_an_endpoint_wants_the_types_that_its_patterns_cover() -> None:
    assert types_wanted(CONFIGURED) == list(OUTWARD)
    wallet = CONFIGURED.model_copy(update={"events": frozenset({"wallet.*", "purchase.rejected"})})
    assert types_wanted(wallet) == ["purchase.rejected", "wallet.credited", "wallet.debited"]


class Feed:
    """So many events, a minute apart or with ids that follow one another; a stretch is two of them, one is queued."""

    def __init__(self, count: int, *, apart: timedelta = timedelta(minutes=1)) -> None:
        floors = [uuid7_floor(ASKED.since + each * apart).int for each in range(count)]
        self._ids = [EventId(UUID(int=floor + number)) for number, floor in enumerate(floors)]
        self.spans: list[Span] = []

    def stretch(self, span: Span) -> Stretch:
        self.spans.append(span)
        found = [each for each in self._ids if span.first <= each < span.end][:2]
        return Stretch(queued=min(len(found), 1), looked_at=len(found), last=found[-1] if found else None)


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(minutes=1)])
def test_a_replay_looks_at_each_event_of_its_time_once(apart: timedelta) -> None:
    feed, heard = Feed(5, apart=apart), list[Replayed]()
    assert replay(ASKED, stretch=feed.stretch, observe=heard.append) == Replayed(queued=3, looked_at=5)
    assert [each.looked_at for each in heard] == [2, 4, 5]
    assert {span.end for span in feed.spans} == {uuid7_floor(NOW)}


def test_a_replay_that_came_to_its_limit_says_from_when_to_go_on() -> None:
    done = replay(ASKED, stretch=Feed(5).stretch, limit=3)
    assert (done.looked_at, done.next_since) == (4, ASKED.since + timedelta(minutes=3))


def test_a_replay_since_before_all_time_begins_with_the_first_event() -> None:
    asked = replace(ASKED, since=datetime.min.replace(tzinfo=UTC))
    assert uuid7_moment(asked.span.first) == datetime(1970, 1, 1, tzinfo=UTC)
