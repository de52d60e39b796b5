"""Secrets in files: read like those in the environment, and refused with a sentence that shows nothing of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.doctor.configuration import READ_BY
from deploy.settings import StackSettings, environment_with
from shared.settings import (
    SECRET_FILE_BYTES_MAX,
    DatabaseSettings,
    Piece,
    ProcessSettings,
    ServiceTokenSettings,
    examine,
    read,
    secrets_of,
)

URL = "postgresql://purser:hidden-1@postgres/purser"
Refused = Callable[[], str]


class _Settings(ProcessSettings, DatabaseSettings):
    """One secret that has to be there, and one that does not."""

    flower_password: SecretStr | None = None


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One in which no secret is."""
    for name in ("DATABASE_URL", "FLOWER_PASSWORD", "SERVICE_TOKEN"):
        monkeypatch.delenv(f"PURSER_{name}", raising=False)
        monkeypatch.delenv(f"PURSER_{name}_FILE", raising=False)
    return monkeypatch


@pytest.fixture
def file(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that is named for the database's URL; it is not there yet."""
    path = tmp_path / "database-url"
    environment.setenv("PURSER_DATABASE_URL_FILE", str(path))
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """What a process says that does not start with `_Settings`."""

    def end() -> str:
        with pytest.raises(SystemExit) as ended:
            read(_Settings)
        assert ended.value.code == 2
        return capsys.readouterr().err

    return end


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_is_its_files_text_without_the_lines_end(file: Path, end: str) -> None:
    file.write_bytes(f"{URL}{end}".encode())
    assert read(_Settings).database_url.get_secret_value() == URL


def test_blanks_belong_to_a_secret(file: Path, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file.write_text(URL)
    (tmp_path / "password").write_text(" with blanks \n")
    environment.setenv("PURSER_FLOWER_PASSWORD_FILE", str(tmp_path / "password"))
    password = read(_Settings).flower_password
    assert password is not None
    assert password.get_secret_value() == " with blanks "


def test_a_secret_in_the_environment_and_in_a_file_is_refused(
    file: Path, environment: pytest.MonkeyPatch, refused: Refused
) -> None:
    file.write_text(URL)
    environment.setenv("PURSER_DATABASE_URL", URL)
    assert refused() == (
        "purser: PURSER_DATABASE_URL and PURSER_DATABASE_URL_FILE are both set: one of them is wanted\n"
    )


def test_a_variable_that_is_empty_is_not_set(file: Path, environment: pytest.MonkeyPatch) -> None:
    file.write_text(URL)
    environment.setenv("PURSER_DATABASE_URL", "")
    environment.setenv("PURSER_FLOWER_PASSWORD_FILE", "")
    settings = read(_Settings)
    assert settings.database_url.get_secret_value() == URL
    assert settings.flower_password is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "No such file or directory"),
        (b"", "the file is empty"),
        (b"\n", "the file is empty"),
        (b"hidden-\xff", "the file is not text in UTF-8"),
        (b"hidden" * SECRET_FILE_BYTES_MAX, "the file is too large for a secret"),
    ],
    ids=["missing", "empty", "a line's end", "binary", "large"],
)
def test_a_file_that_cannot_be_used_is_named_with_its_variable(
    file: Path, refused: Refused, content: bytes | None, problem: str
) -> None:
    if content is not None:
        file.write_bytes(content)
    assert refused() == f"purser: PURSER_DATABASE_URL_FILE: {file}: {problem}\n"


def test_a_secret_that_was_put_where_its_file_should_be_is_not_told(
    environment: pytest.MonkeyPatch, refused: Refused
) -> None:
    environment.setenv("PURSER_DATABASE_URL_FILE", URL)
    assert refused() == (
        "purser: PURSER_DATABASE_URL_FILE: what it says is no absolute path: No such file or directory\n"
    )


def test_a_directory_is_no_secret(file: Path, refused: Refused) -> None:
    file.mkdir()
    assert refused() == f"purser: PURSER_DATABASE_URL_FILE: {file}: Is a directory\n"


def test_everything_that_is_wrong_is_said_at_once(
    file: Path, environment: pytest.MonkeyPatch, refused: Refused, tmp_path: Path
) -> None:
    environment.setenv("PURSER_FLOWER_PASSWORD_FILE", str(tmp_path / "password"))
    assert refused().count("No such file or directory\n") == 2


def test_what_a_secret_has_to_keep_it_has_to_keep_in_a_file_too(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("short")
    environment.setenv("PURSER_SERVICE_TOKEN_FILE", str(tmp_path / "token"))
    settings, problems = examine(ServiceTokenSettings)
    assert settings is None
    assert [problem.partition(":")[0] for problem in problems] == ["PURSER_SERVICE_TOKEN"]
    assert "short" not in problems[0]


def test_an_examples_secret_in_a_file_is_refused_in_production(
    file: Path, environment: pytest.MonkeyPatch, refused: Refused
) -> None:
    file.write_text("postgresql://purser:example-only-password-change-me@postgres/purser")
    environment.setenv("PURSER_PRODUCTION", "1")
    assert refused() == "purser: PURSER_DATABASE_URL holds an example's secret, and PURSER_PRODUCTION=1 refuses it\n"


def test_what_purser_up_knows_comes_before_a_file(file: Path) -> None:
    settings, _ = examine(_Settings, {"PURSER_DATABASE_URL": URL})
    assert settings is not None
    assert settings.database_url.get_secret_value() == URL


def test_a_process_that_is_given_a_secret_is_not_given_its_file_too(
    file: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("PURSER_FLOWER_PASSWORD_FILE", "kept")
    child = environment_with({"PURSER_DATABASE_URL": URL})
    assert child["PURSER_DATABASE_URL"] == URL
    assert "PURSER_DATABASE_URL_FILE" not in child
    assert child["PURSER_FLOWER_PASSWORD_FILE"] == "kept"


def test_the_stack_reads_its_secrets_from_files_too(file: Path) -> None:
    file.write_text(URL + "\n")
    url = read(StackSettings).database_url
    assert url is not None
    assert url.get_secret_value() == URL


def test_every_setting_whose_name_says_that_it_is_a_secret_is_one() -> None:
    telling = ("password", "token", "secret", "database_url", "broker_url")
    classes: list[type[Piece]] = [*READ_BY.values(), StackSettings]
    for settings_class in classes:
        named = {name for name in settings_class.model_fields if any(word in name for word in telling)}
        assert named <= set(secrets_of(settings_class))
