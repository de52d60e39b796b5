"""`purser simulate`: the simulated App Store from the command line."""

from __future__ import annotations

import json
from threading import Event
from typing import Any, get_args

import click

from deploy.simulated import ask, notify_option, post, show
from deploy.simulated_subscriptions import COMMANDS
from shared.clock import SystemClock
from simulator.domain import DiscountType
from simulator.payloads import ConsumptionRequestReason

TRIED_WITHIN_S = 15.0


@click.group()
def command() -> None:
    """What customers and the App Store do, in the simulator of a running `purser up`. Answers are JSON."""


@command.command()
@click.argument("product_id")
@click.option("--quantity", type=click.IntRange(1, 10), default=1)
@click.option("--environment", type=click.Choice(["production", "sandbox"]), default="production")
@click.option("--app", help="An id of the apps file; the first one there if not given.")
@click.option("--app-account-token", help="The UUID that the app gave StoreKit: GET /v1/users/{u}/account-token.")
@click.option("--family-shared", is_flag=True, help="A family member has it from who bought it; it has no price.")
@click.option("--offer", type=click.Choice(get_args(DiscountType)), help="An introductory offer of a subscription.")
@click.option("--customer", help="Who has bought before; a new one if not given.")
@notify_option
def buy(
    product_id: str,
    quantity: int,
    environment: str,
    app: str | None,
    app_account_token: str | None,
    family_shared: bool,
    offer: str | None,
    customer: str | None,
    notify: bool,
) -> None:
    """A customer buys; the answer has the signed transaction and the receipt."""
    body = {
        "product_id": product_id,
        "quantity": quantity,
        "environment": environment,
        "app": app,
        "app_account_token": app_account_token,
        "family_shared": family_shared,
        "offer": offer,
        "customer": customer,
        "notify": notify,
    }
    show(post("/_sim/purchases", body))


@command.command()
@click.argument("transaction_id")
@click.option(
    "--percent",
    type=click.FloatRange(0, 100, min_open=True),
    default=100,
    help="Of the whole quantity, with what was refunded before; all if not given.",
)
@notify_option
def refund(transaction_id: str, percent: float, notify: bool) -> None:
    """The App Store refunds a transaction (REFUND)."""
    show(_befall(transaction_id, "refund", percent=percent, notify=notify))


@command.command("reverse-refund")
@click.argument("transaction_id")
@notify_option
def reverse_refund(transaction_id: str, notify: bool) -> None:
    """The App Store takes its refund back: the purchase stands again (REFUND_REVERSED)."""
    show(_befall(transaction_id, "reverse-refund", notify=notify))


@command.command("request-refund")
@click.argument("transaction_id")
@click.option(
    "--reason", type=click.Choice(get_args(ConsumptionRequestReason)), default="UNINTENDED_PURCHASE", show_default=True
)
@notify_option
def request_refund(transaction_id: str, reason: str, notify: bool) -> None:
    """The customer asks the App Store for a refund, and it asks how much was consumed (CONSUMPTION_REQUEST)."""
    show(_befall(transaction_id, "request-refund", reason=reason, notify=notify))


@command.command("decline-refund")
@click.argument("transaction_id")
@notify_option
def decline_refund(transaction_id: str, notify: bool) -> None:
    """The App Store refuses the refund that the customer asked for (REFUND_DECLINED)."""
    show(_befall(transaction_id, "decline-refund", notify=notify))


@command.command()
@click.argument("transaction_id")
@notify_option
def revoke(transaction_id: str, notify: bool) -> None:
    """A family stops sharing what was bought with --family-shared (REVOKE)."""
    show(_befall(transaction_id, "revoke", notify=notify))


@command.command("test-notification")
@click.option("--environment", type=click.Choice(["production", "sandbox"]), default="production")
@click.option("--app", help="An id of the apps file; the first one there if not given.")
def test_notification(environment: str, app: str | None) -> None:
    """The App Store sends a TEST notification; the answer has what became of it."""
    body = {"environment": environment} | ({"app": app} if app else {})
    sent = post("/_sim/test-notifications", body)
    show(_tried(f"/_sim/notifications/{sent['id']}"))


@command.command()
@click.argument("faults", required=False)
def faults(faults: str | None) -> None:
    """What goes wrong on command: without FAULTS what is in force, else FAULTS (JSON) from now on; {} is nothing.

    \b
    For example: '{"verify_receipt": {"statuses": [21005, "http_503", "cut", 0], "delay_ms": 300}}'
    The members: verify_receipt, api, ocsp, notifications; what each takes stands in simulator/faults.py.
    """
    show(ask("GET", "/_sim/faults") if faults is None else ask("PUT", "/_sim/faults", _parsed(faults)))


def _parsed(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="FAULTS") from error
    if not isinstance(document, dict):
        raise click.BadParameter("not a JSON object", param_hint="FAULTS")
    return document


def _tried(path: str) -> dict[str, Any]:
    """The notification once it was tried, or as it is when that takes too long."""
    clock = SystemClock()
    deadline = clock.monotonic() + TRIED_WITHIN_S
    pause = Event()
    while not (notification := ask("GET", path))["attempts"] and clock.monotonic() < deadline:
        pause.wait(0.1)
    return notification


def _befall(transaction_id: str, action: str, **body: Any) -> dict[str, Any]:
    return post(f"/_sim/transactions/{transaction_id}/{action}", body)


for each in COMMANDS:
    command.add_command(each)
