"""URLs of servers that we log in to: what is none is refused before a library quotes it, and the password with it."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from deploy.settings import StackSettings
from shared.settings import BrokerSettings, DatabaseSettings, examine, secrets_of

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://purser:own@postgres/purser",
        "postgresql://purser:p%40ss%2Fword@db.invalid:5432/purser?sslmode=verify-full&sslrootcert=/run/ca.pem",
        "postgresql://me%40server:own@[fd12:3456::1]:5432/purser",
        "postgresql://purser@/purser?host=/var/run/postgresql",
        "postgresql:///purser?host=a:5432&host=b:5432",
        "postgresql://purser:-._~!$&'()*+,;=@postgres/purser",
    ],
)
def test_what_sqlalchemy_can_read_is_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", url)
    assert make_url(url).database == "purser"
    settings, problems = examine(DatabaseSettings)
    assert problems == []
    assert settings is not None
    assert settings.database_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://purser:part@{SECRET}@db.invalid/purser",
        f"postgresql://purser:part/{SECRET}@db.invalid/purser",
        f"postgresql://purser:12/{SECRET}@db.invalid/purser",
        f"postgresql://purser:12?{SECRET}@db.invalid/purser",
        f"postgresql://purser:part#{SECRET}@db.invalid/purser",
        f"postgresql://purser:part:{SECRET}@db.invalid/purser",
        f"postgresql://purser:part {SECRET}@db.invalid/purser",
        f"postgresql://purser:own@db.invalid:{SECRET}/purser",
        f"postgres://purser:{SECRET}@db.invalid/purser",
        SECRET,
    ],
)
def test_what_would_be_read_otherwise_than_it_is_meant_is_refused_unquoted(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", url)
    for settings_class in (DatabaseSettings, StackSettings):
        _, (problem,) = examine(settings_class)
        assert problem.startswith("PURSER_DATABASE_URL: wanted is postgresql://user:password@host:port/name")
        assert "percent-encoded" in problem
        assert SECRET not in problem


@pytest.mark.parametrize(
    "url",
    [
        "redis://:own@redis:6379/0",
        "rediss://user:own@redis/0",
        "amqp://purser:own@a:5672//;amqp://purser:own@b//",
        "amqps://r/v",
    ],
)
def test_brokers_are_taken(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_BROKER_URL", url)
    assert examine(BrokerSettings)[1] == []


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:part/{SECRET}@redis:6379/0",
        f"redis://:part@{SECRET}@redis:6379/0",
        f"amqp://purser:own@rabbit:{SECRET}/",
        f"http://:{SECRET}@redis/0",
        SECRET,
    ],
)
def test_what_is_no_brokers_url_is_refused_unquoted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_BROKER_URL", url)
    for settings_class in (BrokerSettings, StackSettings):
        _, (problem,) = examine(settings_class)
        assert problem.startswith("PURSER_BROKER_URL: a URL that starts with one of redis://")
        assert SECRET not in problem


def test_they_are_secrets_that_may_stand_in_files() -> None:
    assert {"database_url", "broker_url", "flower_password"} <= set(secrets_of(StackSettings))
