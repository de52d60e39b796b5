"""What is told outside of its own accord: the contract says what it looks like, and shows an example of each type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from jsonschema_rs import Draft202012Validator
from pydantic import TypeAdapter

from gateway.api.access import Access
from gateway.api.documents import OUTWARD_EXAMPLES, EventPage, OutwardMessage, event_page
from gateway.api.routes import ROUTES, Route
from gateway.domain.feeds import FeedPage, Place
from gateway.domain.timelines import PROOFS
from shared.events import OUTWARD, outward_document
from tests.support.outward import EVENTS

READ_OTHERWISE = [
    route
    for route in ROUTES
    if route.method == "GET" and route.access is Access.READER and not route.path.endswith("/events")
]
"""What a client may read, beside its events."""


def closed(schema: Any) -> Any:
    """The schema, of objects that have no member beyond those it names."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: closed(value) for name, value in schema.items()}
    return kept | ({"additionalProperties": False} if "properties" in schema else {})


def validator(kind: Any) -> Draft202012Validator:
    return Draft202012Validator(closed(TypeAdapter(kind).json_schema(mode="serialization")))


def told(event_type: str) -> Any:
    """What is told of the example's event, as JSON."""
    return json.loads(msgspec.json.encode(outward_document(EVENTS[event_type])))


def members(value: Any) -> Iterator[str]:
    """The names of all members, however deep."""
    if isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from members(part)


@pytest.mark.parametrize("event_type", OUTWARD)
def test_a_message_is_what_the_contract_says_and_has_no_more(event_type: str) -> None:
    validator(OutwardMessage).validate(told(event_type))


@pytest.mark.parametrize("event_type", OUTWARD)
def test_a_message_with_the_data_of_another_is_none(event_type: str) -> None:
    strange = "refund_request.updated" if event_type != "refund_request.updated" else "wallet.credited"
    assert not validator(OutwardMessage).is_valid(told(event_type) | {"data": told(strange)["data"]})


@pytest.mark.parametrize("event_type", OUTWARD)
def test_the_example_of_each_type_is_what_a_real_event_tells(event_type: str) -> None:
    assert OUTWARD_EXAMPLES[event_type].value == told(event_type)


def test_no_type_has_an_example_that_is_not_told() -> None:
    assert set(OUTWARD_EXAMPLES) == set(OUTWARD)


def test_a_page_is_what_the_contract_says_whatever_is_in_it() -> None:
    events = list(EVENTS.values())
    page = event_page(FeedPage(events, Place(len(events), events[-1].id)))
    validator(EventPage).validate(json.loads(msgspec.json.encode(page)))
    assert [event["type"] for event in page["events"]] == list(EVENTS)
    assert {event["id"] for event in page["events"]} == {str(events[0].id)}  # as in `webhook-id`
    assert page["next"] == events[-1].id.hex


@pytest.mark.parametrize("event_type", OUTWARD)
def test_nothing_is_told_that_a_client_cannot_read_otherwise(event_type: str) -> None:
    """The device is told what the backend is told: none of it may be the backend's alone."""
    read = {name for route in READ_OTHERWISE for name in _members_of(route)}
    assert set(members(told(event_type)["data"])) <= read | {"entry_id"}  # the `id` of a wallet's entry
    assert not set(members(told(event_type))) & PROOFS


def _members_of(route: Route) -> set[str]:
    """The names of all members that the answers of a call may have."""
    schemas = [TypeAdapter(kind).json_schema(mode="serialization") for kind in route.answers.values() if kind]
    parts = [part for schema in schemas for part in (schema, *schema.get("$defs", {}).values())]
    return {name for part in parts for name in part.get("properties", {})}
