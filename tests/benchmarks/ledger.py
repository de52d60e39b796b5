"""How fast the ledger posts, spends and reads, in new books and in old ones, beside PostgreSQL's plain inserts.

    make bench-ledger     (or: python -m tests.benchmarks.ledger [--entries N] [--postings N] [--rounds N] [--json])

One PostgreSQL with its usual durability, two databases in it: one whose books are new, and one that has a past
(tests/benchmarks/past.py). The ledger's own handlers work on both, in processes of their own, on events that are in the
journal; what an event leads to is in the journal too when it counts as posted. No broker and no HTTP: see `make bench`.

Everything is measured in turns, the reference too, so that whatever else the machine does hits all of them; of the
rounds, the median counts. At the end the ledger's own audit says whether the books are right, old and new.

    postings    transfers, each with its two entries, its events, its lots: by worker processes as `purser run ledger`
    spends      each with its idempotency key and its kept answer: by threads as those of `purser run ledger-api`
    mix         70 % purchases, 15 % refunds, 5 % refunds taken back by the workers, 10 % spends by an API process
    reference   single rows, as wide as an entry, in a table with a primary key: a commit each, by so many clients

The old books of the goal have ten million entries: --entries 10000000, and some 20 GB free below TMPDIR. Making them
takes minutes, and so does their audit (--no-audit leaves it out).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from shared.clock import SystemClock
from tests.benchmarks.crew import Measured, crew_on
from tests.benchmarks.past import BYTES_PER_ENTRY, Past, make_past, wallets_of
from tests.benchmarks.pgbench import Reference, measure_reference
from tests.benchmarks.road import say
from tests.benchmarks.scenarios import Scenario, run, scenarios
from tests.benchmarks.site import Audited, Site, audited, site_on
from tests.support.stack import Servers, reachable_directory, running_servers

NEW, OLD = "new books", "old books"
PROCESSES: Final = 3
"""Two workers and an API process."""
REFERENCE_S: Final = 3
SPARE_BYTES: Final = 4_000_000_000
"""Of disk, beside what the past takes: the write-ahead log, sorting, and what the measurements write."""
GROWTH_MAX: Final = 1.2


@dataclass(frozen=True, slots=True)
class Figure:
    """Operations a second, and how long one job took at the 99th percentile, in new books and in old ones (None: there
    are none). `reference` is what it is beside, a second."""

    scenario: Scenario
    reference: float
    new_per_second: float
    new_p99_ms: float
    old_per_second: float | None = None
    old_p99_ms: float | None = None

    @property
    def to_reference(self) -> float:
        return self.new_per_second / self.reference

    @property
    def growth(self) -> float | None:
        """How many times as long it takes in old books."""
        return None if self.old_per_second is None else self.new_per_second / self.old_per_second


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured, and how the books were found afterwards."""

    machine: str
    seed: int
    past: Past | None
    reference: Reference
    figures: Sequence[Figure]
    audits: Sequence[Audited]


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    with reachable_directory() as directory:
        _require_disk(directory, entries=options.entries)
        with running_servers(directory, durable=True) as servers:
            report = measure(servers, options)
    if options.json:
        print(json.dumps(document(report), indent=2))
    else:
        show(report)
    for finding in (finding for each in report.audits for finding in each.findings):
        say(finding)
    return 1 if any(each.problems for each in report.audits) else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entries", type=int, default=200_000, help="that the old books have; 0: only new books")
    parser.add_argument("--postings", type=int, default=10_000, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="chooses the users")
    parser.add_argument(
        "--no-audit", dest="audit", action="store_false", help="takes long where there are many entries"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(arguments)


def _require_disk(directory: Path, *, entries: int) -> None:
    needed, free = entries * BYTES_PER_ENTRY + SPARE_BYTES, shutil.disk_usage(directory).free
    if free < needed:
        sys.exit(f"{directory} has {free / 1e9:.0f} GB free, and this takes {needed / 1e9:.0f}: set TMPDIR elsewhere")


def measure(servers: Servers, options: argparse.Namespace) -> Report:
    """Makes the books, measures on both in turns, and asks whether they are right."""
    with contextlib.ExitStack() as stack:
        urls, past = _books(servers, entries=options.entries)
        sites = [_site(stack, name, url, options) for name, url in urls.items()]
        seen: dict[tuple[Scenario, str], list[Measured]] = {}
        references = []
        asked = list(scenarios())
        for number in range(1, options.rounds + 1):
            references.append(_reference(servers))
            for scenario in asked:
                for site in sites:
                    measured = run(scenario, site, count=scenario.count(options.postings))
                    seen.setdefault((scenario, site.name), []).append(measured)
                    rate = f"{measured.per_second:,.0f}/s"
                    say(f"round {number}, {site.name}: {scenario.crowd}: {scenario.what}: {rate}")
        reference = _medians(references)
        return Report(
            machine=_machine(servers),
            seed=options.seed,
            past=past,
            reference=reference,
            figures=[_figure(scenario, reference, seen) for scenario in asked],
            audits=[_audit(site) for site in sites if options.audit],
        )


def _books(servers: Servers, *, entries: int) -> tuple[dict[str, str], Past | None]:
    """The URLs of new books and, if any entries are wanted, of old ones."""
    new = servers.migrated_database()
    if not entries:
        return {NEW: new}, None
    old, clock = servers.migrated_database(), SystemClock()
    say(f"making old books of {entries:,} entries …")
    past = make_past(old, entries=entries, now=clock.now(), clock=clock, tell=say)
    say(
        f"made {past.entries:,} entries in {past.seconds:,.0f} s: {past.wallets:,} wallets, the hot one with"
        f" {past.hot_entries:,} entries and {past.hot_lots:,} lots; {past.database_bytes / 1e9:.1f} GB"
    )
    return {NEW: new, OLD: old}, past


def _site(stack: contextlib.ExitStack, name: str, url: str, options: argparse.Namespace) -> Site:
    """With its processes; every user there has bought something."""
    crew = stack.enter_context(crew_on(url, processes=PROCESSES))
    wallets = wallets_of(options.entries)
    site = stack.enter_context(site_on(name, url=url, crew=crew, wallets=wallets, seed=options.seed))
    site.prime()
    return site


def _audit(site: Site) -> Audited:
    say(f"auditing the {site.name} …")
    return audited(site.url, books=site.name)


def _reference(servers: Servers) -> Reference:
    url, programs = servers.empty_database(), servers.postgres.binaries.directory
    reference = measure_reference(url, programs=programs, seconds=REFERENCE_S)
    inserts = ", ".join(f"{rate:,.0f} by {clients}" for clients, rate in reference.inserts.items())
    say(f"reference ({reference.tool}): {inserts} single inserts/s; {reference.reads:,.0f} reads/s by 1")
    return reference


def _medians(references: Sequence[Reference]) -> Reference:
    return Reference(
        tool=references[0].tool,
        inserts={
            clients: median(reference.inserts[clients] for reference in references) for clients in references[0].inserts
        },
        reads=median(reference.reads for reference in references),
    )


def _figure(scenario: Scenario, reference: Reference, seen: dict[tuple[Scenario, str], list[Measured]]) -> Figure:
    new, old = seen[scenario, NEW], seen.get((scenario, OLD), [])
    return Figure(
        scenario=scenario,
        reference=reference.reads if scenario.clients is None else reference.inserts[scenario.clients],
        new_per_second=median(measured.per_second for measured in new),
        new_p99_ms=median(measured.quantile_ms(0.99) for measured in new),
        old_per_second=median(measured.per_second for measured in old) if old else None,
        old_p99_ms=median(measured.quantile_ms(0.99) for measured in old) if old else None,
    )


def _machine(servers: Servers) -> str:
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()},"
        f" PostgreSQL {servers.postgres.binaries.version}"
    )


# ---- what is told ---------------------------------------------------------------------------------------------------


def document(report: Report) -> dict[str, Any]:
    """The report for programs."""
    return {
        "machine": report.machine,
        "seed": report.seed,
        "past": None if report.past is None else asdict(report.past),
        "reference": asdict(report.reference),
        "growth_max": GROWTH_MAX,
        "figures": [_figure_document(figure) for figure in report.figures],
        "audits": [asdict(each) for each in report.audits],
    }


def _figure_document(figure: Figure) -> dict[str, Any]:
    return {
        "what": figure.scenario.what,
        "crowd": figure.scenario.crowd,
        "goal_per_second": figure.scenario.goal,
        "new_per_second": figure.new_per_second,
        "new_p99_ms": figure.new_p99_ms,
        "reference_per_second": figure.reference,
        "to_reference": figure.to_reference,
        "old_per_second": figure.old_per_second,
        "old_p99_ms": figure.old_p99_ms,
        "growth": figure.growth,
    }


def show(report: Report) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{report.machine}, seed {report.seed}")
    for column in ("on", "what", NEW, "p99 of a job", "goal", "reference", "ratio", OLD, "p99 of a job", "new : old"):
        table.add_column(column, justify="left" if column in {"on", "what"} else "right", no_wrap=True)
    for figure in report.figures:
        table.add_row(*_cells(figure))
    console = Console(width=160)
    console.print(table)
    for sentence in _footnotes(report):
        console.print(sentence)


def _cells(figure: Figure) -> Sequence[str]:
    scenario = figure.scenario
    clients = "reads" if scenario.clients is None else f"by {scenario.clients}"
    return (
        scenario.crowd,
        scenario.what,
        f"{figure.new_per_second:,.0f}/s",
        f"{figure.new_p99_ms:,.1f} ms",
        "" if scenario.goal is None else f"≥ {scenario.goal:,}/s",
        f"{figure.reference:,.0f} {clients}",
        f"{figure.to_reference:.2f}",
        "" if figure.old_per_second is None else f"{figure.old_per_second:,.0f}/s",
        "" if figure.old_p99_ms is None else f"{figure.old_p99_ms:,.1f} ms",
        "" if figure.growth is None else f"{figure.growth:.2f}",
    )


def _footnotes(report: Report) -> Iterator[str]:
    inserts = ", ".join(f"{rate:,.0f} by {clients}" for clients, rate in report.reference.inserts.items())
    yield f"reference, by {report.reference.tool}: {inserts} single inserts/s; {report.reference.reads:,.0f} reads/s"
    if (past := report.past) is not None:
        yield (
            f"{OLD}: {past.entries:,} entries, {past.wallets:,} wallets, {past.hot_entries:,} entries and"
            f" {past.hot_lots:,} lots in the hot one, {past.database_bytes / 1e9:.1f} GB,"
            f" made in {past.seconds:,.0f} s; goal: new : old ≤ {GROWTH_MAX}"
        )
    for each in report.audits:
        yield f"audit of the {each.books}: {each.problems} problems in {each.rows:,} rows, {each.seconds:,.0f} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
