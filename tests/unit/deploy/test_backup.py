"""`purser backup`: what it does not write over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.commands import backup


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever gets past the look at the file is refused for want of one."""
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path / "nothing"))
    monkeypatch.delenv("PURSER_DATABASE_URL", raising=False)


def back_up(file: Path, *flags: str) -> Result:
    return CliRunner().invoke(backup.command, [str(file), *flags])


def is_refused_for_what_it_is(result: Result) -> bool:
    return result.exit_code == 1 and "no regular file" in result.output


@pytest.mark.parametrize("flags", [(), ("--force",)])
def test_a_link_is_not_written_over_wherever_it_leads(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "precious").write_text("kept")
    for name, target in (("to-a-file", "precious"), ("to-nothing", "nobody")):
        (tmp_path / name).symlink_to(tmp_path / target)
        assert is_refused_for_what_it_is(back_up(tmp_path / name, *flags))
        assert (tmp_path / name).is_symlink()
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize("flags", [(), ("--force",)])
def test_a_pipe_and_a_device_are_not_written_over(tmp_path: Path, flags: tuple[str, ...]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert is_refused_for_what_it_is(back_up(tmp_path / "pipe", *flags))
    assert is_refused_for_what_it_is(back_up(Path(os.devnull), *flags))


def test_a_file_is_written_over_only_with_force(tmp_path: Path) -> None:
    (tmp_path / "older.dump").write_text("kept")
    refused = back_up(tmp_path / "older.dump")
    assert (refused.exit_code, "--force writes over it" in refused.output) == (1, True)
    passed = back_up(tmp_path / "older.dump", "--force")
    assert "PURSER_DATABASE_URL is not set" in str(passed.exception)
    assert (tmp_path / "older.dump").read_text() == "kept"


def test_a_place_where_nothing_is_is_taken(tmp_path: Path) -> None:
    assert "PURSER_DATABASE_URL is not set" in str(back_up(tmp_path / "purser.dump").exception)
