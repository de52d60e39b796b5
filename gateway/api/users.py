"""The calls about what is for sale, and who a user is to the store."""

from __future__ import annotations

from flask import Response

from gateway import handlers
from gateway.api import documents
from gateway.api.services import Services
from gateway.domain.callers import Caller, addressed_user
from shared.http import answer, trace_id


def products(services: Services, caller: Caller) -> Response:
    """List the app's products and what each gives"""
    catalog = services.catalog
    found = catalog.of_app(caller.app.id)
    products = [documents.Product.of(product, catalog.refund_policy(product)) for product in found]
    return answer(documents.ProductList(products=products))


def account_token(services: Services, caller: Caller, user: str) -> Response:
    """Show the UUID to give StoreKit for a user

    Made when it is first asked for, the same ever after. A purchase that carries it can only be claimed by this user.
    """
    token = handlers.account_token(
        addressed_user(caller, user),
        app=caller.app.id,
        new_token=services.ids.uuid(),
        journal=services.journal,
        trace_id=trace_id(),
        now=services.clock.now(),
    )
    return answer(documents.AccountToken(app_account_token=str(token)))
