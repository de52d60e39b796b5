"""The gateway starts with what it can use, and says in a sentence what it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.app import create_app
from tests.support.apple_pki import Certificate, Chain
from tests.support.gateway import EXAMPLES

SECRET = "b" * 40
OWN_APPS = f"""
[[apps]]
id = "game"
name = "Game"
[apps.client_tokens]
algorithm = "HS256"
key = "{SECRET}"
[apps.apple]
bundle_id = "com.example.game"
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """What a gateway in production needs, all of it good."""
    monkeypatch.setattr("gateway.app.configure_logging", lambda **_: None)  # it is for a whole process
    apps = tmp_path / "apps.toml"
    apps.write_text(OWN_APPS)
    for name, value in {
        "PRODUCTION": "1",
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
        "SERVICE_TOKEN": "a-token-that-nobody-has-published",
        "APPS_FILE": str(apps),
        "CATALOG_FILE": str(EXAMPLES / "catalog.toml"),
    }.items():
        monkeypatch.setenv(f"PURSER_{name}", value)
    return monkeypatch


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        create_app()
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_it_starts_in_production_before_its_database_does(environment: pytest.MonkeyPatch) -> None:
    client = create_app().test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize("name", ["DATABASE_URL", "SERVICE_TOKEN"])
def test_what_is_missing_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    environment.delenv(f"PURSER_{name}")
    assert f"PURSER_{name}" in refusal(capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_THREADS", "0"),
        ("LEDGER_URL", "ledger:8081"),
        ("LEDGER_READ_TIMEOUT_S", "0"),
        ("NOTIFIER_URL", "http://notifier:8082/v1"),
        ("NOTIFIER_READ_TIMEOUT_S", "0"),
        ("APPS_FILE", "/nowhere/apps.toml"),
        ("CATALOG_FILE", "/nowhere/catalog.toml"),
        ("APPLE_ROOT_SHA256", "12"),
        ("APPLE_ROOT_FILES", "/nowhere/root.pem"),
    ],
)
def test_what_is_bad_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    environment.setenv(f"PURSER_{name}", value)
    assert f"PURSER_{name}" in refusal(capsys)


def test_a_key_file_that_cannot_be_read_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    apps = OWN_APPS.replace("HS256", "RS256").replace(f'key = "{SECRET}"', 'public_key_file = "/nowhere/key.pem"')
    (tmp_path / "apps.toml").write_text(apps)
    said = refusal(capsys)
    assert "PURSER_APPS_FILE" in said
    assert "/nowhere/key.pem" in said


def test_production_refuses_the_examples_secrets(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("PURSER_SERVICE_TOKEN", "example-only-service-token-change-me")
    assert "PURSER_SERVICE_TOKEN" in refusal(capsys)
    environment.setenv("PURSER_SERVICE_TOKEN", "a-token-that-nobody-has-published")
    environment.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))
    assert "PURSER_APPS_FILE" in refusal(capsys)


def test_production_refuses_a_simulators_root(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "root.pem"
    root.write_bytes(Chain(root_recipe=Certificate("Purser Simulator Root CA")).root.pem)
    environment.setenv("PURSER_APPLE_ROOT_FILES", str(root))
    assert "simulator" in refusal(capsys)
    environment.setenv("PURSER_PRODUCTION", "0")
    assert create_app().test_client().get("/healthz").status_code == 200
