"""In production no secret that everybody can read in this repository is taken."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from shared.settings import EXAMPLE_SECRETS, BrokerSettings, DatabaseSettings, ProcessSettings, read


class _Settings(ProcessSettings, DatabaseSettings, BrokerSettings):
    token: SecretStr = SecretStr("own")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://purser:own@postgres/purser")
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://:example-only-password-change-me@redis:6379/0")


def test_an_examples_password_within_a_url_is_refused_in_production_and_its_variable_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    with pytest.raises(SystemExit) as ended:
        read(_Settings)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said == "purser: PURSER_BROKER_URL holds an example's secret, and PURSER_PRODUCTION=1 refuses it\n"


@pytest.mark.parametrize("secret", sorted(EXAMPLE_SECRETS))
def test_each_example_is_refused_in_production(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://:own@redis:6379/0")
    assert read(_Settings).production
    monkeypatch.setenv("PURSER_TOKEN", secret)
    with pytest.raises(SystemExit):
        read(_Settings)


def test_the_examples_are_taken_outside_production() -> None:
    assert "example-only" in read(_Settings).broker_url.get_secret_value()
