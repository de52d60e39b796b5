"""What the store is to be asked about: apps that have a key, where they take purchases from, by both roads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from shared.apps import App, AppleApp, parse_apps
from shared.ids import AppId
from tests.support.server_api_key import new_signing_key
from verifier.domain.reconciliation import Key
from verifier.handlers.reconciling import askable, wanted

KEYLESS = App(id=AppId("free"), name="Free", apple=AppleApp(bundle_id="com.example.free"))


@pytest.fixture
def keyed(tmp_path: Path) -> Path:
    """A directory with a key in it."""
    (tmp_path / "game.p8").write_bytes(new_signing_key().pem)
    return tmp_path


def game(directory: Path, sandbox: Literal["refuse", "separate"]) -> App:
    text = f"""
        [[apps]]
        id = "game"
        name = "Game"
        [apps.apple]
        bundle_id = "com.example.game"
        app_apple_id = 1234567890
        issuer_id = "57246542-96fe-1a63-e053-0824d011072a"
        key_id = "GAME000000"
        private_key_file = "game.p8"
        sandbox = "{sandbox}"
    """
    (app,) = parse_apps(text, directory=directory)
    return app


def test_an_app_without_a_key_is_not_asked_about(keyed: Path) -> None:
    app = game(keyed, "separate")
    assert askable([KEYLESS, app]) == [app]
    assert {key.app for key in wanted([KEYLESS, app])} == {app.id}


def test_the_sandbox_is_asked_about_unless_the_app_refuses_it(keyed: Path) -> None:
    here = [Key(AppId("game"), "production", "notifications"), Key(AppId("game"), "production", "subscriptions")]
    there = [Key(AppId("game"), "sandbox", "notifications"), Key(AppId("game"), "sandbox", "subscriptions")]
    assert wanted([game(keyed, "separate")]) == here + there
    assert wanted([game(keyed, "refuse")]) == here
