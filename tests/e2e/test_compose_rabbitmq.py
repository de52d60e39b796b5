"""docker-compose.yml with deploy/compose.rabbitmq.yml beside it: the same system, and no Redis in it.

It needs a Docker engine, and is skipped unless PURSER_TEST_COMPOSE is set. `make compose-rabbitmq-test` sets it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shared.bus.routes import CONSUMERS
from tests.e2e.test_compose import AFTER, BEFORE, REDELIVERED_WITHIN_S, Flow
from tests.support.compose import Composed, composed, is_wanted
from tests.support.stack import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not is_wanted(), reason="it needs a Docker engine: set PURSER_TEST_COMPOSE=1"),
]

READ_METRICS = (
    "import urllib.request as u; print(u.urlopen('http://rabbitmq:15692/metrics', timeout=10).read().decode())"
)


@pytest.fixture(scope="module")
def system() -> Iterator[Composed]:
    with composed("deploy/compose.rabbitmq.yml") as running:
        yield running


def test_rabbitmq_is_in_the_place_of_redis(system: Composed) -> None:
    services = system.services()
    assert "rabbitmq" in services
    assert "redis" not in services


def test_its_container_has_no_more_power_than_it_needs_and_no_port_for_anybody_outside(system: Composed) -> None:
    described = system.inspect("rabbitmq")
    host = described["HostConfig"]
    assert described["Config"]["User"] == "rabbitmq"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert not host["PortBindings"]


def test_it_lets_in_our_login_and_no_guest(system: Composed) -> None:
    users = json.loads(system.run("exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--formatter=json", "list_users"))
    assert [user["user"] for user in users] == ["purser"]


def test_its_queues_are_quorum_queues(system: Composed) -> None:
    listed = system.run(
        "exec", "-T", "rabbitmq", "rabbitmqctl", "--quiet", "--formatter=json", "list_queues", "name", "type"
    )
    kinds = {queue["name"]: queue["type"] for queue in json.loads(listed)}
    assert {kinds[consumer] for consumer in CONSUMERS} <= {"quorum", "rabbit_quorum_queue"}


def test_its_metrics_are_told_inside(system: Composed) -> None:
    assert "rabbitmq_queue_messages_ready" in system.run("exec", "-T", "courier", "python", "-c", READ_METRICS)


def test_a_purchase_is_credited_and_its_refund_debited(system: Composed) -> None:
    bought = system.buy()
    accepted = system.post("road", {"signed_transaction": bought["signed_transaction"]})
    assert accepted.status_code == 202
    system.purchase(accepted.json()["id"], user_id="road", status="completed")
    assert system.gems("road") == 100
    system.refund(bought["transaction_id"])
    system.purchase(accepted.json()["id"], user_id="road", status="refunded")
    assert system.gems("road") == 0


def test_nothing_is_lost_or_doubled_when_it_is_restarted(system: Composed) -> None:
    with Flow(system, user_id="meanwhile", receipts=True) as flow:
        flow.wait_for(BEFORE)
        system.restart("rabbitmq")
        flow.wait_for(len(flow.accepted) + AFTER)
    wanted = 100 * len(flow.accepted)
    wait_until(lambda: system.gems("meanwhile") >= wanted, within_s=REDELIVERED_WITHIN_S, what="every credit")
    assert system.gems("meanwhile") == wanted
