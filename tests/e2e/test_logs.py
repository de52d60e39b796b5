"""What the processes write: JSON lines that lead from a client's request to the webhook, and never hold a secret."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid5

import pytest
import redis
import requests

from deploy.remembered import recall
from deploy.settings import PROJECT
from shared.ids import system_ids
from tests.support.receiver import Reply
from tests.support.stack import wait_until
from tests.support.system import (
    CLIENT_KEY,
    GEMS_100,
    SERVER_KEY,
    WEBHOOK_SECRET,
    System,
    client,
    running_system,
    server,
)

pytestmark = pytest.mark.slow

OTHERS: Final = {"postgres.log", "redis.log"}
"""The logs of programs that are not ours: they have forms of their own."""
IN_A_BODY: Final = "of-a-body-that-is-no-json"
WINDOW: Final = 40
"""Characters of a long secret that nothing may hold, wherever in it they stand."""
MORE_THAN_IN_HAND: Final = 3
"""Messages of each kind. Who is frozen while it asks the broker has already been given one."""
CONSUMERS: Final = ("verifier", "ledger", "notifier")
"""Those that a purchase by a signed transaction passes."""


@dataclass
class Written:
    """A system that much has happened to, with all that it was told in confidence."""

    system: System
    trace_id: str
    secrets: list[str] = field(default_factory=list)
    on_the_broker: bytes = b""
    in_flower: str = ""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Every line of every process of ours, with the process's name."""
        for path in sorted(self.system.stack.log_dir.glob("*.log")):
            if path.name not in OTHERS:
                yield from ((path.stem, line) for line in path.read_text(encoding="utf-8").splitlines())

    def about_the_trace(self, process: str) -> list[dict[str, Any]]:
        events = (json.loads(line) for name, line in self.lines() if name == process)
        return [event for event in events if event.get("trace_id") == self.trace_id]


@pytest.fixture(scope="module")
def written() -> Iterator[Written]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PURSER_LOG_LEVEL", "debug")
        with running_system() as system:
            written = Written(system, system_ids().trace_id(), secrets=_configured(system))
            _live(written)
            yield written


def _configured(system: System) -> list[str]:
    remembered = recall(system.settings.data_dir)
    assert remembered is not None
    key = (PROJECT / "deploy/examples/AuthKey_EXAMPLE.p8").read_text(encoding="utf-8")
    return [
        CLIENT_KEY,
        SERVER_KEY,
        WEBHOOK_SECRET,
        WEBHOOK_SECRET.removeprefix("whsec_"),
        "example-shared-secret",
        remembered.postgres_password,
        remembered.redis_password,
        remembered.service_token,
        remembered.flower_password,
        *(line for line in key.splitlines() if line and not line.startswith("-")),
    ]


def _live(written: Written) -> None:
    """All that may go right or wrong with somebody's secret in hand."""
    _buy_as_the_trace(written)
    _send_nonsense(written)
    _fail_webhooks(written)
    _poison(written)
    _look_at_a_frozen_broker(written)
    _kill_the_database(written)


def _buy_as_the_trace(written: Written) -> None:
    system, bought = written.system, _bought(written)
    body = {"signed_transaction": bought["signed_transaction"]}
    trace = {"traceparent": f"00-{written.trace_id}-{'a' * 16}-01"}
    assert _post(written, "traced", body, **trace, Prefer="wait=20").json()["status"] == "completed"
    told = {"wallet.credited", "purchase.completed"}
    wait_until(lambda: told <= {each.body["type"] for each in _received(written)}, what="the webhooks")
    by_receipt = _bought(written, notify=True)
    proof = {"transaction_id": by_receipt["transaction_id"], "receipt": by_receipt["receipt"]}
    assert _post(written, "by receipt", proof, Prefer="wait=20").json()["status"] == "completed"
    assert system.get("/v1/users/traced/wallet").status_code == 200


def _send_nonsense(written: Written) -> None:
    """Proofs that are none, tokens that are nobody's, bodies that are no JSON."""
    system = written.system
    header, payload, signature = _bought(written)["signed_transaction"].split(".")
    forged = f"{header}.{payload}.{signature[::-1]}"
    written.secrets += forged.split(".")
    assert _post(written, "forger", {"signed_transaction": forged}, Prefer="wait=20").json()["status"] == "rejected"
    no_receipt = base64.b64encode(os.urandom(3000)).decode()
    written.secrets.append(no_receipt)
    assert _post(written, "forger", {"transaction_id": "1", "receipt": no_receipt}).status_code == 202  # and 21002
    stranger = client("stranger")["Authorization"][:-4] + "AAAA"
    written.secrets += [stranger.removeprefix("Bearer "), stranger.rpartition(".")[2]]
    for credential in (stranger, "Bearer sk_of_nobody_that_is_known_here", "Basic b2Ytbm9ib2R5LWF0LWFsbA=="):
        written.secrets.append(credential.partition(" ")[2])
        assert _raw(system.gateway, credential=credential).status_code == 401
    assert (
        _raw(system.stack.addresses.ledger, path="/v1/users/x/wallet", credential="Bearer sk_wrong").status_code >= 400
    )
    for body in (f'{{"{IN_A_BODY}": ', f'{{"receipt": ["{IN_A_BODY}"]}}', f'"{IN_A_BODY}"'):
        assert _raw(system.gateway, credential=server()["Authorization"], body=body).status_code == 400
    notification = {"signedPayload": f"{header}.{payload}.{signature[::-1]}"}
    told = requests.post(f"{system.gateway}/webhooks/apple", json=notification, timeout=10)
    assert told.status_code in {400, 401}
    written.secrets.append(IN_A_BODY)


def _fail_webhooks(written: Written) -> None:
    """Refused, cut off, answered with secrets of the receiver's own: all of them come again in five seconds."""
    receiver = written.system.receiver
    known = len(receiver.received)
    receiver.reply_next(Reply(status=500, body=b"sk_of_the_receiver " * 40), Reply(behaviour="close"))
    written.secrets.append("sk_of_the_receiver")
    _post(written, "failing", {"signed_transaction": _bought(written)["signed_transaction"]})
    wait_until(lambda: len(receiver.received) >= known + 4, what="the webhooks, again")


def _poison(written: Written) -> None:
    """Events that nobody can read, or handle, with proofs in them."""
    signed = _bought(written)["signed_transaction"]
    _forge(written, "transaction.submitted", {"store": signed, "transaction_id": "1", "signed_transaction": signed})
    _forge(written, "transaction.submitted", {"store": "apple", "transaction_id": [signed], "signed_transaction": 1})
    _forge(written, "receipt.submitted", {"store": "apple", "transaction_id": "1", "receipt": [signed]})
    count = "select count(*) from journal.delivery where error is not null and attempts > 0"
    wait_until(lambda: written.system.scalar(count) >= 3, what="the poison's being noticed")


def _forge(written: Written, event_type: str, payload: dict[str, Any]) -> None:
    ids = system_ids()
    event_id = ids.event_id()
    consumer = "verifier" if event_type.startswith("transaction") else "verifier-store"
    with written.system.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into journal.event (id, type, version, app, subject, payload, trace_id, occurred_at)"
            " values (%(id)s, %(type)s, 1, 'game', %(subject)s, %(payload)s::jsonb, %(trace)s, now())",
            {
                "id": str(event_id),
                "type": event_type,
                "subject": f"pur_{uuid5(event_id, event_type).hex[:26]}",
                "payload": json.dumps(payload),
                "trace": ids.trace_id(),
            },
        )
        connection.exec_driver_sql(
            "insert into journal.delivery (consumer, event_id, type) values (%(consumer)s, %(id)s, %(type)s)",
            {"consumer": consumer, "id": str(event_id), "type": event_type},
        )


def _look_at_a_frozen_broker(written: Written) -> None:
    """With its consumers stopped, what is on its way stays on the broker, to be looked at; and what Flower knows."""
    system = written.system
    frozen = [system.pid(name) for name in ("verifier", "verifier-store", "ledger", "notifier")]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(MORE_THAN_IN_HAND):
            signed, by_receipt = _bought(written), _bought(written)
            _post(written, "frozen", {"signed_transaction": signed["signed_transaction"]})
            _post(written, "frozen", {"transaction_id": by_receipt["transaction_id"], "receipt": by_receipt["receipt"]})
        broker_url = system.stack.addresses.broker_url
        wait_until(lambda: bool(_bodies(_all_of(broker_url))), what="messages that nobody took")
        written.on_the_broker = _all_of(broker_url)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    login = system.stack.addresses.flower_login
    answers = [
        requests.get(f"{system.stack.addresses.flower}/api/{what}", auth=login, timeout=20)
        for what in ("tasks?limit=10000", "workers")
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    written.in_flower = "".join(answer.text for answer in answers)


def _all_of(broker_url: str) -> bytes:
    """Every key and value, as it is."""
    with redis.Redis.from_url(broker_url) as broker:
        found = []
        for key in broker.scan_iter(count=1000):
            match broker.type(key):
                case b"list":
                    values = broker.lrange(key, 0, -1)
                case b"hash":
                    values = [part for pair in broker.hgetall(key).items() for part in pair]
                case b"zset":
                    values = broker.zrange(key, 0, -1)
                case b"set":
                    values = broker.smembers(key)
                case _:
                    values = [broker.get(key)]
            found += [key, *values]
        return b"\n".join(found)


def _kill_the_database(written: Written) -> None:
    system = written.system
    signed = _bought(written)["signed_transaction"]
    pid = system.pid("postgres")
    os.kill(pid, signal.SIGKILL)
    written.secrets.append(client("bereft")["Authorization"].removeprefix("Bearer "))
    path = f"/v1/purchases/{system.post_until_accepted('bereft', {'signed_transaction': signed})}"
    wait_until(lambda: system.pid("postgres") != pid, what="another PostgreSQL")
    wait_until(lambda: system.get(path).json().get("status") == "completed", within_s=60, what="the purchase")


def _bought(written: Written, **options: Any) -> dict[str, Any]:
    bought = written.system.buy(GEMS_100, **options)
    written.secrets += [*bought["signed_transaction"].split("."), bought["receipt"]]
    return bought


def _post(written: Written, user_id: str, body: dict[str, Any], **headers: str) -> requests.Response:
    credential = client(user_id)
    written.secrets.append(credential["Authorization"].removeprefix("Bearer "))
    return written.system.post(user_id, body, **credential, **headers)


def _raw(base: str, *, credential: str, body: str = "{}", path: str = "/v1/purchases") -> requests.Response:
    method = "POST" if path == "/v1/purchases" else "GET"
    headers = {"Authorization": credential, "Content-Type": "application/json"}
    return requests.request(method, base + path, data=body, headers=headers, timeout=10)


def _received(written: Written) -> list[Any]:
    return [each for each in written.system.receiver.received if written.trace_id in each.headers["traceparent"]]


def _held(secrets: Sequence[str], text: str) -> list[str]:
    """The secrets of which the text holds anything: of a long one any part of WINDOW characters counts."""
    return [secret for secret in dict.fromkeys(secrets) if any(part in text for part in _parts(secret))]


def _parts(secret: str) -> list[str]:
    if len(secret) <= WINDOW:
        return [secret]
    return [secret[start : start + WINDOW] for start in range(0, len(secret) - WINDOW + 1, WINDOW // 2)]


def test_every_line_of_ours_is_one_json_object_with_its_service_level_and_time(written: Written) -> None:
    seen = set()
    for process, line in written.lines():
        event = json.loads(line)
        assert {"event", "level", "timestamp", "service"} <= event.keys(), line
        seen.add(process)
    assert {"gateway", "verifier", "verifier-store", "ledger", "ledger-api", "notifier", "webhooks", "courier"} <= seen


def test_no_line_of_any_process_holds_a_secret(written: Written) -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in written.system.stack.log_dir.glob("*.log"))
    assert len(written.secrets) > 30
    assert _held(written.secrets, text) == []
    assert "/users/traced" not in text  # urllib3 would, at debug


def test_neither_the_broker_nor_flower_holds_a_secret_or_says_whose_it_is(written: Written) -> None:
    bodies = _bodies(written.on_the_broker)
    assert bodies, "nothing was on its way"
    for text in (written.on_the_broker.decode("utf-8", "replace"), *bodies, written.in_flower):
        assert _held([*written.secrets, "frozen", "by receipt"], text) == []


def _bodies(on_the_broker: bytes) -> list[str]:
    """The bodies of the tasks on their way. kombu puts a message's body into its envelope in base64."""
    lines = on_the_broker.decode("utf-8", "replace").splitlines()
    envelopes = [json.loads(line) for line in lines if line.startswith('{"body"')]
    return [base64.b64decode(each["body"]).decode() for each in envelopes if "task" in each["headers"]]


@pytest.mark.parametrize("process", ["gateway", *CONSUMERS, "webhooks"])
def test_the_clients_trace_leads_through_the_lines_of_every_step(written: Written, process: str) -> None:
    lines = written.about_the_trace(process)
    assert lines
    if process in CONSUMERS:
        assert {line["event"] for line in lines} == {"handled"}
        assert all(line["event_id"] for line in lines)
    if process == "gateway":
        assert all(line["request_id"] for line in lines)


def test_the_webhook_is_of_the_clients_trace(written: Written) -> None:
    for each in _received(written):
        assert each.headers["traceparent"].startswith(f"00-{written.trace_id}-")


def test_what_cannot_be_handled_is_one_line_with_its_trace_and_its_event(written: Written) -> None:
    failures = [json.loads(line) for name, line in written.lines() if name in {"verifier", "verifier-store"}]
    failures = [line for line in failures if line["event"] == "not handled"]
    assert len({line["event_id"] for line in failures}) >= 3
    assert all(len(line["trace_id"]) == 32 for line in failures)


def test_a_failed_webhook_is_told_with_its_trace_and_without_the_answer(written: Written) -> None:
    lines = [json.loads(line) for name, line in written.lines() if name == "webhooks"]
    failed = [line for line in lines if line["event"] == "webhook not taken"]
    assert len(failed) >= 2
    assert all(len(line["trace_id"]) == 32 and line["event_id"] for line in failed)
