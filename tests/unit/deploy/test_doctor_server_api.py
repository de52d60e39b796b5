"""What the doctor says of the App Store Server API: asked with a real key, answered by a real server."""

from __future__ import annotations

import pytest

from deploy.doctor.findings import Finding
from deploy.doctor.server_api import check_server_api
from deploy.settings import PROJECT
from shared.apps import App, parse_apps
from shared.clock import SystemClock
from tests.support.scripted_store import Reply, ScriptedStore, hang_up, says, serving
from verifier.settings import StoreSettings

PATH = "/inApps/v1/transactions/0"
NO_SUCH = says({"errorCode": 4000006, "errorMessage": "Invalid transaction id."}, status=400)
UNKNOWN = says({"errorCode": 4040010, "errorMessage": "Transaction id not found."}, status=404)
UNAUTHORIZED = says(b"Unauthenticated\n", status=401)


def app(key: str = 'issuer_id = "i"\nkey_id = "k"\nprivate_key_file = "AuthKey_EXAMPLE.p8"') -> App:
    text = f'[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "com.example.game"\n{key}'
    return next(iter(parse_apps(text, directory=PROJECT / "deploy/examples")))


def check(production: Reply, sandbox: Reply) -> tuple[Finding, Finding]:
    store = ScriptedStore()
    store.tell(PATH, production)
    store.tell(f"/sandbox{PATH}", sandbox)
    with serving(store) as url:
        first, second = check_server_api(app(), settings=settings(url), clock=SystemClock())
    assert all(asked.headers["Authorization"].startswith("Bearer ey") for asked in store.asked)
    return first, second


def settings(url: str) -> StoreSettings:
    return StoreSettings(apple_api_url=url, apple_api_sandbox_url=f"{url}/sandbox")


@pytest.mark.parametrize("answer", [NO_SUCH, UNKNOWN])
def test_that_there_is_no_such_transaction_says_that_the_key_is_taken(answer: Reply) -> None:
    assert [finding.outcome for finding in check(answer, answer)] == ["ok", "ok"]


def test_401_from_both_fails_because_the_key_is_wrong() -> None:
    production, sandbox = check(UNAUTHORIZED, UNAUTHORIZED)
    assert (production.outcome, sandbox.outcome) == ("failed", "failed")
    assert "issuer_id" in (sandbox.remedy or "")


def test_401_from_production_alone_warns_because_the_app_may_not_be_released() -> None:
    production, sandbox = check(UNAUTHORIZED, UNKNOWN)
    assert (production.outcome, sandbox.outcome) == ("warning", "ok")
    assert "first release" in (production.remedy or "")


def test_401_from_the_sandbox_alone_fails() -> None:
    production, sandbox = check(UNKNOWN, UNAUTHORIZED)
    assert (production.outcome, sandbox.outcome) == ("ok", "failed")


@pytest.mark.parametrize("answer", [hang_up, says({"errorCode": 5000001}, status=500)])
def test_a_store_that_is_away_fails_for_the_network_and_not_for_the_key(answer: Reply) -> None:
    production, _ = check(answer, UNKNOWN)
    assert production.outcome == "failed"
    assert "443" in (production.remedy or "")


def test_without_a_key_nothing_is_asked() -> None:
    found = check_server_api(app(key=""), settings=settings("http://127.0.0.1:1"), clock=SystemClock())
    assert [finding.outcome for finding in found] == ["unchecked", "unchecked"]
