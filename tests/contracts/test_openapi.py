"""The gateway keeps to its contract: whatever is sent, the answer is one that the document describes.

The requests are made up by schemathesis from the document, within it and beyond it. What cannot be made up (a
signature, a receipt, somebody's purchase) is sent for real.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

import hypothesis
import pytest
from hypothesis import HealthCheck
from jsonschema_rs import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from gateway.api import openapi, reference
from shared.events import OUTWARD, SubscriptionStatus
from tests.support.contract import CHECKS, CONTRACT, told
from tests.support.gateway import Gateway
from tests.support.outward import PAYLOADS

CALLS_MIN = 18
"""Those that take anything that could be made up."""


@pytest.mark.parametrize("who", ["user", "server"])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_sent_the_answer_is_as_described(gateway: Gateway, who: str, mode: GenerationMode) -> None:
    headers = {"user": gateway.as_user(), "server": gateway.as_server()}[who]
    asked: Counter[str] = Counter()
    for result in CONTRACT.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.path_parameters or operation.query or operation.body):
            continue

        @hypothesis.settings(
            max_examples=15,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def answers_as_described(case: Any) -> None:
            case.headers = {**{k: v for k, v in case.headers.items() if k.lower() != "authorization"}, **headers}
            case.query = {name: value for name, value in (case.query or {}).items() if name != "wait"}
            case.validate_response(case.call(app=gateway.app), checks=CHECKS)
            asked[case.operation.label] += 1

        answers_as_described()
    assert len(asked) >= CALLS_MIN


def test_what_is_answered_about_a_purchase_is_as_described(gateway: Gateway) -> None:
    user, server = gateway.as_user(), gateway.as_server()
    body = {"store": "apple", "signed_transaction": gateway.signed_transaction("77")}
    taken_in = told(gateway, "POST", "/v1/purchases", status=202, headers=user, body=body)
    named = {"path_parameters": {"purchase": taken_in["id"]}}
    told(gateway, "GET", "/v1/purchases/{purchase}", status=200, headers=user, **named)
    told(gateway, "GET", "/v1/purchases/{purchase}/timeline", status=200, headers=server, **named)
    whose = {"path_parameters": {"user": "me"}}
    page = told(gateway, "GET", "/v1/users/{user}/purchases", status=200, headers=user, **whose)
    assert page["purchases"][0]["id"] == taken_in["id"]
    told(gateway, "GET", "/v1/users/{user}/account-token", status=200, headers=user, **whose)


def test_what_is_told_of_events_is_as_described(gateway: Gateway) -> None:
    gateway.announce(*PAYLOADS, user_id="teller")
    me = {"path_parameters": {"user": "me"}}
    page = told(gateway, "GET", "/v1/users/{user}/events", status=200, headers=gateway.as_user("teller"), **me)
    assert {event["type"] for event in page["events"]} == set(OUTWARD)
    query = {"limit": len(OUTWARD)}
    assert told(gateway, "GET", "/v1/events", status=200, headers=gateway.as_server(), query=query) == page
    query = {"after": page["next"]}
    rest = told(gateway, "GET", "/v1/events", status=200, headers=gateway.as_server(), query=query)
    assert rest == {"events": [], "next": page["next"]}


def test_each_example_of_a_purchase_is_one_of_the_forms_and_is_taken_in(gateway: Gateway) -> None:
    operation = openapi.document()["paths"]["/v1/purchases"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"signed_transaction", "receipt", "transaction_id"}
    for example in examples.values():
        headers, body = gateway.as_user("example"), example["value"]
        told(gateway, "POST", "/v1/purchases", status=202, headers=headers, body=body)


def shown_answers() -> Iterator[tuple[str, Any, Any]]:
    """Each example of an answer in the contract: its name, what it is to be like, and itself."""
    contract = openapi.document()
    for methods in contract["paths"].values():
        for operation in methods.values():
            for response in operation["responses"].values():
                for media in response.get("content", {}).values():
                    for name, example in media.get("examples", {}).items():
                        yield name, {**media["schema"], "components": contract["components"]}, example["value"]


def test_each_example_of_an_answer_is_one_that_the_contract_describes() -> None:
    names = []
    for name, schema, value in shown_answers():
        Draft202012Validator(schema).validate(value)
        names.append(name)
    assert {"active", "trial", "in_grace_period", "in_billing_retry", "expired", "refunded", "revoked"} < set(names)


def test_every_status_of_a_subscription_has_its_example() -> None:
    shown = [value for _, _, value in shown_answers()]
    statuses = {subscription["status"] for value in shown for subscription in value.get("subscriptions", ())}
    assert statuses == set(get_args(SubscriptionStatus))


def test_the_page_shows_the_examples_of_answers_too() -> None:
    page = reference.page(openapi.document())
    assert "Expired, with the reason" in page
    assert page.count("&#34;status&#34;: &#34;in_billing_retry&#34;") == 1


@pytest.mark.parametrize(
    ("proof", "forms"),
    [
        ({}, 0),
        ({"signed_transaction": "a.b.c"}, 1),
        ({"signed_transaction": "a.b.c", "transaction_id": "1"}, 1),
        ({"signed_transaction": "a.b.c", "receipt": None}, 1),
        ({"receipt": "AAAA", "transaction_id": "1"}, 1),
        ({"receipt": "AAAA"}, 0),
        ({"receipt": "AAAA", "transaction_id": None}, 0),
        ({"transaction_id": "1"}, 1),
        ({"transaction_id": "1", "receipt": None, "signed_transaction": None}, 1),
        ({"transaction_id": None}, 0),
        ({"receipt": "AAAA", "signed_transaction": "a.b.c"}, 0),
        ({"receipt": "AAAA", "transaction_id": "1", "signed_transaction": "a.b.c"}, 0),
    ],
)
def test_the_contract_knows_the_forms_of_a_purchase(proof: dict[str, Any], forms: int) -> None:
    kinds = openapi.document()["components"]["schemas"]["PurchaseSubmission"]["oneOf"]
    assert sum(Draft202012Validator(form).is_valid(proof) for form in kinds) == forms


def test_a_page_that_the_ledger_refuses_is_refused_with_its_trace(gateway: Gateway) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = gateway.as_user() | {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    response = gateway.client().get("/v1/users/me/wallet/entries?after=nonsense", headers=headers)
    assert (response.status_code, response.content_type) == (400, "application/problem+json")
    assert (response.json or {})["trace_id"] == trace
