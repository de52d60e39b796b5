"""Who has to be reached over the network: our own servers, the App Store, and the apps' backends."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from deploy.doctor.http import Answer, Unreached, ask
from notifier.domain.addresses import Reach
from notifier.webhook.caller import AddressNeverCalled, Caller, CallRefused, PlainHttpRefused
from shared.apps import App, WebhookEndpoint
from shared.clock import Clock
from shared.events import Environment
from shared.jws import FUTURE_SKEW_S_MAX

CONNECT_TIMEOUT_S = 5.0
SKEW_WARNS_S = 60
"""Tokens for the Server API and `signedDate` are compared with clocks."""
DATE_IS_WHOLE_S = 1.0
APPLE_OCSP = ("ocsp.apple.com", 80)
"""Apple's certificates name it, by plain HTTP: what it answers is signed."""


def check_server(name: str, url: str, *, clock: Clock, remedy: str) -> list[Finding]:
    """A server of ours: whether it lives, and whether it is ready (the gateway: whether its database answers)."""
    try:
        answers = {path: ask("GET", url + path, clock=clock).status for path in ("/healthz", "/readyz")}
    except Unreached as error:
        return [failed(name, f"{url}: {error}", remedy)]
    wrong = [f"{path} answers {status}" for path, status in answers.items() if status != 200]
    if wrong:
        return [failed(name, f"{url}: {', '.join(wrong)}", "look at its log")]
    return [ok(name, f"{url}: lives, and is ready")]


def check_flower(url: str, *, clock: Clock) -> list[Finding]:
    """It is for looking only, so that it is missing is no fault."""
    try:
        status = ask("GET", f"{url}/healthcheck", clock=clock).status
    except Unreached as error:
        return [unchecked("flower", f"{url}: {error}; it is for looking only")]
    if status != 200:
        return [warning("flower", f"{url} answers {status}", "look at its log")]
    return [ok("flower", f"{url}: lives")]


def check_webhook_path(gateway: str, *, clock: Clock) -> list[Finding]:
    """What is no notification is answered with 400, by the gateway and by nothing else that may stand before it."""
    url = f"{gateway}/webhooks/apple"
    try:
        answer = ask("POST", url, clock=clock, json={})
    except Unreached as error:
        return [failed("notification URL", f"{url}: {error}", "see the gateway's line")]
    if answer.status != 400 or b"malformed-request" not in answer.body:
        return [failed("notification URL", f"{url} answers {answer.status}", "is it the gateway's, or a proxy's own?")]
    return [ok("notification URL", f"{url} takes posts")]


def check_verify_receipt(urls: Sequence[tuple[Environment, str]], *, clock: Clock) -> list[Finding]:
    """Whether verifyReceipt answers (an empty question has a status too), and whether our clock agrees with it."""
    findings = []
    ahead_s = []
    for environment, url in urls:
        name = f"verifyReceipt {environment}"
        try:
            answer = ask("POST", url, clock=clock, json={})
        except Unreached as error:
            findings.append(failed(name, f"{url}: {error}", "let verifier-store reach it (HTTPS, port 443)"))
            continue
        findings.append(_receipt_answer(name, url, answer))
        ahead_s += [] if answer.ahead_s is None else [answer.ahead_s]
    return [*findings, _clock(ahead_s)]


def _receipt_answer(name: str, url: str, answer: Answer) -> Finding:
    status = _status(answer)
    if status is None:
        return warning(name, f"{url} answers HTTP {answer.status}, and no status", "try again; is the URL right?")
    return ok(name, f"{url} answers (status {status})")


def _status(answer: Answer) -> int | None:
    try:
        document = json.loads(answer.body)
    except ValueError:
        return None
    status = document.get("status") if isinstance(document, dict) else None
    return status if answer.status == 200 and type(status) is int else None


def _clock(ahead_s: Sequence[float]) -> Finding:
    """The smallest difference seen: the network's delay only ever adds to it."""
    if not ahead_s:
        return unchecked("clock", "the store did not say what time it is")
    skew_s = max(min(abs(each) for each in ahead_s) - DATE_IS_WHOLE_S, 0)
    found = f"{skew_s:.0f} s from the App Store's"
    if skew_s > FUTURE_SKEW_S_MAX:
        return failed("clock", f"{found}: what it signs is of the future, or our tokens are", "synchronise it (NTP)")
    if skew_s > SKEW_WARNS_S:
        return warning("clock", found, "synchronise it (NTP)")
    return ok("clock", "agrees with the App Store's")


def check_ocsp(api_url: str) -> list[Finding]:
    """Whether Apple's responder can be connected to, where the verifier asks it and the store is Apple's."""
    if not (urlsplit(api_url).hostname or "").endswith(".apple.com"):
        return [unchecked("OCSP", "the store is a simulator: its certificates name a responder of their own, or none")]
    host, port = APPLE_OCSP
    try:
        _connect(host, port)
    except OSError as error:
        return [failed("OCSP", f"{host}:{port}: {_reason(error)}", "let verifier reach it, or PURSER_APPLE_OCSP=0")]
    return [ok("OCSP", f"{host}:{port} can be connected to")]


def check_endpoints(apps: Iterable[App], *, reach: Reach) -> list[Finding]:
    """Whether the backends that want webhooks may be called, and can be connected to. Nothing is posted."""
    caller = Caller(reach)
    return [_endpoint(app, endpoint, caller) for app in apps for endpoint in app.webhooks]


def _endpoint(app: App, endpoint: WebhookEndpoint, caller: Caller) -> Finding:
    name = f"webhook {app.id}/{endpoint.id}"
    try:
        parts = urlsplit(endpoint.url)
        tls = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if tls else 80)
    except ValueError:
        return unchecked(name, "its url cannot be read")
    try:
        with caller.connect(host, port, tls=tls, within_s=CONNECT_TIMEOUT_S) as connection:
            _speak(connection, host, tls=tls)
    except PlainHttpRefused as error:
        return failed(name, f"it is not called: {error}", "let its url begin with https://")
    except AddressNeverCalled as error:
        remedy = "mend its url, or what the DNS says of that host: no setting allows such an address"
        return failed(name, f"it is not called: {error}", remedy)
    except CallRefused as error:
        return failed(name, f"it is not called: {error}", "mend its url, or set PURSER_WEBHOOK_ALLOWED_NETWORKS")
    except ssl.SSLError as error:
        return warning(name, f"{host}:{port}: TLS fails: {error.reason or 'no trust'}", "mend its certificate")
    except OSError as error:
        return warning(
            name, f"{host}:{port}: {_reason(error)}", "start it, or mend its url; what it missed is sent again"
        )
    return ok(name, f"{host}:{port} can be connected to")


def _reason(error: OSError) -> str:
    return "no answer in time" if isinstance(error, TimeoutError) else (error.strerror or type(error).__name__)


def _connect(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S):
        pass


def _speak(plain: socket.socket, host: str, *, tls: bool) -> None:
    if tls:
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host):
            pass
