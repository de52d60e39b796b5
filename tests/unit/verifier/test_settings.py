"""What the verifier's processes do not start with."""

from __future__ import annotations

import pytest

from shared.settings import examine
from verifier.settings import ReconcilerSettings, VerifierSettings

URLS = ["VERIFY_RECEIPT_URL", "VERIFY_RECEIPT_SANDBOX_URL", "API_URL", "API_SANDBOX_URL"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://purser:own@postgres/purser")
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://:own@redis/0")
    for name in URLS:
        monkeypatch.delenv(f"PURSER_APPLE_{name}", raising=False)
    return monkeypatch


@pytest.mark.parametrize("settings_class", [VerifierSettings, ReconcilerSettings])
@pytest.mark.parametrize("name", URLS)
def test_a_store_over_plain_http_is_refused_in_production(
    environment: pytest.MonkeyPatch, settings_class: type[VerifierSettings | ReconcilerSettings], name: str
) -> None:
    environment.setenv(f"PURSER_APPLE_{name}", "http://store.example/verifyReceipt")
    assert examine(settings_class)[1] == []
    environment.setenv("PURSER_PRODUCTION", "1")
    problem = f"PURSER_APPLE_{name} is not https://, and PURSER_PRODUCTION=1 refuses it"
    assert examine(settings_class)[1] == [problem]
    environment.delenv(f"PURSER_APPLE_{name}")
    assert examine(settings_class)[1] == []


def test_an_examples_secret_is_refused_beside_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PURSER_PRODUCTION", "1")
    environment.setenv("PURSER_APPLE_API_URL", "http://store.example")
    environment.setenv("PURSER_BROKER_URL", "redis://:example-only-password-change-me@redis/0")
    assert len(examine(VerifierSettings)[1]) == 2
