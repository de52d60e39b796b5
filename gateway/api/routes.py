"""Every call: its path, who may make it, what answers it, and what the contract says of it.

A path stands here or it does not exist, and it cannot stand here without saying who may call.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from flask import Flask, Response, request
from pydantic import BaseModel
from werkzeug.exceptions import RequestEntityTooLarge

from gateway.api import (
    deliveries,
    documents,
    endpoints,
    events,
    operations,
    purchases,
    refund_requests,
    subscriptions,
    users,
    wallets,
    webhooks,
)
from gateway.api.access import Access, admit
from gateway.api.credentials import CredentialRejected
from gateway.api.services import Services
from gateway.domain.callers import Caller
from shared.http import IDEMPOTENCY_KEY_HEADER, Problem, malformed, read_idempotency_key
from shared.jws import JwsMalformed, JwsUntrusted

_PART: Final = re.compile(r"\{(\w+)\}")
_UNPROVEN: Final = (Problem, RequestEntityTooLarge, JwsMalformed, JwsUntrusted)
"""What comes of a webhook that no store has signed. What one has signed is not held against its address, whatever it
says."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a call that the ledger or the notifier is told to do says beyond the others.

    `key`: whether it takes an `Idempotency-Key`. `refusals`: by status, why it may be refused, beginning with the code.
    """

    key: Literal["required", "optional", "none"]
    refusals: Mapping[int, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call. `view` is given the services, the caller if a credential is needed, the caller's key (`key`) if the
    call takes one, and the parts of the path.

    The view's docstring is what the contract says of the call; `answers` has the document of each good status, None for
    what is not JSON, and `answer_examples` shows some of them. `costly`: it takes the store's time or writes, so a user
    may not make it as often as others.
    """

    method: str
    path: str
    access: Access
    view: Callable[..., Response]
    answers: Mapping[int, type | None]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    examples: Mapping[str, documents.Example] = field(default_factory=dict)  # of the body
    answer_examples: Mapping[str, documents.Example] = field(default_factory=dict)
    order: Order | None = None
    costly: bool = False

    @property
    def endpoint(self) -> str:
        return f"{self.view.__module__.rpartition('.')[2]}.{self.view.__name__}"


_REUSED: Final = "`idempotency-key-reused`: the key came before, with another body."
_INSUFFICIENT: Final = "`insufficient-funds`: `available` says how much of `currency` there is."
_OUT_OF_RANGE: Final = "`balance-out-of-range`: a balance in `currency` would leave ±(2⁵³ - 1)."
_NOT_REVERSIBLE: Final = "`spend-not-reversible`: `reversible` says how much of it is left to give back."
_NOT_OPEN: Final = "`hold-not-open`: `state` says what became of it, `spend_id` which spend if it was captured."
_TOO_SMALL: Final = "`hold-too-small`: `amount` says how much it holds."
_NOT_ELIGIBLE: Final = (
    "`refund-not-eligible`: `reason` is `not_offered`, `not_completed`, `already_refunded`, `window_passed` (with "
    "`window_days` and `purchased_at`) or `spent_too_much` (with `spent_percent_max` and `spent_percentage_milli`)."
)

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
        costly=True,
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
    Route(
        "GET",
        "/v1/users/{user}/account-token",
        Access.READER,
        users.account_token,
        {200: documents.AccountToken},
        costly=True,
    ),
    Route(
        "GET",
        "/v1/users/{user}/wallet",
        Access.READER,
        wallets.show,
        {200: documents.Wallet},
        query=documents.WalletQuery,
    ),
    Route(
        "GET",
        "/v1/users/{user}/wallet/entries",
        Access.READER,
        wallets.entries,
        {200: documents.WalletPage},
        query=documents.WalletPageQuery,
    ),
    Route(
        "GET",
        "/v1/users/{user}/subscriptions",
        Access.READER,
        subscriptions.list_of_user,
        {200: documents.SubscriptionPage},
        query=documents.SubscriptionPageQuery,
        answer_examples=documents.SUBSCRIPTION_EXAMPLES,
    ),
    Route(
        "GET",
        "/v1/users/{user}/entitlements",
        Access.READER,
        subscriptions.entitlements,
        {200: documents.EntitlementList},
        query=documents.BelongingsQuery,
        answer_examples=documents.ENTITLEMENT_EXAMPLES,
    ),
    Route(
        "POST",
        "/v1/users/{user}/spends",
        Access.SPENDER,
        wallets.spend,
        {201: documents.Spend},
        body=documents.NewSpend,
        examples=documents.SPEND_EXAMPLES,
        order=Order("required", {409: [_REUSED], 422: [_INSUFFICIENT, _OUT_OF_RANGE]}),
        costly=True,
    ),
    Route(
        "POST",
        "/v1/spends/{spend}/reverse",
        Access.CASHIER,
        wallets.reverse_spend,
        {200: documents.Spend},
        body=documents.SpendReversal,
        examples=documents.SPEND_REVERSAL_EXAMPLES,
        order=Order("required", {409: [_REUSED], 422: [_NOT_REVERSIBLE, _OUT_OF_RANGE]}),
    ),
    Route(
        "POST",
        "/v1/users/{user}/holds",
        Access.CASHIER,
        wallets.place_hold,
        {201: documents.Hold},
        body=documents.NewHold,
        examples=documents.HOLD_EXAMPLES,
        order=Order("required", {409: [_REUSED], 422: [_INSUFFICIENT]}),
    ),
    Route(
        "POST",
        "/v1/holds/{hold}/capture",
        Access.CASHIER,
        wallets.capture_hold,
        {200: documents.Hold},
        body=documents.HoldCapture,
        examples=documents.HOLD_CAPTURE_EXAMPLES,
        order=Order("optional", {409: [_NOT_OPEN, _REUSED], 422: [_TOO_SMALL, _OUT_OF_RANGE]}),
    ),
    Route(
        "POST",
        "/v1/holds/{hold}/release",
        Access.CASHIER,
        wallets.release_hold,
        {200: documents.Hold},
        body=documents.HoldRelease,
        examples=documents.HOLD_RELEASE_EXAMPLES,
        order=Order("optional", {409: [_NOT_OPEN, _REUSED]}),
    ),
    Route(
        "POST",
        "/v1/users/{user}/grants",
        Access.GRANTER,
        wallets.grant,
        {201: documents.Grant},
        body=documents.NewGrant,
        examples=documents.GRANT_EXAMPLES,
        order=Order("required", {409: [_REUSED], 422: [_OUT_OF_RANGE]}),
    ),
    Route(
        "POST",
        "/v1/purchases/{purchase}/refund-requests",
        Access.REFUND_ASKER,
        refund_requests.submit,
        {201: documents.RefundRequest, 200: documents.RefundRequest},
        body=documents.NewRefundRequest,
        examples=documents.REFUND_REQUEST_EXAMPLES,
        order=Order("none", {422: [_NOT_ELIGIBLE]}),
        costly=True,
    ),
    Route(
        "GET",
        "/v1/refund-requests/{refund_request}",
        Access.READER,
        refund_requests.show,
        {200: documents.RefundRequest},
    ),
    Route(
        "GET",
        "/v1/events",
        Access.OPERATOR,
        events.list_of_app,
        {200: documents.EventPage},
        query=documents.EventQuery,
        answer_examples=documents.EVENT_EXAMPLES,
    ),
    Route(
        "GET",
        "/v1/users/{user}/events",
        Access.READER,
        events.list_of_user,
        {200: documents.EventPage},
        query=documents.EventQuery,
        answer_examples=documents.EVENT_EXAMPLES,
    ),
    Route(
        "GET",
        "/v1/webhooks/endpoints",
        Access.OPERATOR,
        endpoints.list_of_app,
        {200: documents.EndpointList},
        answer_examples=documents.ENDPOINTS_EXAMPLES,
    ),
    Route(
        "POST",
        "/v1/webhooks/endpoints/{endpoint}/replay",
        Access.ADMINISTRATOR,
        endpoints.replay,
        {200: documents.EndpointReplayed},
        body=documents.EndpointReplay,
        examples=documents.REPLAY_EXAMPLES,
        order=Order("none", {}),
    ),
    Route(
        "POST",
        "/v1/webhooks/endpoints/{endpoint}/test",
        Access.ADMINISTRATOR,
        endpoints.test,
        {200: documents.EndpointTested},
        body=documents.EndpointTest,
        examples=documents.TEST_EXAMPLES,
        answer_examples=documents.TESTED_EXAMPLES,
        order=Order("none", {}),
    ),
    Route(
        "POST",
        "/v1/webhooks/endpoints/{endpoint}/enable",
        Access.ADMINISTRATOR,
        endpoints.enable,
        {200: documents.Endpoint},
        body=documents.EndpointEnabling,
        examples=documents.ENABLING_EXAMPLES,
        order=Order("none", {}),
    ),
    Route(
        "POST",
        "/v1/webhooks/endpoints/{endpoint}/disable",
        Access.ADMINISTRATOR,
        endpoints.disable,
        {200: documents.Endpoint},
        body=documents.EndpointDisabling,
        examples=documents.DISABLING_EXAMPLES,
        order=Order("none", {}),
    ),
    Route(
        "GET",
        "/v1/webhooks/deliveries",
        Access.OPERATOR,
        deliveries.list_of_app,
        {200: documents.WebhookDeliveryPage},
        query=documents.WebhookDeliveriesQuery,
        answer_examples=documents.DELIVERIES_EXAMPLES,
    ),
    Route(
        "GET",
        "/v1/webhooks/deliveries/{event}",
        Access.OPERATOR,
        deliveries.show,
        {200: documents.WebhookRecord},
        answer_examples=documents.RECORD_EXAMPLES,
    ),
    Route(
        "POST",
        "/v1/webhooks/deliveries/{event}/resend",
        Access.ADMINISTRATOR,
        deliveries.resend,
        {200: documents.WebhookResent},
        body=documents.WebhookResending,
        examples=documents.RESENDING_EXAMPLES,
        order=Order("none", {}),
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
    return _PART.sub(r"<\1>", path.replace("{user}", "<user:user>"))


def _guarded(route: Route, services: Services) -> Callable[..., Response]:
    if route.access is Access.STORE:
        return _for_a_store(route, services)
    if not route.access.needs_credential:
        return lambda **parts: route.view(services, **parts)

    def view(**parts: Any) -> Response:
        caller = _authenticated(services)
        services.limits.admit(caller, costly=route.costly)
        admit(caller, route.access)
        return route.view(services, caller, **_key_of(route), **parts)

    return view


def _for_a_store(route: Route, services: Services) -> Callable[..., Response]:
    """The view for whoever signs what they send: what was signed is taken in, whatever else came from there."""

    def view(**parts: Any) -> Response:
        try:
            return route.view(services, **parts)
        except _UNPROVEN:
            services.limits.count_failure()
            raise

    return view


def _authenticated(services: Services) -> Caller:
    """Raises CredentialRejected, KeysUnavailable, and Problem: 429 for an address to which too much was refused.

    What is good is let in all the same: telephones share their carrier's address with thousands, and all the world a
    proxy's that was forgotten.
    """
    try:
        return services.credentials.authenticate(request.headers.get("Authorization"))
    except CredentialRejected:
        services.limits.count_failure()
        raise


def _key_of(route: Route) -> dict[str, str | None]:
    """The caller's key, by its name, if the call takes one. Raises Problem: 400."""
    if route.order is None or route.order.key == "none":
        return {}
    key = read_idempotency_key()
    if key is None and route.order.key == "required":
        raise malformed(f"{IDEMPOTENCY_KEY_HEADER}: this call takes one, so that it can be repeated without harm")
    return {"key": key}
