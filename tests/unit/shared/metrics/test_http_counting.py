"""Requests are counted by the rule that matched: a path may hold anybody's id, and a caller may invent one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from shared.clock import ManualClock
from shared.http import Problem, answer, install_conventions
from shared.metrics.counted import REGISTRY
from tests.support.metrics import counting
from tests.support.seeded import seeded_ids

RULE = "/counted/<user:user>/things"


@pytest.fixture
def client() -> FlaskClient:
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=seeded_ids(1, clock=ManualClock(datetime(2026, 11, 22, tzinfo=UTC))))

    @app.get(RULE)
    def things(user: str) -> Response:
        if user == "nobody":
            raise Problem(409, "nobody-here", "Nobody", "nobody is here")
        if user == "bug":
            raise RuntimeError
        return answer({})

    return app.test_client()


def requests_of(route: str, method: str, status: int) -> dict[str, str]:
    return {"route": route, "method": method, "status": str(status)}


def test_a_request_is_counted_by_its_rule_and_not_by_its_path(client: FlaskClient) -> None:
    count = counting("purser_http_requests_total", **requests_of(RULE, "GET", 200))
    timed = counting("purser_http_request_duration_seconds_count", route=RULE)
    for user in ("alice", "bob", "a/b"):
        client.get(f"/counted/{user}/things")
    assert (count.so_far, timed.so_far) == (3, 3)
    assert not [sample for family in REGISTRY.collect() for sample in family.samples if "alice" in str(sample.labels)]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/counted/nobody/things", 409, "nobody-here"),
        ("/counted/bug/things", 500, "internal-error"),
        ("/counted-nowhere", 404, "not-found"),
    ],
)
def test_a_problem_is_counted_by_its_code_and_as_a_request(
    client: FlaskClient, path: str, status: int, code: str
) -> None:
    route = "none" if status == 404 else RULE
    count = counting("purser_http_requests_total", **requests_of(route, "GET", status))
    refused = counting("purser_refused_total", reason=code)
    client.get(path)
    assert (count.so_far, refused.so_far) == (1, 1)


def test_an_answer_that_is_no_problem_refuses_nothing_also_on_a_thread_that_refused_before(client: FlaskClient) -> None:
    client.get("/counted/nobody/things")
    refused = counting("purser_refused_total", reason="nobody-here")
    client.get("/counted/alice/things")
    assert refused.so_far == 0


def test_methods_that_callers_invent_are_one(client: FlaskClient) -> None:
    count = counting("purser_http_requests_total", **requests_of("none", "other", 405))
    for method in ("BREW", "PROPFIND", "X" * 50):
        client.open("/counted/alice/things", method=method)
    assert count.so_far == 3
