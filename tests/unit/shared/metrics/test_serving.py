"""The port that metrics are told on: by itself, bounded, and a clear word when it cannot be had."""

from __future__ import annotations

import socket

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from deploy.ports import free_port
from shared.ids import system_ids
from shared.metrics import serving
from shared.metrics.counted import STORE_RETRIES
from shared.metrics.ports import open_port
from shared.metrics.serving import SCRAPES_AT_ONCE_MAX, serve, serve_metrics
from shared.settings import ProcessSettings
from tests.support.stack import wait_until

TIMEOUT_S = 10


def settings_at(port: int) -> ProcessSettings:
    return ProcessSettings(metrics_port=port)


@pytest.fixture
def port() -> int:
    return free_port(bind="127.0.0.1", ids=system_ids())


def get(port: int, path: str = "/metrics") -> requests.Response:
    return requests.get(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT_S)


def test_all_that_is_counted_is_told_with_the_release_and_the_process(port: int) -> None:
    STORE_RETRIES.add("21005")
    serve_metrics(settings_at(port))
    answer = get(port)
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    samples = [sample for known in text_string_to_metric_families(answer.text) for sample in known.samples]
    assert any(s.name == "purser_store_retries_total" and s.labels == {"status": "21005"} for s in samples)
    assert {"purser_build_info", "process_resident_memory_bytes"} <= {sample.name for sample in samples}
    assert not [sample.name for sample in samples if sample.name.endswith("_created")]


def test_there_is_nothing_else_at_the_port(port: int) -> None:
    serve_metrics(settings_at(port))
    assert [get(port, path).status_code for path in ("/", "/healthz", "/metrics/x")] == [404, 404, 404]
    assert requests.post(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_S).status_code == 501


def test_without_a_port_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "open_port", lambda _: pytest.fail("a port was opened"))
    serve_metrics(settings_at(0))


def test_a_port_that_is_taken_ends_the_process_with_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SystemExit) as ended:
        serve_metrics(settings_at(other.getsockname()[1]))
    assert ended.value.code == 2
    assert "PURSER_METRICS_PORT: port" in capfd.readouterr().err


def test_who_connects_and_says_nothing_is_hung_up_on(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving._Scrape, "timeout", 0.1)
    serve(open_port(settings_at(port)), lambda _: (b"", "text/plain"))
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as silent:
        assert silent.recv(1) == b""


def test_whoever_comes_while_as_many_as_may_are_there_is_hung_up_on_and_the_next_is_answered(port: int) -> None:
    serve(open_port(settings_at(port)), lambda _: (b"told", "text/plain"))
    silent = [socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) for _ in range(SCRAPES_AT_ONCE_MAX)]
    with pytest.raises(requests.ConnectionError):
        get(port)
    silent.pop().close()

    def answered() -> bool:
        try:
            return get(port).text == "told"
        except requests.ConnectionError:
            return False

    wait_until(answered, within_s=10, what="an answer")
    for connection in silent:
        connection.close()
