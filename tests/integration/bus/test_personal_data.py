"""What of an event is personal, and what is not: decided for every field of every payload, and done by the journal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from msgspec import inspect

from gateway.domain.purchases import parse_purchase_id
from shared import ids
from shared.events import PAYLOADS, PROOF_REMOVED, TOKEN_REMOVED, Payload, decode
from shared.events.store import StoreTransaction
from tests.support.bus import Bus, bus_in

ERASED: Final = "alice@example.com"
PSEUDONYM: Final = "erased:00000000000040008000000000000001"
SALT: Final = "salt"
PURCHASE: Final = ids.purchase_id(app="game", store="apple", transaction_id="1", user_id=ERASED)
TOLD: Final = f"{ERASED} said"
"""What stands in every text that is somebody's own words, and an id in every field that has one."""

PERSONAL: Final[Mapping[str, Any]] = {
    "receipt": PROOF_REMOVED,
    "signed_transaction": PROOF_REMOVED,
    "signed_payload": PROOF_REMOVED,
    "signed_renewal_info": None,
    "token": str(TOKEN_REMOVED),
    "actor": f"client:{PSEUDONYM}",
    "reference": None,
    "change.reference": None,
    "item": None,
}
"""What becomes of these fields, wherever they are."""

IN: Final[Mapping[tuple[str, str], Any]] = {
    ("grant.posted", "reason"): "erased",
    ("refund_request.updated", "reason"): None,
}
"""And of these, only there: elsewhere a reason is ours, or the store's."""

RENAMED: Final = {"purchase_id", "change.purchase_id", "source"}

NOT_PERSONAL: Final = {
    *("app", "code", "detail", "cause", "currency", "entitlement", "environment", "kind", "reason", "state", "status"),
    *("store", "type", "product_id", "product_type", "group", "period", "identifier", "discount_type"),
    *("price_increase", "expiration_reason", "renewal_currency", "renewal_product_id", "refunded", "granted", "held"),
    *("transaction_id", "original_transaction_id", "charge_id", "id", "entry_id"),
    *("spend_id", "grant_id", "hold_id", "refund_request_id", "subscription_id"),
    *("notification_id", "notification_type", "subtype"),
    *("endpoint_id", "event_id", "event_type", "rows", "consumer"),
}
"""Names of the texts that are nobody's own words, in whatever payload. A new field is to be put here, or above."""


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        yield bus


def sample(kind: Any, name: str = "") -> Any:
    """A document of this type, with something in each of its fields."""
    match kind:
        case inspect.DataclassType(fields=fields):
            return {field.encode_name: sample(field.type, field.encode_name) for field in fields}
        case inspect.UnionType(types=types):
            return sample(next(each for each in types if not isinstance(each, inspect.NoneType)), name)
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.ListType(item_type=item):
            return [sample(item)]
        case inspect.DictType():
            return {"journal.event": 1}
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 7
        case inspect.DateTimeType():
            return datetime(2026, 11, 22, tzinfo=UTC).isoformat()
        case inspect.UUIDType():
            return str(UUID(int=1))
    if name in {"purchase_id", "source"}:
        return PURCHASE
    return f"client:{ERASED}" if name == "actor" else TOLD


def leaves(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in it, with the names on the way there."""
    if isinstance(document, dict) and document:
        for name, value in document.items():
            yield from leaves(value, f"{path}.{name}" if path else name)
    elif isinstance(document, list) and document:
        for value in document:
            yield from leaves(value, path)
    else:
        yield path, document


def expected(event_type: str, path: str, value: Any) -> Any:
    """What is to become of the field."""
    if path in RENAMED:
        return None  # see below
    return IN.get((event_type, path), PERSONAL.get(path, value))


@pytest.mark.parametrize("known", PAYLOADS.values(), ids=lambda known: known.TYPE)
def test_of_each_payload_what_is_personal_is_taken_out_and_nothing_else(bus: Bus, known: type[Payload]) -> None:
    document = sample(inspect.type_info(known))
    decode(known.TYPE, known.VERSION, json.dumps(document))
    ((erased,),) = bus.execute(
        "select journal.erased_payload(%(type)s, %(payload)s::jsonb, %(erased)s, %(pseudonym)s, %(salt)s)",
        type=known.TYPE,
        payload=json.dumps(document),
        erased=ERASED,
        pseudonym=PSEUDONYM,
        salt=SALT,
    )
    decode(known.TYPE, known.VERSION, json.dumps(erased))
    before, after = dict(leaves(document)), dict(leaves(erased))
    assert set(before) == set(after)
    for path, value in before.items():
        name = path.rpartition(".")[2]
        if path in RENAMED:
            assert after[path] not in (value, None)
            assert parse_purchase_id(after[path]) == after[path]
            continue
        assert after[path] == expected(known.TYPE, path, value), path
        decided = path in PERSONAL or (known.TYPE, path) in IN or name in NOT_PERSONAL or not isinstance(value, str)
        assert decided or value != TOLD, f"is {known.TYPE}'s {path} personal? decide: here, and in the migration"


@pytest.mark.parametrize("known", PAYLOADS.values(), ids=lambda known: known.TYPE)
def test_the_trigger_lets_exactly_this_pass(bus: Bus, known: type[Payload]) -> None:
    document = json.dumps(sample(inspect.type_info(known)))
    ((same,),) = bus.execute(
        "select journal.lasting(%(payload)s::jsonb)"
        "     = journal.lasting(journal.erased_payload(%(type)s, %(payload)s::jsonb, 'a', 'b', 'c'))",
        type=known.TYPE,
        payload=document,
    )
    assert same


def test_amounts_transactions_and_times_are_among_what_lasts(bus: Bus) -> None:
    transaction = sample(inspect.type_info(StoreTransaction))
    document = {"amount": 1, "change": {"amount": 1, "balance_after": 2}, "transaction": transaction, "expires_at": "x"}
    ((lasting,),) = bus.execute("select journal.lasting(%(payload)s::jsonb)", payload=json.dumps(document))
    assert lasting == document


@pytest.mark.parametrize("parts", [("game", ERASED), ("", ""), ("a", "bc"), ("ab", "c"), ("gäme", "日本", "x" * 300)])
def test_a_digest_is_the_same_in_sql_and_in_python(bus: Bus, parts: tuple[str, ...]) -> None:
    ((found,),) = bus.execute("select journal.digest(variadic %(parts)s::text[])", parts=list(parts))
    assert found == ids._digest(*parts)


def test_an_erased_purchases_id_is_one_and_depends_on_a_salt_that_is_kept_nowhere(bus: Bus) -> None:
    sql = "select journal.erased_id(%(id)s, %(salt)s)"
    ((one,),), ((other,),) = (bus.execute(sql, id=PURCHASE, salt=salt) for salt in ("one", "other"))
    assert parse_purchase_id(one) == one
    assert len({one, other, PURCHASE}) == 3


def test_what_an_event_of_yesterday_does_not_have_is_not_put_into_it(bus: Bus) -> None:
    """Fields with defaults may be missing."""
    document = {"spend_id": "spd_1", "environment": "sandbox", "currency": "gems", "amount": 5, "actor": "server:a"}
    ((erased,),) = bus.execute(
        "select journal.erased_payload('spend.posted', %(payload)s::jsonb, 'alice', 'bob', 'salt')",
        payload=json.dumps(document),
    )
    assert erased == document
    assert msgspec.json.decode(json.dumps(erased), type=PAYLOADS["spend.posted", 1])
