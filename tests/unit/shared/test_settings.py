"""Settings: what is missing or bad ends the process with a sentence that names the variable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.settings import (
    APPLE_ROOT_CA_G3_SHA256,
    AppsSettings,
    ProcessSettings,
    ServiceTokenSettings,
    TrustSettings,
    WorkerSettings,
    checked_apps,
    checked_catalog,
    example_secrets,
    read,
)

Refused = Callable[[Callable[[], object]], str]
EXAMPLE = Path("deploy/examples/apps.toml")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One in which everything that is required is there."""
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://a:hidden-1@h/d")
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://:hidden-2@h/0")
    for name in ("LOG_LEVEL", "PRODUCTION", "APPS_FILE", "CATALOG_FILE", "SERVICE_TOKEN", "HEARTBEAT_FILE"):
        monkeypatch.delenv(f"PURSER_{name}", raising=False)
    return monkeypatch


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Does what must end the process; what it says."""

    def end(do: Callable[[], object]) -> str:
        with pytest.raises(SystemExit) as ended:
            do()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return end


class TestReading:
    def test_what_is_not_set_has_its_default(self) -> None:
        settings = read(WorkerSettings)
        assert (settings.log_level, settings.production, settings.heartbeat_file) == ("info", False, None)

    def test_a_secret_is_not_shown(self) -> None:
        settings = read(WorkerSettings)
        assert "hidden" not in repr(settings) + str(settings)
        assert settings.database_url.get_secret_value() == "postgresql://a:hidden-1@h/d"

    @pytest.mark.parametrize(("value", "production"), [("1", True), ("0", False), ("true", True), ("false", False)])
    def test_production_is_a_switch(self, environment: pytest.MonkeyPatch, value: str, production: bool) -> None:
        environment.setenv("PURSER_PRODUCTION", value)
        assert read(ProcessSettings).production is production

    def test_each_variable_that_is_missing_has_its_sentence(
        self, environment: pytest.MonkeyPatch, refused: Refused
    ) -> None:
        environment.delenv("PURSER_DATABASE_URL")
        environment.delenv("PURSER_BROKER_URL")
        assert sorted(refused(lambda: read(WorkerSettings)).splitlines()) == [
            "purser: PURSER_BROKER_URL: Field required",
            "purser: PURSER_DATABASE_URL: Field required",
        ]

    @pytest.mark.parametrize(("name", "value"), [("LOG_LEVEL", "loud"), ("PRODUCTION", "perhaps")])
    def test_a_bad_value_is_refused_by_the_name_of_its_variable(
        self, environment: pytest.MonkeyPatch, refused: Refused, name: str, value: str
    ) -> None:
        environment.setenv(f"PURSER_{name}", value)
        said = refused(lambda: read(ProcessSettings))
        assert said.startswith(f"purser: PURSER_{name}: ")
        assert said.count("\n") == 1

    def test_a_missing_secret_is_named(self, refused: Refused) -> None:
        assert "PURSER_SERVICE_TOKEN" in refused(lambda: read(ServiceTokenSettings))


class TestLists:
    def test_the_root_of_the_app_store_is_trusted_unless_others_are_named(
        self, environment: pytest.MonkeyPatch
    ) -> None:
        environment.delenv("PURSER_APPLE_ROOT_SHA256", raising=False)
        environment.delenv("PURSER_APPLE_ROOT_FILES", raising=False)
        settings = read(TrustSettings)
        assert (settings.root_pins(), settings.root_files()) == ([APPLE_ROOT_CA_G3_SHA256], [])

    def test_a_list_is_cut_at_its_commas(self, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("PURSER_APPLE_ROOT_SHA256", " aa, bb,")
        environment.setenv("PURSER_APPLE_ROOT_FILES", "one.pem , two.der")
        settings = read(TrustSettings)
        assert settings.root_pins() == ["aa", "bb"]
        assert settings.root_files() == [Path("one.pem"), Path("two.der")]


class TestFiles:
    def test_the_examples_serve_a_developer(self) -> None:
        settings = read(AppsSettings)
        assert [app.id for app in checked_apps(settings, production=False)] == ["game"]
        assert checked_catalog(settings).currencies["gems"] == "Gems"  # type: ignore[index]

    def test_a_file_that_cannot_be_used_is_named_with_its_variable(
        self, environment: pytest.MonkeyPatch, refused: Refused, tmp_path: Path
    ) -> None:
        environment.setenv("PURSER_APPS_FILE", str(tmp_path / "apps.toml"))
        environment.setenv("PURSER_CATALOG_FILE", str(tmp_path / "catalog.toml"))
        settings = read(AppsSettings)
        assert refused(lambda: checked_apps(settings, production=False)) == (
            f"purser: PURSER_APPS_FILE: {tmp_path}/apps.toml: No such file or directory\n"
        )
        assert refused(lambda: checked_catalog(settings)).startswith("purser: PURSER_CATALOG_FILE: ")

    def test_the_secrets_of_the_example_are_refused_in_production(self, refused: Refused) -> None:
        said = refused(lambda: checked_apps(read(AppsSettings), production=True))
        assert "is the example's" in said
        assert "PURSER_PRODUCTION=1" in said

    def test_the_examples_private_key_is_refused_in_production_under_any_name(
        self, environment: pytest.MonkeyPatch, refused: Refused, tmp_path: Path
    ) -> None:
        (tmp_path / "own.p8").write_bytes((EXAMPLE.parent / "AuthKey_EXAMPLE.p8").read_bytes())
        (tmp_path / "apps.toml").write_text(
            '[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "com.example.game"\n'
            'issuer_id = "issuer"\nkey_id = "key"\nprivate_key_file = "own.p8"\n'
        )
        environment.setenv("PURSER_APPS_FILE", str(tmp_path / "apps.toml"))
        settings = read(AppsSettings)
        assert "app 'game': apple.private_key_file is the example's" in refused(
            lambda: checked_apps(settings, production=True)
        )
        assert len(list(checked_apps(settings, production=False))) == 1
        (tmp_path / "own.p8").write_text("a key of our own")
        assert len(list(checked_apps(settings, production=True))) == 1

    def test_a_private_key_that_cannot_be_read_is_no_examples(
        self, environment: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "apps.toml").write_text(
            '[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "com.example.game"\n'
            'issuer_id = "issuer"\nkey_id = "key"\nprivate_key_file = "nowhere.p8"\n'
        )
        environment.setenv("PURSER_APPS_FILE", str(tmp_path / "apps.toml"))
        assert example_secrets(checked_apps(read(AppsSettings), production=True)) == []

    def test_a_login_providers_keys_over_plain_http_are_refused_in_production(
        self, environment: pytest.MonkeyPatch, refused: Refused, tmp_path: Path
    ) -> None:
        apps = tmp_path / "apps.toml"
        environment.setenv("PURSER_APPS_FILE", str(apps))
        settings = read(AppsSettings)
        text = (
            '[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "com.example.game"\n'
            '[apps.client_tokens]\nalgorithm = "RS256"\njwks_url = "{}://login.example/jwks.json"\n'
        )
        apps.write_text(text.format("http"))
        assert len(list(checked_apps(settings, production=False))) == 1
        said = refused(lambda: checked_apps(settings, production=True))
        assert "app 'game': client_tokens.jwks_url is not https://" in said
        apps.write_text(text.format("https"))
        assert len(list(checked_apps(settings, production=True))) == 1

    @pytest.mark.parametrize("kept", range(4))
    def test_one_of_them_is_enough_to_be_refused(
        self, environment: pytest.MonkeyPatch, refused: Refused, tmp_path: Path, kept: int
    ) -> None:
        text = EXAMPLE.read_text()
        secrets = [
            ("example-only-client-token-key-change-me", "k" * 32),
            ("7506735a6bca2302fca43e50bcc8954b7fb65138b092fe9be1d160b544037926", "a" * 64),
            ("example-shared-secret", "own"),
            ("whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh", "whsec_b3du"),
        ]
        for place, (secret, own) in enumerate(secrets):
            assert secret in text
            text = text if place == kept else text.replace(secret, own)
        (tmp_path / "apps.toml").write_text(text)
        environment.setenv("PURSER_APPS_FILE", str(tmp_path / "apps.toml"))
        settings = read(AppsSettings)
        assert len(example_secrets(checked_apps(settings, production=False))) == 1
        assert secrets[kept][0] not in refused(lambda: checked_apps(settings, production=True))
