"""Where a thread is: what of it the log tells, and what of a `traceparent` is believed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from shared import trail
from shared.ids import EventId, system_ids
from shared.trail import NAMED_MAX, Place, SpanId, event_span, read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", SpanId("00f067aa0ba902b7")


def event_id() -> EventId:
    return system_ids().event_id()


class TestPlaces:
    def test_a_thread_is_nowhere_until_it_is_somewhere_and_after_the_block_where_it_was(self) -> None:
        outer, inner = Place(TRACE, SPAN), Place("f" * 32, SPAN)
        with trail.at(outer):
            with trail.at(inner):
                assert trail.place() == inner
            assert trail.place() == outer
        assert trail.place() is None

    def test_an_error_leads_out_of_the_block_too(self) -> None:
        with pytest.raises(ValueError, match="out"), trail.at(Place(TRACE, SPAN)):
            raise ValueError("out")
        assert trail.places() == ()

    def test_a_thread_is_not_where_the_one_that_started_it_is(self) -> None:
        with trail.at(Place(TRACE, SPAN)), ThreadPoolExecutor(1) as pool:
            assert pool.submit(trail.places).result(10) == ()

    def test_of_several_places_none_is_the_one(self) -> None:
        with trail.at(Place(TRACE, SPAN), Place(TRACE, SPAN)):
            assert trail.place() is None


class TestNames:
    def test_a_line_about_an_event_names_its_trace_and_the_event(self) -> None:
        event = event_id()
        with trail.at(Place(TRACE, event_span(event), event)):
            assert trail.names() == {"trace_id": TRACE, "event_id": str(event)}

    def test_a_line_about_a_request_names_its_trace_and_the_request(self) -> None:
        with trail.at(Place(TRACE, SPAN, request_id="mobile-42")):
            assert trail.names() == {"trace_id": TRACE, "request_id": "mobile-42"}

    def test_a_line_about_a_batch_names_the_first_of_its_traces_once(self) -> None:
        traces = [f"{number:032x}" for number in range(1, 20)]
        with trail.at(*(Place(trace, SPAN) for trace in traces for _ in range(2))):
            assert trail.names() == {"trace_ids": traces[:NAMED_MAX]}

    def test_of_a_batch_a_line_that_names_its_event_has_the_trace_of_that_event(self) -> None:
        mine, other = event_id(), event_id()
        with trail.at(Place("a" * 32, SPAN, other), Place("b" * 32, SPAN, mine), Place("b" * 32, SPAN, mine)):
            assert trail.names(about=str(mine))["trace_id"] == "b" * 32
            assert trail.names(about=str(event_id())) == {}

    def test_nowhere_nothing_is_named(self) -> None:
        assert trail.names() == {}


class TestTraceparent:
    def test_trace_and_span_are_read(self) -> None:
        assert read_traceparent(f"00-{TRACE}-{SPAN}-01") == (TRACE, SPAN)

    def test_a_later_version_may_have_more_behind_it(self) -> None:
        assert read_traceparent(f"cc-{TRACE}-{SPAN}-01-what-the-future-holds") == (TRACE, SPAN)

    @pytest.mark.parametrize(
        "header",
        [
            "",
            f"ff-{TRACE}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-01-more",
            f"00-{'0' * 32}-{SPAN}-01",
            f"00-{TRACE}-{'0' * 16}-01",
            f"00-{TRACE.upper()}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}",
            f" 00-{TRACE}-{SPAN}-01",
            f"00-{TRACE}-{SPAN}-01\n",
        ],
    )
    def test_what_the_standard_does_not_allow_is_none(self, header: str) -> None:
        assert read_traceparent(header) is None


def test_the_span_of_an_event_is_never_the_one_that_is_none() -> None:
    lowest = UUID(int=0x7 << 76 | 0b10 << 62)
    assert int(event_span(lowest), 16) != 0
    assert len(event_span(lowest)) == 16
