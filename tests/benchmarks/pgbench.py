"""What this PostgreSQL does with the least there is to do: single rows, a commit each, by key. The ledger's reference.

By PostgreSQL's own `pgbench` where it is installed; otherwise by psycopg2, one thread a client, which says so in the
table: Python's threads take turns, so that with several clients it is a weaker reference.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg2

from shared.clock import SystemClock
from tests.support.stack import child_environment

ROWS: Final = 100_000
"""Rows that are there to be read."""
READY_WITHIN_S: Final = 60

# As wide as an entry of the ledger, with a primary key and nothing else: no other index, no trigger, no rule.
_TABLE = """
create table public.reference (
    id bigserial primary key, account_id bigint, account_version bigint, transfer_id uuid, position smallint,
    amount bigint, balance_before bigint, balance_after bigint, wallet_id bigint, wallet_version bigint)
"""
_INSERT = """
insert into public.reference (account_id, account_version, transfer_id, position, amount, balance_before,
                              balance_after, wallet_id, wallet_version)
values ({account}, 17, '01932f5e-7c00-7000-8000-000000000001', 0, 100, 1600, 1700, {account}, 17)
"""
_FILL = """
insert into public.reference (account_id, account_version, transfer_id, position, amount, balance_before,
                              balance_after, wallet_id, wallet_version)
select number, 17, gen_random_uuid(), 0, 100, 1600, 1700, number, 17
  from generate_series(1, %(rows)s) as filled (number)
"""
_READ = "select account_id, account_version, balance_after, wallet_version from public.reference where id = {account}"


@dataclass(frozen=True, slots=True)
class Reference:
    """Statements a second, each a transaction: inserts by the number of clients, reads by one client."""

    tool: str
    inserts: dict[int, float]
    reads: float


def measure_reference(database_url: str, *, programs: Path, seconds: int) -> Reference:
    """Measures in a table of its own, which is gone afterwards. `programs` is where `pgbench` may be."""
    pgbench = programs / "pgbench"
    run = _by_pgbench(pgbench) if pgbench.exists() else _by_psycopg2
    with _table(database_url):
        return Reference(
            tool="pgbench" if pgbench.exists() else "psycopg2",
            inserts={clients: run(database_url, _INSERT, clients, seconds) for clients in (1, 2, 8)},
            reads=run(database_url, _READ, 1, seconds),
        )


@contextlib.contextmanager
def _table(database_url: str) -> Iterator[None]:
    with contextlib.closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(_TABLE)
            cursor.execute(_FILL, {"rows": ROWS})
            cursor.execute("vacuum analyze public.reference")
            yield
            cursor.execute("drop table public.reference")


_Run = Callable[[str, str, int, int], float]
"""(database URL, statement with `{account}`, clients, seconds) to statements a second."""


def _by_pgbench(program: Path) -> _Run:
    def run(database_url: str, statement: str, clients: int, seconds: int) -> float:
        address = urlsplit(database_url)
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(rf"\set account random(1, {ROWS})" + "\n" + _one_line(statement.format(account=":account")))
            script.flush()
            outcome = subprocess.run(
                [
                    str(program),
                    *("--no-vacuum", f"--file={script.name}", f"--client={clients}", f"--jobs={min(clients, 2)}"),
                    *(f"--time={seconds}", f"--host={address.hostname}", f"--port={address.port}"),
                    *(f"--username={address.username}", address.path.removeprefix("/")),
                ],
                env={**child_environment(), "PGPASSWORD": address.password or "", "LC_ALL": "C"},
                capture_output=True,
                text=True,
                timeout=seconds + READY_WITHIN_S,
                check=True,
            )
        found = re.search(r"^tps = ([0-9.]+)", outcome.stdout, flags=re.MULTILINE)
        if found is None:
            raise RuntimeError(f"pgbench said nothing of tps: {outcome.stdout}")
        return float(found[1])

    return run


def _one_line(statement: str) -> str:
    return " ".join(statement.split()) + ";\n"


def _by_psycopg2(database_url: str, statement: str, clients: int, seconds: int) -> float:
    clock, done = SystemClock(), [0] * clients
    ready = threading.Barrier(clients + 1)
    stop = threading.Event()

    def client(number: int) -> None:
        with contextlib.closing(psycopg2.connect(database_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                ready.wait(READY_WITHIN_S)
                while not stop.is_set():
                    cursor.execute(statement.format(account=1 + done[number] * 7919 % ROWS))
                    done[number] += 1

    threads = [threading.Thread(target=client, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait(READY_WITHIN_S)
    started = clock.monotonic()
    stop.wait(seconds)
    stop.set()
    for thread in threads:
        thread.join(READY_WITHIN_S)
    return sum(done) / (clock.monotonic() - started)
