"""The calls about wallets: reading them, spending, holding, giving. The ledger answers."""

from __future__ import annotations

from typing import Literal

from flask import Response

from gateway.api import documents
from gateway.api.forwarding import ask, tell
from gateway.api.services import Services
from gateway.domain.callers import Caller, addressed_user
from shared.http import not_found, read_query
from shared.ids import parse_public_id


def show(services: Services, caller: Caller, user: str) -> Response:
    """Show a user's wallet

    Sandbox purchases fill a wallet of their own: `?environment=sandbox`.
    """
    query = read_query(documents.WalletQuery)
    return ask(services.ledger, caller, [*_of(caller, user), "wallet"], query.model_dump())


def entries(services: Services, caller: Caller, user: str) -> Response:
    """List the entries of a user's wallet, newest first"""
    query = read_query(documents.WalletPageQuery)
    return ask(services.ledger, caller, [*_of(caller, user), "wallet", "entries"], query.model_dump(exclude_none=True))


def spend(services: Services, caller: Caller, key: str, user: str) -> Response:
    """Spend a user's currency

    All of it at once, or nothing: what is not available is 422 `insufficient-funds`, which says how much is.
    """
    return tell(services.ledger, caller, [*_of(caller, user), "spends"], key=key)


def reverse_spend(services: Services, caller: Caller, key: str, spend: str) -> Response:
    """Give a spend back, wholly or in part

    The currency goes back to where it came from, so that a later refund finds it there. The answer is the spend as it
    stands then.
    """
    return tell(services.ledger, caller, ["spends", _known(spend, "spd"), "reverse"], key=key)


def place_hold(services: Services, caller: Caller, key: str, user: str) -> Response:
    """Set a user's currency aside

    A spend in two steps: what is held cannot be spent otherwise, until the hold is captured, released, or expires by
    itself.
    """
    return tell(services.ledger, caller, [*_of(caller, user), "holds"], key=key)


def capture_hold(services: Services, caller: Caller, key: str | None, hold: str) -> Response:
    """Spend what a hold has set aside

    All of it, or less: the rest is free again. The answer is the hold, with the id of the spend that it became.
    """
    return tell(services.ledger, caller, ["holds", _known(hold, "hld"), "capture"], key=key)


def release_hold(services: Services, caller: Caller, key: str | None, hold: str) -> Response:
    """Free what a hold has set aside"""
    return tell(services.ledger, caller, ["holds", _known(hold, "hld"), "release"], key=key)


def grant(services: Services, caller: Caller, key: str, user: str) -> Response:
    """Give a user currency for nothing

    Goodwill: the books keep the reason, and which key gave it.
    """
    return tell(services.ledger, caller, [*_of(caller, user), "grants"], key=key)


def _of(caller: Caller, user: str) -> list[str]:
    """The path of a user's things. Raises UserRejected, UserUnnamed, UserIdInvalid."""
    return ["users", addressed_user(caller, user)]


def _known(text: str, prefix: Literal["spd", "hld"]) -> str:
    """The id, if it can be one. Raises Problem: 404."""
    if parse_public_id(text, prefix=prefix) is None:
        raise not_found(f"there is no such {'spend' if prefix == 'spd' else 'hold'}")
    return text
