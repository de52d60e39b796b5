"""Every call: its path, who may make it, what answers it, and what the contract says of it.

A path stands here or it does not exist, and it cannot stand here without saying who may call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from flask import Flask, Response, request
from pydantic import BaseModel

from gateway.api import documents, operations, purchases, users, webhooks
from gateway.api.services import Services
from gateway.domain.callers import Caller, require_scope, require_server


class Access(Enum):
    """Who may make a call."""

    EVERYBODY = "Everybody may call."
    STORE = "The store calls; what it sends is signed."
    SUBMITTER = "A client token, or any server key."
    READER = "A client token, or a server key with the scope `read`."
    OPERATOR = "A server key with the scope `read`."

    @property
    def needs_credential(self) -> bool:
        return self not in {Access.EVERYBODY, Access.STORE}


@dataclass(frozen=True, slots=True)
class Route:
    """One call. `view` is given the services, the caller if a credential is needed, and the parts of the path.

    The view's docstring is what the contract says of the call; `answers` has the document of each good status, None for
    what is not JSON.
    """

    method: str
    path: str
    access: Access
    view: Callable[..., Response]
    answers: Mapping[int, type | None]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    examples: Mapping[str, documents.Example] = field(default_factory=dict)  # of the body

    @property
    def endpoint(self) -> str:
        return f"{self.view.__module__.rpartition('.')[2]}.{self.view.__name__}"


ROUTES: Final = (
    Route(
        "POST",
        "/v1/purchases",
        Access.SUBMITTER,
        purchases.submit,
        {202: documents.SubmittedPurchase, 200: documents.Purchase},
        query=documents.WaitQuery,
        body=documents.PurchaseSubmission,
        examples=documents.PURCHASE_EXAMPLES,
    ),
    Route(
        "GET",
        "/v1/purchases/{purchase}",
        Access.READER,
        purchases.show,
        {200: documents.Purchase},
        query=documents.WaitQuery,
    ),
    Route("GET", "/v1/purchases/{purchase}/timeline", Access.OPERATOR, purchases.timeline, {200: documents.Timeline}),
    Route(
        "GET",
        "/v1/users/{user}/purchases",
        Access.READER,
        purchases.list_of_user,
        {200: documents.PurchasePage},
        query=documents.PageQuery,
    ),
    Route("GET", "/v1/products", Access.READER, users.products, {200: documents.ProductList}),
    Route("GET", "/v1/users/{user}/account-token", Access.READER, users.account_token, {200: documents.AccountToken}),
    Route(
        "GET",
        "/v1/users/{user}/wallet",
        Access.READER,
        users.wallet,
        {200: documents.Wallet},
        query=documents.WalletQuery,
    ),
    Route(
        "GET",
        "/v1/users/{user}/wallet/entries",
        Access.READER,
        users.wallet_entries,
        {200: documents.WalletPage},
        query=documents.WalletPageQuery,
    ),
    Route("POST", "/webhooks/apple", Access.STORE, webhooks.apple, {200: None}, body=documents.AppleNotification),
    Route("GET", "/healthz", Access.EVERYBODY, operations.healthz, {200: documents.Health}),
    Route("GET", "/readyz", Access.EVERYBODY, operations.readyz, {200: documents.Health}),
    Route("GET", "/openapi.json", Access.EVERYBODY, operations.contract, {200: None}),
    Route("GET", "/docs", Access.EVERYBODY, operations.reference, {200: None}),
)


def install_routes(app: Flask, *, services: Services) -> None:
    """Puts the calls on the app, each behind the check of who may make it."""
    for route in ROUTES:
        app.add_url_rule(
            _rule(route.path),
            endpoint=route.endpoint,
            view_func=_guarded(route, services),
            methods=[route.method],
            provide_automatic_options=False,
        )


def _rule(path: str) -> str:
    """The path as Flask writes it."""
    return path.replace("{user}", "<user:user>").replace("{purchase}", "<purchase>")


def _guarded(route: Route, services: Services) -> Callable[..., Response]:
    if not route.access.needs_credential:
        return lambda **parts: route.view(services, **parts)

    def view(**parts: Any) -> Response:
        caller = services.credentials.authenticate(request.headers.get("Authorization"))
        _admit(caller, route.access)
        return route.view(services, caller, **parts)

    return view


def _admit(caller: Caller, access: Access) -> None:
    """Raises ScopeRejected."""
    if access is Access.OPERATOR:
        require_server(caller)
    if access in {Access.OPERATOR, Access.READER}:
        require_scope(caller, "read")
