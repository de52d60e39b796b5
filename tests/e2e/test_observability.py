"""`docker compose --profile observability up`, run for real: Prometheus finds every process, every panel of the
dashboard has something to show, and the alerts fire when they should and only then."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from deploy.dashboard.purser import WATCHED
from shared.clock import SystemClock
from tests.support.compose import Composed, is_wanted
from tests.support.receiver import Reply
from tests.support.stack import wait_until
from tests.support.watched import (
    Prometheus,
    Question,
    Watched,
    hungry,
    panels,
    questions,
    read_dashboard,
    variable_queries,
    watched,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1100),  # less than test_compose.py, whose system it looks at afterwards
    pytest.mark.skipif(not is_wanted(), reason="it needs a Docker engine: set PURSER_TEST_COMPOSE=1"),
]

SCRAPED_WITHIN_S = 90
FED_WITHIN_S = 240
FIRED_WITHIN_S = 180


@pytest.fixture(scope="module")
def observed(composed_system: Composed) -> Iterator[Watched]:
    with watched(composed_system, SystemClock()) as watching:
        yield watching


@pytest.fixture
def prometheus(observed: Watched) -> Prometheus:
    return observed.prometheus


def test_every_process_is_found_once_and_read(prometheus: Prometheus) -> None:
    expected = {name: ["up"] for name in (*WATCHED, "prometheus")}
    wait_until(lambda: prometheus.targets() == expected, within_s=SCRAPED_WITHIN_S, what=f"{expected}")


def test_no_metric_is_published_to_the_world(observed: Watched) -> None:
    for service in WATCHED:
        ports = observed.system.inspect(service)["NetworkSettings"]["Ports"]
        assert not (ports or {}).get("9464/tcp"), service


def test_a_container_of_the_profile_has_no_more_power_than_it_needs(observed: Watched) -> None:
    for service in observed.services:
        described = observed.system.inspect(service)
        host = described["HostConfig"]
        assert described["Config"]["User"].partition(":")[0] not in {"", "0", "root"}
        assert (host["ReadonlyRootfs"], host["CapDrop"], host["CapAdd"]) == (True, ["ALL"], None)
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        ports = described["NetworkSettings"]["Ports"]
        assert {binding["HostIp"] for bindings in ports.values() for binding in bindings or []} == {"127.0.0.1"}


def test_the_alerts_fire_when_they_should_and_are_silent_when_they_should(observed: Watched) -> None:
    assert "SUCCESS" in observed.promtool("test", "rules", "/etc/prometheus/alerts_test.yml")


def test_every_rule_and_every_setting_is_understood(observed: Watched) -> None:
    assert "SUCCESS" in observed.promtool("check", "config", "/etc/prometheus/prometheus.yml")
    assert {rule["health"] for rule in observed.prometheus.rules()} <= {"ok", "unknown"}  # unknown: not evaluated yet


def test_every_panel_is_fed(observed: Watched) -> None:
    dashboard = read_dashboard()
    asked = questions(dashboard)
    if observed.grafana is not None:
        assert panels(observed.grafana.dashboard("purser")) == panels(dashboard)
        assert observed.grafana.dashboards() == ["purser"]
        assert observed.grafana.status_for_a_stranger() == 401
    source = observed.grafana or observed.prometheus
    left: list[Question] = asked

    def all_fed() -> bool:
        nonlocal left
        live(observed.system)
        wait_until_scraped(observed.prometheus)  # a rate is of two scrapes
        left = hungry(left, source)
        return not left

    try:
        wait_until(all_fed, within_s=FED_WITHIN_S, what="every panel fed")
    except AssertionError as error:
        raise AssertionError(f"{error}, but {[(each.panel, each.expr) for each in left]}") from None
    for query in variable_queries(dashboard):
        assert observed.prometheus.label_values(query), query


def test_a_parked_event_alerts_somebody_with_where_to_read_on(prometheus: Prometheus) -> None:
    """It comes after the panels, which have parked one."""

    def firing() -> list[dict[str, object]]:
        (rule,) = (rule for rule in prometheus.rules() if rule["name"] == "PurserEventsParked")
        return [alert for alert in rule["alerts"] if alert["state"] == "firing"]

    wait_until(lambda: bool(firing()), within_s=FIRED_WITHIN_S, what="the alert")
    (alert,) = firing()
    assert alert["labels"] == {"alertname": "PurserEventsParked", "consumer": "ledger", "severity": "warning"}
    described = alert["annotations"]
    assert isinstance(described, dict)
    assert re.fullmatch(r"\d+ events are parked for ledger: purser parked says why\.", described["description"])
    assert described["runbook"] == "deploy/runbook.md#pursereventsparked"


def wait_until_scraped(prometheus: Prometheus) -> None:
    """Returns once every process was asked again."""
    (now,) = prometheus.instant("vector(time())")
    since = float(now["value"][1])

    def oldest() -> float:
        (found,) = prometheus.instant("min(timestamp(up))")
        return float(found["value"][1])

    wait_until(lambda: oldest() > since, within_s=SCRAPED_WITHIN_S, what="another scrape of everything")


def live(system: Composed) -> None:
    """A bit of everything that the dashboard shows: purchases by each road and again, one that is refunded, one that is
    rejected, one that is parked, a store that has to be asked again, a webhook that is refused, a stranger."""
    unknown = system.buy("com.example.game.not-in-the-catalogue", type="consumable")
    signed = {"signed_transaction": system.buy()["signed_transaction"]}
    accepted = system.post_until_accepted("watched", signed)
    system.post("watched", signed)
    system.post("watched", {"signed_transaction": unknown["signed_transaction"]})
    system.post("watched", {"transaction_id": "2999999999999990"})
    system.faults(verify_receipt={"statuses": [21005]})
    by_receipt = system.buy()
    system.post("watched", {name: by_receipt[name] for name in ("transaction_id", "receipt")})
    system.receiver.reply_next(Reply(503))
    system.purchase(accepted, user_id="watched", status="completed")
    refunded = system.buy()
    told = system.post_until_accepted("watched", {"signed_transaction": refunded["signed_transaction"]})
    system.purchase(told, user_id="watched", status="completed")
    system.refund(refunded["transaction_id"])
    assert system.get("/v1/users/me/wallet", user_id="").status_code in {400, 401}
