"""The calls about users' requests for refunds. The ledger answers."""

from __future__ import annotations

from flask import Response

from gateway.api.forwarding import ask, tell
from gateway.api.services import Services
from gateway.domain.callers import Caller
from gateway.domain.purchases import parse_purchase_id
from gateway.handlers import PurchaseUnknown
from shared.http import not_found
from shared.ids import parse_public_id


def submit(services: Services, caller: Caller, purchase: str) -> Response:
    """Ask for a refund of a purchase

    Taken by the catalogue's policy for the product (`refund_requests` of `GET /v1/products`). What is left of the
    purchase is held while the request is open, and `advice` says how the store is asked, which alone gives money back.
    A second request while one is open is that one: 200.
    """
    if parse_purchase_id(purchase) is None:
        raise PurchaseUnknown(purchase)
    return tell(services.ledger, caller, ["purchases", purchase, "refund-requests"])


def show(services: Services, caller: Caller, refund_request: str) -> Response:
    """Show a request for a refund"""
    if parse_public_id(refund_request, prefix="rfr") is None:
        raise not_found("there is no such request")
    return ask(services.ledger, caller, ["refund-requests", refund_request], {})
