"""What an endpoint is told, and what its answer means: the message of each event, the schedule, the verdict."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal, NewType
from urllib.parse import urlsplit

import msgspec

from shared.apps import Apps, EndpointId, WebhookEndpoint
from shared.clock import rfc3339
from shared.events import (
    EntitlementChanged,
    Event,
    Payload,
    PurchaseCompleted,
    PurchaseRefunded,
    PurchaseRefundReversed,
    PurchaseRejected,
    RefundRequestUpdated,
    StoreTransaction,
    SubscriptionUpdated,
    WalletChange,
    WalletCredited,
    WalletDebited,
    WebhookQueued,
    subscription_document,
)
from shared.ids import AppId, EventId, PurchaseId
from shared.money import Amount

AttemptNumber = NewType("AttemptNumber", int)
DeliveryState = Literal["waiting", "delivered", "exhausted", "parked"]

RETRY_DELAYS_S: Final = (5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)))
"""From one failed attempt to the next. Ten attempts in a little over three days, jitter left out."""
RETRY_AFTER_S_MAX: Final = 24 * 3600.0
"""An endpoint that asks for more is tried after a day all the same."""
BODY_BYTES_MAX: Final = 64 * 1024
"""Standard Webhooks wants small messages (20 kB); more than this is refused by many a receiver's default."""
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
"""Standard Webhooks, "Symmetric signing secrets"."""

ALL_MILLI: Final = 100_000
GONE: Final = 410


class OutwardEventUnknown(LookupError):
    """An event of this type is told to nobody outside: it is missing in `outward_data`."""


# ---- the message ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted. Every attempt carries the same id and the same bytes."""

    id: str
    body: bytes


def message_of(event: Event[Payload]) -> Message:
    """The event as Standard Webhooks wants it: `{"type", "timestamp", "data"}`; the time is the event's own.

    Raises OutwardEventUnknown.
    """
    body = {"type": event.type, "timestamp": rfc3339(event.occurred_at), "data": outward_data(event)}
    return Message(id=str(event.id), body=msgspec.json.encode(body))


def outward_data(event: Event[Payload]) -> dict[str, Any]:
    """`data` of an outward event: a purchase as in `GET /v1/purchases/{id}`, an entry of a wallet, a refund request, a
    subscription as in `GET /v1/users/{u}/subscriptions`, or an entitlement.

    What the event does not say of a purchase is null. Raises OutwardEventUnknown.
    """
    payload = event.payload
    match payload:
        case PurchaseCompleted():
            thing = _purchase(payload.purchase_id, "completed", payload.transaction, granted=payload.granted)
        case PurchaseRefunded() | PurchaseRefundReversed():
            thing = _refunded(payload)
        case PurchaseRejected():
            thing = _rejected(payload)
        case WalletCredited() | WalletDebited():
            thing = _wallet_entry(payload.change)
        case RefundRequestUpdated():
            thing = _refund_request(payload)
        case SubscriptionUpdated():
            thing = subscription_document(payload.subscription)
        case EntitlementChanged():
            thing = _entitlement(payload)
        case _:
            raise OutwardEventUnknown(f"{event.type} is not told to anybody outside")
    return {"user_id": event.user_id, **thing}


def _purchase(
    purchase_id: PurchaseId,
    status: str,
    transaction: StoreTransaction,
    *,
    granted: Sequence[Amount],
    refunded: Sequence[Amount] = (),
) -> dict[str, Any]:
    return {
        "environment": transaction.environment,
        "id": purchase_id,
        "store": transaction.store,
        "status": status,
        "transaction_id": transaction.transaction_id,
        "original_transaction_id": transaction.original_transaction_id,
        "product_id": transaction.product_id,
        "quantity": transaction.quantity,
        "granted": granted,
        "refunded": refunded,
        "rejection": None,
    }


def _refunded(payload: PurchaseRefunded | PurchaseRefundReversed) -> dict[str, Any]:
    return _purchase(
        payload.purchase_id,
        _refund_status(payload),
        payload.transaction,
        granted=payload.granted,
        refunded=payload.refunded,
    )


def _refund_status(payload: PurchaseRefunded | PurchaseRefundReversed) -> str:
    """By the store's percentage, as in `GET /v1/purchases/{id}`: amounts are rounded, and may be none at all."""
    if isinstance(payload, PurchaseRefunded) and payload.cause == "family_sharing_ended":
        return "revoked"
    if payload.percentage_milli >= ALL_MILLI:
        return "refunded"
    return "partially_refunded" if payload.percentage_milli > 0 else "completed"


def _rejected(payload: PurchaseRejected) -> dict[str, Any]:
    return {
        "environment": payload.environment,
        "id": payload.purchase_id,
        "store": payload.store,
        "status": "rejected",
        "transaction_id": payload.transaction_id,
        "original_transaction_id": None,
        "product_id": payload.product_id,
        "quantity": None,
        "granted": (),
        "refunded": (),
        "rejection": {"code": payload.code, "detail": payload.detail},
    }


def _wallet_entry(change: WalletChange) -> dict[str, Any]:
    """As in `GET /v1/users/{u}/wallet/entries`: what is not there had no part in it."""
    reasons = {"spend_id": change.spend_id, "grant_id": change.grant_id, "reference": change.reference}
    return {
        "environment": change.environment,
        "entry_id": change.entry_id,
        "kind": change.kind,
        "currency": change.currency,
        "amount": change.amount,
        "balance_after": change.balance_after,
        "version": change.version,
        "purchase_id": change.purchase_id,
        **{name: reason for name, reason in reasons.items() if reason is not None},
    }


def _refund_request(payload: RefundRequestUpdated) -> dict[str, Any]:
    """As in `GET /v1/refund-requests/{id}`, without what only that one knows."""
    return {
        "environment": payload.environment,
        "id": payload.refund_request_id,
        "purchase_id": payload.purchase_id,
        "status": payload.status,
        "reason": payload.reason,
        "spent_percentage_milli": payload.spent_percentage_milli,
        "held": payload.held,
        "expires_at": rfc3339(payload.expires_at),
    }


def _entitlement(payload: EntitlementChanged) -> dict[str, Any]:
    """As in `GET /v1/users/{u}/entitlements`, without its name."""
    return {
        "environment": payload.environment,
        "id": payload.entitlement,
        "active": payload.active,
        "until": None if payload.until is None else rfc3339(payload.until),
        "source": payload.source,
        "version": payload.version,
    }


# ---- deliveries and their attempts ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeliveryKey:
    """One outward event to one endpoint."""

    app: AppId
    endpoint_id: EndpointId
    event_id: EventId

    @classmethod
    def of(cls, queued: Event[WebhookQueued]) -> DeliveryKey:
        return cls(queued.app, EndpointId(queued.payload.endpoint_id), EventId(queued.payload.event_id))


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """An endpoint is told nothing more. It is about the URL that said so: another URL is another chance."""

    url: str
    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is on record of a delivery, with the event that it is about."""

    state: DeliveryState
    event: Event[Payload]
    switched_off: SwitchedOff | None = None

    def switched_off_at(self, url: str) -> SwitchedOff | None:
        """That its endpoint is switched off, if that was said of this URL."""
        return self.switched_off if self.switched_off is not None and self.switched_off.url == url else None

    @property
    def retried_by_operator(self) -> bool:
        """What was parked or exhausted comes back in no other way."""
        return self.state in {"parked", "exhausted"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one post. `status` is None when there was no answer; `trouble` says why there was none.

    `beginning` is how the answer's body begins; `retry_after_s` is what the endpoint asked for, if it did.
    """

    at: datetime
    duration_ms: int
    status: int | None
    beginning: str = ""
    trouble: str | None = None
    retry_after_s: float | None = None

    @property
    def error(self) -> str | None:
        """Why the message was not taken, in a few words; None when it was."""
        if self.status is None:
            return self.trouble or "no answer"
        return None if 200 <= self.status < 300 else f"answered {self.status}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt means for its delivery (waiting: again after `delay_s`) and for its endpoint."""

    state: DeliveryState
    reason: str | None = None
    delay_s: float | None = None
    endpoint: Literal["switch on", "switch off"] | None = None


def judge(answer: Answer, *, number: AttemptNumber, jitter: float, probing: bool) -> Verdict:
    """The verdict on attempt `number` (from 1).

    `jitter` (1 or a little more) stretches the delay, so that a retry comes no sooner than the schedule says or the
    endpoint asks, and many do not come at once. `probing`: the endpoint is switched off, and an operator had this
    delivery tried all the same.
    """
    if answer.error is None:
        return Verdict("delivered", endpoint="switch on" if probing else None)
    if answer.status == GONE:
        return Verdict("parked", "the endpoint is switched off: it answered 410 Gone", endpoint="switch off")
    if probing:
        return Verdict("parked", f"the endpoint stays switched off: {answer.error}")
    if number > len(RETRY_DELAYS_S):
        return Verdict("exhausted", f"not taken in {number} attempts, the last one: {answer.error}")
    delay_s = max(RETRY_DELAYS_S[number - 1], answer.retry_after_s or 0.0)
    return Verdict("waiting", answer.error, delay_s=delay_s * jitter)


def read_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds to wait, from 0 to RETRY_AFTER_S_MAX. None: there is no such header, or it cannot be read.

    RFC 9110, section 10.2.3: a number of seconds, or a date.
    """
    if value is None:
        return None
    try:
        seconds = _seconds(value.strip(), now=now)
    except (ValueError, TypeError, OverflowError):  # whatever the standard library finds wrong with a date
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX)


def _seconds(value: str, *, now: datetime) -> float:
    if value.isascii() and value.isdigit():
        return float(value)
    moment = parsedate_to_datetime(value)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()


# ---- endpoints --------------------------------------------------------------------------------------------------


def endpoints_for(apps: Apps, *, app: AppId, event_type: str) -> list[WebhookEndpoint]:
    """The app's endpoints that want to hear of such events."""
    known = apps.by_id.get(app)
    return [endpoint for endpoint in known.webhooks if endpoint.wants(event_type)] if known else []


def find_endpoint(apps: Apps, *, app: AppId, endpoint_id: EndpointId) -> WebhookEndpoint | None:
    """The endpoint as it is configured now."""
    known = apps.by_id.get(app)
    return next((endpoint for endpoint in known.webhooks if endpoint.id == endpoint_id), None) if known else None


def endpoint_problems(apps: Apps, *, production: bool) -> list[str]:
    """A sentence for each thing that is wrong with the configured endpoints; no secret is quoted.

    In production a target over plain HTTP is wrong too.
    """
    return [
        f"app {app.id!r}: webhook {endpoint.id!r}: {problem}"
        for app in apps
        for endpoint in app.webhooks
        for problem in (_url_problem(endpoint.url, production=production), _secret_problem(endpoint.secret))
        if problem is not None
    ]


def _url_problem(url: str, *, production: bool) -> str | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "url has to be http(s)://host[:port]/path"
    if production and parts.scheme != "https":
        return "url has to be https://… in production"
    return None


def _secret_problem(secret: str) -> str | None:
    prefix, _, encoded = secret.partition("_")
    try:
        size = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if prefix != "whsec" or not SECRET_BYTES_MIN <= size <= SECRET_BYTES_MAX:
        return f"secret has to be whsec_ and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} random bytes in base64"
    return None
