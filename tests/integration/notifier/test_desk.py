"""What an operator sees of endpoints and deliveries, and does about them, on a real PostgreSQL with a real sender."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from notifier.app import settling, webhook_poster
from notifier.desk import Desk, undelivered
from notifier.domain.deliveries import Answer, Delivery
from notifier.domain.desk import DeliveryView, EndpointView, Replayed
from notifier.domain.endpoints import EndpointKey
from notifier.handlers import desk as use_cases
from notifier.handlers.desk import DeliveryUnknown, DroppedState, DropRefused, EndpointUnknown
from notifier.handlers.sending import Attempted
from notifier.settings import PostingSettings
from notifier.store.deliveries import Deliveries
from notifier.store.desk import DeskRecords
from notifier.store.watching import deliveries_watched
from shared.apps import EndpointId, parse_apps
from shared.clock import SystemClock
from shared.database import transact
from shared.events import PurchaseRejected, WebhookEndpointDisabled, WebhookEndpointEnabled
from shared.ids import AppId, EventId, webhook_endpoint_subject
from tests.support.notifier import (
    CREDITED,
    REJECTED,
    SECRET,
    Notifier,
    apps_text,
    apps_with,
    credited,
    endpoint,
    ids_of,
    notifying,
)
from tests.support.receiver import Receiver, Reply, receiving
from tests.support.seeded import seeded_ids

GAME = AppId("game")
BACKEND, ANALYTICS = EndpointId("backend"), EndpointId("analytics")
FAILING = Reply(500, body=b"not today")
ONE_ATTEMPT_MORE: dict[str, Any] = {"retry_delays_s": [0.01]}
WEEKS_S = 20 * 24 * 3600


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as running:
        yield running


@pytest.fixture
def notifier(database: str, receiver: Receiver) -> Iterator[Notifier]:
    """With one endpoint, `backend`, that wants everything."""
    with notifying(database, apps_with(endpoint(receiver.url))) as running:
        yield running


def desk_of(notifier: Notifier) -> Desk:
    """The desk of the apps as they are now, with the notifier's own rights."""
    poster = webhook_poster(PostingSettings(webhook_timeout_s=2), clock=SystemClock())
    return Desk(engine=notifier.engine, apps=notifier.apps, poster=poster, clock=notifier.clock, ids=notifier.ids)


def one(notifier: Notifier, id: EndpointId = BACKEND) -> EndpointView:
    (found,) = [each for each in desk_of(notifier).endpoints(GAME) if each.id == id]
    return found


def listed(notifier: Notifier, *, limit: int = 200, **filters: Any) -> list[DeliveryView]:
    """All pages, one after the other."""
    desk, after, found = desk_of(notifier), None, list[DeliveryView]()
    while True:
        page = desk.deliveries(GAME, after=after, limit=limit, **filters)
        assert len(page.deliveries) <= limit
        found += page.deliveries
        assert len(found) <= 1_000, "it goes round"
        if page.next_after is None:
            return found
        after = page.next_after


def replayed(notifier: Notifier, id: EndpointId = BACKEND, **asked: Any) -> Replayed:
    asked = {"since": notifier.clock.now() - timedelta(hours=1), "until": in_a_minute(notifier)} | asked
    return desk_of(notifier).replay(GAME, id, actor="operator", **asked)


def in_a_minute(notifier: Notifier) -> datetime:
    return notifier.clock.now() + timedelta(minutes=1)


def waiting_since(notifier: Notifier) -> datetime:
    """Since when `backend` has not heard something, as an operator sees it; the metrics say the same."""
    since, now = one(notifier).oldest_waiting_at, notifier.clock.now()
    watched = partial(deliveries_watched, endpoints=[EndpointKey(GAME, BACKEND)], now=now)
    _, ages = transact(notifier.engine, watched)
    assert since is not None
    assert [sample.value for sample in ages.samples] == [(now - since).total_seconds()]
    return since


class TestEndpoints:
    def test_an_endpoint_that_was_never_told_anything_is_on(self, notifier: Notifier, receiver: Receiver) -> None:
        assert one(notifier) == EndpointView(
            id=BACKEND,
            host=f"127.0.0.1:{receiver.port}",
            events=("*",),
            state="on",
            disabled_at=None,
            reason=None,
            failing_since=None,
            failures=0,
            waiting=0,
            oldest_waiting_at=None,
            failed=0,
            delivered_at=None,
        )

    def test_what_waits_what_failed_and_what_was_taken_is_counted(self, notifier: Notifier, receiver: Receiver) -> None:
        notifier.apps = apps_with(endpoint(receiver.url, **ONE_ATTEMPT_MORE))
        receiver.reply_next(FAILING, FAILING)
        with notifier.sending():
            notifier.tell(CREDITED)
            notifier.settled("exhausted", 1)
        failing = one(notifier)
        assert (failing.state, failing.failures, failing.failed, failing.delivered_at) == ("failing", 2, 1, None)
        assert failing.failing_since is not None
        with notifier.sending():
            notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
        first, _ = notifier.tell(CREDITED, CREDITED)
        taken = one(notifier)
        assert (taken.state, taken.failing_since, taken.waiting, taken.failed) == ("on", None, 2, 1)
        assert taken.oldest_waiting_at == notifier.delivery(first)["created_at"]
        assert taken.delivered_at is not None

    def test_one_that_is_not_configured_any_more_is_shown_with_what_waits_for_it(self, notifier: Notifier) -> None:
        notifier.tell(CREDITED)
        notifier.apps = apps_with()
        left = one(notifier)
        assert (left.state, left.host, left.events, left.waiting) == ("not_configured", None, (), 1)

    def test_a_disabled_one_with_another_url_has_another_chance(self, notifier: Notifier, receiver: Receiver) -> None:
        desk_of(notifier).disable(GAME, BACKEND, reason="it lies", actor="operator")
        assert (one(notifier).state, one(notifier).reason) == ("disabled", "it lies")
        notifier.apps = apps_with(endpoint(receiver.url + "/new"))
        assert (one(notifier).state, one(notifier).reason, one(notifier).disabled_at) == ("on", None, None)


class TestLists:
    def test_all_pages_together_show_each_delivery_once_the_newest_event_first(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        notifier.apps = apps_with(endpoint(receiver.url), endpoint(receiver.url, id="analytics"))
        told = notifier.tell(*[CREDITED] * 7)
        wanted = list(chain.from_iterable(((each, "analytics"), (each, "backend")) for each in reversed(told)))
        for limit in (1, 2, 3, 200):
            assert [tuple(each.place) for each in listed(notifier, limit=limit)] == wanted

    def test_a_list_is_of_one_endpoint_one_state_and_one_app(self, notifier: Notifier, receiver: Receiver) -> None:
        notifier.apps = parse_apps(
            apps_text(endpoint(receiver.url), endpoint(receiver.url, id="analytics"))
            + apps_text(endpoint(receiver.url), app="other")
        )
        notifier.tell(CREDITED, app="other")
        first, second = notifier.tell(CREDITED, CREDITED)
        notifier.rows(
            "update notifier.delivery set state = 'parked', due_at = null, settled_at = now(), last_error = 'too large'"
            " where event_id = %(event)s::uuid and endpoint_id = 'backend'",
            event=str(first),
        )
        assert [each.place for each in listed(notifier, endpoint=BACKEND)] == [(second, BACKEND), (first, BACKEND)]
        waiting = [(second, ANALYTICS), (second, BACKEND), (first, ANALYTICS)]
        assert [each.place for each in listed(notifier, state="waiting", limit=2)] == waiting
        (parked,) = listed(notifier, endpoint=BACKEND, state="parked")
        assert (parked.event_id, parked.last_error, parked.due_at) == (first, "too large", None)
        assert listed(notifier, endpoint=ANALYTICS, state="parked") == []

    def test_an_endpoint_that_nothing_is_known_of_is_named_with_those_that_there_are(self, notifier: Notifier) -> None:
        with pytest.raises(EndpointUnknown, match="app 'game' has no webhook 'nobody'; there are: backend"):
            desk_of(notifier).deliveries(GAME, endpoint=EndpointId("nobody"), limit=1)

    def test_the_message_is_shown_as_it_is_posted_with_every_attempt(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        notifier.apps = apps_with(endpoint(receiver.url, **ONE_ATTEMPT_MORE))
        receiver.reply_next(FAILING)
        with notifier.sending():
            (told,) = notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
        shown = desk_of(notifier).delivery(GAME, told)
        assert shown.message == receiver.received[0].body
        (delivery,) = shown.deliveries
        assert (delivery.delivery.state, delivery.delivery.attempts, delivery.delivery.last_status) == (
            "delivered",
            2,
            200,
        )
        assert [(each.number, each.status, each.answer, each.error) for each in delivery.attempt_list] == [
            (1, 500, "not today", "answered 500"),
            (2, 200, "", None),
        ]

    def test_an_event_of_another_app_or_one_that_is_not_told_to_anybody_is_unknown(self, notifier: Notifier) -> None:
        (told,) = notifier.tell(CREDITED)
        for app, event_id in ((AppId("other"), told), (GAME, EventId(UUID(int=7)))):
            with pytest.raises(DeliveryUnknown):
                desk_of(notifier).delivery(app, event_id)
        assert desk_of(notifier).delivery(GAME, told).deliveries

    def test_what_an_endpoint_has_not_taken_of_some_events_is_found(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        with notifier.sending():
            (taken,) = notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
        (waits,) = notifier.tell(CREDITED)
        found = transact(notifier.engine, lambda connection: undelivered(connection, GAME, [taken, waits]))
        assert [(each.event_id, each.state) for each in found] == [(waits, "waiting")]


class TestResending:
    def test_what_was_delivered_is_delivered_once_more_with_the_same_id(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        with notifier.sending():
            (told,) = notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
            assert desk_of(notifier).resend(GAME, told, endpoint=None, actor="operator") == 1
            notifier.attempted(told, 2)
        assert [each.id for each in receiver.received] == [str(told)] * 2
        assert notifier.delivery(told)["state"] == "delivered"

    def test_what_was_given_up_has_its_whole_schedule_ahead_again(self, notifier: Notifier, receiver: Receiver) -> None:
        notifier.apps = apps_with(endpoint(receiver.url, **ONE_ATTEMPT_MORE))
        receiver.reply_next(FAILING, FAILING, FAILING)
        with notifier.sending():
            (told,) = notifier.tell(CREDITED)
            notifier.settled("exhausted", 1)
            desk_of(notifier).resend(GAME, told, endpoint=BACKEND, actor="operator")
            notifier.settled("delivered", 1)
        assert [each["number"] for each in notifier.attempts(told)] == [1, 2, 3, 4]

    def test_only_the_endpoint_that_is_named_hears_it_again(self, notifier: Notifier, receiver: Receiver) -> None:
        notifier.apps = apps_with(endpoint(receiver.url), endpoint(receiver.url, id="analytics"))
        with notifier.sending():
            (told,) = notifier.tell(CREDITED)
            for each in ("backend", "analytics"):
                notifier.settled("delivered", 1, endpoint_id=each)
            assert desk_of(notifier).resend(GAME, told, endpoint=ANALYTICS, actor="operator") == 1
            notifier.attempted(told, 2, endpoint_id="analytics")
        assert notifier.delivery(told)["attempts"] == 1

    def test_what_was_delivered_long_ago_waits_since_it_was_resent(self, notifier: Notifier) -> None:
        with notifier.sending():
            (told,) = notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
        notifier.clock.advance(WEEKS_S)
        before = notifier.clock.now()
        desk_of(notifier).resend(GAME, told, endpoint=None, actor="operator")
        assert before <= waiting_since(notifier) <= notifier.clock.now()

    def test_what_waits_already_has_waited_no_shorter_for_being_resent(self, notifier: Notifier) -> None:
        (told,) = notifier.tell(CREDITED)
        queued = notifier.delivery(told)["created_at"]
        notifier.clock.advance(7200)
        desk_of(notifier).resend(GAME, told, endpoint=None, actor="operator")
        replayed(notifier, since=queued - timedelta(hours=1))
        assert waiting_since(notifier) == queued

    def test_a_resend_during_the_last_attempt_is_not_lost_with_it(self, notifier: Notifier, receiver: Receiver) -> None:
        """The attempt under way would have ended the delivery: it is told once more, and is in one state."""
        notifier.apps = apps_with(endpoint(receiver.url, **ONE_ATTEMPT_MORE))
        receiver.reply_next(FAILING, Reply(behaviour="hang"))
        with notifier.sending():
            (told,) = notifier.tell(CREDITED)
            notifier.wait(lambda: len(receiver.received) == 2, what="the last attempt")
            assert desk_of(notifier).resend(GAME, told, endpoint=None, actor="operator") == 1
            notifier.settled("delivered", 1)
        delivery = notifier.delivery(told)
        assert (delivery["state"], delivery["attempts"], delivery["last_error"]) == ("delivered", 2, None)
        assert [each["status"] for each in notifier.attempts(told)] == [500, 200]
        assert {each.id for each in receiver.received} == {str(told)}

    def test_an_attempt_whose_commit_was_repeated_counts_once(self, notifier: Notifier) -> None:
        """Whether a commit that was cut off took effect is unknown, so it is made again: `shared.database.transact`."""
        (told,) = notifier.tell(CREDITED)
        attempted = Attempted(taken(notifier), next(iter(notifier.apps)).webhooks[0], failure(notifier), 1.0)
        settle = settling(notifier.engine, clock=notifier.clock, ids=notifier.ids)
        settle([attempted])
        settle([attempted])
        assert [each["number"] for each in notifier.attempts(told)] == [1]
        assert one(notifier).failures == 1

    def test_who_lost_a_delivery_to_another_says_nothing_of_it(self, notifier: Notifier) -> None:
        (told,) = notifier.tell(CREDITED)
        late = taken(notifier, lease_s=1)
        notifier.clock.advance(2)
        taken(notifier, lease_s=60)
        settle = settling(notifier.engine, clock=notifier.clock, ids=notifier.ids)
        settle([Attempted(late, next(iter(notifier.apps)).webhooks[0], failure(notifier), 1.0)])
        assert (notifier.delivery(told)["attempts"], notifier.attempts(told)) == (0, [])

    def test_what_there_is_nothing_of_cannot_be_resent(self, notifier: Notifier) -> None:
        (told,) = notifier.tell(CREDITED)
        desk = desk_of(notifier)
        with pytest.raises(DeliveryUnknown):
            desk.resend(GAME, EventId(UUID(int=7)), endpoint=None, actor="operator")
        with pytest.raises(EndpointUnknown):
            desk.resend(GAME, told, endpoint=EndpointId("nobody"), actor="operator")
        with pytest.raises(DeliveryUnknown):
            desk.resend(AppId("other"), told, endpoint=None, actor="operator")


class TestReplaying:
    def test_an_endpoint_that_was_added_later_hears_what_it_wants_of_before(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        (rejected, _) = notifier.tell(REJECTED, CREDITED)
        notifier.apps = apps_with(endpoint(receiver.url), endpoint(receiver.url, id="late", events=["purchase.*"]))
        assert replayed(notifier, EndpointId("late")) == Replayed(queued=1, looked_at=2)
        with notifier.sending():
            notifier.settled("delivered", 1, endpoint_id="late")
        assert notifier.delivery(rejected, "late")["type"] == PurchaseRejected.TYPE

    def test_what_was_taken_is_told_again_only_when_that_is_asked_for(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        with notifier.sending():
            (taken,) = notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
        (waits,) = notifier.tell(CREDITED)
        assert replayed(notifier).queued == 1
        assert notifier.delivery(taken)["state"] == "delivered"
        assert replayed(notifier, delivered=True).queued == 2
        with notifier.sending():
            notifier.settled("delivered", 2)
        assert sorted(each.id for each in receiver.received) == sorted([str(taken), str(taken), str(waits)])

    def test_what_waits_has_waited_as_long_beside_older_events_that_are_replayed(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        notifier.apps = apps_with(endpoint(receiver.url, events=["purchase.*"]))
        notifier.tell(CREDITED)
        (waits,) = notifier.tell(REJECTED)
        notifier.clock.advance(7200)
        notifier.apps = apps_with(endpoint(receiver.url))
        assert replayed(notifier, since=notifier.clock.now() - timedelta(hours=3)).queued == 2
        assert waiting_since(notifier) == notifier.delivery(waits)["created_at"]

    def test_what_was_taken_long_ago_waits_since_it_was_replayed(self, notifier: Notifier) -> None:
        with notifier.sending():
            notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
        notifier.clock.advance(WEEKS_S)
        before = notifier.clock.now()
        assert replayed(notifier, since=before - timedelta(seconds=2 * WEEKS_S), delivered=True).queued == 1
        assert before <= waiting_since(notifier) <= notifier.clock.now()

    def test_it_is_of_the_time_that_was_named(self, notifier: Notifier) -> None:
        notifier.ids = seeded_ids(1, clock=notifier.clock)  # an event's id says when it was recorded
        hours = [notifier.clock.now()]
        for _ in range(3):
            notifier.tell(CREDITED)
            notifier.clock.advance(3600)
            hours.append(notifier.clock.now())
        for since, until, looked_at in ((hours[0], hours[3], 3), (hours[1], hours[2], 1), (hours[3], hours[3], 0)):
            assert replayed(notifier, since=since, until=until).looked_at == looked_at
        assert replayed(notifier, since=datetime.fromisoformat("0001-01-01T00:00Z"), until=hours[3]).looked_at == 3

    def test_it_goes_step_by_step_and_ends_at_its_limit(
        self, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notifier.tell(*[CREDITED] * 7)
        monkeypatch.setattr(use_cases, "AT_ONCE_MAX", 3)
        steps: list[int] = []
        whole = replayed(notifier, observe=lambda so_far: steps.append(so_far.looked_at))
        assert (whole, steps) == (Replayed(queued=7, looked_at=7), [3, 6, 7])
        part = replayed(notifier, limit=3)
        assert (part.looked_at, part.next_since is None) == (3, False)
        rest = replayed(notifier, since=part.next_since)
        assert rest.next_since is None
        assert 4 <= rest.looked_at <= 7

    def test_nothing_is_lost_when_it_is_told_while_it_is_replayed(self, notifier: Notifier, receiver: Receiver) -> None:
        told = notifier.tell(*[CREDITED] * 100)
        with notifier.sending(), notifier.sending():
            for _ in range(5):
                assert replayed(notifier, delivered=True).queued == len(told)
            notifier.settled("delivered", len(told))
        assert {each.id for each in receiver.received} == set(ids_of(told))

    def test_another_apps_events_are_not_its(self, notifier: Notifier) -> None:
        notifier.tell(CREDITED, app="other")
        assert replayed(notifier) == Replayed(queued=0, looked_at=0)
        with pytest.raises(EndpointUnknown):
            replayed(notifier, EndpointId("nobody"))


class TestSwitching:
    def test_a_disabled_endpoint_is_left_alone_and_hears_it_all_once_enabled(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        desk = desk_of(notifier)
        receiver.reply_next(FAILING)
        with notifier.sending():
            (tried,) = notifier.tell(credited(1))
            notifier.attempted(tried, 1)
        notifier.rows("update notifier.delivery set due_at = now() + interval '1 day'")  # far along its schedule
        view = desk.disable(GAME, BACKEND, reason="maintenance", actor="server:ops")
        assert (view.state, view.reason, view.waiting) == ("disabled", "maintenance", 1)
        with notifier.sending() as sender:
            (untried,) = notifier.tell(credited(2))
            assert sender.send_due() == 0
        assert len(receiver.received) == 1
        notifier.rows(  # one that was under way
            "update notifier.endpoint set failing_since = now(), failing_url = 'http://late.example', failures = 1"
        )
        enabled = desk.enable(GAME, BACKEND, actor="server:ops")
        assert (enabled.state, enabled.failures, enabled.failing_since) == ("on", 0, None)
        with notifier.sending():
            notifier.settled("delivered", 2)
        assert {each.id for each in receiver.received} == {str(tried), str(untried)}

    def test_who_did_it_is_in_the_journal_once(self, notifier: Notifier) -> None:
        desk = desk_of(notifier)
        for _ in range(2):
            desk.disable(GAME, BACKEND, reason="maintenance", actor="server:ops", trace_id="7" * 32)
        for _ in range(2):
            desk.enable(GAME, BACKEND, actor="operator")
        (disabled,), (enabled,) = notifier.events(WebhookEndpointDisabled), notifier.events(WebhookEndpointEnabled)
        assert disabled.payload == WebhookEndpointDisabled("backend", "maintenance", "server:ops")
        assert enabled.payload == WebhookEndpointEnabled("backend", "operator")
        assert disabled.subject == enabled.subject == webhook_endpoint_subject(app="game", endpoint_id="backend")
        assert (disabled.trace_id, disabled.user_id) == ("7" * 32, None)

    def test_an_endpoint_that_is_not_configured_can_neither_be_disabled_nor_enabled_nor_tested(
        self, notifier: Notifier
    ) -> None:
        desk, nobody = desk_of(notifier), EndpointId("nobody")
        with pytest.raises(EndpointUnknown):
            desk.disable(GAME, nobody, reason="", actor="operator")
        with pytest.raises(EndpointUnknown):
            desk.enable(GAME, nobody, actor="operator")
        with pytest.raises(EndpointUnknown):
            desk.test(AppId("other"), BACKEND)


def dropped(notifier: Notifier, id: EndpointId = BACKEND, *states: DroppedState) -> int:
    return desk_of(notifier).drop(GAME, id, states=states or ("waiting", "exhausted", "parked"), actor="operator")


class TestDropping:
    def test_what_waits_for_an_endpoint_that_is_retired_is_dropped_and_nothing_is_left_of_it(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        receiver.reply_next(FAILING)
        with notifier.sending():
            (tried,) = notifier.tell(CREDITED)
            notifier.attempted(tried, 1)
        notifier.tell(CREDITED)
        notifier.apps = apps_with()
        assert dropped(notifier) == 2
        assert notifier.states() == {}
        assert notifier.attempts(tried) == []

    def test_only_what_stands_as_was_named_is_dropped_and_only_of_that_endpoint(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        notifier.apps = apps_with(endpoint(receiver.url), endpoint(receiver.url, id="analytics"))
        events = notifier.tell(*[CREDITED] * 4)
        for event_id, state in zip(events, ("exhausted", "parked", "delivered"), strict=False):
            notifier.rows(
                "update notifier.delivery set state = %(state)s, due_at = null, settled_at = now()"
                " where event_id = %(event)s::uuid",
                state=state,
                event=str(event_id),
            )
        assert dropped(notifier, BACKEND, "exhausted") == 1
        desk_of(notifier).disable(GAME, BACKEND, reason="it goes", actor="operator")
        assert dropped(notifier) == 2
        assert notifier.states() == {("backend", "delivered"): 1} | {
            ("analytics", state): 1 for state in ("exhausted", "parked", "delivered", "waiting")
        }

    def test_what_waits_for_an_endpoint_that_is_told_is_not_dropped_nor_anything_else_with_it(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        gone, _ = notifier.tell(CREDITED, CREDITED)
        notifier.rows(
            "update notifier.delivery set state = 'parked', due_at = null, settled_at = now()"
            " where event_id = %(event)s::uuid",
            event=str(gone),
        )
        with pytest.raises(DropRefused, match="purser webhooks disable backend"):
            dropped(notifier, BACKEND, "parked", "waiting")
        assert notifier.states() == {("backend", "parked"): 1, ("backend", "waiting"): 1}
        desk_of(notifier).disable(GAME, BACKEND, reason="it goes", actor="operator")
        notifier.apps = apps_with(endpoint(receiver.url + "/new"))  # which is another chance
        with pytest.raises(DropRefused):
            dropped(notifier)

    def test_who_enables_the_endpoint_waits_until_what_is_being_dropped_is_dropped(self, notifier: Notifier) -> None:
        notifier.tell(CREDITED)
        desk_of(notifier).disable(GAME, BACKEND, reason="it goes", actor="operator")
        with notifier.engine.begin() as connection:
            dropped_now = use_cases.drop_some(
                records=DeskRecords(connection, GAME),
                apps=notifier.apps,
                app=GAME,
                endpoint=BACKEND,
                state="waiting",
                limit=1,
            )
            assert dropped_now == 1
            with notifier.owner.begin() as other:
                other.exec_driver_sql("set local lock_timeout = '50ms'")
                url = next(iter(notifier.apps)).webhooks[0].url
                with pytest.raises(OperationalError, match="lock timeout"):
                    DeskRecords(other, GAME).enable(BACKEND, url=url)

    def test_what_is_more_than_one_transaction_drops_is_dropped_whole(
        self, notifier: Notifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        notifier.tell(*[CREDITED] * 5)
        notifier.apps = apps_with()
        monkeypatch.setattr(use_cases, "AT_ONCE_MAX", 2)
        assert dropped(notifier) == 5
        assert notifier.states() == {}

    def test_what_was_dropped_can_be_replayed(self, notifier: Notifier, receiver: Receiver) -> None:
        (told,) = notifier.tell(CREDITED)
        desk_of(notifier).disable(GAME, BACKEND, reason="it goes", actor="operator")
        assert dropped(notifier) == 1
        assert replayed(notifier).queued == 1
        desk_of(notifier).enable(GAME, BACKEND, actor="operator")
        with notifier.sending():
            notifier.settled("delivered", 1)
        assert [each.id for each in receiver.received] == [str(told)]

    def test_an_endpoint_that_nothing_is_known_of_has_nothing_to_drop(self, notifier: Notifier) -> None:
        with pytest.raises(EndpointUnknown):
            dropped(notifier, EndpointId("nobody"))


class TestTrying:
    def test_a_signed_message_is_posted_and_nothing_is_recorded(self, notifier: Notifier, receiver: Receiver) -> None:
        trial = desk_of(notifier).test(GAME, BACKEND)
        (message,) = receiver.received
        assert (trial.taken, trial.status, trial.error) == (True, 200, None)
        assert (message.genuine, message.id) == (True, str(trial.message_id))
        assert message.body["type"] == "webhook.test"
        assert message.body["data"] == {"endpoint_id": "backend"}
        assert notifier.states() == {}

    def test_what_came_back_is_said_when_it_is_not_taken(self, notifier: Notifier, receiver: Receiver) -> None:
        receiver.reply_next(FAILING, Reply(behaviour="close"))
        refused, cut = desk_of(notifier).test(GAME, BACKEND), desk_of(notifier).test(GAME, BACKEND)
        assert (refused.taken, refused.status, refused.answer, refused.error) == (
            False,
            500,
            "not today",
            "answered 500",
        )
        assert (cut.taken, cut.status) == (False, None)
        assert cut.error
        assert one(notifier).failures == 0


def taken(notifier: Notifier, *, lease_s: float = 60) -> Delivery:
    """The one delivery that is due, taken as a sender takes it."""
    configured = next(iter(notifier.apps)).webhooks[0]
    now = notifier.clock.now()
    room = {EndpointKey(GAME, configured.id): (configured, 1)}
    (delivery,) = transact(
        notifier.engine,
        lambda connection: Deliveries(connection).take(room, now=now, lost_at=now + timedelta(seconds=lease_s)),
    )
    return delivery


def failure(notifier: Notifier) -> Answer:
    return Answer(at=notifier.clock.now(), duration_ms=1, status=500)
