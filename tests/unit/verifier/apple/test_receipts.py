"""The verifyReceipt client against a real HTTP server that answers as told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from shared.clock import SystemClock
from tests.support.scripted_store import (
    IN_THE_BODY,
    Reply,
    ScriptedStore,
    chunked,
    cut,
    dripping,
    hang_up,
    says,
    serving,
    silent,
)
from verifier.apple.receipts import VerifiedReceipt, VerifyReceiptClient
from verifier.apple.transport import ANSWER_BYTES_MAX, Transport, store_session
from verifier.domain import ReceiptRefused, ReceiptValid, StoreBusy, StoreMisconfigured

SHORT_TIMEOUT_S = 0.4
VALID: dict[str, Any] = {
    "status": 0,
    "environment": "Production",
    "receipt": {
        "bundle_id": "com.example.game",
        "adam_id": 1234567890,
        "in_app": [
            {
                "quantity": "1",
                "product_id": "com.example.game.gems100",
                "transaction_id": "1",
                "purchase_date_ms": "1767225600000",
            }
        ],
    },
}


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@contextmanager
def client_of(url: str, *, read_timeout_s: float) -> Iterator[VerifyReceiptClient]:
    with store_session(connections=4) as session:
        yield VerifyReceiptClient(
            transport=Transport(session=session, connect_timeout_s=5, read_timeout_s=read_timeout_s),
            production_url=f"{url}/production",
            sandbox_url=f"{url}/sandbox",
            clock=SystemClock(),
        )


@pytest.fixture
def client(store: ScriptedStore) -> Iterator[VerifyReceiptClient]:
    with serving(store) as url, client_of(url, read_timeout_s=30) as client:
        yield client


def verify(client: VerifyReceiptClient, *, receipt: str = "cmVjZWlwdA==", secret: str | None = None) -> VerifiedReceipt:
    return client.verify(receipt=receipt, shared_secret=secret, product_types=lambda _: "consumable")


def test_a_receipt_of_production_is_asked_about_there_only(client: VerifyReceiptClient, store: ScriptedStore) -> None:
    store.tell("/production", says(VALID))
    found = verify(client, secret="shared")
    assert isinstance(found, ReceiptValid)
    assert [each.transaction.transaction_id for each in found.transactions] == ["1"]
    (asked,) = store.asked
    assert (asked.method, asked.path) == ("POST", "/production")
    assert asked.body == {"receipt-data": "cmVjZWlwdA==", "exclude-old-transactions": False, "password": "shared"}
    assert asked.headers["Content-Type"] == "application/json"


def test_without_a_shared_secret_none_is_sent(client: VerifyReceiptClient, store: ScriptedStore) -> None:
    store.tell("/production", says(VALID))
    verify(client)
    assert "password" not in store.asked[0].body


def test_a_receipt_of_the_sandbox_is_asked_about_there_after_production_said_so(
    client: VerifyReceiptClient, store: ScriptedStore
) -> None:
    store.tell("/production", says({"status": 21007}))
    store.tell("/sandbox", says({**VALID, "environment": "Sandbox"}))
    found = verify(client)
    assert isinstance(found, ReceiptValid)
    assert found.environment == "sandbox"
    assert store.paths() == ["/production", "/sandbox"]


def test_one_receipt_of_the_sandbox_does_not_send_the_next_one_there(
    client: VerifyReceiptClient, store: ScriptedStore
) -> None:
    store.tell("/production", says({"status": 21007}), says(VALID))
    store.tell("/sandbox", says({"status": 21003}))
    assert isinstance(verify(client), ReceiptRefused)
    assert isinstance(verify(client), ReceiptValid)


def test_a_receipt_that_the_sandbox_sends_back_is_asked_about_once_more(
    client: VerifyReceiptClient, store: ScriptedStore
) -> None:
    store.tell("/production", says({"status": 21007}), says(VALID))
    store.tell("/sandbox", says({"status": 21008}))
    assert isinstance(verify(client), ReceiptValid)
    assert store.paths() == ["/production", "/sandbox", "/production"]


def test_stores_that_point_at_each_other_are_not_asked_for_ever(
    client: VerifyReceiptClient, store: ScriptedStore
) -> None:
    store.tell("/production", *[says({"status": 21007})] * 9)
    store.tell("/sandbox", *[says({"status": 21008})] * 9)
    assert isinstance(verify(client), StoreBusy)
    assert len(store.asked) == 3


def test_a_sandbox_address_that_leads_to_production_is_misconfiguration(
    client: VerifyReceiptClient, store: ScriptedStore
) -> None:
    store.tell("/production", says({"status": 21007}))
    store.tell("/sandbox", says(VALID))
    assert isinstance(verify(client), StoreMisconfigured)


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 429, 500, 502, 503])
def test_every_other_http_status_is_a_store_that_is_away(
    client: VerifyReceiptClient, store: ScriptedStore, status: int
) -> None:
    store.tell("/production", says(VALID, status=status, Location="/elsewhere"))
    store.tell("/elsewhere", says(VALID))
    busy = verify(client)
    assert isinstance(busy, StoreBusy)
    assert str(status) in busy.reason
    assert store.paths() == ["/production"]


def test_the_store_may_say_when_to_come_again(client: VerifyReceiptClient, store: ScriptedStore) -> None:
    store.tell("/production", says(b"slow down", status=429, Retry_After="7"))
    assert verify(client) == StoreBusy("the store answered HTTP 429", retry_after_s=7)


def test_an_answer_in_chunks_is_an_answer(client: VerifyReceiptClient, store: ScriptedStore) -> None:
    store.tell("/production", chunked(VALID))
    assert isinstance(verify(client), ReceiptValid)


@pytest.mark.parametrize("reply", [cut(VALID), chunked(VALID, to_its_end=False), hang_up, says(b"<html>"), says(b"")])
def test_an_answer_that_is_cut_or_no_json_is_a_store_that_is_away(
    client: VerifyReceiptClient, store: ScriptedStore, reply: Reply
) -> None:
    store.tell("/production", reply)
    assert isinstance(verify(client), StoreBusy)


def test_an_answer_that_is_longer_than_the_limit_is_not_read_to_its_end(
    client: VerifyReceiptClient, store: ScriptedStore
) -> None:
    store.tell("/production", says(json.dumps(VALID).encode().ljust(ANSWER_BYTES_MAX + 1)))
    assert verify(client) == StoreBusy("the store's answer is too long")


def test_an_answer_as_long_as_the_limit_is_read(client: VerifyReceiptClient, store: ScriptedStore) -> None:
    store.tell("/production", says(json.dumps(VALID).encode().ljust(ANSWER_BYTES_MAX)))
    assert isinstance(verify(client), ReceiptValid)


def dripping_body(store: ScriptedStore) -> Reply:
    return dripping(store, first=IN_THE_BODY, every_s=SHORT_TIMEOUT_S / 10)


@pytest.mark.parametrize("kind", [silent, dripping_body])
def test_a_store_that_does_not_come_to_an_end_is_left_in_time(
    store: ScriptedStore, kind: Callable[[ScriptedStore], Reply]
) -> None:
    store.tell("/production", kind(store))
    clock = SystemClock()
    with serving(store) as url, client_of(url, read_timeout_s=SHORT_TIMEOUT_S) as client:
        started_s = clock.monotonic()
        assert isinstance(verify(client), StoreBusy)
        assert SHORT_TIMEOUT_S * 0.9 <= clock.monotonic() - started_s < 5


def test_a_store_that_cannot_be_reached_is_away_and_the_reason_shows_no_secret() -> None:
    with serving(ScriptedStore()) as url:
        pass
    with client_of(url, read_timeout_s=1) as client:
        busy = verify(client, receipt="the-receipt", secret="the-secret")
    assert isinstance(busy, StoreBusy)
    assert busy.status is None
    assert "the-" not in busy.reason


def test_cookies_of_the_store_are_not_kept(client: VerifyReceiptClient, store: ScriptedStore) -> None:
    store.tell("/production", says(VALID, Set_Cookie="session=1; Path=/"), says(VALID))
    verify(client)
    verify(client)
    assert "Cookie" not in store.asked[1].headers


def test_threads_share_a_client(client: VerifyReceiptClient, store: ScriptedStore) -> None:
    store.tell("/production", *[says(VALID)] * 40)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: verify(client, receipt=str(number)), range(40)))
    assert all(isinstance(each, ReceiptValid) for each in found)
    assert sorted(int(asked.body["receipt-data"]) for asked in store.asked) == list(range(40))
