"""`python -m tests.proof`, which is `make proof`: exit code 0 only when nothing is off."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from deploy.interruption import Interrupted, interruptible
from shared.clock import SystemClock
from tests.proof.proving import Options, Result, prove
from tests.proof.table import document, show

SEED = 20261122
LOSSY_RECOVERY_S, LOSSY_SETTLED_S = 5.0, 25.0
"""Without redelivery much is waited for in vain."""


def main(arguments: Sequence[str]) -> int:
    options, json_file = _read(arguments)
    clock, console = SystemClock(), Console()
    began_s = clock.monotonic()

    def tell(sentence: str) -> None:
        seconds = int(clock.monotonic() - began_s)
        console.print(
            f"{seconds // 60:02}:{seconds % 60:02}  {sentence}", markup=False, highlight=False, soft_wrap=True
        )

    try:
        with interruptible():
            result = prove(options, tell=tell)
    except Interrupted as interrupted:
        console.print(f"ended by {interrupted}")
        return 128 + interrupted.signal
    return _report(result, console, json_file)


def _report(result: Result, console: Console, json_file: Path | None) -> int:
    show(result, console)
    if json_file is not None:
        json_file.write_text(json.dumps(document(result), indent=2, default=str) + "\n", encoding="utf-8")
    return 0 if result.proved else 1


def _read(arguments: Sequence[str]) -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--purchases", type=int, default=20_000)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=SEED, help="of what is bought and of what befalls it")
    parser.add_argument("--broker-url", help="a broker that runs already; else a Redis is started, and maltreated too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all of it there, for programs")
    parser.add_argument(
        "--without-redelivery", action="store_true", help="with a courier that forgets: it has to report losses"
    )
    given = parser.parse_args(arguments)
    options = Options(purchases=given.purchases, faults=given.faults, seed=given.seed, broker_url=given.broker_url)
    if given.without_redelivery:
        options = replace(
            options, redelivery=False, recovery_within_s=LOSSY_RECOVERY_S, settled_within_s=LOSSY_SETTLED_S
        )
    return options, given.json


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
