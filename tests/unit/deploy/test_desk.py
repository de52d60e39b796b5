"""What the operator's commands share: a table for people, whole lines for a pipe, and how a moment is said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import click
import pytest

from deploy.commands import apple, audit, reconcile
from deploy.desk import database_engine, show
from shared.log import get_logger

EVENT_ID = "01a201b5-c187-7000-87db-0ceb79375372"


@dataclass(frozen=True, slots=True)
class Row:
    event_id: str
    error: str


ROWS = [Row(EVENT_ID, "a reason " * 20)]
COLUMNS = ["event_id", "error"]


def test_in_a_pipe_a_row_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, as_json=False, empty="")
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["event", "id", "error"]
    assert row.split(maxsplit=1)[0] == EVENT_ID


def test_on_a_narrow_terminal_an_event_id_stays_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    show(ROWS, COLUMNS, as_json=False, empty="")
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) > 2
    assert EVENT_ID in shown[1]


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A user's id is what the app says that it is, and an error may quote an apps file."""
    show([Row("al[/i]ce", "[red]: see [apps.apple]")], COLUMNS, as_json=False, empty="")
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == ["al[/i]ce", "[red]: see [apps.apple]"]


def test_what_would_work_the_terminal_is_escaped_and_a_row_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """How a receiver's answer began is shown to operators."""
    show([Row(EVENT_ID, "\x1b[2J\r\n<html>\x9b1m\u202e é")], COLUMNS, as_json=False, empty="")
    _header, row = capsys.readouterr().out.splitlines()
    assert row.rstrip().endswith(r"\x1b[2J\r\n<html>\x9b1m\u202e é")


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T00:00:00Z", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:30:00", datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
        ("2026-11-01T12:30:00+02:00", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("command", [audit.command, reconcile.command, apple.command.commands["notifications"]])
def test_every_command_reads_a_moment_alike(command: click.Command, said: str, moment: datetime) -> None:
    context = command.make_context("purser", ["--since", said])
    assert context.params["since"] == moment


def test_what_services_log_meanwhile_is_not_in_the_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")  # it is not connected to
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    with database_engine():
        get_logger("a service").info("all is well")
        get_logger("a service").warning("something is not")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "something is not" in printed.err
    assert "all is well" not in printed.err
