"""Where the processes of one machine tell their metrics, and what `purser metrics` says when they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.commands import metrics
from deploy.errors import StackInvalid
from deploy.processes import PROCESSES, metrics_ports
from deploy.scraping import Unscraped, addresses_beside, scrape_all
from deploy.settings import StackSettings
from tests.support.scripted_store import Reply, ScriptedStore, hang_up, says, serving


def test_processes_beside_each_other_have_ports_in_their_order_from_the_first_one_on() -> None:
    ports = metrics_ports(PROCESSES, StackSettings(metrics_port=9464))
    assert list(ports) == [name for name in PROCESSES if name not in {"simulator", "flower"}]
    assert list(ports.values()) == list(range(9464, 9464 + len(ports)))


def test_a_process_has_the_same_port_whichever_optional_ones_run_beside_it() -> None:
    settings = StackSettings(metrics_port=9464)
    without = [name for name in PROCESSES if name not in {"simulator", "flower"}]
    assert metrics_ports(without, settings) == metrics_ports(PROCESSES, settings)


def test_without_a_port_no_process_has_one() -> None:
    assert metrics_ports(PROCESSES, StackSettings()) == {}


def test_who_asks_where_nothing_tells_is_told_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(StackInvalid, match="PURSER_METRICS_PORT is not set"):
        addresses_beside(StackSettings(data_dir=tmp_path))
    with pytest.raises(StackInvalid, match="--at HOST:PORT"):
        addresses_beside(StackSettings(data_dir=tmp_path, metrics_port=9464))


@pytest.mark.parametrize("reply", [says({}, status=503), says(b"<html>"), says(b"\xff\xfe"), hang_up])
def test_what_does_not_answer_with_metrics_is_said_to_be_so(reply: Reply) -> None:
    store = ScriptedStore()
    store.tell("/metrics", reply)
    with serving(store) as url:
        found = scrape_all({"gateway": url.removeprefix("http://")})
    assert isinstance(found["gateway"], Unscraped)


def test_two_processes_of_one_host_are_two_lines() -> None:
    with serving(telling("purser_accepted_total", 3)) as one, serving(telling("purser_accepted_total", 4)) as other:
        addresses = [url.removeprefix("http://") for url in (one, other)]
        shown = CliRunner().invoke(metrics.command, ["--at", addresses[0], "--at", addresses[1], "--json"])
    assert shown.exit_code == 0, shown.output
    lines = json.loads(shown.stdout)
    assert [(line["address"], line["accepted"]) for line in lines] == list(zip(addresses, (3, 4), strict=True))
    assert {line["process"] for line in lines} == {"127.0.0.1"}


def telling(counter: str, value: int) -> ScriptedStore:
    store = ScriptedStore()
    store.tell("/metrics", says(f'{counter}{{result="recorded"}} {value}\n'.encode()))
    return store


@pytest.mark.parametrize(
    "address", ["gateway", "gateway:", ":9464", "gateway:port", "gateway:0", "gateway:65536", "http://gateway:9464", ""]
)
def test_what_is_no_address_is_a_wrong_use_of_the_command(address: str) -> None:
    refused = CliRunner().invoke(metrics.command, ["--at", address])
    assert refused.exit_code == 2
    assert f"{address!r} is not HOST:PORT" in refused.output


def test_an_address_of_version_6_stands_in_brackets() -> None:
    asked = CliRunner().invoke(metrics.command, ["--at", "[::1]:1", "--json"])
    assert (asked.exit_code, json.loads(asked.stdout)[0]["process"]) == (1, "[::1]")
