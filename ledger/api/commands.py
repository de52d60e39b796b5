"""The calls that move currency: spends, holds, grants."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from flask import Response

from ledger.api.answers import respond
from ledger.api.bodies import (
    CaptureBody,
    GrantBody,
    HoldBody,
    ReleaseBody,
    ReversalBody,
    SpendBody,
    WalletBody,
    needed_key,
    optional_key,
    read_optional_body,
)
from ledger.api.services import Services
from ledger.domain.books import WalletKey
from ledger.domain.commands import CaptureHold, Command, IdempotencyKey, ReleaseHold, Request, ReverseSpend
from shared.callers import Caller
from shared.http import malformed, not_found, read_body, trace_id
from shared.ids import parse_public_id


def spend(services: Services, caller: Caller, user_id: str) -> Response:
    """Currency is spent at once."""
    return _on_wallet(services, caller, user_id, SpendBody, call="spends")


def place_hold(services: Services, caller: Caller, user_id: str) -> Response:
    """Currency is set aside."""
    return _on_wallet(services, caller, user_id, HoldBody, call="holds")


def grant(services: Services, caller: Caller, user_id: str) -> Response:
    """Goodwill is given."""
    return _on_wallet(services, caller, user_id, GrantBody, call="grants")


def reverse_spend(services: Services, caller: Caller, spend_id: str) -> Response:
    """A spend is given back."""
    spend_uuid = _known("spd", spend_id)
    body = read_optional_body(ReversalBody)
    key = needed_key(caller, call=f"spends/{spend_id}/reverse", body=body)
    return _do(services, caller, ReverseSpend(caller.app.id, spend_uuid, body.amount), key)


def capture_hold(services: Services, caller: Caller, hold_id: str) -> Response:
    """What was set aside is spent."""
    hold_uuid = _known("hld", hold_id)
    body = read_optional_body(CaptureBody)
    key = optional_key(caller, call=f"holds/{hold_id}/capture", body=body)
    asked = CaptureHold(caller.app.id, hold_uuid, body.amount, reference=body.reference, item=body.item)
    return _do(services, caller, asked, key)


def release_hold(services: Services, caller: Caller, hold_id: str) -> Response:
    """What was set aside is free again."""
    hold_uuid = _known("hld", hold_id)
    key = optional_key(caller, call=f"holds/{hold_id}/release", body=read_optional_body(ReleaseBody))
    return _do(services, caller, ReleaseHold(caller.app.id, hold_uuid), key)


def _on_wallet(
    services: Services,
    caller: Caller,
    user_id: str,
    model: type[WalletBody],
    *,
    call: Literal["spends", "holds", "grants"],
) -> Response:
    user = caller.addressed(user_id)
    body = read_body(model)
    if body.currency not in services.currencies:
        raise malformed("currency: the catalogue has no such currency")
    key = needed_key(caller, call=call, body=body)
    return _do(services, caller, body.request_of(WalletKey(caller.app.id, body.environment, user)), key)


def _do(services: Services, caller: Caller, request: Request, key: IdempotencyKey | None) -> Response:
    command = Command(request, actor=caller.actor, trace_id=trace_id(), key=key, only_user=caller.only_user)
    return respond(services.commands(command))


def _known(prefix: Literal["spd", "hld"], text: str) -> UUID:
    value = parse_public_id(text, prefix=prefix)
    if value is None:
        raise not_found(f"there is no such {_NOUNS[prefix]}")
    return value


_NOUNS = {"spd": "spend", "hld": "hold"}
