"""The calls of the store are counted by what it answered, and by few labels whatever it answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.samples import Sample

from shared.apps import App, AppleApp
from shared.clock import SystemClock
from shared.ids import AppId
from shared.metrics.counted import REGISTRY
from tests.support.metrics import counting
from tests.support.scripted_store import Reply, ScriptedStore, hang_up, says, serving, silent
from tests.support.server_api_key import BUNDLE_ID, new_signing_key
from verifier.apple import counting as counts
from verifier.apple.pace import Pace
from verifier.apple.receipts import VerifyReceiptClient
from verifier.apple.refusals import ServerApiError
from verifier.apple.server_api import ServerApi
from verifier.apple.transport import Transport, store_session

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id=BUNDLE_ID))
ONE = "/inApps/v1/transactions/1"


@contextmanager
def transport_to(store: ScriptedStore) -> Iterator[tuple[str, Transport]]:
    with serving(store) as url, store_session(connections=1) as session:
        yield url, Transport(session=session, connect_timeout_s=5, read_timeout_s=0.4)


def ask_about_receipt(*replies: Reply) -> None:
    store = ScriptedStore()
    store.tell("/production", *replies[:1])
    store.tell("/sandbox", *replies[1:])
    with transport_to(store) as (url, transport):
        VerifyReceiptClient(
            transport=transport,
            production_url=f"{url}/production",
            sandbox_url=f"{url}/sandbox",
            clock=SystemClock(),
        ).verify(receipt="cmVjZWlwdA==", shared_secret=None, product_types=lambda _: "consumable")


def ask_about_transaction(reply: Reply) -> None:
    store, clock = ScriptedStore(), SystemClock()
    store.tell(ONE, reply)
    with transport_to(store) as (url, transport):
        api = ServerApi(
            keys={GAME.id: new_signing_key()},
            transport=transport,
            production_url=url,
            sandbox_url=url,
            pace=Pace(share=1, clock=clock),
            clock=clock,
        )
        try:
            api.transaction("1", app=GAME, environment="production")
        except ServerApiError:
            return


VALID: dict[str, Any] = {
    "status": 0,
    "environment": "Production",
    "receipt": {"bundle_id": "com.example.game", "in_app": []},
}


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (says(VALID), "0"),
        (says({"status": 21002}), "21002"),
        (says({"status": 21004}), "21004"),
        (says({"status": 21150}), "21150"),
        (says({"status": 77_777}), "other"),
        (says(b"no JSON"), "unreadable"),
        (says({}, status=503), "http_503"),
        (silent, "timeout"),
        (hang_up, "unreachable"),
    ],
)
def test_a_call_of_verify_receipt_is_counted_by_its_status(reply: Reply, status: str) -> None:
    calls = counting("purser_store_calls_total", api="verify_receipt", status=status)
    times = counting("purser_store_call_duration_seconds_count", api="verify_receipt")
    ask_about_receipt(reply)
    assert (calls.so_far, times.so_far) == (1, 1)


def test_a_receipt_of_the_sandbox_is_two_calls() -> None:
    first = counting("purser_store_calls_total", api="verify_receipt", status="21007")
    second = counting("purser_store_calls_total", api="verify_receipt", status="21005")
    ask_about_receipt(says({"status": 21007}), says({"status": 21005}))
    assert (first.so_far, second.so_far) == (1, 1)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (says({"signedTransactionInfo": "a.b.c"}), "http_200"),
        (says({"errorCode": 4040010, "errorMessage": "x"}, status=404), "4040010"),
        (says({"errorCode": 4999999, "errorMessage": "x"}, status=400), "http_400"),
        (says({}, status=503), "http_503"),
        (silent, "timeout"),
    ],
)
def test_a_call_of_the_server_api_is_counted_by_apples_code_or_the_http_status(reply: Reply, status: str) -> None:
    calls = counting("purser_store_calls_total", api="server_api", status=status)
    ask_about_transaction(reply)
    assert calls.so_far == 1


def test_whatever_numbers_a_store_answers_with_there_are_few_labels() -> None:
    for status in range(-30_000, 30_000):
        counts.put_off(status)
    labels = {sample.labels["status"] for sample in _samples("purser_store_retries_total")}
    assert len(labels) < 700
    assert {"21005", "http_503", "other"} <= labels


def _samples(name: str) -> Iterator[Sample]:
    return (sample for family in REGISTRY.collect() for sample in family.samples if sample.name == name)
