"""What every HTTP service of ours does the same way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import pytest
import structlog
from flask import Flask, Response
from flask.testing import FlaskClient
from pydantic import BaseModel, Field
from structlog.testing import LogCapture

from shared import tracing, trail
from shared.clock import ManualClock, SystemClock
from shared.database import DatabaseUnavailable
from shared.http import (
    BODY_BYTES_MAX,
    Problem,
    answer,
    caller_header,
    install_conventions,
    read_body,
    read_caller,
    read_query,
    trace_id,
)
from shared.log import add_trail
from shared.tracing import Span, Tracer
from tests.support.seeded import seeded_ids

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Body(BaseModel):
    name: str
    amount: int = 1


class Query(BaseModel):
    limit: Annotated[int, Field(ge=1, le=200)] = 50


@pytest.fixture
def client() -> Iterator[FlaskClient]:
    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=seeded_ids(1, clock=ManualClock(datetime(2026, 11, 22, tzinfo=UTC))))

    @app.post("/body")
    def body() -> Response:
        return answer(read_body(Body).model_dump(), 201, headers={"Location": "/x"})

    @app.get("/query")
    def query() -> Response:
        return answer(read_query(Query).model_dump())

    @app.get("/trace")
    def trace() -> Response:
        return answer({"trace_id": trace_id(), "again": trace_id()})

    @app.get("/names")
    def names() -> Response:
        return answer(add_trail(None, "info", {}))

    @app.get("/onward")
    def onward() -> str:
        return tracing.traceparent() or ""

    @app.get("/healthz")
    def healthz() -> str:
        return "ok"

    @app.get("/users/<user:user>/wallet")
    def wallet(user: str) -> Response:
        return answer({"user": user})

    @app.get("/fail/<kind>")
    def fail(kind: str) -> Response:
        raise {
            "problem": Problem(
                422, "too-little", "Too little", "not enough", headers={"X-More": "1"}, members={"available": 3}
            ),
            "database": DatabaseUnavailable("OperationalError"),
            "bug": RuntimeError("the password is hunter2"),
        }[kind]

    with app.test_client() as testing:
        yield testing


@pytest.mark.parametrize("user", ["a", "/a", "a/", "a//b", "/", "//", "a/wallet"])
def test_a_user_of_a_path_is_that_user_whatever_slashes_it_has(client: FlaskClient, user: str) -> None:
    response = client.get(f"/users/{quote(user, safe='')}/wallet")
    assert (response.status_code, response.json) == (200, {"user": user})


def test_an_answer_is_json_with_its_status_and_headers(client: FlaskClient) -> None:
    response = client.post("/body", json={"name": "gem", "unknown": [1]})
    assert (response.status_code, response.json) == (201, {"name": "gem", "amount": 1})
    assert response.headers["Location"] == "/x"
    assert response.content_type == "application/json"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"name": NaN}', "not JSON"),
        (b'{"name": "\xff"}', "not JSON"),
        (b'{"name": "\\ud800"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b'"name"', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "name: Field required"),
        (b'{"name": 5}', "name: Input should be a valid string"),
        (b'{"name": null}', "name: Input should be a valid string"),
        (b'{"name": "gem", "amount": "1"}', "amount: Input should be a valid integer"),
        (b'{"name": "gem", "amount": 1.5}', "amount: Input should be a valid integer"),
        (b'{"name": "gem", "amount": true}', "amount: Input should be a valid integer"),
    ],
)
def test_a_body_of_another_form_is_refused_by_the_name_of_its_field(
    client: FlaskClient, body: bytes, said: str
) -> None:
    response = client.post("/body", data=body)
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["code"] == "malformed-request"
    assert said in response.json["detail"]


def test_what_was_sent_is_never_repeated(client: FlaskClient) -> None:
    response = client.post("/body", json={"name": ["secret-of-somebody"]})
    assert response.status_code == 400
    assert b"secret-of-somebody" not in response.data


@pytest.mark.parametrize("value", ["0", "201", "x", "1.5", ""])
def test_a_query_parameter_out_of_bounds_is_refused_by_its_name(client: FlaskClient, value: str) -> None:
    response = client.get("/query", query_string={"limit": value})
    assert response.status_code == 400
    assert "limit" in (response.json or {})["detail"]


def test_query_parameters_have_their_defaults_and_the_first_of_two_counts(client: FlaskClient) -> None:
    assert client.get("/query?other=1").json == {"limit": 50}
    assert client.get("/query?limit=7&limit=8").json == {"limit": 7}


def test_a_body_beyond_the_limit_is_too_large_announced_or_not(client: FlaskClient) -> None:
    large = b"x" * (BODY_BYTES_MAX + 1)
    assert client.post("/body", data=large).status_code == 413
    chunked: dict[str, Any] = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    response = client.post("/body", data=large, environ_overrides=chunked)
    assert response.status_code == 413
    assert (response.json or {})["code"] == "body-too-large"


def test_a_problem_has_all_that_the_standard_asks_for(client: FlaskClient) -> None:
    response = client.get("/fail/problem", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
    assert response.headers["X-More"] == "1"
    assert response.json == {
        "type": "/problems/too-little",
        "title": "Too little",
        "status": 422,
        "detail": "not enough",
        "code": "too-little",
        "trace_id": TRACE,
        "available": 3,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/body", 405, "method-not-allowed"),
        ("BREW", "/body", 405, "method-not-allowed"),
    ],
)
def test_flasks_own_errors_are_problems_too(
    client: FlaskClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert (response.json or {})["code"] == code


def test_a_method_that_is_not_allowed_is_told_which_are(client: FlaskClient) -> None:
    assert "POST" in client.get("/body").headers["Allow"]


def test_a_database_that_is_away_is_temporary(client: FlaskClient) -> None:
    response = client.get("/fail/database")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0


def test_a_bug_is_told_by_its_trace_id_alone_and_logged_with_it(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    captured = LogCapture()
    monkeypatch.setattr("shared.http.log", structlog.wrap_logger(None, processors=[add_trail, captured]))
    response = client.get("/fail/bug", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    assert response.status_code == 500
    assert b"hunter2" not in response.data
    assert b"Traceback" not in response.data
    assert (response.json or {})["trace_id"] == TRACE
    (entry,) = captured.entries
    assert entry["trace_id"] == TRACE
    assert entry["route"] == "/fail/<kind>"
    assert isinstance(entry["exc_info"], RuntimeError)


def test_what_a_view_logs_has_the_requests_trace_and_name_and_the_thread_leaves_them(client: FlaskClient) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "mobile-42"}
    assert client.get("/names", headers=headers).json == {"trace_id": TRACE, "request_id": "mobile-42"}
    assert client.get("/names").json != {"trace_id": TRACE, "request_id": "mobile-42"}
    client.get("/fail/bug", headers=headers)
    assert trail.places() == ()


def test_what_a_view_sends_onward_names_the_callers_trace(client: FlaskClient) -> None:
    sent = client.get("/onward", headers={"traceparent": f"00-{TRACE}-{SPAN}-01"}).text
    assert sent == f"00-{TRACE}-{SPAN}-01"
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", client.get("/onward").text)


def test_a_request_is_a_span_below_the_callers_with_its_rule_and_never_its_path(client: FlaskClient) -> None:
    spans: list[Span] = []
    tracing.use(Tracer(tell=spans.append, share=1.0, clock=SystemClock(), ids=seeded_ids(3)))
    try:
        for path in ("/users/alice/wallet", "/nowhere/alice", "/fail/bug", "/healthz"):
            client.get(path, headers={"traceparent": f"00-{TRACE}-{SPAN}-01"})
    finally:
        tracing.use(None)
    assert [(span.name, span.attributes["http.response.status_code"], span.error) for span in spans] == [
        ("GET /users/<user:user>/wallet", 200, None),
        ("GET", 404, None),
        ("GET /fail/<kind>", 500, "500"),
    ]
    assert {(span.trace_id, span.parent_id) for span in spans} == {(TRACE, SPAN)}
    assert "alice" not in str(spans)


@pytest.mark.parametrize("path", ["/trace", "/nowhere", "/fail/bug"])
def test_every_response_names_its_request(client: FlaskClient, path: str) -> None:
    assert client.get(path, headers={"X-Request-Id": "mobile-42"}).headers["X-Request-Id"] == "mobile-42"
    assert re.fullmatch(r"[0-9a-f-]{36}", client.get(path).headers["X-Request-Id"])


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ä", "<script>"])
def test_a_request_id_that_is_not_plain_is_replaced(client: FlaskClient, given: str) -> None:
    assert client.get("/trace", headers={"X-Request-Id": given}).headers["X-Request-Id"] != given


@pytest.mark.parametrize("given", [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00", f"cc-{TRACE}-{SPAN}-01-what-next"])
def test_the_callers_trace_is_kept(client: FlaskClient, given: str) -> None:
    assert client.get("/trace", headers={"traceparent": given}).json == {"trace_id": TRACE, "again": TRACE}


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        TRACE,
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ],
)
def test_without_a_valid_trace_a_new_one_begins(client: FlaskClient, given: str | None) -> None:
    environ = {} if given is None else {"HTTP_TRACEPARENT": given}
    document = client.get("/trace", environ_overrides=environ).json or {}
    assert re.fullmatch(r"[0-9a-f]{32}", document["trace_id"])
    assert document["trace_id"] not in {TRACE, "0" * 32}
    assert document["again"] == document["trace_id"]


@pytest.mark.parametrize("name", ["alice", "auth0|12:34", "漢字", "a/b c%20", "line\r\nX-Evil: 1"])
def test_a_callers_name_survives_its_header(name: str) -> None:
    header = caller_header(kind="client", name=name)
    assert header.isascii()
    assert header.isprintable()
    assert read_caller(header) == ("client", name)


@pytest.mark.parametrize("header", ["", "client", "client:", "root:alice", ":alice", "alice"])
def test_what_is_no_caller_is_none(header: str) -> None:
    assert read_caller(header) is None
