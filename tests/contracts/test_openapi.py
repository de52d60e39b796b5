"""The gateway keeps to its contract: whatever is sent, the answer is one that the document describes.

The requests are made up by schemathesis from the document, within it and beyond it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.api import openapi
from tests.support.gateway import Gateway, gateway_on

# What is in the document but cannot be made up (a signature, a receipt) is refused, so acceptance is no check here.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LEDGER_CALLS = "/wallet"

contract = schemathesis.openapi.from_dict(openapi.document())


@pytest.fixture(scope="module")
def gateway(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway_on(module_database, tmp_path_factory.mktemp("gateway")) as running:
        running.submit("1")
        yield running


@pytest.mark.parametrize("who", ["user", "server", "nobody"])
def test_whatever_is_sent_the_answer_is_as_described(gateway: Gateway, who: str) -> None:
    headers = {"user": gateway.as_user(), "server": gateway.as_server(), "nobody": {}}[who]

    seen: Counter[tuple[str, int]] = Counter()
    for result in contract.exclude(path_regex=LEDGER_CALLS).get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        strategy = operation.as_strategy(generation_mode=GenerationMode.POSITIVE) | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @hypothesis.settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=strategy)
        def answers_as_described(case: Any) -> None:
            case.headers = {name: value for name, value in case.headers.items() if name.lower() != "authorization"}
            case.headers.update(headers)
            response = case.call(app=gateway.app)
            seen[operation.label, response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        answers_as_described()
    print(who, seen)
