"""What the doctor says of those who have to be reached: asked over a real connection."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from deploy.doctor import network
from deploy.doctor.findings import Finding
from deploy.doctor.network import (
    check_endpoints,
    check_flower,
    check_ocsp,
    check_server,
    check_verify_receipt,
    check_webhook_path,
)
from notifier.domain.addresses import Reach
from shared.apps import parse_apps
from shared.clock import ManualClock, SystemClock
from tests.support.scripted_store import Reply, ScriptedStore, hang_up, says, serving

CLOCK = SystemClock()
CLOSED = "http://127.0.0.1:1"


@contextmanager
def answering(replies: dict[str, Reply]) -> Iterator[str]:
    store = ScriptedStore()
    for path, reply in replies.items():
        store.tell(path, reply)
    with serving(store) as url:
        yield url


def server(**replies: Reply) -> Finding:
    with answering({f"/{path}": reply for path, reply in replies.items()}) as url:
        (finding,) = check_server("gateway", url, clock=CLOCK, remedy="start it")
        return finding


def test_a_server_that_lives_and_is_ready_is_well() -> None:
    assert server(healthz=says({}), readyz=says({})).outcome == "ok"


def test_a_server_that_is_not_ready_fails_and_says_what_it_answered() -> None:
    unready = server(healthz=says({}), readyz=says({}, status=503))
    assert unready.outcome == "failed"
    assert "/readyz answers 503" in unready.found


def test_a_server_that_is_not_there_or_hangs_up_fails() -> None:
    (nobody,) = check_server("gateway", CLOSED, clock=CLOCK, remedy="start it")
    assert (nobody.outcome, nobody.remedy) == ("failed", "start it")
    assert server(healthz=hang_up).outcome == "failed"


def test_flower_may_be_missing_and_one_that_is_ill_warns() -> None:
    (missing,) = check_flower(CLOSED, clock=CLOCK)
    assert missing.outcome == "unchecked"
    for reply, outcome in [(says(b"OK"), "ok"), (says(b"", status=500), "warning")]:
        with answering({"/healthcheck": reply}) as url:
            (finding,) = check_flower(url, clock=CLOCK)
        assert finding.outcome == outcome


def test_apples_responder_is_looked_for_where_the_store_is_apples(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ScriptedStore()) as url:
        monkeypatch.setattr(network, "APPLE_OCSP", ("127.0.0.1", int(url.rpartition(":")[2])))
        (reached,) = check_ocsp("https://api.storekit.apple.com")
    (away,) = check_ocsp("https://api.storekit.apple.com")
    (simulated,) = check_ocsp("http://127.0.0.1:8090")
    assert (reached.outcome, away.outcome, simulated.outcome) == ("ok", "failed", "unchecked")


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (says({"code": "malformed-request"}, status=400), "ok"),
        (says({}, status=400), "failed"),  # a proxy's own 400
        (says({}, status=404), "failed"),
        (says({}, status=301, Location="https://elsewhere.example/"), "failed"),
    ],
)
def test_the_notification_url_is_well_when_the_gateway_itself_refuses_what_is_no_notification(
    reply: Reply, outcome: str
) -> None:
    with answering({"/webhooks/apple": reply}) as url:
        (finding,) = check_webhook_path(url, clock=CLOCK)
    assert finding.outcome == outcome


def verify_receipt(reply: Reply, *, ahead_s: float = 0) -> tuple[Finding, Finding]:
    """What is found of a store whose clock is so far ahead of ours."""
    clock = ManualClock(SystemClock().now() - timedelta(seconds=ahead_s))
    with answering({"/verifyReceipt": reply}) as url:
        store, time = check_verify_receipt([("production", f"{url}/verifyReceipt")], clock=clock)
        return store, time


def test_a_store_that_answers_an_empty_question_with_a_status_is_reached() -> None:
    store, _ = verify_receipt(says({"status": 21002}))
    assert store.outcome == "ok"
    assert "21002" in store.found


@pytest.mark.parametrize("reply", [says(b"<html>"), says({"status": "no"}), says([]), says({"status": 0}, status=503)])
def test_a_store_that_answers_something_else_warns(reply: Reply) -> None:
    assert verify_receipt(reply)[0].outcome == "warning"


def test_a_store_that_cannot_be_reached_fails_and_leaves_the_clock_unchecked() -> None:
    store, time = check_verify_receipt([("production", f"{CLOSED}/verifyReceipt")], clock=CLOCK)
    assert (store.outcome, time.outcome) == ("failed", "unchecked")


@pytest.mark.parametrize(
    ("ahead_s", "outcome"),
    [(0, "ok"), (-50, "ok"), (70, "warning"), (-70, "warning"), (310, "failed"), (-310, "failed")],
)
def test_a_clock_that_is_off_either_way_warns_after_a_minute_and_fails_when_signatures_would(
    ahead_s: float, outcome: str
) -> None:
    assert verify_receipt(says({"status": 21002}), ahead_s=ahead_s)[1].outcome == outcome


def endpoint(url: str, *, production: bool = False) -> Finding:
    apps = parse_apps(
        f'[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "b"\n'
        f'[[apps.webhooks]]\nid = "backend"\nurl = "{url}"\nsecret = "whsec_MDEy"\n'
    )
    (finding,) = check_endpoints(apps, reach=Reach.of(production=production))
    return finding


def test_a_backend_is_connected_to_and_nothing_is_sent() -> None:
    store = ScriptedStore()
    with serving(store) as url:
        assert endpoint(f"{url}/hooks").outcome == "ok"
    assert store.asked == []


def test_a_backend_that_is_away_or_whose_tls_fails_warns() -> None:
    assert endpoint(f"{CLOSED}/hooks").outcome == "warning"
    with serving(ScriptedStore()) as url:
        plain = endpoint(url.replace("http://", "https://"))
    assert plain.outcome == "warning"
    assert "TLS" in plain.found


def test_a_backend_at_an_address_that_is_not_called_fails_and_is_not_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        refused = endpoint(f"https://127.0.0.1:{listener.getsockname()[1]}/hooks?token=hidden", production=True)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert refused.outcome == "failed"
    assert "127.0.0.1 is at a loopback address" in refused.found
    assert "PURSER_WEBHOOK_ALLOWED_NETWORKS" in (refused.remedy or "")
    assert "hidden" not in refused.found


def test_for_a_backend_at_a_metadata_address_the_remedy_is_no_setting() -> None:
    refused = endpoint("https://169.254.169.254/latest", production=True)
    assert (refused.outcome, "a metadata address" in refused.found) == ("failed", True)
    assert "no setting allows such an address" in (refused.remedy or "")
    assert "PURSER_" not in (refused.remedy or "")


def test_a_backend_that_would_be_called_without_tls_is_told_to_use_it() -> None:
    refused = endpoint("http://127.0.0.1:1/hooks", production=True)
    assert (refused.outcome, refused.remedy) == ("failed", "let its url begin with https://")


def test_a_name_that_does_not_resolve_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "Name or service not known" in endpoint("https://backend.invalid/hooks").found
