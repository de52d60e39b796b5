"""What a call that moves currency asks of the ledger, and what its caller hears."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID

import pytest
from flask.testing import FlaskClient

from ledger.domain.books import WalletKey
from ledger.domain.commands import (
    Answer,
    CaptureHold,
    Command,
    Grant,
    IdempotencyKey,
    PlaceHold,
    ReleaseHold,
    Request,
    ReverseSpend,
    Spend,
)
from shared.money import AMOUNT_MAX
from tests.support.ledger import ALICE, GAME, GEMS
from tests.support.ledger_api import ARCADE, TRACE, Ports, client_of, headers

ID = UUID(int=1)
ALICES = WalletKey(GAME, "production", ALICE)
SPENDS, HOLDS, GRANTS = (f"/v1/users/alice/{things}" for things in ("spends", "holds", "grants"))
REVERSE = f"/v1/spends/spd_{ID.hex}/reverse"
CAPTURE, RELEASE = (f"/v1/holds/hld_{ID.hex}/{verb}" for verb in ("capture", "release"))
GEMS_5: dict[str, Any] = {"currency": "gems", "amount": 5}
APOLOGY = {**GEMS_5, "reason": "an outage"}


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def client(ports: Ports) -> FlaskClient:
    return client_of(ports)


def commanded(ports: Ports) -> Command:
    """The one command that was given."""
    [command] = ports.asked
    assert isinstance(command, Command)
    return command


def key_of(ports: Ports) -> IdempotencyKey:
    """The key of the newest command."""
    key = ports.asked[-1].key
    assert isinstance(key, IdempotencyKey)
    return key


# ---- what is asked ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "asked"),
    [
        (SPENDS, GEMS_5, Spend(ALICES, GEMS, 5)),
        (
            SPENDS,
            {**GEMS_5, "environment": "sandbox", "reference": "order-1", "item": "sword", "unknown": 1},
            Spend(WalletKey(GAME, "sandbox", ALICE), GEMS, 5, reference="order-1", item="sword"),
        ),
        (SPENDS, {**GEMS_5, "amount": AMOUNT_MAX}, Spend(ALICES, GEMS, AMOUNT_MAX)),
        (REVERSE, {}, ReverseSpend(GAME, ID)),
        (REVERSE, {"amount": 3}, ReverseSpend(GAME, ID, 3)),
        (HOLDS, GEMS_5, PlaceHold(ALICES, GEMS, 5, expires_in_s=900)),
        (
            HOLDS,
            {**GEMS_5, "environment": "sandbox", "expires_in_s": 2_592_000, "reference": "order-1"},
            PlaceHold(WalletKey(GAME, "sandbox", ALICE), GEMS, 5, expires_in_s=2_592_000, reference="order-1"),
        ),
        (CAPTURE, {}, CaptureHold(GAME, ID)),
        (
            CAPTURE,
            {"amount": 3, "reference": "order-1", "item": "sword"},
            CaptureHold(GAME, ID, 3, reference="order-1", item="sword"),
        ),
        (RELEASE, {}, ReleaseHold(GAME, ID)),
        (GRANTS, APOLOGY, Grant(ALICES, GEMS, 5, "an outage")),
        (
            GRANTS,
            {**APOLOGY, "environment": "sandbox"},
            Grant(WalletKey(GAME, "sandbox", ALICE), GEMS, 5, "an outage"),
        ),
    ],
)
def test_a_call_asks_for_what_its_body_says_in_the_name_of_its_caller(
    client: FlaskClient, ports: Ports, path: str, body: dict[str, Any], asked: Request
) -> None:
    response = client.post(path, json=body, headers=headers("server:backend", key="k"))
    assert response.status_code == 201
    command = commanded(ports)
    assert command.request == asked
    assert (command.actor, command.only_user, command.trace_id) == ("server:backend", None, TRACE)


def test_a_client_that_may_spend_is_bound_to_its_own_user(client: FlaskClient, ports: Ports) -> None:
    sent = headers("client:alice", app=ARCADE, key="k")
    assert client.post("/v1/users/bob/spends", json=GEMS_5, headers=sent).status_code == 404
    assert ports.asked == []
    assert client.post(SPENDS, json=GEMS_5, headers=sent).status_code == 201
    command = commanded(ports)
    assert (command.actor, command.only_user) == ("client:alice", ALICE)


@pytest.mark.parametrize("path", [REVERSE, CAPTURE, RELEASE])
def test_where_nothing_has_to_be_said_the_body_may_be_left_out(client: FlaskClient, ports: Ports, path: str) -> None:
    assert client.post(path, headers=headers("server:backend", key="k")).status_code == 201
    nothing = commanded(ports)
    client.post(path, json={}, headers=headers("server:backend", key="k"))
    assert ports.asked == [nothing, nothing]


# ---- what is not asked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (SPENDS, {"amount": 5}, "currency"),
        (SPENDS, {**GEMS_5, "currency": "rubies"}, "currency"),
        (SPENDS, {**GEMS_5, "currency": 1}, "currency"),
        (SPENDS, {"currency": "gems"}, "amount"),
        (SPENDS, {**GEMS_5, "amount": 0}, "amount"),
        (SPENDS, {**GEMS_5, "amount": -5}, "amount"),
        (SPENDS, {**GEMS_5, "amount": AMOUNT_MAX + 1}, "amount"),
        (SPENDS, {**GEMS_5, "amount": 10**30}, "amount"),
        (SPENDS, {**GEMS_5, "amount": 5.0}, "amount"),
        (SPENDS, {**GEMS_5, "amount": "5"}, "amount"),
        (SPENDS, {**GEMS_5, "amount": True}, "amount"),
        (SPENDS, {**GEMS_5, "environment": "xcode"}, "environment"),
        (SPENDS, {**GEMS_5, "reference": "x" * 201}, "reference"),
        (SPENDS, {**GEMS_5, "reference": "a\0b"}, "reference"),
        (SPENDS, {**GEMS_5, "item": "x" * 201}, "item"),
        (SPENDS, {**GEMS_5, "item": "a\0b"}, "item"),
        (REVERSE, {"amount": 0}, "amount"),
        (HOLDS, {**GEMS_5, "currency": "rubies"}, "currency"),
        (HOLDS, {**GEMS_5, "expires_in_s": 0}, "expires_in_s"),
        (HOLDS, {**GEMS_5, "expires_in_s": 2_592_001}, "expires_in_s"),
        (HOLDS, {**GEMS_5, "reference": "x" * 201}, "reference"),
        (CAPTURE, {"amount": 0}, "amount"),
        (CAPTURE, {"item": "x" * 201}, "item"),
        (CAPTURE, {"reference": "x" * 201}, "reference"),
        (GRANTS, {**APOLOGY, "currency": "rubies"}, "currency"),
        (GRANTS, GEMS_5, "reason"),
        (GRANTS, {**APOLOGY, "reason": ""}, "reason"),
        (GRANTS, {**APOLOGY, "reason": " \t"}, "reason"),
        (GRANTS, {**APOLOGY, "reason": "x" * 501}, "reason"),
        (GRANTS, {**APOLOGY, "reason": "a\0b"}, "reason"),
        (GRANTS, {**APOLOGY, "reason": None}, "reason"),
    ],
)
def test_a_body_that_makes_no_sense_is_malformed_and_the_answer_names_the_field(
    client: FlaskClient, ports: Ports, path: str, body: dict[str, Any], field: str
) -> None:
    response = client.post(path, json=body, headers=headers("server:backend", key="k"))
    assert response.json is not None
    assert (response.status_code, response.json["code"]) == (400, "malformed-request")
    assert response.json["detail"].startswith(f"{field}: ")
    assert ports.asked == []


@pytest.mark.parametrize("path", [SPENDS, REVERSE, CAPTURE])
@pytest.mark.parametrize("body", [b"[]", b"nothing", b'{"amount": 5', b"null"])
def test_a_body_that_is_no_object_is_malformed(client: FlaskClient, ports: Ports, path: str, body: bytes) -> None:
    response = client.post(path, data=body, headers=headers("server:backend", key="k"))
    assert (response.status_code, ports.asked) == (400, [])


@pytest.mark.parametrize("path", [SPENDS, REVERSE, CAPTURE, RELEASE, GRANTS, HOLDS])
def test_a_body_larger_than_any_of_these_calls_needs_is_refused(client: FlaskClient, ports: Ports, path: str) -> None:
    body = {**APOLOGY, "unknown": "x" * 17_000}
    response = client.post(path, json=body, headers=headers("server:backend", key="k"))
    assert (response.status_code, ports.asked) == (413, [])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/spends/1/reverse",
        f"/v1/spends/hld_{ID.hex}/reverse",
        f"/v1/spends/spd_{ID.hex[1:]}/reverse",
        f"/v1/spends/spd_{ID.hex}%00/reverse",
        f"/v1/holds/spd_{ID.hex}/capture",
        f"/v1/holds/spd_{ID.hex}/release",
    ],
)
def test_an_id_that_is_none_of_its_kind_is_not_found(client: FlaskClient, ports: Ports, path: str) -> None:
    response = client.post(path, json={}, headers=headers("server:backend", key="k"))
    assert (response.status_code, ports.asked) == (404, [])


# ---- keys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), [(SPENDS, GEMS_5), (HOLDS, GEMS_5), (GRANTS, APOLOGY), (REVERSE, {})])
def test_what_must_not_be_done_twice_takes_a_key(
    client: FlaskClient, ports: Ports, path: str, body: dict[str, Any]
) -> None:
    response = client.post(path, json=body, headers=headers("server:backend"))
    assert response.status_code == 400
    assert response.json is not None
    assert response.json["detail"].startswith("Idempotency-Key: ")
    assert ports.asked == []


@pytest.mark.parametrize("path", [CAPTURE, RELEASE])
def test_what_is_done_once_at_most_anyway_may_have_a_key(client: FlaskClient, ports: Ports, path: str) -> None:
    client.post(path, json={}, headers=headers("server:backend"))
    client.post(path, json={}, headers=headers("server:backend", key="k"))
    without, with_key = ports.asked
    assert (without.key, with_key.key.key) == (None, "k")


@pytest.mark.parametrize("path", [SPENDS, CAPTURE])
@pytest.mark.parametrize("key", ["", " ", "x" * 201, "käse", "a\tb", "\x7f"])
def test_a_key_is_1_to_200_printable_ascii_characters(client: FlaskClient, ports: Ports, path: str, key: str) -> None:
    assert client.post(path, json=GEMS_5, headers=headers("server:backend", key=key)).status_code == 400
    assert ports.asked == []


@pytest.mark.parametrize(
    ("sent", "kept"), [("1", "1"), ("x" * 200, "x" * 200), ("order 1~!", "order 1~!"), (" \tk ", "k")]
)
def test_a_key_reaches_the_ledger_as_it_is_without_blanks_around_it(
    client: FlaskClient, ports: Ports, sent: str, kept: str
) -> None:
    client.post(SPENDS, json=GEMS_5, headers=headers("server:backend", key=sent))
    assert key_of(ports).key == kept


def test_a_key_is_one_calls_on_one_thing_alone(client: FlaskClient, ports: Ports) -> None:
    others = [f"/v1/spends/spd_{2:032x}/reverse", f"/v1/holds/hld_{2:032x}/capture", f"/v1/holds/hld_{2:032x}/release"]
    paths = [SPENDS, HOLDS, GRANTS, REVERSE, CAPTURE, RELEASE, *others]
    for path in paths:
        client.post(path, json=APOLOGY, headers=headers("server:backend", key="k"))
    assert len({command.key.call for command in ports.asked}) == len(paths)


def test_a_client_cannot_take_a_key_of_the_apps_backend(client: FlaskClient, ports: Ports) -> None:
    for caller in ("client:alice", "server:backend", "server:spender"):
        client.post(SPENDS, json=GEMS_5, headers=headers(caller, app=ARCADE, key="k"))
    clients, backends, another_keys = (command.key.call for command in ports.asked)
    assert clients != backends
    assert backends == another_keys  # a key that was changed meanwhile still repeats what the one before it asked


@pytest.mark.parametrize(
    "again",
    [
        b'{"currency":"gems","amount":5}',
        b' {"amount" : 5,\n "currency" : "gems"} ',
        b'{"currency":"gems","amount":5,"reference":null}',
        b'{"currency":"gems","amount":5,"of_a_later_release":true}',
        b'{"currency":"\\u0067ems","amount":5}',
    ],
)
def test_the_same_body_is_known_however_it_is_written(client: FlaskClient, ports: Ports, again: bytes) -> None:
    client.post(SPENDS, json=GEMS_5, headers=headers("server:backend", key="k"))
    first = key_of(ports)
    client.post(SPENDS, data=again, headers=headers("server:backend", key="k"))
    assert key_of(ports) == first
    assert len(first.body_sha256) == 32


def test_a_body_is_known_by_what_it_says_whatever_defaults_and_members_a_later_release_adds(
    client: FlaskClient, ports: Ports
) -> None:
    client.post(HOLDS, json=GEMS_5, headers=headers("server:backend", key="k"))
    assert key_of(ports).body_sha256 == hashlib.sha256(b'{"amount":5,"currency":"gems"}').digest()


@pytest.mark.parametrize(
    "other",
    [
        {"currency": "gems", "amount": 6},
        {"currency": "coins", "amount": 5},
        {**GEMS_5, "environment": "sandbox"},
        {**GEMS_5, "reference": "a"},
        {**GEMS_5, "item": "a"},
    ],
)
def test_another_body_is_not_taken_for_the_same(client: FlaskClient, ports: Ports, other: dict[str, Any]) -> None:
    client.post(SPENDS, json=GEMS_5, headers=headers("server:backend", key="k"))
    first = key_of(ports)
    client.post(SPENDS, json=other, headers=headers("server:backend", key="k"))
    assert key_of(ports).body_sha256 != first.body_sha256


# ---- what is heard ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "content_type", "replayed"),
    [
        (Answer(201, '{"id":"spd_1"}'), "application/json", None),
        (Answer(200, '{ "id": "spd_1" }', replayed=True), "application/json", "true"),
        (Answer(422, '{"code":"insufficient-funds"}'), "application/problem+json", None),
        (Answer(409, '{"code":"hold-not-open"}', replayed=True), "application/problem+json", "true"),
    ],
)
def test_an_answer_is_sent_as_it_was_kept_and_a_repeated_one_says_so(
    client: FlaskClient, ports: Ports, answer: Answer, content_type: str, replayed: str | None
) -> None:
    ports.done = answer
    response = client.post(SPENDS, json=GEMS_5, headers=headers("server:backend", key="k"))
    assert (response.status_code, response.text) == (answer.status, answer.document)
    assert response.content_type == content_type
    assert response.headers.get("Idempotent-Replayed") == replayed


def test_without_a_database_the_caller_is_told_to_repeat(client: FlaskClient, ports: Ports) -> None:
    ports.away = True
    response = client.post(SPENDS, json=GEMS_5, headers=headers("server:backend", key="k"))
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
