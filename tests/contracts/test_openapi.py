"""The gateway keeps to its contract: whatever is sent, the answer is one that the document describes.

The requests are made up by schemathesis from the document, within it and beyond it. What cannot be made up (a
signature, a receipt, somebody's purchase) is sent for real.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from threading import Thread
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from jsonschema_rs import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from werkzeug.serving import make_server

from gateway.api import openapi
from ledger.app import create_api
from ledger.handlers import apply_facts
from ledger.store import PostgresBooks
from shared.apps import load_apps
from shared.catalog import load_catalog
from shared.database import transact
from shared.ids import UserId, system_ids
from tests.support.gateway import EXAMPLES, SERVICE_TOKEN, Gateway, gateway_on
from tests.support.ledger import NOW, transaction, verified

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ODD_USER = UserId("auth0|ä/漢 1")

contract = schemathesis.openapi.from_dict(openapi.document())


@pytest.fixture(scope="module")
def ledger_url(module_database: str) -> Iterator[str]:
    """The ledger's own API, served for real."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setattr("ledger.app.configure_logging", lambda **_: None)  # it is for a whole process
        environment.setenv("PURSER_DATABASE_URL", module_database)
        environment.setenv("PURSER_SERVICE_TOKEN", SERVICE_TOKEN)
        environment.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))
        environment.setenv("PURSER_CATALOG_FILE", str(EXAMPLES / "catalog.toml"))
        api = create_api()
    server = make_server("127.0.0.1", 0, api, threaded=True)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def gateway(module_database: str, ledger_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    with gateway_on(module_database, directory, changes={"ledger_url": ledger_url}) as running:
        yield running


@pytest.mark.parametrize("who", ["user", "server"])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_sent_the_answer_is_as_described(gateway: Gateway, who: str, mode: GenerationMode) -> None:
    headers = {"user": gateway.as_user(), "server": gateway.as_server()}[who]
    asked: Counter[str] = Counter()
    for result in contract.get_all_operations():
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
    assert len(asked) >= 7


def good(
    gateway: Gateway, method: str, path: str, *, status: int, headers: dict[str, str], **parts: Any
) -> dict[str, Any]:
    """Makes a call of the contract that has to succeed, and holds the answer to it."""
    case = contract[path][method].Case(headers=headers, **parts)
    response = case.call(app=gateway.app)
    assert response.status_code == status, response.text
    case.validate_response(response, checks=CHECKS)
    document: dict[str, Any] = response.json()
    return document


def test_what_is_answered_about_a_purchase_is_as_described(gateway: Gateway) -> None:
    user, server = gateway.as_user(), gateway.as_server()
    body = {"store": "apple", "signed_transaction": gateway.signed_transaction("77")}
    media = {"body": body, "media_type": "application/json"}
    taken_in = good(gateway, "POST", "/v1/purchases", status=202, headers=user, **media)
    named = {"path_parameters": {"purchase": taken_in["id"]}}
    good(gateway, "GET", "/v1/purchases/{purchase}", status=200, headers=user, **named)
    good(gateway, "GET", "/v1/purchases/{purchase}/timeline", status=200, headers=server, **named)
    whose = {"path_parameters": {"user": "me"}}
    page = good(gateway, "GET", "/v1/users/{user}/purchases", status=200, headers=user, **whose)
    assert page["purchases"][0]["id"] == taken_in["id"]
    good(gateway, "GET", "/v1/users/{user}/account-token", status=200, headers=user, **whose)


def test_each_example_of_a_purchase_is_one_of_the_forms_and_is_taken_in(gateway: Gateway) -> None:
    operation = openapi.document()["paths"]["/v1/purchases"]["post"]
    examples = operation["requestBody"]["content"]["application/json"]["examples"]
    assert set(examples) == {"signed_transaction", "receipt", "transaction_id"}
    for example in examples.values():
        media = {"body": example["value"], "media_type": "application/json"}
        good(gateway, "POST", "/v1/purchases", status=202, headers=gateway.as_user("example"), **media)


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


def test_what_the_ledger_answers_is_as_the_gateways_contract_says(gateway: Gateway) -> None:
    apps, catalog = load_apps(EXAMPLES / "apps.toml"), load_catalog(EXAMPLES / "catalog.toml")
    bought = verified(transaction("78", product="com.example.game.gems100", product_type="consumable"), user=ODD_USER)
    transact(
        gateway.bus.engine,
        lambda connection: apply_facts(
            [bought],
            books=PostgresBooks(connection, shard=0),
            catalog=catalog,
            apps=apps,
            new_id=system_ids().event_id,
            now=NOW,
        ),
    )
    me, by_name = {"path_parameters": {"user": "me"}}, {"path_parameters": {"user": ODD_USER}}
    user, server = gateway.as_user(ODD_USER), gateway.as_server()
    wallet = good(gateway, "GET", "/v1/users/{user}/wallet", status=200, headers=user, **me)
    assert wallet["user_id"] == ODD_USER
    assert wallet["balances"]["gems"] == {"balance": 100, "available": 100, "held": 0, "debt": 0}
    assert good(gateway, "GET", "/v1/users/{user}/wallet", status=200, headers=server, **by_name) == wallet
    query = {"limit": 1, "environment": "production"}
    page = good(gateway, "GET", "/v1/users/{user}/wallet/entries", status=200, headers=user, query=query, **me)
    (entry,) = page["entries"]
    assert (entry["amount"], entry["balance_after"], entry["currency"]) == (100, 100, "gems")


def test_a_page_that_the_ledger_refuses_is_refused_with_its_trace(gateway: Gateway) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = gateway.as_user() | {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    response = gateway.client().get("/v1/users/me/wallet/entries?after=nonsense", headers=headers)
    assert (response.status_code, response.content_type) == (400, "application/problem+json")
    assert (response.json or {})["trace_id"] == trace
