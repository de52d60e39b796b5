"""How fast webhooks are delivered to a fast receiver, and how long after a credit the app's backend knows of it.

    make bench-webhooks              (or: python -m tests.benchmarks.webhooks [--deliveries N] [--seconds N] [--json])

One running system on this machine: PostgreSQL with its usual durability, Redis, every process of ours, the load
generator and the receiver too. First a backlog: purchases come while `webhooks` is frozen, then it is let go, with all
else frozen. The reference of the same run: the same messages, signed and posted by as many threads of one process, with
nothing written down. Then purchases at a steady rate: from `wallet.credited` recorded to its webhook received.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import datetime

import requests
from standardwebhooks import Webhook

from deploy.ports import free_port
from shared.clock import SystemClock
from shared.ids import system_ids
from tests.benchmarks.load import run
from tests.benchmarks.road import WORKERS, Mint, Row, address, cpu_s, drained, moment, say, show, stopped
from tests.support.stack import wait_until
from tests.support.system import WEBHOOK_SECRET, System, running_system

RATE = 200
CALLS_AT_ONCE = 16
"""The default of `calls_at_once` (shared.apps)."""
REFERENCE_BODY = 400
"""Bytes of a `wallet.credited`, about."""
TELLS = 2
"""A purchase of currency is told twice: purchase.completed and wallet.credited."""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--deliveries", type=int, default=8_000, help="of the backlog")
    parser.add_argument("--seconds", type=int, default=20, help="of the steady rate")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    with listening() as url, running_system(durable=True, hooks_url=url) as system:
        rows = list(measure(system, url, deliveries=options.deliveries, seconds=options.seconds))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        show(rows)


@contextlib.contextmanager
def listening() -> Iterator[str]:
    """A fast receiver in a process of its own; its URL."""
    port = free_port(bind="127.0.0.1", ids=system_ids())
    receiver = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.hearer", str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "listening\n"
        yield f"http://127.0.0.1:{port}/hooks"
    finally:
        receiver.terminate()
        receiver.wait(10)


def measure(system: System, url: str, *, deliveries: int, seconds: int) -> Iterator[Row]:
    """Every figure, one after the other, on one running system."""
    mint = Mint(system)
    with stopped(system, [name for name in WORKERS if name != "webhooks"]):
        bare = bare_posts_per_second(url, deliveries)
    say(f"reference: {bare:,.0f} signed posts per second by {CALLS_AT_ONCE} threads of one process")
    yield _backlog(system, mint, url, deliveries, bare)
    yield _at_rate(system, mint, url, seconds)


def bare_posts_per_second(url: str, posts: int) -> float:
    """The same library, the same signature, the same size, and nothing written down."""
    local, webhook, ids, clock = threading.local(), Webhook(WEBHOOK_SECRET), system_ids(), SystemClock()
    body = json.dumps({"type": "wallet.credited", "data": "x" * REFERENCE_BODY})

    def post(_: int) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        message, now = str(ids.uuid()), clock.now()
        signature = webhook.sign(msg_id=message, timestamp=now, data=body)
        headers = {
            "webhook-id": message,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        answer = local.session.post(url, data=body, headers=headers, timeout=15)
        assert answer.status_code == 204

    with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
        started = time.perf_counter()
        list(pool.map(post, range(posts)))
        seconds = time.perf_counter() - started
    heard(url)
    return posts / seconds


def _backlog(system: System, mint: Mint, url: str, deliveries: int, bare: float) -> Row:
    bodies = mint.many(deliveries // TELLS)
    with stopped(system, ["webhooks"]):
        _post(system, bodies, rate=None)
        drained(system)
        waiting = int(system.scalar("select count(*) from notifier.delivery where state = 'waiting'"))
        say(f"{waiting:,} deliveries wait")
    before, since = cpu_s(system), time.perf_counter()
    delivered(system)
    seconds = time.perf_counter() - since
    cpu_ms = (cpu_s(system)["webhooks"] - before["webhooks"]) / waiting * 1000
    arrived = heard(url)
    assert len(arrived) == waiting, (len(arrived), waiting)
    steady = waiting / (max(arrived.values()) - min(arrived.values()))
    say(f"worked off in {seconds:.1f} s")
    return Row(
        "deliveries to one fast receiver, a backlog",
        f"{steady:,.0f}/s; {cpu_ms:.2f} ms CPU each",
        "",
        f"{bare:,.0f} signed posts/s, unrecorded",
        steady / bare,
    )


def _at_rate(system: System, mint: Mint, url: str, seconds: int) -> Row:
    bodies = mint.many(RATE * seconds)
    since = moment(system)
    measured = _post(system, bodies, rate=RATE)
    drained(system)
    delivered(system)
    delays = sorted(credit_delays_s(system, heard(url), since))
    assert len(delays) == len(bodies), (len(delays), len(bodies))
    p50, p99 = (delays[int(share * len(delays))] * 1000 for share in (0.5, 0.99))
    return Row(
        f"from a credit to its webhook, at {RATE} purchases/s",
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, at most {delays[-1] * 1000:.0f} ms",
        "",
        f"{measured.per_second:,.0f} purchases/s accepted, {TELLS * RATE} webhooks/s",
    )


def credit_delays_s(system: System, arrived: dict[str, float], since: datetime) -> list[float]:
    """From each `wallet.credited` recorded to its webhook received, by the clock of this machine."""
    statement = (
        "select id::text, extract(epoch from recorded_at)::float8 from journal.event"
        " where type = 'wallet.credited' and recorded_at >= %(since)s"
    )
    with system.engine.connect() as connection:
        recorded = connection.exec_driver_sql(statement, {"since": since}).all()
    return [arrived[event_id] - at for event_id, at in recorded if event_id in arrived]


def heard(url: str) -> dict[str, float]:
    """What has arrived since the last time, and when."""
    arrived: dict[str, float] = requests.get(url.replace("/hooks", "/heard"), timeout=30).json()
    return arrived


def delivered(system: System) -> None:
    """Waits until no webhook waits."""
    left = "select exists (select from notifier.delivery where state = 'waiting')"
    wait_until(lambda: not system.scalar(left), within_s=300, what="every webhook delivered")


def _post(system: System, bodies: Sequence[bytes], *, rate: float | None):  # type: ignore[no-untyped-def]
    measured = run(address=address(system), requests=bodies, connections=16 if rate is None else 64, rate=rate)
    if set(measured.statuses) != {202}:
        raise RuntimeError(f"not everything was accepted: {dict(measured.statuses)}")
    return measured


if __name__ == "__main__":
    main(sys.argv[1:])
