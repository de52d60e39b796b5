"""The command line: what is expected trouble is one sentence and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deploy import cli
from deploy.cli import COMMANDS


@pytest.fixture(autouse=True)
def _a_quiet_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PURSER_DATABASE_URL", "PURSER_BROKER_URL", "PURSER_GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path / "data"))


def test_help_names_every_command_without_importing_one(capsys: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith("deploy.commands.")]:
        del sys.modules[name]
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    assert not [name for name in sys.modules if name.startswith("deploy.commands.")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: purser {name}")


def test_an_unknown_command_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["frobnicate"]) == 2
    assert "No such command 'frobnicate'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list"], ["retry", "--all"]])
def test_a_consumer_that_there_is_not_is_a_wrong_call(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Else a typing error would read as "nothing is parked"."""
    assert cli.run(["parked", *command, "--consumer", "leger"]) == 2
    assert "'leger' is not one of" in capsys.readouterr().err


def test_a_bad_variable_is_one_sentence_that_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURSER_GATEWAY_PORT", "eighty")
    with pytest.raises(SystemExit) as caught:
        cli.run(["migrate"])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("purser: PURSER_GATEWAY_PORT: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("variable", "url"), [("PURSER_DATABASE_URL", "mysql://x"), ("PURSER_BROKER_URL", "http://x")])
def test_a_url_of_another_kind_is_refused_with_its_variable(
    variable: str, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(SystemExit):
        cli.run(["migrate"])
    assert capsys.readouterr().err.startswith(f"purser: {variable}: ")


def test_without_a_database_a_command_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["migrate"]) == 1
    assert capsys.readouterr().err.startswith("purser: PURSER_DATABASE_URL is not set")


def test_a_database_that_does_not_answer_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    assert cli.run(["migrate"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("purser: PURSER_DATABASE_URL: the database cannot be migrated")
    assert error.count("\n") == 1


def test_production_refuses_the_simulator(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    assert cli.run(["up", "--no-demo"]) == 1
    assert "add --no-simulator" in capsys.readouterr().err
