"""What the notifier refuses to start with."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifier.app import apps_with_endpoints
from notifier.settings import NotifierSettings, WebhooksSettings
from shared.apps import Apps
from shared.settings import read

APPS = """
[[apps]]
id = "game"
name = "Game"
[apps.apple]
bundle_id = "com.example.game"
[[apps.webhooks]]
id = "backend"
url = "{url}"
secret = "{secret}"
"""
EXAMPLE_SECRET = "whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh"
OWN_SECRET = "whsec_" + "QUJD" * 8


PREVIOUS = 'previous_secret = "{}"\n'


def configured() -> Apps:
    """What both processes start with."""
    apps_with_endpoints(read(NotifierSettings))
    return apps_with_endpoints(read(WebhooksSettings))


@pytest.fixture
def apps_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the apps file is, in an environment that lacks nothing."""
    path = tmp_path / "apps.toml"
    monkeypatch.setenv("PURSER_APPS_FILE", str(path))
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://nobody@127.0.0.1/none")
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1/0")
    monkeypatch.delenv("PURSER_PRODUCTION", raising=False)
    return path


def test_a_laptop_may_use_plain_http_and_the_example_secret(apps_file: Path) -> None:
    apps_file.write_text(APPS.format(url="http://127.0.0.1:8091/hooks", secret=EXAMPLE_SECRET))
    assert len(list(configured())) == 1


@pytest.mark.parametrize(
    ("url", "secret", "sentence"),
    [
        ("https://backend.example/hooks", EXAMPLE_SECRET, "webhook 'backend' is the example's"),
        ("http://127.0.0.1:8091/hooks", OWN_SECRET, "url has to be https://"),
    ],
)
def test_production_refuses_each_with_a_sentence(
    apps_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    secret: str,
    sentence: str,
) -> None:
    apps_file.write_text(APPS.format(url=url, secret=secret))
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    with pytest.raises(SystemExit) as ended:
        configured()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert sentence in said
    assert secret not in said


def test_production_takes_https_and_a_secret_of_ones_own(apps_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apps_file.write_text(APPS.format(url="https://backend.example/hooks", secret=OWN_SECRET))
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    assert len(list(configured())) == 1


@pytest.mark.parametrize(
    ("secret", "sentence"),
    [(EXAMPLE_SECRET, "webhook 'backend' is the example's"), ("whsec_short", "secret has to be whsec_")],
)
def test_a_previous_secret_is_held_to_the_same(
    apps_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], secret: str, sentence: str
) -> None:
    text = APPS.format(url="https://backend.example/hooks", secret=OWN_SECRET) + PREVIOUS.format(secret)
    apps_file.write_text(text)
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    with pytest.raises(SystemExit):
        configured()
    said = capsys.readouterr().err
    assert sentence in said
    assert secret not in said


def test_whoever_tells_the_endpoints_needs_no_broker(apps_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apps_file.write_text(APPS.format(url="http://127.0.0.1:8091/hooks", secret=OWN_SECRET))
    monkeypatch.delenv("PURSER_BROKER_URL")
    settings = read(WebhooksSettings)
    assert (settings.webhook_timeout_s, settings.webhook_kept_days) == (15.0, 30)
    with pytest.raises(SystemExit):
        read(NotifierSettings)


def test_an_apps_file_that_is_not_there_is_named(apps_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        configured()
    assert f"PURSER_APPS_FILE: {apps_file}" in capsys.readouterr().err
