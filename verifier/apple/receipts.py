"""Asks the App Store about a receipt (verifyReceipt): one question, one answer, no retries; those are the caller's."""

from __future__ import annotations

from typing import Final

import msgspec

from shared.clock import Clock
from shared.events import Environment
from verifier.apple.counting import Api, answered, called
from verifier.apple.retry_after import read_retry_after
from verifier.apple.transport import StoreUnreachable, Transport
from verifier.domain import (
    ProductTypes,
    ReceiptAnswer,
    ReceiptRefused,
    ReceiptValid,
    StoreBusy,
    StoreMisconfigured,
    UseProduction,
    UseSandbox,
    read_receipt_answer,
)

API: Final[Api] = "verify_receipt"

HOPS_MAX = 3
"""Production, sandbox (21007), production again (21008); then the two contradict each other."""

_HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}

VerifiedReceipt = ReceiptValid | ReceiptRefused | StoreBusy | StoreMisconfigured


class VerifyReceiptClient:
    """verifyReceipt over HTTP. Thread-safe."""

    def __init__(self, *, transport: Transport, production_url: str, sandbox_url: str, clock: Clock) -> None:
        self._transport = transport
        self._urls: dict[Environment, str] = {"production": production_url, "sandbox": sandbox_url}
        self._clock = clock

    def verify(self, *, receipt: str, shared_secret: str | None, product_types: ProductTypes) -> VerifiedReceipt:
        """What the store says of a receipt (base64), production asked first, as Apple wants it for App Review's sake.

        Every failure of the network is StoreBusy. Nothing is raised for what the store or the network does.
        """
        question = _question(receipt, shared_secret)
        environment: Environment = "production"
        for _ in range(HOPS_MAX):
            answer = self._ask(environment, question, product_types)
            match answer:
                case UseSandbox():
                    environment = "sandbox"
                case UseProduction():
                    environment = "production"
                case _:
                    return answer
        return StoreBusy("production and sandbox each say that the receipt is of the other")

    def _ask(self, environment: Environment, question: bytes, product_types: ProductTypes) -> ReceiptAnswer:
        try:
            answer = called(
                API,
                lambda: self._transport.exchange("POST", self._urls[environment], headers=_HEADERS, body=question),
            )
        except StoreUnreachable as error:
            return StoreBusy(str(error))
        now = self._clock.now()
        if answer.status != 200:
            answered(API, answer.status)
            retry_after_s = read_retry_after(answer.headers.get("Retry-After"), now=now)
            return StoreBusy(f"the store answered HTTP {answer.status}", retry_after_s=retry_after_s)
        read = read_receipt_answer(answer.body, asked=environment, answered_at=now, product_types=product_types)
        answered(API, _status(read))
        return read


def _status(answer: ReceiptAnswer) -> int | None:
    """The store's own; None: what it answered cannot be read."""
    match answer:
        case ReceiptValid():
            return 0
        case UseSandbox():
            return 21007
        case UseProduction():
            return 21008
    return answer.status


def _question(receipt: str, shared_secret: str | None) -> bytes:
    """`exclude-old-transactions` stays false: the claimed transaction may be an old one."""
    question = {"receipt-data": receipt, "exclude-old-transactions": False}
    if shared_secret is not None:
        question["password"] = shared_secret
    return msgspec.json.encode(question)
