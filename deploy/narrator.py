"""What the person at the terminal sees of `purser up` and `purser demo`: one calm line a fact; plain text in a pipe."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from deploy.addresses import Addresses
from deploy.demo import Entry, Step
from deploy.stack import Began, Finished, Note, Told
from deploy.supervisor import Died, Ready, Started

NAME_WIDTH = 26
TIME_WIDTH = 9
LAST_LINES_SHOWN = 4


class Narrator:
    """Tells. Its methods may be called from any thread, and go on in silence when the terminal or the pipe is gone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._waiting_for: dict[str, None] = {}  # an ordered set
        self._spinner: Status | None = None
        self._lock = threading.RLock()
        self._stopping = False

    def title(self, data_dir: Path) -> None:
        self._print(f"\n[bold]Purser[/]  [dim]data in {escape(str(data_dir))}[/]\n")

    def hear(self, told: Told) -> None:
        """One event of the stack."""
        with self._lock:
            match told:
                case Note(sentence):
                    self._print(f"  [dim]{escape(sentence)}[/]", soft_wrap=True)
                case Began(step):
                    self._await(step)
                case Finished(step, after_s):
                    self._came(step, after_s)
                case Started(name):
                    self._await(name)
                case Ready(name, after_s, restarts):
                    self._came(f"{name} is back" if restarts else name, after_s, awaited=name)
                case Died():
                    self._died(told)
                case _:
                    pass  # Stopped: the end is told once, for all

    def step(self, step: Step) -> None:
        """One step of the demo."""
        with self._lock:
            self._line(step.name, step.after.total_seconds(), detail=step.detail)

    def entries(self, entries: Sequence[Entry]) -> None:
        """The wallet's entries, oldest first."""
        table = Table("time", "kind", "currency", box=None, padding=(0, 3, 0, 2), header_style="dim")
        table.add_column("amount", justify="right")
        table.add_column("balance", justify="right")
        for entry in entries:
            amount = f"{entry.amount:+d}"
            table.add_row(entry.at, entry.kind, entry.currency, amount, str(entry.balance_after))
        with self._lock:
            self._print("\n  [bold]the wallet's entries[/]")
            self._print(table)

    def chapter(self, title: str) -> None:
        with self._lock:
            self._print(f"\n[bold]{title}[/]")

    def failed(self, sentence: str) -> None:
        with self._lock:
            self._print(f"  [bold red]✗[/] {escape(sentence)}")

    def last_lines(self, lines: Sequence[str]) -> None:
        """What a process that failed said last."""
        with self._lock:
            self._quiet()
            for line in lines:
                self._print(f"    [dim]{escape(line)}[/]", soft_wrap=True)

    def where(self, addresses: Addresses, *, simulator: bool, flower: bool, log_dir: Path) -> None:
        """The addresses of what runs."""
        user, password = addresses.flower_login
        rows = [("gateway", addresses.gateway, ""), ("its documentation", f"{addresses.gateway}/docs", "")]
        if flower:
            rows.append(("Flower", addresses.flower, f"user {user}, password {password}"))
        if simulator:
            rows.append(("simulated App Store", addresses.simulator, ""))
        rows.append(("logs", str(log_dir), ""))
        with self._lock:
            self._print("\n[bold]It runs[/]")
            for name, address, remark in rows:
                self._print(
                    f"  {name:<{NAME_WIDTH}} [cyan]{escape(address)}[/]  [dim]{escape(remark)}[/]", soft_wrap=True
                )
            self._print("\nCtrl-C stops everything.\n")

    def stopping(self) -> None:
        with self._lock:
            self._stopping = True
            self._quiet()
            self._print("\nstopping …")

    def stopped(self, after: timedelta) -> None:
        self._print(f"stopped after {after.total_seconds():.1f} s; nothing is left running.")

    def _died(self, died: Died) -> None:
        self._print(f"  [yellow]![/] {died.name} {escape(died.reason)}")
        if died.again_in_s is not None:
            for line in died.last_lines[-LAST_LINES_SHOWN:]:
                self._print(f"    [dim]{escape(line)}[/]", soft_wrap=True)
            self._print(f"    [dim]it is started again in {died.again_in_s:g} s[/]")
        self._no_longer_awaited(died.name)

    def _came(self, what: str, after_s: float, *, awaited: str | None = None) -> None:
        self._no_longer_awaited(awaited or what)
        self._line(what, after_s)

    def _line(self, name: str, after_s: float, *, detail: str = "") -> None:
        self._print(
            f"  [green]✓[/] {escape(name):<{NAME_WIDTH}} {_duration(after_s):>{TIME_WIDTH}}   [dim]{escape(detail)}[/]",
            soft_wrap=True,
        )

    def _print(self, renderable: RenderableType, *, soft_wrap: bool = False) -> None:
        with self._or_silence():
            self._console.print(renderable, soft_wrap=soft_wrap)

    @contextmanager
    def _or_silence(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SystemExit):  # rich makes a broken pipe a SystemExit; what runs is not ours to end
            self._console.quiet = True
            self._spinner = None

    # ---- the line that moves, on a terminal only --------------------------------------------------------------------

    def _await(self, what: str) -> None:
        self._waiting_for[what] = None
        self._show_waiting()

    def _no_longer_awaited(self, what: str) -> None:
        self._waiting_for.pop(what, None)
        self._show_waiting()

    def _show_waiting(self) -> None:
        if not self._waiting_for or self._stopping or not self._console.is_terminal:
            self._quiet()
            return
        text = f"[dim]{escape(', '.join(self._waiting_for))}[/]"
        with self._or_silence():
            if self._spinner is None:
                self._spinner = self._console.status(text)
                self._spinner.start()
            else:
                self._spinner.update(text)

    def _quiet(self) -> None:
        spinner, self._spinner = self._spinner, None
        if spinner is not None:
            with self._or_silence():
                spinner.stop()


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
