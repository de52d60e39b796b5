"""What a proof came to, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from statistics import median
from typing import Any, Final, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tests.proof.check import Harm
from tests.proof.network import PEERS
from tests.proof.proving import Result

FINDINGS_SHOWN_MAX: Final = 30
_HARMS: Final[dict[Harm, str]] = {
    "lost": "lost",
    "doubled": "doubled",
    "wrong": "wrong",
    "parked": "parked",
    "untold": "told to nobody",
    "audit": "problems of the audit",
    "answers": "answers that may not be",
}
assert set(_HARMS) == set(get_args(Harm))


def show(result: Result, console: Console) -> None:
    """The tables, and what is off."""
    table = Table(title="The proof", show_header=False, min_width=60)
    table.add_column()
    table.add_column(justify="right")
    for what, value in _rows(result):
        table.add_row(what, value)
        if what in {"machine", "duplicates sent", "never recovered from"}:
            table.add_section()
    console.print(table)
    console.print(_faults(result))
    for finding in result.findings[:FINDINGS_SHOWN_MAX]:
        console.print(Text(f"{finding.harm}: {finding.sentence}", style="red"))
    if len(result.findings) > FINDINGS_SHOWN_MAX:
        console.print(f"… and {len(result.findings) - FINDINGS_SHOWN_MAX} more")
    console.print(
        Text("proved" if result.proved else "NOT proved", style="bold green" if result.proved else "bold red")
    )


def _rows(result: Result) -> Iterator[tuple[str, str]]:
    counts, harms = Counter(result.counts), Counter(finding.harm for finding in result.findings)
    yield "seed", str(result.options.seed)
    yield "duration", f"{result.duration_s / 60:.1f} min"
    yield "machine", result.machine
    yield "submissions accepted", f"{counts['submissions'] + counts['probes']:,}"
    yield "notifications accepted", f"{result.store_heard.get('200', 0):,}"
    yield "purchases", f"{counts['purchases'] + counts['probes']:,}"
    yield "renewals", f"{counts['renewals']:,}"
    yield "refunds (reversed)", f"{counts['refunds']:,} ({counts['refunds reversed']:,})"
    yield "spends asked for", f"{counts['spends asked for']:,}"
    yield "duplicates sent", f"{counts['duplicates']:,}"
    yield "faults injected", f"{sum(len(each.step) for each in result.befallen):,}"
    yield from _recoveries(result)
    yield "never recovered from", f"{len(result.unrecovered):,}"
    for harm, words in _HARMS.items():
        yield words, f"{harms[harm]:,}"
    yield "webhooks delivered (events)", f"{result.webhooks:,} ({result.events:,})"
    yield "503 answered, with Retry-After", f"{result.answers.get('503', 0) + result.store_heard.get('503', 0):,}"
    yield "connections that failed", f"{result.answers.get('none', 0):,}"
    yield "from the load's end to rest", f"{result.settled_s:.0f} s"


def _recoveries(result: Result) -> Iterator[tuple[str, str]]:
    recovered = [(each.recovered_s, str(each)) for each in result.befallen if each.recovered_s is not None]
    if recovered:
        longest_s, what = max(recovered)
        yield "longest recovery", f"{longest_s:.1f} s ({what})"
        yield "median recovery", f"{median(seconds for seconds, _ in recovered):.1f} s"


def _faults(result: Result) -> Table:
    """What befell whom, and how often."""
    seen = Counter((fault.kind, _target(fault.target)) for each in result.befallen for fault in each.step)
    table = Table("what", "whom, how often", title="Faults", show_lines=True)
    for kind, of_kind in groupby(sorted(seen), key=itemgetter(0)):
        table.add_row(kind, ", ".join(f"{target} {seen[kind, target]}" for _, target in of_kind))
    return table


def _target(name: str) -> str:
    """A process or server; of a road, who is at its end: there are as many as processes."""
    _, between, peer = name.partition(" > ")
    return f"to {peer}" if between and peer in PEERS else name


def document(result: Result) -> dict[str, Any]:
    """All of it, as JSON can have it."""
    whole = asdict(result)
    url = whole["options"].pop("broker_url")
    return {
        **whole,
        "broker": "given" if url else "embedded",  # the URL has a password
        "proved": result.proved,
        "harms": dict(Counter(finding.harm for finding in result.findings)),
    }
