"""The calls about purchases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from flask import Response, request

from gateway import handlers
from gateway.api import documents
from gateway.api.services import Services
from gateway.domain.callers import Caller, addressed_user, submitting_user, vouches
from gateway.domain.purchases import (
    Proof,
    Purchase,
    parse_purchase_id,
    receipt_proof,
    transaction_id_proof,
    transaction_proof,
)
from gateway.handlers import PurchaseUnknown
from shared.http import answer, read_body, read_query, trace_id
from shared.ids import EventId, PurchaseId

_DIGITS_MAX: Final = 9


@dataclass(frozen=True, slots=True)
class _Wait:
    """How long the caller wants to wait; `preferred`: said by `Prefer`, so it is told whether it was."""

    seconds: int
    preferred: bool = False

    def headers(self, *, waited: bool) -> dict[str, str]:
        return {"Preference-Applied": f"wait={self.seconds}"} if waited and self.preferred else {}


def submit(services: Services, caller: Caller) -> Response:
    """Take in a purchase

    202 once it is durable; the same transaction by the same user is the same purchase, however often it is sent and
    with whichever proof: until one is found good, another one is looked at too. With `Prefer: wait=N` or `?wait=N` the
    answer is 200 with the whole purchase if it comes to an end in time.

    A `transaction_id` alone is looked up with the App Store Server API; without a key for it in the app's entry it is
    refused (400). It proves nothing about who bought, so from a client it is good for what was bought with that user's
    `appAccountToken`, unless the app's entry says otherwise. A server key vouches for the user that it names.
    """
    body = read_body(documents.PurchaseSubmission)
    wait = _wanted_wait()
    submitted = handlers.submit_purchase(
        _proof(body, caller),
        app=caller.app.id,
        user_id=submitting_user(caller, body.user_id),
        journal=services.journal,
        trace_id=trace_id(),
        now=services.clock.now(),
    )
    location = {"Location": f"/v1/purchases/{submitted.id}"}
    if not wait.seconds:
        return answer(documents.SubmittedPurchase.of(submitted), 202, headers=location)
    purchase, waited = _await(services, caller, submitted.id, wait)
    headers = location | wait.headers(waited=waited)
    if purchase.is_final:
        return answer(documents.Purchase.of(purchase), headers=headers)
    return answer(documents.SubmittedPurchase.of(purchase), 202, headers=headers)


def show(services: Services, caller: Caller, purchase: str) -> Response:
    """Show a purchase

    With `?wait=N` or `Prefer: wait=N` it is answered once the purchase is in a final state, or when the time is up, or
    at once when too many wait already.
    """
    wait = _wanted_wait()
    found, waited = _await(services, caller, _purchase_id(purchase), wait)
    return answer(documents.Purchase.of(found), headers=wait.headers(waited=waited))


def list_of_user(services: Services, caller: Caller, user: str) -> Response:
    """List a user's purchases, newest first"""
    query = read_query(documents.PageQuery)
    page, following = handlers.purchases_of_user(
        addressed_user(caller, user),
        app=caller.app.id,
        limit=query.limit,
        after=None if query.after is None else EventId(UUID(query.after)),
        journal=services.journal,
    )
    return answer(documents.PurchasePage.of(page, following))


def timeline(services: Services, caller: Caller, purchase: str) -> Response:
    """Show all that is recorded of a purchase

    Every event, oldest first: what it says, what it followed from, what followed from it, and to whom it is still to be
    delivered, with attempts and errors.
    """
    entries = handlers.timeline_of(_purchase_id(purchase), caller=caller, journal=services.journal)
    return answer(documents.Timeline(events=[documents.TimelineEvent.of(entry) for entry in entries]))


def _proof(body: documents.PurchaseSubmission, caller: Caller) -> Proof:
    """Raises ProofInvalid."""
    store, named, vouched = body.store, body.transaction_id or "", vouches(caller)
    if body.signed_transaction is not None:
        return transaction_proof(
            store=store, signed_transaction=body.signed_transaction, transaction_id=body.transaction_id
        )
    if body.receipt is not None:
        return receipt_proof(store=store, transaction_id=named, receipt=body.receipt, vouched=vouched)
    return transaction_id_proof(store=store, transaction_id=named, vouched=vouched, app=caller.app.apple)


def _purchase_id(text: str) -> PurchaseId:
    purchase_id = parse_purchase_id(text)
    if purchase_id is None:
        raise PurchaseUnknown(text)
    return purchase_id


def _await(services: Services, caller: Caller, wanted: PurchaseId, wait: _Wait) -> tuple[Purchase, bool]:
    """The purchase, waited for if that was asked; and whether it could be."""
    if not wait.seconds:
        return handlers.find_purchase(wanted, caller=caller, journal=services.journal), False
    return handlers.await_purchase(
        wanted, caller=caller, journal=services.journal, waiting=services.waiting, within_s=wait.seconds
    )


def _wanted_wait() -> _Wait:
    """From `?wait=`, else from `Prefer` (RFC 7240, section 4.3), which is cut to what we allow or ignored."""
    asked = read_query(documents.WaitQuery).wait if request.query_string else None
    return _Wait(asked) if asked is not None else _preferred_wait(request.headers.get("Prefer", ""))


def _preferred_wait(preferences: str) -> _Wait:
    for preference in preferences.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        digits = value.strip().strip('"')
        if name.strip().lower() == "wait" and digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX:
            return _Wait(min(int(digits), documents.WAIT_S_MAX), preferred=True)
    return _Wait(0)
