"""One attempt, and what attempts come to: on record, in the journal, and for their endpoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import CapturingLogger

from notifier.domain.deliveries import (
    BODY_BYTES_MAX,
    Answer,
    AttemptNumber,
    Delivery,
    DeliveryKey,
    Message,
    Settlement,
    message_of,
)
from notifier.domain.endpoints import EndpointKey, Failing
from notifier.handlers.sending import Attempted, Unsendable, attempt, settle
from shared.apps import EndpointId, WebhookEndpoint
from shared.clock import ManualClock
from shared.events import (
    AccountTokenIssued,
    Draft,
    Event,
    Payload,
    Recorded,
    UnreadEvent,
    WebhookDelivered,
    WebhookEndpointDisabled,
    WebhookExhausted,
)
from shared.ids import AppId, UserId, webhook_endpoint_subject
from tests.support.notifier import CREDITED, REJECTED, SECRET, TRACE
from tests.support.seeded import seeded_ids

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LEASE = timedelta(minutes=1)
GAME = AppId("game")
BACKEND = WebhookEndpoint(id=EndpointId("backend"), url="https://backend.example/hooks?token=hidden", secret=SECRET)
ANALYTICS = WebhookEndpoint(id=EndpointId("analytics"), url="https://analytics.example/hooks", secret=SECRET)
LAST_ATTEMPT = 9
"""So many were made before the tenth, which is the last one of the schedule."""
IDS = seeded_ids(1, clock=ManualClock(NOW))

TAKEN, BROKEN, GONE = 200, 500, 410


def event(payload: Payload = CREDITED) -> Event[Payload]:
    return Event(IDS.event_id(), GAME, "pur_1", UserId("alice"), payload, TRACE, None, NOW, NOW)


def unread() -> UnreadEvent:
    return UnreadEvent(IDS.event_id(), "wallet.credited", 9, GAME, "pur_1", None, TRACE, None, NOW, NOW)


def delivery_of(recorded: Recorded, endpoint: WebhookEndpoint = BACKEND, *, attempts: int = 0) -> Delivery:
    return Delivery(DeliveryKey(GAME, endpoint.id, recorded.id), recorded, attempts, lost_at=NOW + LEASE)


def answer(status: int | None, *, retry_after_s: float | None = None) -> Answer:
    return Answer(at=NOW, duration_ms=7, status=status, retry_after_s=retry_after_s)


def attempted(
    status: int | None,
    endpoint: WebhookEndpoint = BACKEND,
    *,
    attempts: int = 0,
    recorded: Recorded | None = None,
    jitter: float = 1.0,
) -> Attempted:
    delivery = delivery_of(recorded or event(), endpoint, attempts=attempts)
    return Attempted(delivery, endpoint, answer(status), jitter)


def unsendable(recorded: Recorded, endpoint: WebhookEndpoint = BACKEND) -> Attempted:
    return Attempted(delivery_of(recorded, endpoint), endpoint, Unsendable("too large"), 1.0)


@dataclass
class Book:
    """The deliveries on record, in a few lines; the real ones: tests/integration/notifier/test_record.py."""

    elsewhere: set[DeliveryKey] = field(default_factory=set)
    """What another process has settled meanwhile."""
    before: dict[EndpointKey, Failing] = field(default_factory=dict)
    settlements: list[Settlement] = field(default_factory=list)
    taken: set[EndpointKey] = field(default_factory=set)
    failures: Counter[EndpointKey] = field(default_factory=Counter)
    urls: dict[EndpointKey, str] = field(default_factory=dict)
    disabled: dict[EndpointKey, tuple[str, str]] = field(default_factory=dict)

    def add(self, wanted: Mapping[DeliveryKey, str], *, now: datetime) -> None:
        raise AssertionError("nothing is queued here")

    def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Mapping[DeliveryKey, AttemptNumber]:
        assert now == NOW
        mine = [each for each in settlements if each.key not in self.elsewhere]
        self.settlements.extend(mine)
        return {each.key: AttemptNumber(41) for each in mine}

    def taken_by(self, endpoints: AbstractSet[EndpointKey]) -> None:
        self.taken |= endpoints

    def failed(self, failures: Mapping[EndpointKey, tuple[str, int]], *, now: datetime) -> Sequence[Failing]:
        self.failures.update({key: count for key, (_, count) in failures.items()})
        self.urls.update({key: url for key, (url, _) in failures.items()})
        news = [self.before.get(key, Failing(key, since=now, failures=0)) for key in failures]
        return [replace(each, failures=each.failures + failures[each.key][1]) for each in news]

    def disable(self, endpoint: EndpointKey, *, url: str, reason: str, now: datetime) -> bool:
        if self.disabled.get(endpoint, ("",))[0] == url:
            return False
        self.disabled[endpoint] = (url, reason)
        return True

    def settled(self, *each: Attempted) -> list[Draft]:
        return settle(each, deliveries=self, now=NOW)

    def fails_since(self, endpoint: WebhookEndpoint, *, ago: timedelta, failures: int) -> None:
        key = EndpointKey(GAME, endpoint.id)
        self.before[key] = Failing(key, since=NOW - ago, failures=failures)


@pytest.fixture
def book() -> Book:
    return Book()


def key_of(endpoint: WebhookEndpoint) -> EndpointKey:
    return EndpointKey(GAME, endpoint.id)


class Post:
    """Somebody who posts, and is told what comes back."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, str]] = []

    def post(self, message: Message, *, endpoint: WebhookEndpoint) -> Answer:
        self.posted.append((message.id, endpoint.id))
        return answer(TAKEN)


class TestAttempt:
    def test_the_message_is_posted_once_to_the_endpoint(self) -> None:
        poster, delivery = Post(), delivery_of(event())
        assert attempt(delivery, endpoint=BACKEND, poster=poster) == answer(TAKEN)
        assert poster.posted == [(str(delivery.key.event_id), "backend")]

    @pytest.mark.parametrize(
        ("recorded", "reason"),
        [
            (unread(), "a newer release recorded this wallet.credited, and this one cannot read it"),
            (event(AccountTokenIssued(IDS.uuid())), "account_token.issued is not told to anybody outside"),
            (event(replace(REJECTED, detail="x" * BODY_BYTES_MAX)), f"bytes, more than {BODY_BYTES_MAX}"),
        ],
        ids=["unread", "not outward", "too large"],
    )
    def test_what_cannot_be_sent_to_anybody_is_not_posted(self, recorded: Recorded, reason: str) -> None:
        poster = Post()
        outcome = attempt(delivery_of(recorded), endpoint=BACKEND, poster=poster)
        assert isinstance(outcome, Unsendable)
        assert reason in outcome.reason
        assert poster.posted == []

    def test_a_message_of_the_greatest_size_is_and_one_byte_more_is_not(self) -> None:
        poster, room = Post(), BODY_BYTES_MAX - len(message_of(event(replace(REJECTED, detail=""))).body)
        fits, exceeds = (event(replace(REJECTED, detail="x" * size)) for size in (room, room + 1))
        assert attempt(delivery_of(fits), endpoint=BACKEND, poster=poster) == answer(TAKEN)
        assert isinstance(attempt(delivery_of(exceeds), endpoint=BACKEND, poster=poster), Unsendable)
        assert poster.posted == [(str(fits.id), "backend")]


class TestOnRecord:
    def test_a_message_that_was_taken_is_delivered(self, book: Book) -> None:
        each = attempted(TAKEN)
        book.settled(each)
        (settlement,) = book.settlements
        assert settlement.key == each.delivery.key
        assert (settlement.verdict.state, settlement.due_at, settlement.answer) == ("delivered", None, answer(TAKEN))
        assert settlement.lost_at == NOW + LEASE

    def test_a_message_that_was_not_is_due_again_by_the_schedule_and_the_jitter(self, book: Book) -> None:
        book.settled(attempted(BROKEN, jitter=1.2), attempted(None, attempts=1))
        assert [each.due_at for each in book.settlements] == [
            NOW + timedelta(seconds=5 * 1.2),
            NOW + timedelta(minutes=5),
        ]

    def test_an_endpoint_with_a_schedule_of_its_own_is_asked_by_that(self, book: Book) -> None:
        hasty = BACKEND.model_copy(update={"retry_delays_s": (1.5,)})
        book.settled(attempted(BROKEN, hasty), attempted(BROKEN, hasty, attempts=1))
        assert [(each.verdict.state, each.due_at) for each in book.settlements] == [
            ("waiting", NOW + timedelta(seconds=1.5)),
            ("exhausted", None),
        ]

    def test_what_cannot_be_sent_is_parked_with_its_reason_and_without_an_attempt(self, book: Book) -> None:
        drafts = book.settled(unsendable(unread()), unsendable(event()))
        assert [(each.verdict.state, each.verdict.reason, each.answer) for each in book.settlements] == [
            ("parked", "too large", None)
        ] * 2
        assert drafts == []
        assert (book.taken, book.failures) == (set(), Counter())

    def test_nothing_at_all_is_no_trouble(self, book: Book) -> None:
        assert book.settled() == []


class TestInTheJournal:
    def test_a_delivery_is_told_in_the_timeline_of_its_event_with_all_its_attempts_counted(self, book: Book) -> None:
        recorded = event()
        (draft,) = book.settled(attempted(204, recorded=recorded))
        assert draft.payload == WebhookDelivered("backend", recorded.id, "wallet.credited", attempt=41, status=204)
        assert (draft.app, draft.subject, draft.user_id) == (GAME, "pur_1", "alice")
        assert (draft.causation_id, draft.trace_id, draft.occurred_at) == (recorded.id, TRACE, NOW)

    def test_so_is_a_delivery_that_no_attempt_is_left_for(self, book: Book) -> None:
        recorded = event()
        (draft,) = book.settled(attempted(BROKEN, attempts=LAST_ATTEMPT, recorded=recorded))
        reason = "not taken in 10 attempts, the last one: answered 500"
        assert draft.payload == WebhookExhausted("backend", recorded.id, "wallet.credited", attempts=41, reason=reason)
        assert draft.causation_id == recorded.id

    @pytest.mark.parametrize("status", [BROKEN, None, 429])
    def test_one_that_is_tried_again_is_not(self, book: Book, status: int | None) -> None:
        assert book.settled(attempted(status, attempts=LAST_ATTEMPT - 1)) == []

    def test_what_another_process_has_settled_is_neither_told_nor_counted(self, book: Book) -> None:
        mine, theirs = attempted(TAKEN), attempted(GONE, ANALYTICS)
        book.elsewhere.add(theirs.delivery.key)
        (draft,) = book.settled(mine, theirs)
        assert draft.causation_id == mine.delivery.event.id
        assert (book.taken, book.failures, book.disabled) == ({key_of(BACKEND)}, Counter(), {})


class TestEndpoints:
    def test_a_batch_of_several_says_of_each_how_it_does(self, book: Book) -> None:
        book.settled(attempted(TAKEN), attempted(BROKEN, ANALYTICS), attempted(None, ANALYTICS), attempted(TAKEN))
        assert book.taken == {key_of(BACKEND)}
        assert book.failures == {key_of(ANALYTICS): 2}
        assert book.urls == {key_of(ANALYTICS): ANALYTICS.url}
        assert book.disabled == {}

    def test_one_that_both_takes_and_fails_in_a_batch_is_not_failing(self, book: Book) -> None:
        book.fails_since(BACKEND, ago=timedelta(days=6), failures=1_000)
        drafts = book.settled(attempted(BROKEN), attempted(TAKEN), attempted(None))
        assert (book.taken, book.failures, book.disabled) == ({key_of(BACKEND)}, Counter(), {})
        assert [draft.payload.TYPE for draft in drafts] == ["webhook.delivered"]

    def test_410_disables_it_at_once_and_it_is_told_by_whom_and_of_what(self, book: Book) -> None:
        gone = attempted(GONE)
        (draft,) = book.settled(gone)
        assert draft.payload == WebhookEndpointDisabled("backend", "it answered 410 Gone", "notifier")
        assert draft.subject == webhook_endpoint_subject(app=GAME, endpoint_id="backend")
        assert (draft.app, draft.user_id, draft.causation_id) == (GAME, None, gone.delivery.event.id)
        assert book.disabled == {key_of(BACKEND): (BACKEND.url, "it answered 410 Gone")}

    def test_410_is_followed_even_where_others_of_the_batch_were_taken(self, book: Book) -> None:
        drafts = book.settled(attempted(TAKEN), attempted(GONE))
        assert [draft.payload.TYPE for draft in drafts] == ["webhook.delivered", "webhook.endpoint_disabled"]

    def test_it_is_disabled_once_however_many_say_so(self, book: Book) -> None:
        first = book.settled(*(attempted(GONE) for _ in range(5)))
        assert [draft.payload.TYPE for draft in first] == ["webhook.endpoint_disabled"]
        assert book.settled(attempted(GONE)) == []

    def test_five_days_of_failures_disable_it_and_are_told_as_the_reason(self, book: Book) -> None:
        book.fails_since(BACKEND, ago=timedelta(days=5), failures=9)
        book.fails_since(ANALYTICS, ago=timedelta(days=5) - timedelta(seconds=1), failures=900)
        (draft,) = book.settled(attempted(BROKEN), attempted(BROKEN, ANALYTICS))
        reason = "it has taken nothing since 2026-01-26 12:00 UTC, 10 attempts long"
        assert draft.payload == WebhookEndpointDisabled("backend", reason, "notifier")
        assert set(book.disabled) == {key_of(BACKEND)}

    def test_what_is_said_of_it_never_quotes_its_url(self, book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
        log = CapturingLogger()
        monkeypatch.setattr("notifier.handlers.sending.log", log)
        book.fails_since(BACKEND, ago=timedelta(days=6), failures=100)
        drafts = book.settled(
            attempted(GONE), attempted(BROKEN), attempted(None, attempts=LAST_ATTEMPT), unsendable(event())
        )
        said = "".join(map(str, [*drafts, *log.calls]))
        assert "webhook not taken" in said
        assert "token=hidden" not in said
        assert "backend.example" not in said
