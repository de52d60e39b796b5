"""The bodies and queries that the simulator's HTTP calls take: what may be in them, and how much of it."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar
from uuid import UUID

from flask import request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.events import Environment, ProductType
from shared.http import read_body
from shared.ids import TransactionId
from simulator.domain import DiscountType, Offer, OfferType
from simulator.faults import (
    API_ERROR_CODE_MIN,
    CALL_FAULT_PATTERN,
    HANG_MS,
    ApiFaults,
    Faults,
    NotificationFaults,
    OcspFaults,
    VerifyReceiptFaults,
)
from simulator.lengths import LENGTH_PATTERN, WEEK, length_of, parse_length
from simulator.payloads import ConsumptionRequestReason

PAGE_MAX = 200
DELAY_MS_MAX = 120_000
CALLS_MAX = 10_000
"""For how many single calls faults may be asked at once."""


def _to_uuid(given: object) -> UUID:
    if not isinstance(given, str):
        raise ValueError("a UUID is written as a string")
    return UUID(given)


UuidText = Annotated[UUID, BeforeValidator(_to_uuid)]


class Body(BaseModel):
    """A JSON object of a request; what nobody knows in it is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


M = TypeVar("M", bound=Body)


def optional_body(model: type[M]) -> M:
    """The request's body; none at all is an empty object. Raises Problem (shared.http) when it cannot be used."""
    return read_body(model) if request.get_data() else model()


ProductId = Annotated[str, Field(min_length=1, max_length=255)]


class OfferBody(Body):
    """What a period of a subscription is sold under. `period`, an ISO 8601 duration, is how long it lasts: a week
    for a free trial, else as long as any of the product's, if it is not given."""

    type: OfferType = "introductory"
    discount: DiscountType = "free_trial"
    identifier: str | None = Field(default=None, min_length=1, max_length=64)
    period: str | None = Field(default=None, pattern=LENGTH_PATTERN)

    def offer(self, product_id: str) -> Offer:
        usual = WEEK if self.discount == "free_trial" else length_of(product_id)
        return Offer(
            type=self.type,
            discount=self.discount,
            length=parse_length(self.period) if self.period else usual,
            identifier=None if self.type == "introductory" else self.identifier or f"{self.type}.{self.discount}",
        )


class PurchaseBody(Body):
    """A customer buys. `type` and `bundle_id` sell what the catalogue and the apps file do not have. An `offer` in one
    word is an introductory one."""

    product_id: ProductId
    app: str | None = Field(default=None, max_length=255)
    quantity: int = 1
    environment: Environment = "production"
    app_account_token: UuidText | None = None
    family_shared: bool = False
    offer: DiscountType | OfferBody | None = None
    customer: str | None = Field(default=None, min_length=1, max_length=128)
    type: ProductType | None = None
    bundle_id: str | None = Field(default=None, min_length=1, max_length=255)
    notify: bool = True

    def its_offer(self) -> Offer | None:
        return offer_of(self.offer, self.product_id)


def offer_of(body: DiscountType | OfferBody | None, product_id: str) -> Offer | None:
    """The offer that is meant, for a product."""
    if isinstance(body, str):
        body = OfferBody(discount=body)
    return body.offer(product_id) if body else None


class RefundBody(Body):
    """`percent` is all that is refunded by then; `reason`: 1 an issue with the app, 0 another (revocationReason)."""

    percent: float = 100
    reason: Literal[0, 1] = 0
    notify: bool = True


class RefundRequestBody(Body):
    """`reason` is Apple's consumptionRequestReason."""

    reason: ConsumptionRequestReason = "UNINTENDED_PURCHASE"
    notify: bool = True


class NotifyBody(Body):
    """For what needs nothing but to be told, or not."""

    notify: bool = True


Probability = Annotated[float, Field(ge=0, le=1)]
DelayMs = Annotated[int, Field(ge=0, le=DELAY_MS_MAX)]
HttpError = Annotated[int, Field(ge=400, le=599)]
ErrorCode = Annotated[int, Field(ge=API_ERROR_CODE_MIN, le=5_999_999)]
CallWord = Annotated[str, Field(pattern=CALL_FAULT_PATTERN)]
ReceiptCall = Annotated[int, Field(ge=0, le=99_999)] | CallWord
ApiCall = Literal[0] | HttpError | ErrorCode | CallWord


class StrictBody(Body):
    """A fault that is misspelt would do nothing, and the test that wants it could not fail."""

    model_config = ConfigDict(extra="forbid")


class _CallFaultsBody(StrictBody):
    """See CallFaults."""

    delay_ms: DelayMs = 0
    hang_ms: DelayMs = HANG_MS
    not_json: bool = False
    cut: bool = False
    huge: bool = False


class VerifyReceiptFaultsBody(_CallFaultsBody):
    """See VerifyReceiptFaults."""

    statuses: list[ReceiptCall] = Field(default=[], max_length=CALLS_MAX)
    retryable: bool = True
    http_status: HttpError | None = None


class ApiFaultsBody(_CallFaultsBody):
    """See ApiFaults."""

    statuses: list[ApiCall] = Field(default=[], max_length=CALLS_MAX)
    status: HttpError | None = None
    error_code: ErrorCode | None = None
    retry_after_ms: DelayMs | None = None
    limit_rates: bool = False
    rate_per_s: float | None = Field(default=None, gt=0, le=10_000)


class OcspFaultsBody(StrictBody):
    """See OcspFaults."""

    status: Literal["good", "revoked", "unknown"] = "good"
    stale: bool = False
    http_status: HttpError | None = None
    delay_ms: DelayMs = 0


class NotificationFaultsBody(StrictBody):
    """See NotificationFaults; true is 1, false is 0."""

    duplicate: Probability | bool = 0.0
    shuffle: Probability | bool = 0.0
    drop: Probability | bool = 0.0
    delay_ms: DelayMs = 0


class FaultsBody(StrictBody):
    """What is not given works."""

    verify_receipt: VerifyReceiptFaultsBody = VerifyReceiptFaultsBody()
    api: ApiFaultsBody = ApiFaultsBody()
    ocsp: OcspFaultsBody = OcspFaultsBody()
    notifications: NotificationFaultsBody = NotificationFaultsBody()

    def faults(self) -> Faults:
        verify, api, notify = self.verify_receipt, self.api, self.notifications
        return Faults(
            verify_receipt=VerifyReceiptFaults(**(verify.model_dump() | {"statuses": tuple(verify.statuses)})),
            api=ApiFaults(**(api.model_dump() | {"statuses": tuple(api.statuses)})),
            ocsp=OcspFaults(**self.ocsp.model_dump()),
            notifications=NotificationFaults(
                duplicate=float(notify.duplicate),
                shuffle=float(notify.shuffle),
                drop=float(notify.drop),
                delay_ms=notify.delay_ms,
            ),
        )


class PageQuery(Body):
    """Which notifications: `after` is the `next` of another page."""

    limit: int = Field(default=50, ge=1, le=PAGE_MAX)
    after: UUID | None = None
    transaction_id: TransactionId | None = None


class VerifyReceiptBody(Body):
    """Apple's requestBody."""

    model_config = ConfigDict(strict=True, extra="ignore")

    receipt_data: str | None = Field(default=None, alias="receipt-data")
    password: str | None = None
    exclude_old: bool = Field(default=False, alias="exclude-old-transactions")


class TestNotificationBody(Body):
    """Apple's server tests the app's: `app` is an id of the apps file (the first one there if not given)."""

    app: str | None = Field(default=None, max_length=255)
    environment: Environment = "production"
