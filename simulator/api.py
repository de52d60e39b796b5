"""HTTP in and out: verifyReceipt and OCSP as Apple has them, and the control calls under `/_sim`. It only translates.

What the calls take is in `api_bodies`; the App Store Server API and the control of subscriptions are in files of their
own, `server_api` and `api_subscriptions`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from flask import Flask, Response, request
from pydantic import ValidationError

from shared.events import Environment
from shared.http import Problem, answer, install_conventions, malformed, not_found, read_query, unavailable
from shared.ids import IdSource, TransactionId
from simulator.api_bodies import (
    FaultsBody,
    NotifyBody,
    PageQuery,
    PurchaseBody,
    RefundBody,
    RefundRequestBody,
    TestNotificationBody,
    VerifyReceiptBody,
    optional_body,
)
from simulator.api_views import Json, notification_view, statement_view
from simulator.domain import (
    FieldInvalid,
    NotificationUnknown,
    SimulatorError,
    StateConflict,
    TransactionUnknown,
)
from simulator.faults import FaultBoard
from simulator.notifications import NotificationSender, SenderUnavailable
from simulator.ocsp import OcspResponder
from simulator.receipts import Status, refusal
from simulator.records import Records, caller_of
from simulator.shelf import Shelf
from simulator.storefront import AppStore
from simulator.telling import Statement
from simulator.transport import hold_back, json_answer

CONTROL_BODY_BYTES_MAX = 64 * 1024
RECEIPT_BODY_BYTES_MAX = 4 * 1024 * 1024

_ANY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_api(
    *,
    shelf: Shelf,
    store: AppStore,
    records: Records,
    sender: NotificationSender,
    responder: OcspResponder,
    faults: FaultBoard,
    root_pem: bytes,
    ids: IdSource,
) -> Flask:
    """The WSGI application over a store, without the App Store Server API."""
    app = Flask("simulator", static_folder=None)
    install_conventions(app, ids=ids, body_bytes_max=CONTROL_BODY_BYTES_MAX)
    _add_errors(app)
    _add_receipt_routes(app, store, faults)
    _add_ocsp_routes(app, responder, faults)
    _add_purchase_routes(app, store)
    _add_notification_routes(app, shelf, records, sender)
    _add_fault_routes(app, faults)
    app.add_url_rule("/healthz", "healthz", lambda: answer({"status": "ok"}))
    app.add_url_rule("/_sim/root.pem", "root", lambda: Response(root_pem, mimetype="application/x-pem-file"))
    return app


# ---- Apple's own ------------------------------------------------------------------------------------------------


def _add_receipt_routes(app: Flask, store: AppStore, faults: FaultBoard) -> None:
    def verify_receipt(asked: Environment) -> Response:
        request.max_content_length = RECEIPT_BODY_BYTES_MAX
        wrong = faults.strike_verify_receipt()
        hold_back(wrong.hold_s)
        if wrong.http_status is not None:
            return Response(status=wrong.http_status)
        answered = _verify(store, asked) if wrong.code is None else _refused(wrong.code, asked, faults)
        return json_answer(msgspec.json.encode(answered), wrong.spoiling)

    for path, asked in (("/verifyReceipt", "production"), ("/sandbox/verifyReceipt", "sandbox")):
        app.add_url_rule(path, path, verify_receipt, methods=_ANY_METHOD, defaults={"asked": asked})


def _refused(status: int, asked: Environment, faults: FaultBoard) -> Json:
    return refusal(status, environment=asked, retryable=faults.in_force.verify_receipt.retryable)


def _verify(store: AppStore, asked: Environment) -> Json:
    if request.method != "POST":
        return refusal(Status.NOT_A_POST, environment=asked)
    try:
        body = VerifyReceiptBody.model_validate_json(request.get_data())
    except ValidationError:
        body = VerifyReceiptBody()  # no receipt in it: the store has a status for that, and it may have another first
    return store.verify_receipt(
        receipt_data=body.receipt_data, password=body.password, exclude_old=body.exclude_old, asked=asked
    )


def _add_ocsp_routes(app: Flask, responder: OcspResponder, faults: FaultBoard) -> None:
    """RFC 6960, appendix A: the question is posted, or stands in the path, in base64."""

    def answer_to(question: bytes) -> Response:
        wrong = faults.in_force.ocsp
        hold_back(wrong.delay_ms / 1000)
        if wrong.http_status is not None:
            return Response(status=wrong.http_status)
        return Response(responder.answer(question), content_type="application/ocsp-response")

    @app.post("/ocsp")
    def posted() -> Response:
        return answer_to(request.get_data())

    @app.get("/ocsp/<path:question>")
    def in_path(question: str) -> Response:
        return answer_to(_from_base64(question))


def _from_base64(text: str) -> bytes:
    """Nothing, which is no question, when it is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


# ---- control ----------------------------------------------------------------------------------------------------


def _add_purchase_routes(app: Flask, store: AppStore) -> None:
    @app.post("/_sim/purchases")
    def buy() -> Response:
        body = optional_body(PurchaseBody)
        wanted = body.model_dump(exclude={"type", "offer"})
        bought = store.buy(product_type=body.type, offer=body.its_offer(), **wanted)
        location = f"/_sim/transactions/{bought.transaction.transaction_id}"
        return answer(statement_view(bought), 201, headers={"Location": location})

    @app.get("/_sim/transactions/<transaction_id>")
    def transaction(transaction_id: str) -> Response:
        return answer(statement_view(store.transaction(TransactionId(transaction_id))))

    def add(action: str, act: Callable[[TransactionId], Statement]) -> None:
        def view(transaction_id: str) -> Response:
            return answer(statement_view(act(TransactionId(transaction_id))))

        app.add_url_rule(f"/_sim/transactions/<transaction_id>/{action}", action, view, methods=["POST"])

    add("refund", lambda of: store.refund(of, **optional_body(RefundBody).model_dump()))
    add("reverse-refund", lambda of: store.reverse_refund(of, **optional_body(NotifyBody).model_dump()))
    add("decline-refund", lambda of: store.decline_refund(of, **optional_body(NotifyBody).model_dump()))
    add("request-refund", lambda of: store.request_refund(of, **optional_body(RefundRequestBody).model_dump()))
    add("revoke", lambda of: store.revoke(of, **optional_body(NotifyBody).model_dump()))
    add("finish", store.finish)


def _add_notification_routes(app: Flask, shelf: Shelf, records: Records, sender: NotificationSender) -> None:
    @app.get("/_sim/notifications")
    def notifications() -> Response:
        page = read_query(PageQuery)
        found = sender.newest(limit=page.limit, after=page.after, transaction_id=page.transaction_id)
        more = found[-1].id if len(found) == page.limit else None
        return answer({"notifications": [notification_view(each) for each in found], "next": more})

    @app.post("/_sim/notifications/<uuid:notification_id>/resend")
    def resend(notification_id: UUID) -> Response:
        return answer(notification_view(sender.resend(notification_id)), 202)

    @app.get("/_sim/notifications/<uuid:notification_id>")
    def notification(notification_id: UUID) -> Response:
        return answer(notification_view(sender.get(notification_id)))

    @app.post("/_sim/test-notifications")
    def send_test() -> Response:
        body = optional_body(TestNotificationBody)
        sent = records.send_test(caller_of(shelf.app(body.app), body.environment))
        location = f"/_sim/notifications/{sent.id}"
        return answer(notification_view(sent), 202, headers={"Location": location})


def _add_fault_routes(app: Flask, faults: FaultBoard) -> None:
    @app.get("/_sim/faults")
    def current() -> Response:
        return answer(msgspec.to_builtins(faults.get()))

    @app.put("/_sim/faults")
    def put() -> Response:
        faults.put(optional_body(FaultsBody).faults())
        return current()


# ---- errors -----------------------------------------------------------------------------------------------------


def _add_errors(app: Flask) -> None:
    """What the store refuses, as problems; everything else is as in every service of ours."""

    def add(error: type[SimulatorError], to_problem: Callable[[Any], Problem]) -> None:
        app.register_error_handler(error, lambda raised: to_problem(raised).response())

    add(FieldInvalid, lambda error: malformed(str(error)))
    add(TransactionUnknown, lambda error: not_found(str(error)))
    add(NotificationUnknown, lambda error: not_found(str(error)))
    add(StateConflict, lambda error: Problem(409, error.code, "Conflict", str(error)))
    add(SenderUnavailable, lambda error: unavailable(str(error)))
