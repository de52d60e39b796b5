"""What is posted, what an answer means for its delivery, and when it is posted again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.domain.deliveries import (
    RETRY_AFTER_S_MAX,
    RETRY_DELAYS_S,
    Answer,
    AttemptNumber,
    Verdict,
    judge,
    message_of,
    read_retry_after,
)
from shared.events import AccountTokenIssued, Event, OutwardEventUnknown, Payload, outward_document
from shared.ids import AppId, EventId, UserId
from tests.support.notifier import CREDITED

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
EVENT_ID = EventId(UUID("0194b8d4-0000-7000-8000-000000000001"))
HOUR = 3600


def event(payload: Payload) -> Event[Payload]:
    return Event(
        id=EVENT_ID,
        app=AppId("game"),
        subject="pur_1",
        user_id=UserId("alice"),
        payload=payload,
        trace_id="0" * 32,
        causation_id=None,
        occurred_at=AT,
        recorded_at=AT + timedelta(seconds=1),
    )


def answer(status: int | None, *, retry_after_s: float | None = None, trouble: str | None = None) -> Answer:
    return Answer(at=AT, duration_ms=7, status=status, retry_after_s=retry_after_s, trouble=trouble)


def judged(what: Answer, *, number: int = 1, delays_s: Sequence[float] | None = None, jitter: float = 1.0) -> Verdict:
    return judge(what, number=AttemptNumber(number), delays_s=delays_s, jitter=jitter)


class TestMessage:
    def test_its_id_is_the_events_and_its_body_is_what_the_feed_shows_too(self) -> None:
        message = message_of(event(CREDITED))
        assert message.id == str(EVENT_ID)
        assert msgspec.json.decode(message.body) == outward_document(event(CREDITED))

    def test_it_is_the_same_bytes_each_time_it_is_made(self) -> None:
        assert message_of(event(CREDITED)).body == message_of(event(CREDITED)).body

    def test_there_is_none_of_an_event_that_is_not_outward(self) -> None:
        with pytest.raises(OutwardEventUnknown):
            message_of(event(AccountTokenIssued(UUID(int=1))))


class TestAnswer:
    @pytest.mark.parametrize(
        ("given_answer", "error"),
        [
            (answer(200), None),
            (answer(299), None),
            (answer(199), "answered 199"),
            (answer(300), "answered 300"),
            (answer(None, trouble="no answer within 15 s"), "no answer within 15 s"),
            (answer(None), "no answer"),
        ],
    )
    def test_its_error_says_why_the_message_was_not_taken(self, given_answer: Answer, error: str | None) -> None:
        assert given_answer.error == error


class TestJudge:
    @pytest.mark.parametrize("status", [200, 201, 204, 299])
    @pytest.mark.parametrize("number", [1, 10, 11])
    def test_any_2xx_is_delivered_at_any_attempt(self, status: int, number: int) -> None:
        assert judged(answer(status), number=number) == Verdict("delivered")

    @pytest.mark.parametrize("status", [199, 300, 301, 302, 307, 400, 401, 404, 409, 429, 500, 503, None])
    def test_anything_else_is_tried_again(self, status: int | None) -> None:
        verdict = judged(answer(status))
        assert (verdict.state, verdict.delay_s, verdict.endpoint_gone) == ("waiting", 5, False)
        assert verdict.reason == answer(status).error

    def test_the_delays_are_those_of_the_contract_and_then_it_is_exhausted(self) -> None:
        verdicts = [judged(answer(500), number=number) for number in range(1, 11)]
        hours = [2, 5, 10, 14, 20, 24]
        assert [verdict.delay_s for verdict in verdicts[:-1]] == [5, 300, 1800, *(hour * HOUR for hour in hours)]
        assert [verdict.state for verdict in verdicts] == ["waiting"] * 9 + ["exhausted"]
        assert verdicts[-1] == Verdict("exhausted", "not taken in 10 attempts, the last one: answered 500")

    def test_an_endpoint_may_have_a_schedule_of_its_own_instead(self) -> None:
        verdicts = [judged(answer(500), number=number, delays_s=(1.5, 60)) for number in (1, 2, 3)]
        assert [(verdict.state, verdict.delay_s) for verdict in verdicts] == [
            ("waiting", 1.5),
            ("waiting", 60),
            ("exhausted", None),
        ]

    def test_an_attempt_beyond_the_schedule_that_fails_is_exhausted_too(self) -> None:
        assert judged(answer(500), number=11).state == "exhausted"

    @pytest.mark.parametrize(("asked_s", "delay_s"), [(60, 60), (2, 5), (0, 5)])
    @pytest.mark.parametrize("status", [429, 503, 500, 302])
    def test_retry_after_puts_the_next_attempt_off_but_never_brings_it_forward(
        self, status: int, asked_s: float, delay_s: float
    ) -> None:
        assert judged(answer(status, retry_after_s=asked_s)).delay_s == delay_s

    def test_retry_after_adds_no_attempt(self) -> None:
        assert judged(answer(429, retry_after_s=60), number=10).state == "exhausted"

    @given(
        number=st.integers(1, len(RETRY_DELAYS_S)),
        asked_s=st.none() | st.floats(0, RETRY_AFTER_S_MAX),
        jitter=st.floats(1.0, 1.2),
    )
    def test_jitter_never_makes_a_retry_come_sooner(self, number: int, asked_s: float | None, jitter: float) -> None:
        delay_s = judged(answer(503, retry_after_s=asked_s), number=number, jitter=jitter).delay_s
        least_s = max(RETRY_DELAYS_S[number - 1], asked_s or 0)
        assert delay_s is not None
        assert least_s <= delay_s <= least_s * 1.2

    @pytest.mark.parametrize("number", [1, 10, 11])
    def test_410_is_about_the_endpoint_and_the_message_is_kept_at_any_attempt(self, number: int) -> None:
        assert judged(answer(410), number=number) == Verdict("waiting", "answered 410", delay_s=0.0, endpoint_gone=True)

    def test_no_answer_is_told_with_its_trouble(self) -> None:
        assert judged(answer(None, trouble="no answer within 15 s")).reason == "no answer within 15 s"


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120.0),
            (" 7 ", 7.0),
            ("0", 0.0),
            ("Sat, 31 Jan 2026 12:01:00 GMT", 60.0),
            ("Saturday, 31-Jan-26 12:01:00 GMT", 60.0),
            ("Sat Jan 31 12:01:00 2026", 60.0),
            ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
            ("99999999999", RETRY_AFTER_S_MAX),
            ("9" * 400, RETRY_AFTER_S_MAX),
            ("9" * 5000, RETRY_AFTER_S_MAX),
            ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_S_MAX),
            (None, None),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("²", None),
        ],
    )
    def test_seconds_and_dates_are_read_and_capped(self, value: str | None, seconds: float | None) -> None:
        assert read_retry_after(value, now=AT) == seconds

    @given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} [A-Z][a-z]{2} \d{1,5} \d+:\d+:\d+ [-+A-Z0-9]{0,6}"))
    def test_no_header_whatever_it_holds_is_an_error(self, value: str) -> None:
        seconds = read_retry_after(value, now=AT)
        assert seconds is None or 0 <= seconds <= RETRY_AFTER_S_MAX
