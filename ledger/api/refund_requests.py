"""The calls about users' requests for refunds."""

from __future__ import annotations

import re
from typing import Final

from flask import Response

from ledger.api.answers import not_eligible, refund_request
from ledger.api.bodies import RefundRequestBody, read_optional_body
from ledger.api.services import Services
from ledger.domain.refund_requests import NotEligible
from shared.callers import Caller
from shared.http import Problem, answer, not_found, trace_id
from shared.ids import PurchaseId, parse_public_id

_PURCHASE_ID: Final = re.compile(r"pur_[a-z2-7]{26}")


def ask(services: Services, caller: Caller, purchase_id: str) -> Response:
    """A user asks for a refund of a purchase: 201, or 200 with the request that is open already."""
    purchase = _purchase(purchase_id)
    body = read_optional_body(RefundRequestBody)
    found = services.refund_requests.ask(
        app=caller.app.id,
        purchase_id=purchase,
        only_user=caller.only_user,
        actor=caller.actor,
        reason=body.reason,
        trace_id=trace_id(),
    )
    if found is None:
        raise not_found("there is no such purchase")
    if isinstance(found, NotEligible):
        raise not_eligible(found)
    return answer(refund_request(found), 201 if found.is_new else 200)


def show(services: Services, caller: Caller, refund_request_id: str) -> Response:
    """A request as it stands."""
    request_uuid = parse_public_id(refund_request_id, prefix="rfr")
    if request_uuid is None:
        raise _no_such_request()
    found = services.refund_requests.find(app=caller.app.id, id=request_uuid, only_user=caller.only_user)
    if found is None:
        raise _no_such_request()
    return answer(refund_request(found))


def _purchase(text: str) -> PurchaseId:
    """Raises Problem: 404 for what is no purchase's id."""
    if _PURCHASE_ID.fullmatch(text) is None:
        raise not_found("there is no such purchase")
    return PurchaseId(text)


def _no_such_request() -> Problem:
    return not_found("there is no such request")
