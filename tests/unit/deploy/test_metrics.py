"""Where the processes of one machine tell their metrics, and what `purser metrics` says when they do not."""

from __future__ import annotations

from pathlib import Path

import pytest

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
