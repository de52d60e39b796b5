"""The proof in a short form: every kind of fault under load, and then the reckoning; and that it can fail.

The whole of it is `python -m tests.proof`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from tests.proof.check import Finding
from tests.proof.faults import Fault, Step
from tests.proof.proving import Options, Proof, Result
from tests.proof.world import running_world

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 20261122
PURCHASES = 600
STEPS: list[Step] = [
    (Fault("kill -9", "ledger"),),
    (Fault("freeze", "verifier", 1.5), Fault("flush all", "redis")),
    (Fault("cut", "ledger > postgres", 1.0),),
    (Fault("kill -9 of one worker", "gateway"),),
    (Fault("full memory", "redis", 1.0),),
    (Fault("kill -9", "postgres"),),
    (Fault("blackhole", "everybody > broker", 1.5),),
    (Fault("restart", "courier"),),
    (Fault("slow", "gateway > postgres", 1.0),),
    (Fault("freeze", "postgres", 1.0),),
    (Fault("kill -9", "redis"), Fault("cut", "webhooks > backend", 1.0)),
    (Fault("disconnect all", "postgres"),),
    (Fault("kill -9", "notifier"),),
    (Fault("blackhole", "verifier-store > store", 1.0),),
]
"""Each kind once or more; each kind of target, and both ends of the road."""
LOSING: list[Step] = [
    (Fault("freeze", name, 2.0), Fault("flush all", "redis")) for name in ("verifier", "ledger", "verifier")
]
"""What the broker holds for one that stands still is gone."""


@pytest.fixture(scope="module")
def proof() -> Iterator[tuple[Proof, Result]]:
    with running_world() as world:
        options = Options(purchases=PURCHASES, faults=0, seed=SEED, steps=STEPS, settled_within_s=240)
        proof = Proof(world, options, tell=print)
        yield proof, proof.run()


def test_all_that_was_accepted_comes_to_its_right_end_whatever_befalls_the_system(
    proof: tuple[Proof, Result],
) -> None:
    _, result = proof
    assert harms(result.findings) == {}, result.findings[:10]
    assert result.unrecovered == []
    assert len(result.befallen) == len(STEPS)
    assert result.counts["submissions"] > PURCHASES // 2
    assert result.webhooks >= result.events > PURCHASES


def test_an_entry_that_was_tampered_with_is_reported_by_the_audit(proof: tuple[Proof, Result]) -> None:
    ran, _ = proof
    with ran.world.engine.begin() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")  # no trigger stands in the way
        connection.exec_driver_sql(
            "update ledger.entry set amount = amount + 1, balance_after = balance_after + 1"
            " where wallet_id is not null and (account_id, account_version) ="
            "       (select account_id, max(account_version) from ledger.entry where wallet_id is not null"
            "         group by 1 order by 1 limit 1)"
        )
    assert harms(ran.look_again())["audit"] > 0


def test_with_redelivery_switched_off_it_reports_losses() -> None:
    with running_world(redelivery=False) as world:
        options = Options(
            purchases=240,
            faults=0,
            seed=SEED,
            redelivery=False,
            steps=LOSING,
            recovery_within_s=3,
            settled_within_s=10,
        )
        result = Proof(world, options, tell=print).run()
    assert harms(result.findings)["lost"] > 0
    assert not result.proved


def harms(findings: Sequence[Finding]) -> Counter[str]:
    return Counter(finding.harm for finding in findings)
