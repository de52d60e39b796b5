"""A purchase is one tree of spans, from the client's request to the webhook, told to a collector by every process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import requests

from shared.ids import system_ids
from tests.support.collector import Behaviour, Collector, ToldSpan, collecting
from tests.support.stack import wait_until
from tests.support.system import System, running_system, server

pytestmark = pytest.mark.slow

KEY = "Bearer of-the-collector"
STOPPED = ("gateway", "webhooks", "verifier")
"""Which processes are told to stop here: one that forks its workers, one of ours alone, and one of Celery's."""
PURCHASE = {
    ("gateway", "server", "POST /v1/purchases"),
    ("gateway", "producer", "transaction.submitted record"),
    ("verifier", "consumer", "transaction.submitted handle"),
    ("verifier", "producer", "purchase.verified record"),
    ("ledger", "consumer", "purchase.verified handle"),
    ("ledger", "producer", "wallet.credited record"),
    ("ledger", "producer", "purchase.completed record"),
    ("notifier", "consumer", "wallet.credited handle"),
    ("notifier", "consumer", "purchase.completed handle"),
    ("webhooks", "client", "POST webhook"),
    ("webhooks", "producer", "webhook.delivered record"),
}


@dataclass(frozen=True)
class Traced:
    system: System
    collector: Collector

    def tree(self, trace_id: str, wanted: set[tuple[str, str, str]]) -> list[ToldSpan]:
        """The spans of a trace, once these are among them and each has come whose child has."""

        def is_whole() -> bool:
            spans = self.collector.trace(trace_id)
            known = {span.span_id for span in spans}
            loose = [span for span in spans if span.parent_id and span.parent_id not in known]
            return wanted <= {(span.service, span.kind, span.name) for span in spans} and len(loose) <= 1

        try:
            wait_until(is_whole, within_s=60, what="the whole tree")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.collector.trace(trace_id)}") from error
        return self.collector.trace(trace_id)


@pytest.fixture(scope="module")
def traced() -> Iterator[Traced]:
    with collecting() as collector, pytest.MonkeyPatch.context() as environment:
        environment.setenv("PURSER_OTLP_URL", collector.url)
        environment.setenv("PURSER_OTLP_HEADERS", f"authorization={KEY.replace(' ', '%20')}")
        with running_system() as system:
            yield Traced(system, collector)


def test_a_purchase_is_one_tree_below_the_callers_span(traced: Traced) -> None:
    ids = system_ids()
    trace, caller = ids.trace_id(), ids.uuid().hex[16:]
    bought = traced.system.buy()
    answer = traced.system.post(
        "tree",
        {"signed_transaction": bought["signed_transaction"]},
        traceparent=f"00-{trace}-{caller}-01",
        Prefer="wait=20",
    )
    assert answer.status_code == 200
    spans = traced.tree(trace, PURCHASE)
    (root,) = [span for span in spans if span.parent_id == caller]
    assert (root.service, root.name) == ("gateway", "POST /v1/purchases")
    _is_one_tree(spans, root)
    assert {hook.parent_id for hook in _named(spans, "POST webhook")} == {
        span.span_id for span in spans if span.name in {"wallet.credited record", "purchase.completed record"}
    }
    assert {span.attributes["purser.subject"] for span in _named(spans, "purchase.verified record")} == {
        answer.json()["id"]
    }


def test_a_webhook_names_the_span_of_its_attempt(traced: Traced) -> None:
    trace = system_ids().trace_id()
    bought = traced.system.buy()
    traced.system.post(
        "named", {"signed_transaction": bought["signed_transaction"]}, traceparent=f"00-{trace}-{'1' * 16}-01"
    )
    spans = traced.tree(trace, PURCHASE)
    arrived = [each.headers["traceparent"] for each in traced.system.receiver.received]
    assert sorted(each for each in arrived if trace in each) == sorted(
        f"00-{trace}-{span.span_id}-01" for span in _named(spans, "POST webhook")
    )


def test_asking_the_store_is_part_of_handling_the_receipt(traced: Traced) -> None:
    trace = system_ids().trace_id()
    bought = traced.system.buy()
    body = {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
    traced.system.post("receipt", body, traceparent=f"00-{trace}-{'2' * 16}-01")
    asking = ("verifier-store", "client", "POST 127.0.0.1")
    spans = traced.tree(trace, {asking, ("verifier-store", "consumer", "receipt.submitted handle")})
    (handled,) = _named(spans, "receipt.submitted handle")
    assert {span.parent_id for span in spans if (span.service, span.kind, span.name) == asking} == {handled.span_id}


def test_a_call_of_the_ledger_is_below_the_request_that_made_it(traced: Traced) -> None:
    trace = system_ids().trace_id()
    asked = requests.get(
        f"{traced.system.gateway}/v1/users/reader/wallet",
        headers=server() | {"traceparent": f"00-{trace}-{'3' * 16}-01"},
        timeout=10,
    )
    assert asked.status_code == 200
    answering = ("ledger-api", "server", "GET /v1/users/<user:user_id>/wallet")
    spans = traced.tree(trace, {("gateway", "client", "GET ledger"), answering})
    (root,) = [span for span in spans if span.service == "gateway" and span.kind == "server"]
    _is_one_tree(spans, root)
    assert [(span.attributes["http.route"], span.attributes["http.response.status_code"]) for span in (root,)] == [
        ("/v1/users/<user:user>/wallet", 200)
    ]


def test_no_span_tells_whose_it_is_or_holds_a_proof(traced: Traced) -> None:
    trace = system_ids().trace_id()
    bought = traced.system.buy()
    signed = bought["signed_transaction"]
    traced.system.post("somebody-private", {"signed_transaction": signed}, traceparent=f"00-{trace}-{'4' * 16}-01")
    told = str(traced.tree(trace, PURCHASE))
    for private in ("somebody-private", *signed.split("."), "whsec_", "Bearer"):
        assert private not in told


def test_the_collector_is_given_its_key_with_every_request(traced: Traced) -> None:
    wait_until(lambda: bool(traced.collector.heads), what="a request")
    assert {head["authorization"] for head in traced.collector.heads} == {KEY}


@pytest.mark.parametrize("name", STOPPED)
def test_a_process_that_is_told_to_stop_tells_its_last_spans(traced: Traced, name: str) -> None:
    trace = system_ids().trace_id()
    pid = traced.system.pid(name)
    signed = traced.system.buy()["signed_transaction"]
    traced.system.post("last", {"signed_transaction": signed}, traceparent=f"00-{trace}-{'5' * 16}-01")
    if name == "webhooks":
        wait_until(lambda: any(trace in each.headers["traceparent"] for each in traced.system.receiver.received))
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: any(span.service == name for span in traced.collector.trace(trace)), what="the last spans")
    wait_until(lambda: _is_ready(traced.system, name), what="its being back")


@pytest.mark.parametrize("behaviour", ["hang", "refuse"])
def test_a_collector_that_does_not_take_them_keeps_no_purchase_waiting(traced: Traced, behaviour: Behaviour) -> None:
    traced.collector.behaviour = behaviour
    try:
        for number in range(5):
            signed = traced.system.buy()["signed_transaction"]
            answer = traced.system.post("unheard", {"signed_transaction": signed}, Prefer="wait=20")
            assert answer.json()["status"] == "completed", number
        assert all(one.restarts == 0 for one in traced.system.stack.status() if one.name not in STOPPED)
    finally:
        traced.collector.behaviour = "take"


def _is_ready(system: System, name: str) -> bool:
    (process,) = [one for one in system.stack.status() if one.name == name]
    return process.state == "ready" and process.restarts > 0


def _named(spans: Sequence[ToldSpan], name: str) -> list[ToldSpan]:
    return [span for span in spans if span.name == name]


def _is_one_tree(spans: Sequence[ToldSpan], root: ToldSpan) -> None:
    """Every span but the root is below another, began after it, and lasted no longer than anything here may."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans)
    for span in spans:
        assert 0 <= span.ended_s - span.began_s < 30
        assert span.version
        if span is not root:
            assert span.began_s >= by_id[span.parent_id].began_s - 0.01  # clocks of one machine, read one by one
