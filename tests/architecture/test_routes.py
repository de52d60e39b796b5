"""Every call of the gateway has somebody who decided who may make it, and stands in the contract."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from gateway.api import openapi
from gateway.api.access import Access
from gateway.api.routes import ROUTES
from notifier import api as notifier_api
from shared.apps import Scope
from tests.support.gateway import Gateway, gateway_on

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/nowhere"
PARTS = {
    "user": "alice",
    "purchase": "pur_" + "a" * 26,
    "spend": "spd_" + "0" * 32,
    "hold": "hld_" + "0" * 32,
    "refund_request": "rfr_" + "0" * 32,
    "endpoint": "backend",
    "event": "019aab00-5dc0-7000-8000-000000000001",
}
OPEN = {"/healthz", "/readyz", "/openapi.json", "/docs"}
SIGNED = {"/webhooks/apple"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without a database: who may call is settled before one is asked."""
    with gateway_on(NO_DATABASE, Path(tmp_path_factory.mktemp("gateway"))) as running:
        yield running


def rules(app: Flask) -> dict[tuple[str, str], str]:
    """Method and path of every rule that the application answers."""
    return {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)): rule.endpoint
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD"}
    }


def test_the_application_answers_what_the_routes_list_and_nothing_else(gateway: Gateway) -> None:
    assert set(rules(gateway.app)) == {(route.method, route.path) for route in ROUTES}


def test_the_contract_has_every_route_and_nothing_else() -> None:
    paths = openapi.document()["paths"]
    told = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert told == {(route.method, route.path) for route in ROUTES}


def test_only_what_is_listed_here_is_open_to_everybody_or_to_a_store() -> None:
    assert {route.path for route in ROUTES if route.access is Access.EVERYBODY} == OPEN
    assert {route.path for route in ROUTES if route.access is Access.STORE} == SIGNED


def test_no_other_call_is_answered_without_a_credential(gateway: Gateway) -> None:
    for route in ROUTES:
        if route.path in OPEN | SIGNED:
            continue
        path = route.path.format_map(PARTS)
        response = gateway.client().open(path, method=route.method, json={} if route.body else None)
        assert (route.path, response.status_code) == (route.path, 401)


def test_what_is_for_servers_alone_is_refused_to_clients(gateway: Gateway) -> None:
    alone = [route for route in ROUTES if route.access.is_for_servers_alone]
    assert len(alone) > 1
    for route in alone:
        path = route.path.format_map(PARTS)
        response = gateway.client().open(path, method=route.method, headers=gateway.as_user())
        assert (route.path, response.status_code) == (route.path, 403)


def test_every_call_of_the_notifiers_api_is_one_of_the_gateways_and_needs_the_same_scope() -> None:
    scopes: dict[Access, Scope] = {Access.OPERATOR: "read", Access.ADMINISTRATOR: "admin"}
    ours = {
        (route.method, re.sub(r"{\w+}", "{}", route.path), scopes[route.access])
        for route in ROUTES
        if route.path.startswith("/v1/webhooks/")
    }
    theirs = {
        (route.method, re.sub(r"<\w+>", "{}", route.path), route.needs.scope)
        for route in notifier_api.ROUTES
        if route.needs is not None
    }
    assert ours == theirs


def test_every_call_says_what_it_does() -> None:
    for methods in openapi.document()["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert not operation["summary"].endswith(".")
