"""The demo's receiver of webhooks, over real HTTP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
import requests
from standardwebhooks import Webhook

from deploy.errors import PortUnavailable
from deploy.ports import free_port
from deploy.receiver import BODY_BYTES_MAX, Receiver
from shared.apps import EndpointId, WebhookEndpoint
from shared.clock import SystemClock
from shared.ids import system_ids

SECRET = "whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh"
BODY = json.dumps({"type": "wallet.credited", "timestamp": "2026-01-31T12:00:00Z", "data": {"user_id": "alice"}})


@pytest.fixture
def endpoint() -> WebhookEndpoint:
    port = free_port(bind="127.0.0.1", ids=system_ids())
    return WebhookEndpoint(id=EndpointId("backend"), url=f"http://127.0.0.1:{port}/hooks", secret=SECRET)


@pytest.fixture
def receiver(endpoint: WebhookEndpoint) -> Iterator[Receiver]:
    with Receiver(endpoint, clock=SystemClock()) as listening:
        yield listening


def post(url: str, body: str, *, secret: str = SECRET) -> int:
    now = SystemClock().now()
    signature = Webhook(secret).sign(msg_id="msg_1", timestamp=now, data=body)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return requests.post(url, data=body, headers=headers, timeout=5).status_code


def test_a_signed_webhook_is_taken_and_found(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    assert post(endpoint.url, BODY) == 204
    received = receiver.wait_for(lambda one: one.type == "wallet.credited", within_s=5)
    assert received is not None
    assert (received.id, received.data) == ("msg_1", {"user_id": "alice"})


def test_a_webhook_that_another_secret_signed_is_refused(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    assert post(endpoint.url, BODY, secret="whsec_c29tZWJvZHktZWxzZXMtc2VjcmV0") == 401
    assert receiver.wait_for(lambda _: True, within_s=0) is None


@pytest.mark.parametrize("body", ["[]", "no json", '{"type": "wallet.credited"}'])
def test_a_signed_body_that_is_no_webhook_is_refused(receiver: Receiver, endpoint: WebhookEndpoint, body: str) -> None:
    assert post(endpoint.url, body) == 401
    assert receiver.wait_for(lambda _: True, within_s=0) is None


def test_another_path_is_not_found(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    assert post(endpoint.url + "/other", BODY) == 404


def test_a_body_beyond_the_limit_is_refused_unread(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    host, port = endpoint.url.removeprefix("http://").removesuffix("/hooks").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"POST /hooks HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n".encode())
        assert b" 413 " in connection.recv(1024).splitlines()[0]


def test_a_taken_address_is_one_sentence(receiver: Receiver, endpoint: WebhookEndpoint) -> None:
    with pytest.raises(PortUnavailable, match="for the demo's receiver of webhooks, is taken"):
        Receiver(endpoint, clock=SystemClock())
