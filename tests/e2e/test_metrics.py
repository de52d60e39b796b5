"""What the processes of a running system tell Prometheus, after all that may happen to a purchase has happened."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import psutil
import pytest
import requests
from prometheus_client.samples import Sample

from deploy.doctor.metrics import check_metrics
from deploy.ports import free_port, is_free
from deploy.processes import PROCESSES
from deploy.scraping import Numbers, Unscraped, scrape, scrape_all
from shared.ids import system_ids
from shared.metrics.described import METRICS
from tests.support.receiver import Reply
from tests.support.stack import wait_until
from tests.support.system import System, at_once, purser, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WATCHED: Final = [name for name, process in PROCESSES.items() if process.has_metrics]
HTTP: Final = ("gateway", "ledger-api", "notifier-api")
CONSUMERS: Final = ("verifier", "verifier-store", "verifier-lookups", "ledger", "notifier")
TOLD_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "purser_http_requests_total": HTTP,
    "purser_http_request_duration_seconds": HTTP,
    "purser_refused_total": ("gateway",),
    "purser_accepted_total": ("gateway",),
    "purser_events_recorded_total": ("gateway", "verifier", "verifier-store", "ledger", "webhooks"),
    "purser_events_handled_total": CONSUMERS,
    "purser_event_age_seconds": ("verifier", "verifier-store", "verifier-lookups", "ledger", "notifier"),
    "purser_verifications_total": ("verifier", "verifier-store", "verifier-lookups"),
    "purser_store_calls_total": ("verifier-store", "verifier-lookups", "reconciler"),
    "purser_store_call_duration_seconds": ("verifier-store", "verifier-lookups", "reconciler"),
    "purser_store_retries_total": ("verifier-store",),
    "purser_ledger_amount_total": ("ledger", "ledger-api"),
    "purser_ledger_audit_problems": ("ledger-api",),
    "purser_ledger_audit_finished_timestamp_seconds": ("ledger-api",),
    "purser_ledger_audit_duration_seconds": ("ledger-api",),
    "purser_webhook_attempts_total": ("webhooks",),
    "purser_webhook_attempt_duration_seconds": ("webhooks",),
    "purser_webhook_deliveries": ("webhooks",),
    "purser_webhook_oldest_waiting_seconds": ("webhooks",),
    "purser_handed_over_total": ("courier",),
    "purser_handovers_failed_total": ("courier",),
    "purser_deliveries": ("courier",),
    "purser_oldest_unhandled_seconds": ("courier",),
    "purser_queue_messages": ("courier",),
    "purser_broker_unacknowledged_messages": ("courier",),
    "purser_broker_up": ("courier",),
    "purser_broker_memory_bytes": ("courier",),
    "purser_broker_memory_max_bytes": ("courier",),
    "purser_reconciliation_missed_total": ("reconciler",),
    "purser_reconciliation_looked_timestamp_seconds": ("reconciler",),
    "purser_database_up": ("courier", "webhooks", "reconciler"),
    "purser_build_info": tuple(WATCHED),
}
"""Who tells what, at least, of what happens here."""

USERS: Final = ("metrics-alice", "metrics-bob", "metrics-carol", "metrics-dave")


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    ids = system_ids()
    found: list[int] = []

    def in_a_row() -> bool:
        found[:] = [free_port(bind="127.0.0.1", ids=ids)]
        return all(is_free(bind="127.0.0.1", port=found[0] + number) for number in range(count))

    wait_until(in_a_row, what=f"{count} free ports in a row")
    return found[0]


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system(metrics_port=free_ports(len(WATCHED))) as running:
        yield running


def address_of(system: System, process: str) -> str:
    return f"127.0.0.1:{system.stack.metrics_ports()[process]}"


def total(system: System, process: str, metric: str, **labels: str) -> float:
    """The sum of a metric's values in one process; 0 while it tells none."""
    return scrape(address_of(system, process)).total(metric, **labels) or 0.0


@pytest.fixture(scope="module")
def told(system: System) -> dict[str, Numbers]:
    """What each process tells after a purchase of each kind, a refund, a rejection, what is parked, a webhook that
    fails, and what the App Store says."""
    alice, bob, carol, dave = USERS
    system.faults(verify_receipt={"statuses": [21005]})
    receipt = system.buy()
    _completed(system, alice, {"receipt": receipt["receipt"], "transaction_id": receipt["transaction_id"]})
    system.receiver.reply_next(Reply(500))
    signed = system.buy(notify=True)
    _completed(system, bob, {"signed_transaction": signed["signed_transaction"]})
    system.post(bob, {"signed_transaction": signed["signed_transaction"]})
    system.refund(signed["transaction_id"])
    wait_until(lambda: system.gems(bob) == 0, what="the refund")
    assert system.post(carol, {"transaction_id": "2000000000000000"}, Prefer="wait=20").json()["status"] == "rejected"
    unknown = system.buy("com.example.game.not-in-the-catalogue", type="consumable")
    body = {"signed_transaction": unknown["signed_transaction"]}
    assert system.post(dave, body, Prefer="wait=20").json()["status"] == "parked"
    assert system.order(f"/v1/users/{alice}/spends", {"currency": "gems", "amount": 7}, key="k-1").status_code == 201
    assert system.get("/v1/webhooks/endpoints").status_code == 200
    assert system.get("/v1/purchases/pur_nothing").status_code == 404
    wait_until(lambda: total(system, "ledger-api", "purser_ledger_audit_duration_seconds") > 0, what="an audit")
    wait_until(lambda: total(system, "webhooks", ATTEMPTS, outcome="taken") >= 4, what="webhooks")
    wait_until(lambda: total(system, "reconciler", "purser_reconciliation_looked_timestamp_seconds") > 0, what="a look")
    found = {name: told for name, told in scrape_all(addresses(system)).items() if isinstance(told, Numbers)}
    assert set(found) == set(WATCHED)
    return found


ATTEMPTS: Final = "purser_webhook_attempts_total"


def addresses(system: System) -> dict[str, str]:
    return {name: address_of(system, name) for name in WATCHED}


def _completed(system: System, user_id: str, body: dict[str, str]) -> None:
    purchase = system.post_until_accepted(user_id, body)
    assert system.purchase(purchase, user_id=user_id)["status"] == "completed"


def names_of(numbers: Numbers) -> set[str]:
    """The metrics that were told, by the names of the list."""
    return {_listed(sample) for sample in numbers.samples}


def _listed(sample: Sample) -> str:
    name = re.sub(r"_(bucket|count|sum)$", "", sample.name)
    return name if name in METRICS else sample.name


def test_the_table_is_of_all_metrics_that_there_are() -> None:
    assert set(TOLD_BY) == set(METRICS)


@pytest.mark.parametrize("metric", TOLD_BY)
def test_a_metric_is_told_by_its_processes_with_its_labels(told: Mapping[str, Numbers], metric: str) -> None:
    for process in TOLD_BY[metric]:
        samples = [sample for sample in told[process].samples if _listed(sample) == metric]
        assert samples, f"{process} does not tell it"
        assert {frozenset(sample.labels) - {"le"} for sample in samples} == {frozenset(METRICS[metric].labels)}


def test_nobody_tells_what_is_not_on_the_list(told: Mapping[str, Numbers]) -> None:
    for process, numbers in told.items():
        strange = {name for name in names_of(numbers) - set(METRICS) if not name.startswith("process_")}
        assert strange == set(), process


def test_what_has_happened_is_what_is_told(told: Mapping[str, Numbers]) -> None:
    def told_by(process: str, metric: str, **labels: str) -> float | None:
        return told[process].total(metric, **labels)

    accepted = "purser_accepted_total"
    assert told_by("gateway", accepted, kind="receipt", result="recorded") == 1
    assert told_by("gateway", accepted, kind="transaction", result="recorded") == 2
    assert told_by("gateway", accepted, kind="transaction", result="repeated") == 1
    assert told_by("gateway", accepted, kind="transaction_id", result="recorded") == 1
    assert told_by("gateway", "purser_refused_total", reason="not-found") == 1
    assert told_by("verifier-store", "purser_verifications_total", outcome="verified") == 1
    rejected = {"outcome": "rejected", "code": "transaction_not_found"}
    assert told_by("verifier-lookups", "purser_verifications_total", **rejected) == 1
    assert told_by("verifier-store", "purser_store_retries_total", status="21005") == 1
    assert told_by("verifier-store", "purser_store_calls_total", status="21005") == 1
    assert told_by("ledger", "purser_events_handled_total", outcome="parked", type="purchase.verified") == 1
    assert told_by("ledger", "purser_ledger_amount_total", direction="credited", currency="gems") == 200
    assert told_by("ledger", "purser_ledger_amount_total", direction="debited", currency="gems") == 100
    assert told_by("ledger-api", "purser_ledger_amount_total", direction="debited", currency="gems") == 7
    assert told_by("courier", "purser_deliveries", consumer="ledger", state="parked") == 1
    assert told_by("courier", "purser_broker_up") == 1
    assert told_by("webhooks", ATTEMPTS, outcome="refused") == 1
    assert told_by("webhooks", "purser_webhook_deliveries", state="waiting") == 1
    assert told_by("ledger-api", "purser_ledger_audit_problems") == 0


def test_no_label_names_a_user_a_transaction_or_a_purchase(system: System, told: Mapping[str, Numbers]) -> None:
    values = {value for numbers in told.values() for sample in numbers.samples for value in sample.labels.values()}
    text = "\n".join(values)
    assert [user for user in USERS if user in text] == []
    assert re.findall(r"(?:pur|spd|ent|sub|ntf)_[0-9A-Za-z]{8,}|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-", text) == []
    assert not re.search(r"20000\d{8,}", text)


def test_the_public_port_has_no_metrics(system: System) -> None:
    answer = requests.get(f"{system.gateway}/metrics", timeout=10)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_the_command_shows_every_process_with_its_address_and_its_numbers(system: System, told: object) -> None:
    lines = json.loads(purser(system, "metrics", "--json"))
    assert {line["process"]: line["address"] for line in lines} == addresses(system)
    by_name = {line["process"]: line for line in lines}
    assert by_name["gateway"]["accepted"] >= 4
    assert by_name["ledger"]["parked"] == 1
    assert by_name["ledger"]["queued"] == 0
    table = purser(system, "metrics")
    assert all(name in table for name in WATCHED)
    one = purser(system, "metrics", "--at", address_of(system, "courier"), "--json")
    assert [line["answers"] for line in json.loads(one)] == ["yes"]


def test_the_doctor_says_who_tells_its_metrics_and_who_does_not(system: System) -> None:
    assert [finding.outcome for finding in check_metrics(addresses(system))] == ["ok"]
    nobody = f"127.0.0.1:{free_port(bind='127.0.0.1', ids=system_ids())}"
    silent, well = check_metrics(addresses(system) | {"courier": nobody})
    assert (silent.outcome, well.outcome) == ("warning", "ok")
    assert f"courier at {nobody}" in silent.found


def test_two_workers_of_the_gateway_are_told_as_one_and_one_that_is_killed_takes_nothing_with_it(
    system: System, told: object
) -> None:
    def requests_told() -> float:
        return total(system, "gateway", "purser_http_requests_total", route="/healthz")

    def ask(count: int) -> int:
        answers = at_once(lambda _: _answers(f"{system.gateway}/healthz"), list(range(count)), threads=4)
        return sum(answers)

    before = requests_told()
    made = ask(40)
    assert requests_told() == before + made
    workers = psutil.Process(system.pid("gateway")).children()
    assert len(workers) == system.settings.gateway_workers
    os.kill(workers[0].pid, signal.SIGKILL)
    assert requests_told() == before + made
    wait_until(lambda: _workers(system) - {each.pid for each in workers} != set(), what="another worker")
    made += ask(40)
    assert requests_told() == before + made


def _workers(system: System) -> set[int]:
    return {each.pid for each in psutil.Process(system.pid("gateway")).children()}


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=10).ok
    except requests.RequestException:
        return False


def test_without_a_broker_the_courier_says_so_and_what_waits_grows_old(system: System, told: object) -> None:
    pid = system.pid("redis")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: total(system, "courier", "purser_broker_up") == 0, within_s=60, what="the word")
        bought = system.buy()
        system.post_until_accepted("metrics-erin", {"signed_transaction": bought["signed_transaction"]})
        wait_until(_older_than(system, 2), within_s=60, what="an event that waits")
        wait_until(_older_than(system, 5), within_s=60, what="an event that waits for longer")
        assert total(system, "courier", "purser_database_up") == 1
        assert total(system, "courier", "purser_handovers_failed_total", cause="broker") > 0
        assert scrape(address_of(system, "courier")).total("purser_queue_messages") is None
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: total(system, "courier", "purser_broker_up") == 1, within_s=60, what="the broker again")
    wait_until(lambda: not _older_than(system, 0.001)(), within_s=60, what="nothing that waits")


def _older_than(system: System, seconds: float) -> Callable[[], bool]:
    return lambda: total(system, "courier", "purser_oldest_unhandled_seconds", consumer="verifier") > seconds


def test_without_a_database_a_scrape_still_answers_with_the_rest(system: System, told: object) -> None:
    pid = system.pid("postgres")
    stopped = [pid, *(child.pid for child in psutil.Process(pid).children())]
    for each in stopped:
        os.kill(each, signal.SIGSTOP)
    try:
        wait_until(lambda: total(system, "courier", "purser_database_up") == 0, within_s=60, what="the word")
        numbers = scrape(address_of(system, "courier"))
        assert numbers.total("purser_oldest_unhandled_seconds") is None
        assert numbers.total("purser_broker_up") == 1
        assert numbers.total("purser_handed_over_total")
        assert [name for name, told in scrape_all(addresses(system)).items() if isinstance(told, Unscraped)] == []
    finally:
        for each in stopped:
            os.kill(each, signal.SIGCONT)
    wait_until(lambda: total(system, "courier", "purser_database_up") == 1, within_s=60, what="the database again")
