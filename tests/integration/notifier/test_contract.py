"""What the notifier really posts is what the contract's `webhooks` say: bodies and headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator

from gateway.api import openapi, reference
from shared.events import OUTWARD
from tests.support.notifier import SECRET, apps_with, endpoint, notifying
from tests.support.outward import PAYLOADS
from tests.support.receiver import Received, receiving

CONTRACT = openapi.document()
ANOTHER = "whsec_" + "REVG" * 8


@pytest.fixture(params=[None, ANOTHER], ids=["one secret", "two secrets"])
def posted(request: pytest.FixtureRequest, database: str) -> Iterator[list[Received]]:
    """One message of each type, as it came."""
    previous = {} if request.param is None else {"previous_secret": request.param}
    with (
        receiving(SECRET) as receiver,
        notifying(database, apps_with(endpoint(receiver.url, **previous))) as notifier,
    ):
        notifier.tell(*PAYLOADS)
        with notifier.sending():
            notifier.settled("delivered", len(PAYLOADS))
        yield receiver.received


def test_every_message_is_posted_as_the_contract_says(posted: list[Received]) -> None:
    assert sorted(each.body["type"] for each in posted) == sorted(OUTWARD)
    for message in posted:
        operation = CONTRACT["webhooks"][message.body["type"]]["post"]
        validator(operation["requestBody"]["content"]["application/json"]["schema"]).validate(message.body)
        for header in operation["parameters"]:
            validator(header["schema"]).validate(message.headers[header["name"]])
        assert message.headers["content-type"] == "application/json"


def test_the_contract_has_a_webhook_for_each_type_and_none_takes_another() -> None:
    assert set(CONTRACT["webhooks"]) == set(OUTWARD)
    shown = {name: content(name)["examples"][name]["value"] for name in OUTWARD}
    for name in OUTWARD:
        is_valid = validator(content(name)["schema"]).is_valid
        assert [other for other, value in shown.items() if is_valid(value)] == [name]


def test_the_page_shows_each_message_and_the_headers() -> None:
    page = reference.page(CONTRACT)
    for name in OUTWARD:
        assert f'<span class="path">{name}</span>' in page
    for header in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert f"<code>{header}</code>" in page


def content(event_type: str) -> Any:
    return CONTRACT["webhooks"][event_type]["post"]["requestBody"]["content"]["application/json"]


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": CONTRACT["components"]}, validate_formats=True)
