"""What goes out: documents of what there is, and of what a command came to. Pure, but for the response at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from flask import Response

from ledger.domain.belongings import EntitlementList, EntitlementStatement, SubscriptionPage
from ledger.domain.commands import (
    Answer,
    Command,
    Grant,
    GrantDone,
    HoldDone,
    Outcome,
    PlaceHold,
    RefusalCode,
    Refused,
    Spend,
    SpendDone,
    WalletAfter,
)
from ledger.domain.refund_requests import NotEligible, RefundRequestView
from ledger.domain.statements import EntryPage, WalletEntry
from shared.clock import rfc3339
from shared.events import subscription_document
from shared.http import IDEMPOTENT_REPLAYED_HEADER, JSON_TYPE, PROBLEM_TYPE, Problem, problem_document

REFUSALS: Final[Mapping[RefusalCode, tuple[int, str]]] = {
    "insufficient-funds": (422, "Insufficient funds"),
    "spend-not-reversible": (422, "Spend not reversible"),
    "hold-not-open": (409, "Hold not open"),
    "hold-too-small": (422, "Hold too small"),
    "balance-out-of-range": (422, "Balance out of range"),
    "idempotency-key-reused": (409, "Idempotency key reused"),
    "not-found": (404, "Not found"),
}
"""The status and the title of each refusal."""


# ---- commands ----------------------------------------------------------------------------------------------------


def render(command: Command, outcome: Outcome) -> Answer:
    """What a command came to, as its caller is told it: kept with the command's key, and repeated word for word.

    A refusal carries the trace of the request that was refused first: that is the one in the log.
    """
    if isinstance(outcome, Refused):
        status, title = REFUSALS[outcome.code]
        document = problem_document(
            status, outcome.code, title, outcome.detail, trace_id=command.trace_id, members=outcome.members
        )
    else:
        status = 201 if isinstance(command.request, Spend | PlaceHold | Grant) else 200
        document = _done(outcome)
    return Answer(status, msgspec.json.encode(document).decode())


def respond(answer: Answer) -> Response:
    """The answer as a response."""
    content_type = PROBLEM_TYPE if answer.status >= 400 else JSON_TYPE
    response = Response(answer.document, status=answer.status, content_type=content_type)
    if answer.replayed:
        response.headers[IDEMPOTENT_REPLAYED_HEADER] = "true"
    return response


def _done(outcome: SpendDone | HoldDone | GrantDone) -> dict[str, Any]:
    match outcome:
        case SpendDone():
            return _spend(outcome)
        case HoldDone():
            return _hold(outcome)
        case GrantDone():
            return _grant(outcome)


def _spend(spend: SpendDone) -> dict[str, Any]:
    return {
        "id": spend.id,
        "user_id": spend.user_id,
        "environment": spend.environment,
        "currency": spend.currency,
        "amount": spend.amount,
        "reversed": spend.reversed,
        "reference": spend.reference,
        "item": spend.item,
        "hold_id": spend.hold_id,
        "created_at": rfc3339(spend.created_at),
        "wallet": _wallet(spend.wallet),
    }


def _hold(hold: HoldDone) -> dict[str, Any]:
    return {
        "id": hold.id,
        "user_id": hold.user_id,
        "environment": hold.environment,
        "currency": hold.currency,
        "amount": hold.amount,
        "captured": hold.captured,
        "state": hold.state,
        "expires_at": rfc3339(hold.expires_at),
        "reference": hold.reference,
        "created_at": rfc3339(hold.created_at),
        "spend_id": hold.spend_id,
        "wallet": _wallet(hold.wallet),
    }


def _grant(grant: GrantDone) -> dict[str, Any]:
    return {
        "id": grant.id,
        "user_id": grant.user_id,
        "environment": grant.environment,
        "currency": grant.currency,
        "amount": grant.amount,
        "reason": grant.reason,
        "granted_by": grant.granted_by,
        "created_at": rfc3339(grant.created_at),
        "wallet": _wallet(grant.wallet),
    }


def _wallet(after: WalletAfter) -> dict[str, Any]:
    return {"version": after.version, "funds": after.funds}


# ---- wallets -----------------------------------------------------------------------------------------------------


def entry_page(page: EntryPage) -> dict[str, Any]:
    """A page of a wallet's entries."""
    return {
        "entries": [_entry(entry) for entry in page.entries],
        "next": None if page.next_before is None else str(page.next_before),
    }


def _entry(entry: WalletEntry) -> dict[str, Any]:
    causes = {
        "purchase_id": entry.purchase_id,
        "spend_id": entry.spend_id,
        "grant_id": entry.grant_id,
        "reference": entry.reference,
    }
    return {
        "id": entry.id,
        "kind": entry.kind,
        "currency": entry.currency,
        "amount": entry.amount,
        "balance_after": entry.balance_after,
        "version": entry.version,
        "created_at": rfc3339(entry.created_at),
        **{name: value for name, value in causes.items() if value is not None},
    }


# ---- subscriptions and entitlements ------------------------------------------------------------------------------


def subscription_page(page: SubscriptionPage, *, following: str | None) -> dict[str, Any]:
    """A page of a user's subscriptions; `following` is where the next one begins."""
    return {
        "user_id": page.holder.user_id,
        "environment": page.holder.environment,
        "subscriptions": [subscription_document(state) for state in page.subscriptions],
        "next": following,
    }


def entitlement_list(found: EntitlementList) -> dict[str, Any]:
    """All that a user may use, or might once."""
    return {
        "user_id": found.holder.user_id,
        "environment": found.holder.environment,
        "entitlements": [_entitlement(each) for each in found.entitlements],
    }


def _entitlement(statement: EntitlementStatement) -> dict[str, Any]:
    return {
        "id": statement.id,
        "name": statement.name,
        "active": statement.active,
        "until": None if statement.until is None else rfc3339(statement.until),
        "source": statement.source,
        "version": statement.version,
    }


# ---- requests for refunds ----------------------------------------------------------------------------------------


def refund_request(view: RefundRequestView) -> dict[str, Any]:
    """A user's request for a refund."""
    return {
        "id": view.id,
        "purchase_id": view.purchase_id,
        "user_id": view.user_id,
        "environment": view.environment,
        "status": view.status,
        "reason": view.reason,
        "spent_percentage_milli": view.spent_percentage_milli,
        "held": view.held,
        "advice": view.advice,
        "created_at": rfc3339(view.created_at),
        "updated_at": rfc3339(view.updated_at),
        "expires_at": rfc3339(view.expires_at),
    }


def not_eligible(refusal: NotEligible) -> Problem:
    """Why no refund can be asked for."""
    members = {"reason": refusal.reason, **refusal.members}
    return Problem(422, "refund-not-eligible", "Refund not eligible", refusal.detail, members=members)
