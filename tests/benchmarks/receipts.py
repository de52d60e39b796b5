"""How many receipts one verifier process has verified by a slow store, and whether StoreKit 2 purchases notice.

    python -m tests.benchmarks.receipts [--receipts N] [--delay-ms 300] [--json]

One running system on this machine, load generator and simulated store included. First the receipts are accepted while
`verifier-store` is frozen; then it is let go, and StoreKit 2 purchases come at a steady rate for as long as it works on
them. Then both come at a steady rate. Everything is read from the journal: from a submission's recording to that of its
`wallet.credited`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime

import requests

from tests.benchmarks.load import run
from tests.benchmarks.road import Mint, Row, address, cpu_s, drained, latency_ms, moment, say, show, stopped
from tests.support.system import System, running_system

SIGNED_RATE, RECEIPT_RATE = 50, 100
PACED_S = 15
CONNECTIONS = 16
REFERENCE_CALLS = 20


class ReceiptMint(Mint):
    """Distinct purchases as receipts, each of a customer of its own."""

    def body(self) -> bytes:
        bought = self.buy()
        return json.dumps(
            {"store": "apple", "transaction_id": bought.transaction.transaction_id, "receipt": bought.receipt}
        ).encode()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--receipts", type=int, default=6_000)
    parser.add_argument("--delay-ms", type=int, default=300, help="what the store takes for each answer")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    with running_system(webhooks=False, durable=True) as system:
        rows = list(measure(system, receipts=options.receipts, delay_ms=options.delay_ms))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        show(rows)


def measure(system: System, *, receipts: int, delay_ms: int) -> Iterator[Row]:
    """Every figure, one after the other, on one running system."""
    one_by_one = reference(system, delay_ms=delay_ms)
    say(f"reference: {one_by_one:.1f} answers a second when one is asked for after the other")
    mints = ReceiptMint(system), Mint(system)
    yield from _flat_out(system, *mints, receipts=receipts, one_by_one=one_by_one)
    yield _paced(system, *mints)


def _flat_out(
    system: System, receipt_mint: Mint, signed_mint: Mint, *, receipts: int, one_by_one: float
) -> Iterator[Row]:
    """A backlog of receipts, worked off as fast as it goes; both cores are busy with it."""
    submissions = receipt_mint.many(receipts)
    signed = signed_mint.many(SIGNED_RATE * max(10, receipts // 240))
    with stopped(system, ["verifier-store"]):
        accepted = run(address=address(system), requests=submissions, connections=CONNECTIONS)
        say(f"accepted {accepted.per_second:,.0f} receipts/s, {dict(accepted.statuses)}")
    since, before = moment(system), cpu_s(system)
    run(address=address(system), requests=signed, connections=CONNECTIONS, rate=SIGNED_RATE)
    drained(system)
    after = cpu_s(system)
    spent = {name: (after[name] - before[name]) / receipts * 1000 for name in after}
    say("CPU ms per receipt: " + ", ".join(f"{name} {ms:.2f}" for name, ms in spent.items() if ms >= 0.005))
    per_second = verified_per_second(system, since)
    yield Row(
        "receipts verified by one process, flat out",
        f"{per_second:,.0f}/s",
        "≥ 200/s when the store takes 300 ms",
        f"{one_by_one:.1f}/s one after the other",
        per_second / one_by_one,
    )
    yield Row(f"StoreKit 2 purchases meanwhile, {SIGNED_RATE}/s", _latency(system, since), "p99 ≤ 500 ms")


def _paced(system: System, receipt_mint: Mint, signed_mint: Mint) -> Row:
    """As many receipts as leave the machine room to breathe: what is left is what the slow store does to the others."""
    rates = RECEIPT_RATE, SIGNED_RATE
    minted = [mint.many(rate * PACED_S) for mint, rate in zip((receipt_mint, signed_mint), rates, strict=True)]
    requests = [minted[number % sum(rates) >= RECEIPT_RATE].pop() for number in range(sum(rates) * PACED_S)]
    since = moment(system)
    run(address=address(system), requests=requests, connections=64, rate=sum(rates))
    drained(system)
    what = f"StoreKit 2 purchases, {SIGNED_RATE}/s, beside {RECEIPT_RATE} receipts/s"
    return Row(what, _latency(system, since), "p99 ≤ 500 ms")


def _latency(system: System, since: datetime) -> str:
    p50, p99 = latency_ms(system, since)
    return f"credited after p50 {p50:.0f} ms, p99 {p99:.0f} ms"


def reference(system: System, *, delay_ms: int) -> float:
    """The slow store's answers per second to somebody who asks for one after the other. The delay stays on."""
    system.faults(verify_receipt={"delay_ms": delay_ms})
    bought = system.buy()
    with requests.Session() as session:
        started = time.perf_counter()
        for _ in range(REFERENCE_CALLS):
            question = {"receipt-data": bought["receipt"], "password": "example-shared-secret"}
            session.post(f"{system.simulator}/verifyReceipt", json=question, timeout=30).raise_for_status()
        return REFERENCE_CALLS / (time.perf_counter() - started)


# ---- what the journal says --------------------------------------------------------------------------------------


def verified_per_second(system: System, since: datetime) -> float:
    """Receipts, from when the process was let go to the last verdict."""
    return float(
        system.scalar(
            "select count(*) / extract(epoch from max(verified.recorded_at) - %(since)s)"
            "  from journal.event submitted join journal.event verified"
            "       on verified.causation_id = submitted.id and verified.type = 'purchase.verified'"
            " where submitted.type = 'receipt.submitted' and verified.recorded_at >= %(since)s",
            since=since,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
