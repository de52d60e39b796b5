"""The whole system on RabbitMQ: every test of the road, then what befalls a broker while purchases flow.

It is skipped unless PURSER_TEST_RABBITMQ is set. CI sets it (`make rabbitmq-test` does too).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from deploy.doctor.broker import check_broker, check_workers
from shared.bus.routes import CONSUMERS
from tests.e2e.test_chaos import Flow, all_completed_once
from tests.e2e.test_proof import SEED, harms
from tests.e2e.test_road import *  # noqa: F403 - all of them, on this module's system
from tests.proof.faults import Fault, Step
from tests.proof.proving import Options, Proof
from tests.proof.world import running_world
from tests.support.rabbitmq import REASON, RabbitMQ, is_wanted, running_rabbitmq
from tests.support.stack import wait_until
from tests.support.system import System, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.skipif(not is_wanted(), reason=REASON)]

PURCHASES = 500
PROVED = 400
STEPS: list[Step] = [
    (Fault("kill -9", "ledger"),),
    (Fault("cut", "courier > broker", 1.0),),
    (Fault("freeze", "verifier", 1.5),),
    (Fault("blackhole", "everybody > broker", 1.5),),
    (Fault("kill -9", "postgres"),),
    (Fault("slow", "ledger > broker", 1.0),),
    (Fault("restart", "courier"),),
    (Fault("kill -9", "notifier"),),
]
"""What befalls the system and its roads; what befalls the broker itself comes besides."""


@pytest.fixture(scope="module")
def node() -> Iterator[RabbitMQ]:
    with running_rabbitmq() as running:
        yield running


@pytest.fixture(scope="module")
def system(node: RabbitMQ) -> Iterator[System]:
    with running_system(broker_url=node.url) as running:
        yield running


@pytest.fixture
def fragile_node() -> Iterator[RabbitMQ]:
    """One for a system of its own: two on one broker would take each other's ids from the queues."""
    with running_rabbitmq() as running:
        yield running


@pytest.fixture
def own_system(fragile_node: RabbitMQ) -> Iterator[System]:
    with running_system(broker_url=fragile_node.url) as running:
        yield running


def test_no_redis_runs_beside_it(system: System) -> None:
    assert "redis" not in system.processes()


def test_the_doctor_finds_the_broker_its_queues_and_every_worker_well(system: System, node: RabbitMQ) -> None:
    findings = [*check_broker(node.url), *check_workers(node.url)]
    assert {finding.outcome for finding in findings} == {"ok"}, findings
    assert all(name in str(findings) for name in CONSUMERS)
    assert "RabbitMQ" in findings[0].found


def test_the_doctor_names_a_broker_without_memory_and_a_login_that_everybody_knows(
    system: System, node: RabbitMQ
) -> None:
    with node.out_of_memory():
        assert [finding.outcome for finding in check_broker(node.url)] == ["failed", "ok"]
    node.control("add_user", "guest", "guest")
    node.control("set_permissions", "guest", ".*", ".*", ".*")
    (login, *others) = check_broker(f"amqp://guest:guest@127.0.0.1:{node.port}//")
    assert (login.outcome, login.found) == ("warning", "its login is guest, which everybody knows")
    assert {finding.outcome for finding in others} == {"ok"}


def test_the_doctor_tells_a_wrong_password_from_a_broker_that_is_away_and_shows_none(node: RabbitMQ) -> None:
    refused, _ = check_broker(f"amqp://purser:hunter2@127.0.0.1:{node.port}//")
    assert (refused.outcome, refused.found) == ("failed", "it cannot be used: AccessRefused")
    away, _ = check_broker("amqp://purser:hunter2@127.0.0.1:1//")
    assert (away.outcome, away.found) == ("failed", "it cannot be used: ConnectionRefusedError")


class TestWhilePurchasesFlow:
    def test_the_broker_killed_and_started_again_in_the_middle_loses_and_doubles_none_of_them(
        self, own_system: System, fragile_node: RabbitMQ
    ) -> None:
        flow = Flow(own_system, purchases=PURCHASES)
        flow.let(200)
        flow.go_on_by(100)
        fragile_node.kill()
        flow.let(150)
        flow.go_on_by(120)  # accepting needs no broker
        fragile_node.start()
        flow.let(PURCHASES)
        flow.finish()
        all_completed_once(own_system, flow)

    def test_wiped_cut_off_frozen_and_without_memory_it_loses_and_doubles_none_of_them(
        self, own_system: System, fragile_node: RabbitMQ
    ) -> None:
        flow = Flow(own_system, purchases=PURCHASES)
        for maltreat in (fragile_node.close_connections, fragile_node.restart, fragile_node.forget):
            flow.let(80)
            flow.go_on_by(40)
            maltreat()
        with fragile_node.frozen():
            flow.let(80)
            flow.go_on_by(60)  # accepting goes on while the broker hangs
        with fragile_node.out_of_memory():
            flow.let(80)
            flow.go_on_by(60)  # and while it takes nothing
        flow.let(PURCHASES)
        flow.finish()
        all_completed_once(own_system, flow)


def test_the_proof_holds_on_it_while_it_is_killed_wiped_and_closes_connections_too(fragile_node: RabbitMQ) -> None:
    told: list[str] = []
    maltreatments = (fragile_node.close_connections, fragile_node.restart, fragile_node.forget)
    with running_world(broker_url=fragile_node.url) as world, ThreadPoolExecutor(1) as pool:
        options = Options(purchases=PROVED, faults=0, seed=SEED, steps=STEPS, settled_within_s=300)
        running = pool.submit(Proof(world, options, tell=told.append).run)
        for number, maltreat in enumerate(maltreatments, start=1):
            wait_until(partial(_has_said, told, 2 * number, running), within_s=240, what="the next fault")
            maltreat()
        result = running.result()
    assert harms(result.findings) == {}, result.findings[:10]
    assert result.unrecovered == []
    assert result.counts["submissions"] > PROVED // 2


def _has_said(told: list[str], sentences: int, running: Future[Any]) -> bool:
    """Whether the proof has said so much, or is over."""
    return len(told) >= sentences or running.done()
