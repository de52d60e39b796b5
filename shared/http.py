"""What every HTTP service of ours does the same way, with Flask: who asked, how errors look, what a body may be.

    app = Flask(__name__, static_folder=None)
    install_conventions(app, ids=ids)

gives the app, on every response, an `X-Request-Id` (the caller's own if it is sane), and

- errors as RFC 9457 `application/problem+json`: `type`, `title`, `status`, `detail`, `code`, `trace_id`. A view raises
  `Problem(404, "not-found", "Not found", "there is no such purchase")`; Flask's own errors, a database that is away
  (503 with `Retry-After`) and what nobody expected (500: the log has the traceback, the caller the trace id) become
  problems too;
- `trace_id()`: the caller's (W3C Trace Context, `traceparent`), else a new one. Every line of the log about the request
  has it, and the request's id; the caller's `tracestate` is let go: nothing here would add to it, or keep it for later;
- `<user:…>` in a path: a user id is whatever the app's own login says, slashes included, first, last and doubled ones
  too. No path is redirected to one with fewer slashes: that would be another user's;
- a limit on bodies (413), and on how deep their JSON goes (400). `read_body(Model)` and `read_query(Model)` check what
  came in against a pydantic model: a missing field or a wrong type is 400 `malformed-request` that names the field.

`answer(document, status)` makes a JSON response of what msgspec can encode: dicts, dataclasses.

Between the gateway and the internal APIs: `APP_HEADER` names the app, `CALLER_HEADER` whoever asked the gateway, as
`caller_header(kind=…, name=…)` writes it and `read_caller` reads it; `shared.callers` makes of it who may do what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import quote, unquote

import msgspec
from flask import Flask, Response, current_app, g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import PathConverter

from shared import tracing, trail
from shared.database import DatabaseUnavailable, is_busy
from shared.ids import IdSource
from shared.log import get_logger
from shared.metrics.counted import HTTP_DURATION, HTTP_REQUESTS, REFUSED
from shared.nesting import DEPTH_MAX, is_too_deep
from shared.trail import TRACEPARENT_HEADER, SpanId

log = get_logger(__name__)

BODY_BYTES_MAX: Final = 1024 * 1024
RETRY_AFTER_S: Final = 2
"""What a caller is told to wait when something of ours is away: about as long as PostgreSQL takes to restart."""

APP_HEADER: Final = "X-Purser-App"
CALLER_HEADER: Final = "X-Purser-Caller"
REQUEST_ID_HEADER: Final = "X-Request-Id"
IDEMPOTENCY_KEY_HEADER: Final = "Idempotency-Key"
IDEMPOTENT_REPLAYED_HEADER: Final = "Idempotent-Replayed"

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_IDEMPOTENCY_KEY: Final = re.compile("[ -~]{1,200}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: no spans of them."""
_SERVER_ERROR: Final = 500

M = TypeVar("M", bound=BaseModel)
CallerKind = Literal["client", "server"]


class _UserInPath(PathConverter):
    """Flask's own `path` takes no slash in front."""

    regex = ".+?"
    part_isolating = False


class Problem(Exception):
    """An answer that is an error. `code` is stable and for programs, `title` goes with it, `detail` tells this case.

    `members` are further members of the document, `headers` of the response.
    """

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = dict(members or {})

    def response(self) -> Response:
        """The problem as a response to the request at hand."""
        return problem(self.status, self.code, self.title, self.detail, headers=self.headers, members=self.members)


def malformed(detail: str) -> Problem:
    """400: the request is not of the form that it should have; `detail` names the field."""
    return Problem(400, "malformed-request", "Malformed request", detail)


def not_found(detail: str) -> Problem:
    """404: it is not there, or not the caller's to see."""
    return Problem(404, "not-found", "Not found", detail)


def unavailable(detail: str) -> Problem:
    """503 with `Retry-After`: something that we need is away; the same request may succeed soon."""
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Problem(503, "temporarily-unavailable", "Temporarily unavailable", detail, headers=headers)


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Response:
    """A problem document as a response (RFC 9457), with the trace id that the logs have too."""
    g.problem_code = code
    document = problem_document(status, code, title, detail, trace_id=trace_id(), members=members)
    response = Response(msgspec.json.encode(document), status=status, content_type=PROBLEM_TYPE)
    response.headers.update(headers or {})
    return response


def problem_document(
    status: int, code: str, title: str, detail: str, *, trace_id: str, members: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The members of a problem document, in their order."""
    return {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "trace_id": trace_id,
        **(members or {}),
    }


def answer(document: Any, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response of what msgspec can encode."""
    response = Response(msgspec.json.encode(document), status=status, content_type=JSON_TYPE)
    if headers:
        response.headers.update(headers)
    return response


def install_conventions(app: Flask, *, ids: IdSource, body_bytes_max: int = BODY_BYTES_MAX) -> None:
    """Makes the app behave as this module says. Call it once, before its routes are added."""
    app.url_map.merge_slashes = False
    app.url_map.converters["user"] = _UserInPath
    app.config["MAX_CONTENT_LENGTH"] = body_bytes_max
    app.extensions["purser_ids"] = ids
    app.before_request(_begin)
    app.after_request(_name_request)
    app.after_request(_count)
    app.after_request(_tell)
    app.teardown_request(_leave)
    app.register_error_handler(Problem, Problem.response)
    app.register_error_handler(HTTPException, _http_problem)
    app.register_error_handler(DatabaseUnavailable, _database_problem)
    app.register_error_handler(Exception, _unexpected_problem)


def trace_id() -> str:
    """The trace that this request belongs to: 32 hexadecimal digits."""
    return _trace()[0]


def request_id() -> str:
    """The request's own name: the caller's `X-Request-Id` if it is 1 to 128 plain characters, else a new one."""
    if "request_id" not in g:
        given = request.headers.get(REQUEST_ID_HEADER, "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else str(_ids().uuid())
    return cast(str, g.request_id)


def read_body(model: type[M]) -> M:
    """The request's JSON object as the model. Raises Problem: 400 naming the field, 413 when it is too large.

    Types are taken strictly (`"1"` is no number), members that the model does not know are ignored.
    """
    try:
        return model.model_validate(_json_object(model), strict=True)
    except ValidationError as error:
        raise malformed(_first_problem(error)) from error


def read_bytes(*, bytes_max: int) -> bytes:
    """The request's body as it came, to be handed on. Raises RequestEntityTooLarge: 413."""
    request.max_content_length = bytes_max
    return _body()


def read_query(model: type[M]) -> M:
    """The request's query parameters as the model; of a repeated one the first counts. Raises Problem: 400."""
    try:
        return model.model_validate(request.args.to_dict())
    except ValidationError as error:
        raise malformed(_first_problem(error)) from error


def read_idempotency_key() -> str | None:
    """The request's `Idempotency-Key`, 1 to 200 printable ASCII characters; None without one. Raises Problem: 400.

    Blanks around it do not belong to it (RFC 9110, section 5.5): on the way through a proxy they may be lost.
    """
    given = request.headers.get(IDEMPOTENCY_KEY_HEADER)
    if given is None:
        return None
    key = given.strip(" \t")
    if _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise malformed(f"{IDEMPOTENCY_KEY_HEADER}: 1 to 200 printable ASCII characters are wanted")
    return key


def caller_header(*, kind: CallerKind, name: str) -> str:
    """`client:<user id>` or `server:<key id>`, percent-encoded: a user id may hold what a header may not."""
    return f"{kind}:{quote(name, safe='')}"


def read_caller(header: str) -> tuple[CallerKind, str] | None:
    """Kind and name from what `caller_header` wrote; None when it is something else."""
    kind, colon, name = header.partition(":")
    if not colon or not name or kind not in {"client", "server"}:
        return None
    return cast(CallerKind, kind), unquote(name)


def _json_object(model: type[BaseModel]) -> dict[str, Any]:
    body = _body()
    if is_too_deep(body):
        raise malformed(f"the body is not JSON of at most {DEPTH_MAX} levels")
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"{_broken_member(body, model)}the body is not JSON") from error
    if not isinstance(document, dict):
        raise malformed("the body is not a JSON object")
    return document


def _broken_member(body: bytes, model: type[BaseModel]) -> str:
    """Which member keeps the body from being JSON, if it is for half a surrogate pair: that is no text (RFC 8259, 8.2),
    but Python's own parser lets it pass.
    """
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        return ""
    members = document if isinstance(document, dict) else {}
    broken = [name for name in model.model_fields if _SURROGATE.search(str(members.get(name)))]
    return f"{broken[0]}: it holds half a surrogate pair: " if broken else ""


def _body() -> bytes:
    """The body. One whose length was not announced (chunked) is cut at the limit by Werkzeug, which says nothing."""
    body = request.get_data(cache=False)
    if request.content_length is None and len(body) == request.max_content_length:
        raise RequestEntityTooLarge
    return body


def _first_problem(error: ValidationError) -> str:
    """`transaction_id: Field required`; what was sent is never repeated."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _trace() -> tuple[str, SpanId | None]:
    """The request's trace, and the span in it that called us, if the caller named one."""
    if "trace" not in g:
        given = trail.read_traceparent(request.headers.get(TRACEPARENT_HEADER, ""))
        g.trace = given or (_ids().trace_id(), None)
    return cast("tuple[str, SpanId | None]", g.trace)


def _ids() -> IdSource:
    return cast(IdSource, current_app.extensions["purser_ids"])


def _begin() -> None:
    g.began_s = perf_counter()
    _arrive()


def _arrive() -> None:
    """What this thread does from now on belongs to the request's trace."""
    trace, parent = _trace()
    if (route := _route()) not in _PROBES:
        name = f"{_method()} {route}" if request.url_rule else _method()
        g.span = tracing.begin(name, kind="server", trace_id=trace, parent_id=parent)
    here = g.get("span")
    span_id = here.span_id if here else parent or SpanId(_ids().uuid().hex[16:])
    trail.move_to(trail.Place(trace, span_id, request_id=request_id()))


def _leave(_error: BaseException | None) -> None:
    """The thread's next request is another's."""
    tracing.end(g.pop("span", None))
    trail.move_to()


def _count(response: Response) -> Response:
    route, method = _route(), _method()
    HTTP_REQUESTS.add(route, method, str(response.status_code))
    HTTP_DURATION.add(perf_counter() - g.began_s, route)
    if "problem_code" in g:
        REFUSED.add(g.problem_code)
    return response


def _tell(response: Response) -> Response:
    log.debug("answered", method=_method(), route=_route(), status=response.status_code)
    if (span := g.get("span")) is not None:
        span.attributes |= {
            "http.request.method": _method(),
            "http.route": _route(),
            "http.response.status_code": response.status_code,
        }
        if response.status_code >= _SERVER_ERROR:  # OpenTelemetry: 4xx is no error of the server's
            span.error = str(response.status_code)
    return response


def _name_request(response: Response) -> Response:
    response.headers[REQUEST_ID_HEADER] = request_id()
    return response


def _http_problem(error: HTTPException) -> Response:
    """Flask's own errors: no such path, method not allowed, body too large, and the like."""
    kept = {name: value for name, value in error.get_headers() if name in {"Allow", "Retry-After"}}
    status = error.code or 500
    known = _HTTP_PROBLEMS.get(status)
    if known is None:
        return problem(status, "not-served", "Not served", error.name, headers=kept)
    code, title, detail = known
    return problem(status, code, title, detail, headers=kept)


_HTTP_PROBLEMS: Final[Mapping[int, tuple[str, str, str]]] = {
    400: ("malformed-request", "Malformed request", "the request cannot be read"),
    404: ("not-found", "Not found", "there is nothing at this path"),
    405: ("method-not-allowed", "Method not allowed", "this path does not take that method"),
    413: ("body-too-large", "Body too large", "the body is larger than this call takes"),
}


def _database_problem(_error: DatabaseUnavailable) -> Response:
    log.warning("the database is away", route=_route())
    return unavailable("the database is away: ask again").response()


def _unexpected_problem(error: Exception) -> Response:
    if is_busy(error):
        log.warning("the database was too slow", route=_route())
        return unavailable("the database is busy: ask again").response()
    log.error("not answered", route=_route(), exc_info=error)
    return problem(500, "internal-error", "Internal error", "something went wrong here; the trace id leads to the log")


def _method() -> str:
    return request.method if request.method in _METHODS else "other"


def _route() -> str:
    """The rule that matched, rather than the path: paths hold the ids of users."""
    return str(request.url_rule) if request.url_rule else "none"
