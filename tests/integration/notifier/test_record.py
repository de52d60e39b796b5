"""The deliveries on a real PostgreSQL: taken by one at a time, for a time; settled together; forgotten in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from sqlalchemy.exc import DBAPIError, ProgrammingError

from notifier.app import forgetting, settling
from notifier.domain.deliveries import Answer, Delivery, DeliveryKey, Settlement, Verdict
from notifier.domain.endpoints import EndpointKey, configured_endpoints
from notifier.handlers.sending import Attempted
from notifier.store.deliveries import Deliveries
from shared.apps import EndpointId, WebhookEndpoint
from shared.clock import ManualClock
from shared.database import transact
from shared.events import UnreadEvent, WebhookDelivered, WebhookEndpointDisabled, WebhookExhausted
from shared.ids import AppId, EventId
from tests.support.notifier import CREDITED, Notifier, apps_with, credited, endpoint
from tests.support.stack import wait_until

T = TypeVar("T")

GAME = AppId("game")
BACKEND = EndpointKey(GAME, EndpointId("backend"))
ANALYTICS = EndpointKey(GAME, EndpointId("analytics"))
LEASE = timedelta(minutes=1)
DAY = timedelta(days=1)


class Record:
    """The record as the notifier's own role sees it, each call in a transaction of its own."""

    def __init__(self, notifier: Notifier) -> None:
        self.notifier = notifier
        self.now = notifier.clock.now()

    def on(self, work: Callable[[Deliveries], T]) -> T:
        return transact(self.notifier.engine, lambda connection: work(Deliveries(connection)))

    @property
    def endpoints(self) -> dict[EndpointKey, WebhookEndpoint]:
        return configured_endpoints(self.notifier.apps)

    def take(self, *, after: timedelta = timedelta(0), **room: int) -> list[Delivery]:
        """Takes so many for each endpoint that is named; for `backend` ten, if none is."""
        now = self.now + after
        wanted = {EndpointKey(GAME, EndpointId(id)): size for id, size in (room or {"backend": 10}).items()}
        endpoints = {key: (self.endpoints[key], size) for key, size in wanted.items()}
        return self.on(lambda deliveries: deliveries.take(endpoints, now=now, lost_at=now + LEASE))

    def settle(self, *settlements: Settlement, now: datetime | None = None) -> dict[DeliveryKey, Any]:
        return self.on(lambda deliveries: {**deliveries.settle(settlements, now=now or self.now)})


def answer(status: int | None, *, at: datetime, **more: Any) -> Answer:
    return Answer(at=at, duration_ms=7, status=status, **more)


def said(delivery: Delivery, status: int | None, verdict: Verdict, *, due_at: datetime | None = None) -> Settlement:
    made = answer(status, at=delivery.lost_at, beginning="hm", retry_after_s=9.5)
    return Settlement(delivery.key, delivery.lost_at, made, verdict, due_at)


def taken_of(deliveries: Sequence[Delivery]) -> set[EventId]:
    return {delivery.key.event_id for delivery in deliveries}


@pytest.fixture
def record(two: Notifier) -> Record:
    return Record(two)


def tell(record: Record, count: int = 1) -> list[EventId]:
    """So many events, queued for both endpoints, and due."""
    told = record.notifier.tell(*(credited(number + 1) for number in range(count)))
    record.now = record.notifier.clock.now()
    return told


class TestTaking:
    def test_what_is_taken_is_nobody_elses_until_its_lease_is_over(self, record: Record) -> None:
        told = tell(record, 3)
        assert taken_of(record.take()) == set(told)
        assert record.take() == []
        assert record.take(after=LEASE - timedelta(seconds=1)) == []
        assert taken_of(record.take(after=LEASE)) == set(told)

    def test_each_endpoint_gets_what_it_has_room_for_and_those_due_longest_come_first(self, record: Record) -> None:
        told = tell(record, 4)
        record.notifier.rows(
            "update notifier.delivery set due_at = due_at - interval '1 hour' where event_id = %(event)s::uuid",
            event=str(told[2]),
        )
        taken = record.take(backend=1, analytics=3)
        assert [each.key.event_id for each in taken if each.key.endpoint == BACKEND] == [told[2]]
        of_analytics = {each.key.event_id for each in taken if each.key.endpoint == ANALYTICS}
        assert (len(of_analytics), told[2] in of_analytics) == (3, True)

    def test_what_is_not_due_yet_is_left(self, record: Record) -> None:
        tell(record)
        assert record.take(after=-timedelta(hours=1)) == []

    def test_it_comes_with_its_event_and_with_the_attempts_since_it_was_last_resent(self, record: Record) -> None:
        (told,) = tell(record)
        record.notifier.rows("update notifier.delivery set attempts = 12, attempts_before = 10")
        (delivery,) = record.take()
        assert (delivery.key, delivery.attempts, delivery.number) == (DeliveryKey(*key(told)), 2, 3)
        assert delivery.event.id == told
        assert delivery.lost_at == record.now + LEASE
        assert not isinstance(delivery.event, UnreadEvent)
        assert delivery.event.payload == CREDITED

    def test_many_at_once_take_each_delivery_once(self, record: Record) -> None:
        told = tell(record, 60)
        with ThreadPoolExecutor(8) as pool:
            batches = list(pool.map(lambda _: record.take(backend=10), range(8)))
        taken = [delivery.key.event_id for batch in batches for delivery in batch]
        assert len(taken) == len(set(taken)) <= len(told)

    def test_nobody_waits_for_what_another_transaction_holds(self, record: Record) -> None:
        told = tell(record, 2)
        with record.notifier.owner.begin() as connection:
            connection.exec_driver_sql(
                "select from notifier.delivery where event_id = %(event)s::uuid for update", {"event": str(told[0])}
            )
            assert taken_of(record.take()) == {told[1]}

    def test_nothing_is_taken_for_a_disabled_endpoint_unless_it_has_another_url(
        self, record: Record, database: str
    ) -> None:
        told = tell(record)
        url = record.endpoints[BACKEND].url
        assert record.on(lambda deliveries: deliveries.disable(BACKEND, url=url, reason="gone", now=record.now))
        assert taken_of(record.take(backend=10, analytics=10)) == set(told)  # for analytics
        assert record.take(after=DAY) == []
        record.notifier.apps = apps_with(endpoint(url + "/moved"))
        assert taken_of(record.take()) == set(told)

    def test_what_is_given_back_is_due_again_at_once_unless_it_is_settled(self, record: Record) -> None:
        told = tell(record, 2)
        back, settled = record.take()
        record.settle(said(settled, 200, Verdict("delivered")))
        record.on(lambda deliveries: deliveries.give_back([back, settled], now=record.now))
        assert [each.key for each in record.take()] == [back.key]
        assert len(told) == 2

    def test_what_somebody_else_has_taken_since_is_not_given_back(self, record: Record) -> None:
        tell(record)
        lost = record.take()
        (others,) = record.take(after=LEASE)
        record.on(lambda deliveries: deliveries.give_back(lost, now=record.now))
        assert record.notifier.delivery(others.key.event_id)["due_at"] == others.lost_at

    def test_what_the_journal_has_no_event_of_any_more_is_parked_and_the_others_are_taken(self, record: Record) -> None:
        gone, there = tell(record, 2)
        with record.notifier.owner.begin() as connection:  # as when its partition is taken away
            connection.exec_driver_sql("set local session_replication_role = replica")
            connection.exec_driver_sql("delete from journal.event where id = %(id)s", {"id": gone})
        assert taken_of(record.take()) == {there}
        row = record.notifier.delivery(gone)
        assert (row["state"], row["due_at"], row["settled_at"]) == ("parked", None, record.now)
        assert row["last_error"] == "its event is not in the journal any more"


def key(event_id: EventId, of: EndpointKey = BACKEND) -> tuple[AppId, EndpointId, EventId]:
    return of.app, of.id, event_id


class TestSettling:
    def test_each_attempt_is_kept_with_all_that_came_of_it(self, record: Record) -> None:
        (told,) = tell(record)
        (delivery,) = record.take()
        due_at = record.now + timedelta(minutes=5)
        numbers = record.settle(said(delivery, 503, Verdict("waiting", "answered 503", 300.0), due_at=due_at))
        assert numbers == {delivery.key: 1}
        row = record.notifier.delivery(told)
        assert (row["state"], row["attempts"], row["due_at"], row["settled_at"]) == ("waiting", 1, due_at, None)
        assert (row["last_status"], row["last_error"]) == (503, "answered 503")
        (attempt,) = record.notifier.attempts(told)
        assert (attempt["number"], attempt["status"], attempt["duration_ms"], attempt["answer"]) == (1, 503, 7, "hm")
        assert (attempt["error"], attempt["retry_after_s"], attempt["at"]) == ("answered 503", 9.5, delivery.lost_at)

    @pytest.mark.parametrize("state", ["delivered", "exhausted", "parked"])
    def test_what_has_come_to_its_end_says_when_and_is_not_due_any_more(self, record: Record, state: Any) -> None:
        (told,) = tell(record)
        (delivery,) = record.take()
        record.settle(said(delivery, 200, Verdict(state)))
        row = record.notifier.delivery(told)
        assert (row["state"], row["due_at"], row["settled_at"]) == (state, None, record.now)
        assert record.take(after=DAY) == []

    def test_what_cannot_be_sent_is_parked_without_an_attempt(self, record: Record) -> None:
        (told,) = tell(record)
        (delivery,) = record.take()
        record.settle(Settlement(delivery.key, delivery.lost_at, None, Verdict("parked", "too large"), None))
        row = record.notifier.delivery(told)
        assert (row["state"], row["attempts"], row["last_error"]) == ("parked", 0, "too large")
        assert record.notifier.attempts(told) == []

    def test_many_of_several_endpoints_are_settled_by_one_statement(self, record: Record) -> None:
        tell(record, 20)
        taken = record.take(backend=20, analytics=20)
        numbers = record.settle(*(said(each, 200, Verdict("delivered")) for each in taken))
        assert numbers == dict.fromkeys([each.key for each in taken], 1)
        assert record.notifier.states() == {("backend", "delivered"): 20, ("analytics", "delivered"): 20}

    def test_only_as_what_it_was_taken_for_is_it_settled_and_only_once(self, record: Record) -> None:
        (told,) = tell(record)
        (first,) = record.take()
        (second,) = record.take(after=LEASE)  # the first was taken for lost
        assert record.settle(said(first, 200, Verdict("delivered"))) == {}
        assert record.notifier.delivery(told)["state"] == "waiting"
        assert record.settle(said(second, 200, Verdict("delivered"))) == {second.key: 1}
        assert record.settle(said(second, 200, Verdict("delivered"))) == {}
        assert len(record.notifier.attempts(told)) == 1

    def test_two_that_settle_the_same_many_at_once_settle_each_once(self, record: Record) -> None:
        tell(record, 50)
        taken = record.take(backend=50)
        settlements = [said(each, 200, Verdict("delivered")) for each in taken]
        with ThreadPoolExecutor(2) as pool:
            orders = [settlements, settlements[::-1]]
            settled = list(pool.map(lambda order: len(record.settle(*order)), orders))
        assert sum(settled) == 50

    @pytest.mark.parametrize("text", ['quo"te', "back\\slash", "{a,b}", "NULL", "", "é\n\t'", "%s %(x)s"])
    def test_whatever_an_endpoint_answers_is_kept_as_it_is(self, record: Record, text: str) -> None:
        (told,) = tell(record)
        (delivery,) = record.take()
        settlement = said(delivery, None, Verdict("waiting", text, 5.0), due_at=record.now)
        made = answer(None, at=record.now, beginning=text, trouble=text or "no answer")
        record.settle(replace(settlement, answer=made))
        assert record.notifier.attempts(told)[0]["answer"] == text
        assert record.notifier.delivery(told)["last_error"] == text


HERE = "https://here.example.com/hooks"


def waits_for_a_lock(record: Record) -> bool:
    waiting = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    return bool(record.notifier.rows(waiting))


class TestHowEndpointsDo:
    def failed(self, record: Record, failures: int = 1, *, at: datetime, url: str = HERE) -> tuple[datetime, int]:
        (failing,) = record.on(lambda deliveries: deliveries.failed({BACKEND: (url, failures)}, now=at))
        assert failing.key == BACKEND
        return failing.since, failing.failures

    def test_failures_add_up_from_the_first_until_something_is_taken(self, record: Record) -> None:
        now = record.now
        assert self.failed(record, 3, at=now) == (now, 3)
        assert self.failed(record, 2, at=now + DAY) == (now, 5)
        record.on(lambda deliveries: deliveries.taken_by({BACKEND, ANALYTICS}))
        assert self.failed(record, at=now + 2 * DAY) == (now + 2 * DAY, 1)

    def test_failures_at_another_url_are_not_added_to_those_at_the_one_before(self, record: Record) -> None:
        now = record.now
        self.failed(record, 50, at=now)
        assert self.failed(record, at=now + 6 * DAY, url=f"{HERE}/moved") == (now + 6 * DAY, 1)
        assert self.failed(record, at=now + 7 * DAY, url=f"{HERE}/moved") == (now + 6 * DAY, 2)

    def test_what_is_taken_while_another_failure_is_written_down_ends_them_all(self, record: Record) -> None:
        self.failed(record, 3, at=record.now)
        with ThreadPoolExecutor(1) as pool:
            with record.notifier.engine.begin() as connection:
                Deliveries(connection).failed({BACKEND: (HERE, 1)}, now=record.now)
                taken = pool.submit(record.on, lambda deliveries: deliveries.taken_by({BACKEND}))
                wait_until(lambda: waits_for_a_lock(record), what="the other transaction waiting")
            taken.result(10)
        known = record.notifier.known()
        assert known is not None
        assert (known["failing_since"], known["failures"]) == (None, 0)

    def test_no_number_of_failures_is_too_many(self, record: Record) -> None:
        now = record.now
        self.failed(record, 2**31 - 2, at=now)
        assert self.failed(record, 64, at=now) == (now, 2**31 - 1)

    def test_it_is_disabled_once_under_each_url(self, record: Record) -> None:
        def disable(url: str) -> bool:
            return record.on(lambda deliveries: deliveries.disable(BACKEND, url=url, reason="gone", now=record.now))

        assert [disable("https://a/"), disable("https://a/"), disable("https://b/")] == [True, False, True]
        known = record.notifier.known()
        assert known is not None
        assert (known["disabled_url"], known["reason"]) == ("https://b/", "gone")

    def test_of_many_who_disable_it_at_once_one_does(self, record: Record) -> None:
        def disable(_turn: int) -> bool:
            return record.on(lambda deliveries: deliveries.disable(BACKEND, url="u", reason="gone", now=record.now))

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(disable, range(8))) == [False] * 7 + [True]

    def test_once_it_is_disabled_its_failures_are_counted_anew(self, record: Record) -> None:
        self.failed(record, 1_000, at=record.now)
        record.on(lambda deliveries: deliveries.disable(BACKEND, url="u", reason="failing", now=record.now))
        later = record.now + 30 * DAY
        assert self.failed(record, at=later) == (later, 1)


class TestSettlingTogether:
    """As the process does it: the record and the journal in one transaction."""

    def settle(self, record: Record, *attempted: Attempted) -> None:
        settling(record.notifier.engine, clock=record.notifier.clock, ids=record.notifier.ids)(attempted)

    def attempted(self, record: Record, delivery: Delivery, status: int | None) -> Attempted:
        made = answer(status, at=record.now)
        return Attempted(delivery, record.endpoints[delivery.key.endpoint], made, 1.0)

    def test_a_batch_of_several_endpoints_is_told_each_where_it_belongs(self, record: Record) -> None:
        told = tell(record, 2)
        record.notifier.rows("update notifier.delivery set attempts = 9 where endpoint_id = 'analytics'")
        statuses = {BACKEND: 200, ANALYTICS: 500}
        taken = record.take(backend=2, analytics=2)
        self.settle(record, *(self.attempted(record, each, statuses[each.key.endpoint]) for each in taken))
        assert record.notifier.states() == {("backend", "delivered"): 2, ("analytics", "exhausted"): 2}
        delivered, exhausted = record.notifier.events(WebhookDelivered), record.notifier.events(WebhookExhausted)
        assert {(each.causation_id, each.payload.endpoint_id, each.payload.attempt) for each in delivered} == {
            (event_id, "backend", 1) for event_id in told
        }
        assert {(each.causation_id, each.payload.endpoint_id, each.payload.attempts) for each in exhausted} == {
            (event_id, "analytics", 10) for event_id in told
        }

    def test_when_the_journal_cannot_be_written_nothing_is_settled(self, record: Record) -> None:
        tell(record)
        (delivery,) = record.take()
        with record.notifier.owner.begin() as connection:
            connection.exec_driver_sql("revoke insert on journal.event from purser_notifier")
        with pytest.raises(DBAPIError):
            self.settle(record, self.attempted(record, delivery, 200))
        assert record.notifier.states()["backend", "waiting"] == 1
        assert record.notifier.attempts(delivery.key.event_id) == []

    def test_many_that_find_the_endpoint_gone_at_once_tell_it_once(self, record: Record) -> None:
        tell(record, 8)
        taken = record.take(backend=8)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda each: self.settle(record, self.attempted(record, each, 410)), taken))
        (disabled,) = record.notifier.events(WebhookEndpointDisabled)
        assert (disabled.payload.endpoint_id, disabled.payload.actor) == ("backend", "notifier")
        assert record.notifier.states()["backend", "waiting"] == 8


class TestForgetting:
    def forget(self, record: Record, *, kept: timedelta) -> None:
        forgetting(record.notifier.engine, kept=kept, clock=ManualClock(record.now + 31 * DAY)).work(lambda: False)

    def test_what_came_to_its_end_long_ago_is_removed_with_its_attempts_and_nothing_else(
        self, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("notifier.app.FORGOTTEN_AT_ONCE_MAX", 2)
        told = tell(record, 7)
        states: list[Any] = ["delivered", "delivered", "delivered", "exhausted", "parked", "delivered"]
        for delivery, state in zip(record.take(backend=6), states, strict=True):
            later = 2 * DAY if state == "delivered" and delivery.key.event_id == told[5] else timedelta(0)
            record.settle(said(delivery, 200, Verdict(state)), now=record.now + later)
        self.forget(record, kept=30 * DAY)
        assert record.notifier.states() == {
            ("backend", "delivered"): 1,
            ("backend", "waiting"): 1,
            ("analytics", "waiting"): 7,
        }
        assert [row["event_id"] for row in record.notifier.rows("select event_id from notifier.attempt")] == [told[5]]

    def test_it_forgets_what_no_endpoint_is_configured_for_any_more(self, record: Record) -> None:
        tell(record)
        (delivery,) = record.take()
        record.settle(said(delivery, 200, Verdict("delivered")))
        record.notifier.apps = apps_with()
        assert record.on(lambda deliveries: deliveries.endpoints()) == [ANALYTICS, BACKEND]
        self.forget(record, kept=DAY)
        assert record.notifier.states() == {("analytics", "waiting"): 1}

    def test_it_ends_in_the_middle_when_it_is_told_to_stop(
        self, record: Record, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("notifier.app.FORGOTTEN_AT_ONCE_MAX", 1)
        tell(record, 3)
        for delivery in record.take():
            record.settle(said(delivery, 200, Verdict("delivered")))
        asked = iter([False, False, True])
        clock = ManualClock(record.now + 31 * DAY)
        forgetting(record.notifier.engine, kept=DAY, clock=clock).work(lambda: next(asked, True))
        assert 0 < record.notifier.states()["backend", "delivered"] < 3


class TestRights:
    @pytest.mark.parametrize(
        "statement",
        [
            "update notifier.attempt set error = null",
            "select from ledger.transfer",
            "select from ledger.entry",
            "select from ledger.wallet",
            "select from verifier.store_transaction",
            "delete from journal.outward",
            "update journal.outward set position = 1",
            "update journal.event set app = app",
            "delete from journal.event",
            "truncate notifier.delivery",
            "create table notifier.mine ()",
        ],
    )
    def test_the_notifiers_own_role_does_nothing_that_its_work_does_not_need(
        self, notifier: Notifier, statement: str
    ) -> None:
        tables = [row["name"] for row in notifier.rows("select schemaname||'.'||tablename as name from pg_tables")]
        assert statement.startswith("create") or any(table in statement for table in tables)
        with pytest.raises(ProgrammingError, match="permission denied"):
            transact(notifier.engine, lambda connection: connection.exec_driver_sql(statement))
