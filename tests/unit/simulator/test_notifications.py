"""The sender, against a real HTTP server: what arrives, how often, and what is written down."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import pairwise
from uuid import UUID

import pytest

from shared.clock import SystemClock
from shared.events import Environment
from shared.ids import TransactionId
from simulator.certificates import Authority
from simulator.domain import NotificationUnknown
from simulator.faults import FaultBoard, Faults, NotificationFaults
from simulator.notification_log import Notification
from simulator.notifications import NotificationSender, SenderUnavailable
from simulator.signing import Signer
from tests.support.notification_receiver import receiver
from tests.support.seeded import seeded_ids
from tests.support.stack import wait_until

AN_HOUR_IN_A_MILLISECOND = 3_600_000.0
CLOCK = SystemClock()


@contextmanager
def sending(
    url: str,
    *,
    faults: NotificationFaults | None = None,
    compression: float = AN_HOUR_IN_A_MILLISECOND,
    pending_max: int = 100,
    settled_max: int = 100,
    room_timeout_s: float = 0.05,
) -> Iterator[NotificationSender]:
    board = FaultBoard(seeded_ids(3))
    board.put(Faults(notifications=faults or NotificationFaults()))
    with closing(
        NotificationSender(
            url=url,
            clock=CLOCK,
            faults=board,
            retry_compression=compression,
            workers=2,
            pending_max=pending_max,
            settled_max=settled_max,
            room_timeout_s=room_timeout_s,
        )
    ) as sender:
        yield sender


@pytest.fixture(name="make")
def a_maker_of_notifications(authority: Authority) -> Maker:
    return Maker(Signer(authority))


class Maker:
    """Makes notifications with rising ids."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._made = 0

    def __call__(self, environment: Environment = "production", transaction_id: str = "1") -> Notification:
        self._made += 1
        return Notification(
            id=UUID(int=self._made),
            type="REFUND",
            subtype=None,
            bundle_id="com.example.game",
            transaction_id=TransactionId(transaction_id),
            environment=environment,
            signed_payload=self._signer.sign({"notificationUUID": str(UUID(int=self._made)), "signedDate": 1}),
            created_at=CLOCK.now(),
        )


def settled(sender: NotificationSender, notification: Notification) -> Notification:
    wait_until(lambda: sender.get(notification.id).settled)
    return sender.get(notification.id)


def results(notification: Notification) -> Sequence[str]:
    return [attempt.result for attempt in notification.attempts]


def test_a_notification_is_posted_as_apple_posts_it_and_its_answer_is_kept(make: Maker) -> None:
    notification = make()
    with receiver() as hook, sending(hook.url) as sender:
        sender.send(notification)
        done = settled(sender, notification)
        assert hook.bodies == [{"signedPayload": notification.signed_payload}]
    assert (done.state, results(done), done.next_attempt_at) == ("delivered", ["SUCCESS"], None)
    assert (done.attempts[0].http_status, done.attempts[0].answer) == (200, "heard")


@pytest.mark.parametrize("status", [200, 204, 206])
def test_200_to_206_is_delivered(make: Maker, status: int) -> None:
    with receiver(answers=[status]) as hook, sending(hook.url) as sender:
        sender.send(notification := make())
        assert results(settled(sender, notification)) == ["SUCCESS"]


@pytest.mark.parametrize("status", [207, 302, 400, 401, 404, 500, 503])
def test_any_other_answer_is_followed_by_a_retry_with_the_same_payload(make: Maker, status: int) -> None:
    with receiver(answers=[status]) as hook, sending(hook.url) as sender:
        sender.send(notification := make())
        done = settled(sender, notification)
        first, second = hook.wait_for_posts(2)
    assert first == second
    assert hook.bodies[0] == hook.bodies[1]
    assert results(done) == ["UNSUCCESSFUL_HTTP_RESPONSE_CODE", "SUCCESS"]
    assert done.attempts[0].http_status == status


def test_after_six_attempts_it_is_given_up(make: Maker) -> None:
    with receiver(answers=[503] * 10) as hook, sending(hook.url) as sender:
        sender.send(notification := make())
        done = settled(sender, notification)
    assert (done.state, len(done.attempts), len(hook.bodies)) == ("exhausted", 6, 6)


def test_the_retries_wait_as_long_as_apples_do_divided_by_the_compression(make: Maker) -> None:
    """Apple waits 1, 12, 24, 48 and 72 hours; an hour is 2 ms here."""
    with receiver(answers=[503] * 6) as hook, sending(hook.url, compression=1_800_000) as sender:
        sender.send(notification := make())
        at = [attempt.at for attempt in settled(sender, notification).attempts]
    waited_ms = [(later - earlier).total_seconds() * 1000 for earlier, later in pairwise(at)]
    assert all(waited >= hours * 2 for waited, hours in zip(waited_ms, (1, 12, 24, 48, 72), strict=True))


def test_the_sandbox_tries_once(make: Maker) -> None:
    with receiver(answers=[503]) as hook, sending(hook.url) as sender:
        sender.send(notification := make("sandbox"))
        done = settled(sender, notification)
    assert (done.state, len(done.attempts)) == ("exhausted", 1)


def test_a_receiver_that_is_away_is_tried_again_and_found(make: Maker) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/"
        with sending(url, compression=3600) as sender:
            sender.send(notification := make())
            wait_until(lambda: len(sender.get(notification.id).attempts) == 1)
            waiting = sender.get(notification.id)
    assert (waiting.state, results(waiting)) == ("pending", ["NO_RESPONSE"])
    assert waiting.next_attempt_at is not None
    assert waiting.next_attempt_at > waiting.created_at


def test_a_duplicate_is_the_same_notification_twice(make: Maker) -> None:
    with receiver() as hook, sending(hook.url, faults=NotificationFaults(duplicate=1)) as sender:
        sender.send(make())
        first, second = hook.wait_for_posts(2)
    assert first == second


def test_a_duplicate_that_fails_is_not_retried_on_its_own(make: Maker) -> None:
    always = NotificationFaults(duplicate=1)
    with receiver(answers=[503, 503]) as hook, sending(hook.url, faults=always, compression=360) as sender:
        sender.send(notification := make())
        wait_until(lambda: len(sender.get(notification.id).attempts) == 2)
        assert (sender.get(notification.id).retries, len(sender._jobs)) == (1, 1)


def test_a_dropped_notification_arrives_only_when_it_is_sent_again(make: Maker) -> None:
    with receiver() as hook, sending(hook.url, faults=NotificationFaults(drop=1)) as sender:
        sender.send(notification := make())
        assert (sender.get(notification.id).state, hook.bodies) == ("dropped", [])
        sender.resend(notification.id)
        hook.wait_for_posts(1)
        wait_until(lambda: sender.get(notification.id).state == "delivered")


def test_a_delayed_notification_is_overtaken_by_a_later_one(make: Maker) -> None:
    board = FaultBoard(seeded_ids(3))
    with receiver() as hook:
        sender = NotificationSender(url=hook.url, clock=CLOCK, faults=board, retry_compression=1)
        with closing(sender):
            board.put(Faults(notifications=NotificationFaults(delay_ms=300)))
            sender.send(slow := make())
            board.put(Faults())
            sender.send(quick := make())
            arrived = [payload["notificationUUID"] for payload in hook.wait_for_posts(2)]
    assert arrived == [str(quick.id), str(slow.id)]


def test_sending_a_delivered_one_again_posts_the_very_same_and_leaves_it_delivered(make: Maker) -> None:
    with receiver(answers=[200, 500]) as hook, sending(hook.url) as sender:
        sender.send(notification := make())
        settled(sender, notification)
        sender.resend(notification.id)
        first, second = hook.wait_for_posts(2)
        wait_until(lambda: len(sender.get(notification.id).attempts) == 2)
        assert first == second
        assert sender.get(notification.id).state == "delivered"


def test_what_a_resend_has_delivered_is_not_retried(make: Maker) -> None:
    """The first try fails, the resend succeeds before the retry is due, and the retry does not happen."""
    with receiver(answers=[503]) as hook, sending(hook.url, compression=18_000) as sender:  # an hour is 200 ms
        sender.send(notification := make())
        wait_until(lambda: len(sender.get(notification.id).attempts) == 1)
        sender.resend(notification.id)
        settled(sender, notification)
        sender.send(make())
        wait_until(lambda: not sender._jobs)
        hook.wait_for_posts(3)
    assert len(hook.bodies) == 3


def test_a_sender_without_room_says_so_and_has_room_again_later(make: Maker) -> None:
    with receiver(answers=[503, 503]) as hook, sending(hook.url, compression=18_000, pending_max=2) as sender:
        for _ in range(2):
            sender.send(make())
        hook.wait_for_posts(2)
        wait_until(lambda: len(sender._jobs) == 2)
        with pytest.raises(SenderUnavailable, match="2 notifications wait"):
            sender.wait_for_room()
        hook.wait_for_posts(4)
        sender.wait_for_room()


def test_who_waits_for_room_goes_on_as_soon_as_there_is_some(make: Maker) -> None:
    delayed = NotificationFaults(delay_ms=100)
    with (
        receiver() as hook,
        sending(hook.url, faults=delayed, pending_max=1, room_timeout_s=30) as sender,
    ):
        sender.send(make())
        started_s = CLOCK.monotonic()
        sender.wait_for_room()
        assert CLOCK.monotonic() - started_s < 15


def test_only_so_many_settled_ones_are_remembered(make: Maker) -> None:
    notifications = [make() for _ in range(5)]
    with receiver() as hook, sending(hook.url, settled_max=2) as sender:
        for notification in notifications:
            sender.send(notification)
            wait_until(lambda: all_settled(sender))
        with pytest.raises(NotificationUnknown):
            sender.get(notifications[0].id)
        assert [each.id for each in sender.newest(limit=10, after=None, transaction_id=None)] == [
            notifications[4].id,
            notifications[3].id,
        ]


def all_settled(sender: NotificationSender) -> bool:
    return all(each.settled for each in sender.newest(limit=100, after=None, transaction_id=None))


def test_the_list_is_newest_first_and_goes_on_behind_the_one_named(make: Maker) -> None:
    made = [make(transaction_id=str(number % 2)) for number in range(4)]
    with receiver() as hook, sending(hook.url) as sender:
        for notification in made:
            sender.send(notification)
        ids = [each.id for each in reversed(made)]
        page = sender.newest(limit=3, after=None, transaction_id=None)
        rest = sender.newest(limit=3, after=page[-1].id, transaction_id=None)
        of_one = sender.newest(limit=3, after=None, transaction_id=TransactionId("1"))
        assert [each.id for each in (*page, *rest)] == ids
        assert [each.id for each in of_one] == [made[3].id, made[1].id]
        with pytest.raises(NotificationUnknown):
            sender.newest(limit=3, after=UUID(int=99), transaction_id=None)


def test_the_oldest_come_first_and_only_those_that_are_wanted(make: Maker) -> None:
    made = [make(transaction_id=str(number % 2)) for number in range(6)]
    with receiver() as hook, sending(hook.url) as sender:
        for notification in made:
            sender.send(notification)
        first = sender.oldest(
            limit=2, after=None, since=made[0].created_at, wanted=lambda each: each.transaction_id == "1"
        )
        rest = sender.oldest(
            limit=9, after=first[-1].id, since=made[0].created_at, wanted=lambda each: each.transaction_id == "1"
        )
        assert [each.id for each in (*first, *rest)] == [made[1].id, made[3].id, made[5].id]
        with pytest.raises(NotificationUnknown):
            sender.oldest(limit=1, after=UUID(int=99), since=made[0].created_at, wanted=lambda _: True)


def test_an_unknown_notification_cannot_be_sent_again() -> None:
    with receiver() as hook, sending(hook.url) as sender, pytest.raises(NotificationUnknown):
        sender.resend(UUID(int=1))


def test_closing_ends_every_thread() -> None:
    with receiver() as hook, sending(hook.url) as sender:
        pass
    assert not any(thread.is_alive() for thread in sender._threads)
