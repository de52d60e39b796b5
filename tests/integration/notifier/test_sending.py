"""From an outward event in the journal to a real receiver and back, on a real PostgreSQL; tests move the clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from notifier import sending
from notifier.domain.deliveries import BODY_BYTES_MAX, RETRY_DELAYS_S
from notifier.sending import JITTER_MAX
from shared.bus.routes import NOTIFIER
from shared.bus.wake import Sleeper
from shared.events import WebhookDelivered, WebhookEndpointDisabled, WebhookExhausted
from shared.ids import EventId
from tests.support.bus import bus_in
from tests.support.notifier import CREDITED, REJECTED, SECRET, Notifier, apps_with, credited, endpoint, ids_of
from tests.support.receiver import Behaviour, Receiver, Reply, receiving

LEASE_S = sending.TURN_WITHIN_S + sending.SETTLE_WITHIN_S + 5
"""More than the lease of a delivery whose endpoint has a second to answer in."""
SECOND_SECRET = "whsec_" + "REVG" * 8


def due_in_s(notifier: Notifier, event_id: EventId) -> float:
    due_at: datetime = notifier.delivery(event_id)["due_at"]
    return (due_at - notifier.clock.now()).total_seconds()


class TestTelling:
    def test_each_endpoint_is_told_once_of_what_it_wants(
        self, notifier: Notifier, receiver: Receiver, other_receiver: Receiver
    ) -> None:
        notifier.apps = apps_with(
            endpoint(receiver.url), endpoint(other_receiver.url, id="rejections", events=["purchase.rejected"])
        )
        told = notifier.tell(CREDITED, REJECTED)
        with notifier.sending():
            notifier.settled("delivered", 2)
            notifier.settled("delivered", 1, endpoint_id="rejections")
        assert sorted(each.id for each in receiver.received) == ids_of(told)
        assert [each.id for each in other_receiver.received] == ids_of(told[1:])
        assert all(each.genuine for each in (*receiver.received, *other_receiver.received))

    def test_the_record_and_the_journal_say_so(self, notifier: Notifier, receiver: Receiver) -> None:
        (told,) = notifier.tell(CREDITED)
        with notifier.sending():
            notifier.settled("delivered", 1)
        row = notifier.delivery(told)
        assert (row["attempts"], row["last_status"], row["last_error"], row["due_at"]) == (1, 200, None, None)
        assert row["created_at"] <= row["settled_at"] <= notifier.clock.now()
        (attempt,) = notifier.attempts(told)
        assert (attempt["number"], attempt["status"], attempt["error"]) == (1, 200, None)
        (delivered,) = notifier.events(WebhookDelivered)
        assert (delivered.payload.attempt, delivered.payload.status) == (1, 200)
        assert (delivered.subject, delivered.user_id, delivered.causation_id) == ("pur_1", "alice", told)
        assert receiver.received[0].body["data"]["balance_after"] == 100

    def test_what_is_queued_while_it_sleeps_is_told_without_a_restart(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        with notifier.sending():
            for version in range(1, 4):
                notifier.tell(credited(version))
                notifier.settled("delivered", version)
        assert len(receiver.received) == 3

    def test_both_secrets_sign_while_one_replaces_the_other(self, notifier: Notifier, receiver: Receiver) -> None:
        with receiving(SECOND_SECRET) as knows_the_new_one:
            notifier.apps = apps_with(
                endpoint(receiver.url, secret=SECOND_SECRET, previous_secret=SECRET),
                endpoint(knows_the_new_one.url, id="new", secret=SECOND_SECRET, previous_secret=SECRET),
            )
            notifier.tell(CREDITED)
            with notifier.sending():
                notifier.settled("delivered", 1)
                notifier.settled("delivered", 1, endpoint_id="new")
            assert [each.genuine for each in (*receiver.received, *knows_the_new_one.received)] == [True, True]

    def test_many_go_at_once_and_each_goes_once(self, notifier: Notifier, receiver: Receiver) -> None:
        told = notifier.tell(*(credited(version) for version in range(1, 301)))
        with notifier.sending():
            notifier.settled("delivered", 300)
        assert Counter(each.id for each in receiver.received) == Counter(ids_of(told))
        assert {row["number"] for row in notifier.rows("select number from notifier.attempt")} == {1}


class TestRetrying:
    def test_it_comes_again_after_its_time_with_the_same_id_and_the_same_bytes(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        receiver.reply_next(Reply(status=500, body=b"database is on fire"))
        (told,) = notifier.tell(CREDITED)
        with notifier.sending():
            row = notifier.attempted(told, 1)
            assert (row["state"], row["last_status"], row["last_error"]) == ("waiting", 500, "answered 500")
            assert 3 < due_in_s(notifier, told) <= RETRY_DELAYS_S[0] * JITTER_MAX
            notifier.clock.advance(RETRY_DELAYS_S[0] * JITTER_MAX)
            notifier.settled("delivered", 1)
        first, second = receiver.received
        assert (first.id, first.raw) == (second.id, second.raw)
        assert second.genuine
        assert [(each["number"], each["answer"], each["error"]) for each in notifier.attempts(told)] == [
            (1, "database is on fire", "answered 500"),
            (2, "", None),
        ]

    @pytest.mark.parametrize("behaviour", ["hang", "close", "trickle"])
    def test_no_answer_is_an_attempt_too(self, notifier: Notifier, receiver: Receiver, behaviour: Behaviour) -> None:
        receiver.reply_next(Reply(behaviour=behaviour))
        (told,) = notifier.tell(CREDITED)
        with notifier.sending():
            row = notifier.attempted(told, 1)
            assert (row["last_status"], row["last_error"].startswith("no answer")) == (None, True)
            notifier.clock.advance(RETRY_DELAYS_S[0] * JITTER_MAX)
            notifier.settled("delivered", 1)

    @pytest.mark.parametrize("status", [429, 503, 500])
    def test_retry_after_is_honoured(self, notifier: Notifier, receiver: Receiver, status: int) -> None:
        receiver.reply_next(Reply(status=status, headers={"Retry-After": "600"}))
        (told,) = notifier.tell(CREDITED)
        with notifier.sending():
            notifier.attempted(told, 1)
        assert 590 < due_in_s(notifier, told) <= 600 * JITTER_MAX
        assert notifier.attempts(told)[0]["retry_after_s"] == 600

    def test_an_endpoint_that_asks_all_to_wait_is_asked_nothing_until_then(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        receiver.reply_next(Reply(status=429, headers={"Retry-After": "600"}))
        with notifier.sending():
            (first,) = notifier.tell(CREDITED)
            notifier.attempted(first, 1)
            notifier.tell(*(credited(version) for version in range(2, 10)))
            notifier.clock.advance(590)
            notifier.wait(lambda: notifier.states()["backend", "waiting"] == 9, what="all of them waiting")
            assert len(receiver.received) == 1
            notifier.clock.advance(10)
            notifier.settled("delivered", 8)
        assert notifier.delivery(first)["state"] == "waiting"

    def test_the_schedule_is_the_contracts_and_at_its_end_it_is_exhausted(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        receiver.reply_usually(Reply(status=500))
        (told,) = notifier.tell(CREDITED)
        with notifier.sending():
            for number, least_s in enumerate(RETRY_DELAYS_S, start=1):
                notifier.attempted(told, number)
                assert least_s - 3 < due_in_s(notifier, told) <= least_s * JITTER_MAX
                notifier.clock.advance(least_s * JITTER_MAX)
            notifier.settled("exhausted", 1)
            notifier.clock.advance(timedelta(days=30).total_seconds())
        assert [each.id for each in receiver.received] == ids_of([told] * 10)
        row = notifier.delivery(told)
        assert (row["attempts"], row["due_at"]) == (10, None)
        assert row["last_error"] == "not taken in 10 attempts, the last one: answered 500"
        (exhausted,) = notifier.events(WebhookExhausted)
        assert (exhausted.payload.attempts, exhausted.payload.endpoint_id, exhausted.causation_id) == (
            10,
            "backend",
            told,
        )

    def test_an_endpoint_may_have_a_schedule_of_its_own(self, notifier: Notifier, receiver: Receiver) -> None:
        notifier.apps = apps_with(endpoint(receiver.url, retry_delays_s=[0.01, 0.01]))
        receiver.reply_usually(Reply(status=500))
        (told,) = notifier.tell(CREDITED)
        with notifier.sending():
            notifier.settled("exhausted", 1)
        assert len(receiver.received) == 3
        assert notifier.delivery(told)["attempts"] == 3


class TestWhatCannotBeSent:
    def test_a_message_that_is_too_large_is_parked_and_the_next_one_goes(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        too_large, fits = notifier.tell(replace(REJECTED, detail="x" * BODY_BYTES_MAX), REJECTED)
        with notifier.sending():
            notifier.settled("delivered", 1)
            notifier.settled("parked", 1)
        row = notifier.delivery(too_large)
        assert (row["attempts"], row["due_at"]) == (0, None)
        assert "bytes, more than 65536" in row["last_error"]
        assert [each.id for each in receiver.received] == ids_of([fits])

    def test_an_event_of_a_newer_release_is_parked_and_the_next_one_goes(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        told, fits = notifier.tell(CREDITED, CREDITED)
        with bus_in(notifier.database_url) as bus:
            forged = bus.forge(bus.draft(CREDITED), version=9, payload="{}", consumer=NOTIFIER)
        notifier.rows(
            "update notifier.delivery set event_id = %(forged)s::uuid where event_id = %(told)s::uuid",
            forged=str(forged),
            told=str(told),
        )
        with notifier.sending():
            notifier.settled("delivered", 1)
            notifier.settled("parked", 1)
        assert "a newer release recorded this" in notifier.delivery(forged)["last_error"]
        assert [each.id for each in receiver.received] == ids_of([fits])


class TestDisabling:
    def test_410_keeps_all_that_waits_and_another_endpoint_goes_on(
        self, two: Notifier, receiver: Receiver, other_receiver: Receiver
    ) -> None:
        receiver.reply_usually(Reply(status=410))
        with two.sending():
            (first,) = two.tell(CREDITED)
            two.attempted(first, 1)
            two.tell(*(credited(version) for version in range(2, 6)))
            two.settled("delivered", 5, endpoint_id="analytics")
            two.clock.advance(30 * 24 * 3600)
            two.tell(credited(6))
            two.settled("delivered", 6, endpoint_id="analytics")
        assert two.states()["backend", "waiting"] == 6
        assert (len(receiver.received), len(other_receiver.received)) == (1, 6)
        (disabled,) = two.events(WebhookEndpointDisabled)
        assert (disabled.payload.endpoint_id, disabled.payload.reason) == ("backend", "it answered 410 Gone")

    def test_another_url_is_another_chance_and_then_all_that_waits_is_told(
        self, notifier: Notifier, receiver: Receiver, other_receiver: Receiver
    ) -> None:
        receiver.reply_usually(Reply(status=410))
        (first,) = notifier.tell(CREDITED)
        with notifier.sending():
            notifier.attempted(first, 1)
        told = [first, *notifier.tell(credited(2), credited(3))]
        notifier.apps = apps_with(endpoint(other_receiver.url))
        with notifier.sending():
            notifier.settled("delivered", 3)
        assert sorted(each.id for each in other_receiver.received) == ids_of(told)
        assert len(receiver.received) == 1

    def test_what_waits_for_an_endpoint_that_is_not_configured_waits_until_it_is_again(
        self, notifier: Notifier, receiver: Receiver, other_receiver: Receiver
    ) -> None:
        configured = notifier.apps
        (told,) = notifier.tell(CREDITED)
        notifier.apps = apps_with(endpoint(other_receiver.url, id="analytics"))
        with notifier.sending():
            notifier.tell(REJECTED)
            notifier.settled("delivered", 1, endpoint_id="analytics")
        assert notifier.delivery(told)["state"] == "waiting"
        notifier.apps = configured
        with notifier.sending():
            notifier.settled("delivered", 1)
        assert [each.id for each in receiver.received] == ids_of([told])


class TestSeveralSenders:
    def test_two_at_once_send_everything_and_nothing_twice(self, notifier: Notifier, receiver: Receiver) -> None:
        told = notifier.tell(*(credited(version) for version in range(1, 201)))
        with notifier.sending(), notifier.sending():
            told += notifier.tell(*(credited(version) for version in range(201, 401)))
            notifier.settled("delivered", 400)
        assert Counter(each.id for each in receiver.received) == Counter(ids_of(told))

    def test_while_one_waits_for_an_answer_the_other_does_not_send_it_too(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        receiver.reply_next(Reply(behaviour="hang"))
        (told,) = notifier.tell(CREDITED)
        with notifier.sending(), notifier.sending():
            notifier.attempted(told, 1)
            assert len(receiver.received) == 1

    def test_what_a_sender_that_is_gone_had_taken_is_sent_after_its_lease_with_the_same_id(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        told = notifier.tell(*(credited(version) for version in range(1, 4)))
        receiver.reply_usually(Reply(behaviour="hang"))
        gone = notifier.sender(sleeper := Sleeper(notifier.engine), call_within_s=60)
        assert gone.send_due() == 3  # and nobody ever hears of them again
        notifier.wait(lambda: len(receiver.received) == 3, what="three calls in flight")
        receiver.reply_usually(Reply())
        with notifier.sending():
            notifier.tell(credited(4))
            notifier.settled("delivered", 1)
            assert len(receiver.received) == 4
            notifier.clock.advance(LEASE_S + 60)
            notifier.settled("delivered", 4)
        sent = Counter(each.id for each in receiver.received)
        assert [sent[event_id] for event_id in ids_of(told)] == [2, 2, 2]
        sleeper.close()


class TestStopping:
    def test_it_gives_back_what_it_has_not_begun_and_finishes_what_it_has(
        self, notifier: Notifier, receiver: Receiver
    ) -> None:
        notifier.apps = apps_with(endpoint(receiver.url, calls_at_once=1))
        notifier.tell(*(credited(version) for version in range(1, 5)))
        receiver.reply_next(Reply(behaviour="hang"))
        sender = notifier.sender(sleeper := Sleeper(notifier.engine))
        assert sender.send_due() == 4
        notifier.wait(lambda: len(receiver.received) == 1, what="a call")
        sender.close(within_s=10)
        assert len(notifier.rows("select from notifier.attempt")) == 1
        due = notifier.rows(
            "select from notifier.delivery where attempts = 0 and due_at <= %(now)s", now=notifier.clock.now()
        )
        assert len(due) == 3
        sleeper.close()

    def test_it_waits_no_longer_than_it_is_told_to(self, notifier: Notifier, receiver: Receiver) -> None:
        notifier.tell(CREDITED)
        receiver.reply_next(Reply(behaviour="hang"))
        sender = notifier.sender(sleeper := Sleeper(notifier.engine), call_within_s=20)
        sender.send_due()
        notifier.wait(lambda: len(receiver.received) == 1, what="a call")
        began_s = notifier.clock.monotonic()
        sender.close(within_s=0.2)
        assert notifier.clock.monotonic() - began_s < 5
        assert notifier.states()["backend", "waiting"] == 1
        sleeper.close()


class TestADatabaseThatIsAway:
    def test_it_goes_on_by_itself_when_its_connections_are_cut(self, notifier: Notifier, receiver: Receiver) -> None:
        with notifier.sending():
            notifier.tell(CREDITED)
            notifier.settled("delivered", 1)
            for version in range(2, 5):
                notifier.tell(credited(version))
                notifier.rows(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'test-notifier' and datname = current_database()"
                )
            # what was being settled just then is sent once more, when its lease is over
            notifier.clock.advance(LEASE_S)
            notifier.settled("delivered", 4)
        assert {each.id for each in receiver.received} == {
            str(row["event_id"]) for row in notifier.rows("select event_id from notifier.delivery")
        }
