"""How fast the road is: the gateway's accepts, and the whole road from a StoreKit 2 purchase to its credit.

    make bench                       (or: python -m tests.benchmarks.road [--purchases N] [--broker-url URL] [--json])

One running system on this machine: PostgreSQL with its usual durability, Redis, every process of ours with Flower on,
and the load generator too. No webhook endpoint is configured: what an app's backend costs is not ours. Latencies of the
road are read from the journal: from `transaction.submitted` recorded to `wallet.credited` recorded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from urllib.parse import urlsplit

import psutil
import psycopg2

from shared.apps import load_apps
from shared.catalog import load_catalog
from simulator.app import build
from simulator.telling import Statement
from tests.benchmarks.load import Measured, render, run
from tests.support.stack import wait_until
from tests.support.system import System, client, running_system

WORKERS = (
    "courier",
    "verifier",
    "verifier-store",
    "verifier-lookups",
    "reconciler",
    "ledger",
    "ledger-scheduler",
    "notifier",
    "webhooks",
    "notifier-api",
    "flower",
    "simulator",
)
USERS = 5_000
CONNECTIONS = 16
IDLE_RATE, LOADED_RATE = 5, 800


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is of the measured value to the reference of the same run."""

    what: str
    measured: str
    goal: str
    reference: str = ""
    ratio: float | None = None


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--purchases", type=int, default=15_000, help="of each saturated run")
    parser.add_argument("--broker-url", help="a broker that runs already, for nobody else; else a Redis is started")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    given = {"broker_url": options.broker_url} if options.broker_url else {}
    with running_system(webhooks=False, durable=True, **given) as system:
        rows = list(measure(system, purchases=options.purchases))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        show(rows)


def measure(system: System, *, purchases: int) -> Iterator[Row]:
    """Every figure, one after the other, on one running system."""
    bodies = Mint(system)
    inserts = insert_reference(system, rows=3_000, body=bodies.body())
    say(f"reference: {inserts:,.0f} single-row inserts of a purchase's size per second, one connection, each committed")
    noop = _noop(system)
    say(f"reference: {noop.per_second:,.0f} answers of /healthz per second")

    with stopped(system, WORKERS):
        alone = _post(system, bodies.many(purchases), connections=CONNECTIONS)
    say(f"gateway alone: {alone.per_second:,.0f}/s, {dict(alone.statuses)}")
    yield Row(
        "gateway accepts, alone",
        f"{alone.per_second:,.0f}/s, p99 {alone.quantile_ms(0.99):.1f} ms at {CONNECTIONS} connections",
        "≥ 3,500/s, p99 ≤ 20 ms",
        f"{inserts:,.0f} single inserts/s on one connection",
        alone.per_second / inserts,
    )
    drained_s = drained(system)
    yield Row(
        "backlog worked off, accepting nothing",
        f"{purchases / drained_s:,.0f}/s",
        "",
        f"{inserts:,.0f} single inserts/s",
        purchases / drained_s / inserts,
    )
    yield _saturated(system, bodies, purchases, inserts)
    yield _at_rate(system, bodies, rate=IDLE_RATE, seconds=20, goal="p50 ≤ 20 ms")
    yield _at_rate(system, bodies, rate=LOADED_RATE, seconds=15, goal="p99 ≤ 150 ms")


def _saturated(system: System, bodies: Mint, purchases: int, inserts: float) -> Row:
    requests = bodies.many(purchases)
    since, before = moment(system), cpu_s(system)
    measured = _post(system, requests, connections=CONNECTIONS)
    drained(system)
    after = cpu_s(system)
    spent = {name: (after[name] - before[name]) / purchases * 1000 for name in after}
    say("CPU ms per purchase: " + ", ".join(f"{name} {ms:.3f}" for name, ms in spent.items() if ms >= 0.001))
    per_second = _credited_per_second(system, since)
    p50, p99 = latency_ms(system, since)
    say(f"whole road: {per_second:,.0f}/s, accepted {measured.per_second:,.0f}/s")
    return Row(
        "whole road, saturated, Flower on",
        f"{per_second:,.0f}/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms; {sum(spent.values()):.2f} ms CPU each",
        "≥ 1,500/s",
        f"{inserts:,.0f} single inserts/s",
        per_second / inserts,
    )


def _at_rate(system: System, bodies: Mint, *, rate: float, seconds: int, goal: str) -> Row:
    requests = bodies.many(int(rate * seconds))
    since = moment(system)
    measured = _post(system, requests, connections=64, rate=rate)
    drained(system)
    p50, p99 = latency_ms(system, since)
    say(f"at {rate:g}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms, accepted {measured.per_second:,.0f}/s")
    achieved = f"{measured.per_second:,.0f}/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    accepts = f"accepting: p50 {measured.quantile_ms(0.5):.1f} ms, p99 {measured.quantile_ms(0.99):.1f} ms"
    return Row(f"whole road at {rate:g}/s", achieved, goal, accepts)


# ---- load -------------------------------------------------------------------------------------------------------


class Mint:
    """Distinct purchases of many users, signed by the running simulator's own certificates, rendered as requests."""

    def __init__(self, system: System) -> None:
        settings = system.settings
        self._host = urlsplit(system.gateway).netloc
        self._store = build(
            data_dir=settings.data_dir,
            apps=load_apps(settings.apps_file),
            catalog=load_catalog(settings.catalog_file),
            webhook_url="http://127.0.0.1:9/nobody",
        ).store
        self._tokens = [client(f"user-{number}") for number in range(USERS)]
        self._minted = 0

    def buy(self) -> Statement:
        return self._store.buy(product_id="com.example.game.gems100", notify=False)

    def body(self) -> bytes:
        """What a client posts of a new purchase."""
        return json.dumps({"store": "apple", "signed_transaction": self.buy().signed_transaction}).encode()

    def many(self, count: int) -> list[bytes]:
        say(f"minting {count:,} purchases …")
        return [self._rendered() for _ in range(count)]

    def _rendered(self) -> bytes:
        self._minted += 1
        headers = {"Content-Type": "application/json", **self._tokens[self._minted % USERS]}
        return render(host=self._host, path="/v1/purchases", headers=headers, body=self.body())


def _post(system: System, requests: Sequence[bytes], *, connections: int, rate: float | None = None) -> Measured:
    measured = run(address=address(system), requests=requests, connections=connections, rate=rate)
    if set(measured.statuses) != {202}:
        raise RuntimeError(f"not everything was accepted: {dict(measured.statuses)}")
    return measured


def _noop(system: System) -> Measured:
    request = f"GET /healthz HTTP/1.1\r\nHost: {urlsplit(system.gateway).netloc}\r\n\r\n".encode()
    return run(address=address(system), requests=[request] * 20_000, connections=CONNECTIONS)


def address(system: System) -> tuple[str, int]:
    """Where the gateway listens."""
    parts = urlsplit(system.gateway)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def insert_reference(system: System, *, rows: int, body: bytes) -> float:
    """Plain inserts of such a body, one connection, a commit each: what this PostgreSQL does on this disk."""
    connection = psycopg2.connect(system.stack.addresses.database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("create table public.reference (id bigserial primary key, payload jsonb)")
        started = time.perf_counter()
        for _ in range(rows):
            cursor.execute("insert into public.reference (payload) values (%s)", (body.decode(),))
        seconds = time.perf_counter() - started
        cursor.execute("drop table public.reference")
    connection.close()
    return rows / seconds


@contextmanager
def stopped(system: System, names: Sequence[str]) -> Iterator[None]:
    """Freezes these processes, so that what is left has the machine to itself."""
    pids = [system.pid(name) for name in names]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def cpu_s(system: System) -> dict[str, float]:
    """CPU seconds that each process has used so far, its children with it; what other work on the machine does not
    change much."""
    return {name: sum(_cpu_s(process) for process in _family(system.pid(name))) for name in system.processes()}


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


# ---- what the journal says --------------------------------------------------------------------------------------

_ROAD = """
select extract(epoch from credited.recorded_at - submitted.recorded_at) * 1000
  from journal.event submitted join journal.event credited
       on credited.subject = submitted.subject and credited.type = 'wallet.credited'
 where submitted.type = 'transaction.submitted' and submitted.recorded_at >= %(since)s
"""


def latency_ms(system: System, since: datetime) -> tuple[float, float]:
    """p50 and p99 of StoreKit 2 purchases, from accepted to credited."""
    quantiles = (
        f"select percentile_cont(array[0.5, 0.99]) within group (order by latency) from ({_ROAD}) as road (latency)"  # noqa: S608
    )
    p50, p99 = system.scalar(quantiles, since=since)
    return float(p50), float(p99)


def _credited_per_second(system: System, since: datetime) -> float:
    """From the first submission to the last credit."""
    return float(
        system.scalar(
            "select count(*) filter (where type = 'wallet.credited')"
            "       / extract(epoch from max(recorded_at) filter (where type = 'wallet.credited') - min(recorded_at))"
            "  from journal.event where recorded_at >= %(since)s",
            since=since,
        )
    )


def moment(system: System) -> datetime:
    """Now, by the database's clock."""
    now: datetime = system.scalar("select clock_timestamp()")
    return now


def drained(system: System) -> float:
    """Waits until nothing is left to be delivered; how long that took, in seconds."""
    started = time.perf_counter()
    wait_until(
        lambda: not system.scalar("select exists (select from journal.delivery)"),
        within_s=300,
        what="everything delivered",
    )
    return time.perf_counter() - started


def say(sentence: str) -> None:
    """Progress, beside the result."""
    sys.stderr.write(sentence + "\n")


def show(rows: Sequence[Row]) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for column in ("what", "measured", "goal", "reference of this run", "ratio"):
        table.add_column(column)
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.what, row.measured, row.goal, row.reference, ratio)
    Console(width=160).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
