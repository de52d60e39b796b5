"""Flower's login, before Flower takes it apart."""

from __future__ import annotations

import pytest

from deploy.monitor import MonitorSettings
from deploy.settings import StackSettings
from shared.settings import examine


@pytest.mark.parametrize("settings_class", [MonitorSettings, StackSettings])
@pytest.mark.parametrize(
    ("variable", "value"), [("PURSER_FLOWER_PASSWORD", "ab,Long-Random:Rest"), ("PURSER_FLOWER_USER", "purser,other")]
)
def test_a_login_that_flower_would_take_for_two_is_refused(
    settings_class: type[StackSettings], variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://redis/0")
    monkeypatch.setenv("PURSER_FLOWER_PASSWORD", "a:password;of-its=own ")
    assert examine(settings_class)[1] == []
    monkeypatch.setenv(variable, value)
    _, (problem,) = examine(settings_class)
    assert problem.startswith(f"{variable}: ")
    assert "Long-Random" not in problem
