"""The calls about users, their wallets, and what is for sale."""

from __future__ import annotations

from flask import Response

from gateway import handlers
from gateway.api import documents
from gateway.api.services import Services
from gateway.domain.callers import Caller, addressed_user
from shared.http import answer, read_query, request_id, trace_id


def products(services: Services, caller: Caller) -> Response:
    """List the app's products and what each gives"""
    found = services.catalog.of_app(caller.app.id)
    return answer(documents.ProductList(products=[documents.Product.of(product) for product in found]))


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


def wallet(services: Services, caller: Caller, user: str) -> Response:
    """Show a user's wallet

    Sandbox purchases fill a wallet of their own: `?environment=sandbox`.
    """
    query = read_query(documents.WalletQuery)
    return _ask_ledger(services, caller, user, "wallet", query.model_dump(mode="json"))


def wallet_entries(services: Services, caller: Caller, user: str) -> Response:
    """List the entries of a user's wallet, newest first"""
    query = read_query(documents.WalletPageQuery)
    return _ask_ledger(services, caller, user, "wallet/entries", query.model_dump(mode="json", exclude_none=True))


def _ask_ledger(services: Services, caller: Caller, user: str, what: str, query: dict[str, str | int]) -> Response:
    said = services.ledger.read(
        ["users", addressed_user(caller, user), *what.split("/")],
        query={name: str(value) for name, value in query.items()},
        caller=caller,
        trace_id=trace_id(),
        request_id=request_id(),
    )
    return Response(said.body, status=said.status, content_type=said.content_type)
