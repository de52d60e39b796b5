"""A store that fails half of the time: every receipt still comes to its right end, and none twice.

A short form by itself; `make proof-receipts` runs it with a thousand.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded, and printed when the test fails
from typing import Any

import pytest

from shared.apps import load_apps
from shared.catalog import load_catalog
from shared.clock import SystemClock
from simulator.app import build
from tests.support.stack import reachable_directory
from tests.support.system import System, at_once, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RECEIPTS = int(os.environ.get("PURSER_TEST_FAULTY_RECEIPTS", "200"))  # noqa: TID251 - a test's own setting
SEED = int(os.environ.get("PURSER_TEST_SEED", "20261122"))  # noqa: TID251
FAULTS = (21002, 21005, 21009, 21103, "http_503", "http_500", "timeout", "cut", "not_json", "huge")
"""What half of the answers are; a time-out is rarer than the others, or the test would do nothing but wait."""
FAULT_WEIGHTS = (3, 6, 6, 3, 6, 3, 1, 3, 3, 1)
WITHIN_S = 400
WAITS_MAX = 2
"""So many waits are waited for; from there they double up to hours, and some of a thousand would have six of them."""
STATUSES_MAX = 10_000
"""So many faults the simulator takes at once."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One receipt and what must become of it."""

    user_id: str
    transaction_id: str
    receipt: str
    expected: str


@pytest.fixture
def system() -> Iterator[System]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PURSER_STORE_READ_TIMEOUT_S", "2")
        with running_system() as running:
            yield running


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. `calls`: what befell each question that the store was asked, 0 for nothing."""

    ends: Counter[str]
    calls: Counter[int | str]
    granted: int
    transactions: int
    seconds: float

    def table(self) -> str:
        """For people."""
        accepted, asked, good = self.ends.total(), self.calls.total(), self.calls[0]
        return "\n".join(
            [
                f"\n{accepted} receipts, and a store that fails half of the time (seed {SEED})",
                f"  accepted        {accepted:>6}",
                *(f"  {f'-> {end}':<26}{count:>6}" for end, count in self.ends.most_common()),
                f"  faults met      {asked - good:>6}  in {asked} answers",
                *(f"  {f'-> {fault}':<26}{count:>6}" for fault, count in self.calls.most_common() if fault != 0),
                f"  granted         {self.granted:>6}",
                f"  granted twice   {self.granted - self.transactions:>6}",
                f"  seconds         {self.seconds:>6.0f}",
            ]
        )


def test_every_receipt_comes_to_its_right_end_and_none_twice(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    random, clock = Random(SEED), SystemClock()
    claims = list(_claims(system, random))
    statuses = [
        random.choices(FAULTS, FAULT_WEIGHTS)[0] if random.random() < 0.5 else 0
        for _ in range(min(STATUSES_MAX, 8 * RECEIPTS))
    ]
    system.faults(verify_receipt={"statuses": statuses, "hang_ms": 4_000})
    began_s = clock.monotonic()
    accepted = dict(zip(at_once(lambda claim: _post(system, claim), claims), claims, strict=True))
    assert len(accepted) == RECEIPTS
    system.eventually(
        lambda: _all_ended(system, accepted), within_s=WITHIN_S, what=f"the end of every receipt (seed {SEED})"
    )
    seconds = clock.monotonic() - began_s
    ends = {purchase: _end(system, purchase, claim) for purchase, claim in accepted.items()}
    wrong = {
        purchase: (end, accepted[purchase]) for purchase, end in ends.items() if end != accepted[purchase].expected
    }
    assert not wrong, (SEED, Counter(end for end, _ in wrong.values()), list(wrong.items())[:3])
    granted, transactions = _credited_once(system, claims)
    calls = Counter(statuses[: len(statuses) - len(_faults_left(system))])
    assert calls.total() > RECEIPTS, "the faults were hardly met"
    with capsys.disabled():
        print(Result(Counter(ends.values()), calls, granted, transactions, seconds).table())


def _claims(system: System, random: Random) -> Iterator[Claim]:
    """Most of them are good; some are of another store, of another app, or do not hold what is claimed from them."""
    with reachable_directory() as elsewhere:
        foreign = build(
            data_dir=elsewhere,
            apps=load_apps(system.settings.apps_file),
            catalog=load_catalog(system.settings.catalog_file),
            webhook_url="http://127.0.0.1:9/nobody",
        )
        for number in range(RECEIPTS):
            yield _claim(system, foreign.store, f"user-{number}", random.random())
        foreign.close()


def _claim(system: System, foreign: Any, user_id: str, draw: float) -> Claim:
    if draw < 0.05:
        forged = foreign.buy(product_id="com.example.game.gems100", notify=False)
        return Claim(user_id, forged.transaction.transaction_id, forged.receipt, "receipt_unauthentic")
    if draw < 0.10:
        bought = system.buy(bundle_id="com.example.elsewhere")
        return Claim(user_id, bought["transaction_id"], bought["receipt"], "wrong_app")
    if draw < 0.15:
        bought = system.buy()
        return Claim(user_id, "2999999999999999", bought["receipt"], "transaction_not_found")
    bought = system.buy(environment="sandbox") if draw < 0.20 else system.buy()
    return Claim(user_id, bought["transaction_id"], bought["receipt"], "completed")


def _post(system: System, claim: Claim) -> str:
    body = {"transaction_id": claim.transaction_id, "receipt": claim.receipt}
    return system.post_until_accepted(claim.user_id, body)


def _all_ended(system: System, accepted: dict[str, Claim]) -> bool:
    """Looks, and shortens the waits of those that have had bad luck."""
    system.hasten(attempts=WAITS_MAX + 1)
    return _open(system, accepted) == 0


def _open(system: System, accepted: dict[str, Claim]) -> int:
    """How many of the purchases have no final word yet; nothing may be parked or dead."""
    stuck = system.scalar("select count(*) from journal.delivery where state in ('parked', 'dead')")
    assert stuck == 0, system.left_over()
    final = system.scalar(
        "select count(*) from journal.timeline where subject = any(%(subjects)s)"
        "   and word_type in ('purchase.completed', 'purchase.rejected')",
        subjects=list(accepted),
    )
    return len(accepted) - int(final)


def _end(system: System, purchase: str, claim: Claim) -> str:
    """The status, or why it was rejected."""
    seen = system.purchase(purchase, user_id=claim.user_id)
    return str(seen["rejection"]["code"] if seen["status"] == "rejected" else seen["status"])


def _credited_once(system: System, claims: list[Claim]) -> tuple[int, int]:
    """As many grants as there are good transactions, each once, and no other entry in any wallet: how many of both.

    A receipt whose claim is not in it credits the purchase that it does hold.
    """
    good = sum(claim.expected in {"completed", "transaction_not_found"} for claim in claims)
    granted = system.scalar("select count(*) from journal.event where type = 'wallet.credited'")
    transactions = system.scalar(
        "select count(distinct payload #>> '{transaction,transaction_id}') from journal.event"
        " where type = 'purchase.completed'"
    )
    assert (granted, transactions) == (good, good)
    assert system.scalar("select count(*) from journal.event where type = 'wallet.debited'") == 0
    return granted, transactions


def _faults_left(system: System) -> list[Any]:
    left: list[Any] = system.faults_now()["verify_receipt"]["statuses"]
    return left
