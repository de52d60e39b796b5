"""What is shown, where there is no terminal."""

from __future__ import annotations

import errno
import io
from datetime import timedelta

from rich.console import Console

from deploy.demo import Entry, Step
from deploy.narrator import Narrator
from deploy.stack import Note
from deploy.supervisor import Died, Ready, Started


class GoneTerminal(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def shown() -> tuple[Narrator, io.StringIO]:
    output = io.StringIO()
    return Narrator(Console(file=output, highlight=False, width=200)), output


def test_a_step_is_one_plain_line_with_its_time() -> None:
    narrator, output = shown()
    narrator.step(Step("credited", "100 gems", timedelta(milliseconds=41)))
    narrator.step(Step("debited", "100 gems", timedelta(seconds=1.26)))
    assert [line.split() for line in output.getvalue().splitlines()] == [
        ["✓", "credited", "41", "ms", "100", "gems"],
        ["✓", "debited", "1.3", "s", "100", "gems"],
    ]


def test_a_death_is_told_with_the_last_lines_and_the_return_with_its_time() -> None:
    narrator, output = shown()
    narrator.hear(Started("ledger", pid=1, restarts=0))
    narrator.hear(Died("ledger", reason="was ended by SIGKILL", last_lines=("[info] booked",), again_in_s=0.2))
    narrator.hear(Ready("ledger", after_s=1.0, restarts=1))
    text = output.getvalue()
    assert "ledger was ended by SIGKILL" in text
    assert "[info] booked" in text
    assert "it is started again in 0.2 s" in text
    assert "ledger is back" in text


def test_the_entries_show_the_sign_of_the_amount_and_the_balance() -> None:
    narrator, output = shown()
    narrator.entries([Entry("2026-01-31T12:00:00.000Z", "refund", "gems", -100, 0)])
    assert output.getvalue().splitlines()[-1].split() == ["2026-01-31T12:00:00.000Z", "refund", "gems", "-100", "0"]


def test_a_closed_terminal_ends_the_telling_and_not_what_runs() -> None:
    narrator = Narrator(Console(file=GoneTerminal(), force_terminal=True))
    narrator.hear(Started("ledger", pid=1, restarts=0))
    narrator.hear(Note("a sentence"))
    narrator.hear(Ready("ledger", after_s=1.0, restarts=0))
    narrator.stopping()
    narrator.stopped(timedelta(seconds=1))
