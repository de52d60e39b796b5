"""`purser simulate`: what befalls a subscription, the clock that subscriptions live by, and how they stand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import click

from deploy import desk
from deploy.simulated import ask, notify_option, post, show
from simulator.choices import Effect
from simulator.domain import DiscountType, OfferType
from simulator.lives import EXTENSION_DAYS_MAX
from simulator.subscriptions import Ending, Status

ORIGINAL_ID: Final = "ORIGINAL_TRANSACTION_ID"

_original_id = click.argument("subscription_id", metavar=ORIGINAL_ID)
_product_id = click.argument("product_id")
_discount = click.option(
    "--discount", type=click.Choice(get_args(DiscountType)), default="free_trial", show_default=True
)


def _plain(name: str, sentence: str) -> click.Command:
    """A command that takes nothing but the subscription."""

    def run(subscription_id: str, notify: bool) -> None:
        show(_befall(subscription_id, name, notify=notify))

    return click.command(name, help=sentence)(_original_id(notify_option(run)))


renew = _plain("renew", "The next period begins: now, or when the last one ended if that is past (DID_RENEW).")
end_grace = _plain("end-grace", "The grace period ends; the App Store tries on (GRACE_PERIOD_EXPIRED).")
recover = _plain("recover", "What is unpaid is paid: the next period begins (DID_RENEW, BILLING_RECOVERY).")
cancel = _plain("cancel", "The customer switches renewal off (DID_CHANGE_RENEWAL_STATUS); ends it, if it is unpaid.")
resume = _plain("resume", "The customer switches renewal on again (DID_CHANGE_RENEWAL_STATUS).")
revert_downgrade = _plain("revert-downgrade", "The customer keeps the product (DID_CHANGE_RENEWAL_PREF).")


@click.command()
@_original_id
@click.option(
    "--reason", type=click.Choice([each.replace("_", "-") for each in get_args(Ending)]), help="What fits if not given."
)
@notify_option
def expire(subscription_id: str, reason: str | None, notify: bool) -> None:
    """It is over, now or when its period ended if that is past (EXPIRED)."""
    show(_befall(subscription_id, "expire", reason=reason and reason.replace("-", "_"), notify=notify))


@click.command("fail-billing")
@_original_id
@click.option("--grace", is_flag=True, help="A billing grace period follows.")
@click.option(
    "--now/--at-renewal", default=None, help="Without either: now, unless subscriptions live by the clock (`clock`)."
)
@notify_option
def fail_billing(subscription_id: str, grace: bool, now: bool | None, notify: bool) -> None:
    """The renewal cannot be paid (DID_FAIL_TO_RENEW)."""
    show(_befall(subscription_id, "fail-billing", grace=grace, now=now, notify=notify))


@click.command()
@_original_id
@_product_id
@notify_option
def upgrade(subscription_id: str, product_id: str, notify: bool) -> None:
    """The customer takes a better product of the group, now (DID_CHANGE_RENEWAL_PREF UPGRADE)."""
    show(_befall(subscription_id, "upgrade", product_id=product_id, notify=notify))


@click.command()
@_original_id
@_product_id
@notify_option
def downgrade(subscription_id: str, product_id: str, notify: bool) -> None:
    """The customer takes a lesser product of the group, at the next renewal (DID_CHANGE_RENEWAL_PREF DOWNGRADE)."""
    show(_befall(subscription_id, "downgrade", product_id=product_id, notify=notify))


@click.command("price-increase")
@_original_id
@click.option("--accepted", is_flag=True, help="The customer has agreed, or need not.")
@notify_option
def price_increase(subscription_id: str, accepted: bool, notify: bool) -> None:
    """The next renewal costs a fifth more (PRICE_INCREASE); who has not agreed by then is not renewed."""
    show(_befall(subscription_id, "price-increase", accepted=accepted, notify=notify))


@click.command()
@_original_id
@click.argument("days", type=click.IntRange(1, EXTENSION_DAYS_MAX))
@notify_option
def extend(subscription_id: str, days: int, notify: bool) -> None:
    """The developer gives away so many days (RENEWAL_EXTENDED)."""
    show(_befall(subscription_id, "extend", days=days, notify=notify))


@click.command("extend-all")
@_product_id
@click.argument("days", type=click.IntRange(1, EXTENSION_DAYS_MAX))
@desk.environment_option
@click.option("--app", help="An id of the apps file; the first one there if not given.")
def extend_all(product_id: str, days: int, environment: str, app: str | None) -> None:
    """The developer gives them to all who subscribe to a product (RENEWAL_EXTENSION: FAILURE for some, and SUMMARY)."""
    show(post("/_sim/extensions", {"product_id": product_id, "days": days, "environment": environment, "app": app}))


@click.command("redeem-offer")
@_original_id
@click.option(
    "--type",
    "offer_type",
    type=click.Choice([each for each in get_args(OfferType) if each != "introductory"]),
    default="offer_code",
    show_default=True,
)
@_discount
@click.option("--identifier", help="The offer's name.")
@click.option("--period", help="How long it lasts: P1W, P3M, P1Y.")
@click.option("--product-id", help="Another product of the group.")
@click.option("--effect", type=click.Choice(get_args(Effect)), help="What the other product is to the customer.")
@notify_option
def redeem_offer(subscription_id: str, offer_type: str, **options: Any) -> None:
    """The customer redeems an offer (OFFER_REDEEMED; SUBSCRIBED when nothing is left of the subscription)."""
    show(_befall(subscription_id, "redeem-offer", type=offer_type, **options))


@click.command()
@_original_id
@click.option("--product-id", help="Another product of the group.")
@click.option("--app-account-token", help="Another UUID than before.")
@notify_option
def resubscribe(subscription_id: str, product_id: str | None, app_account_token: str | None, notify: bool) -> None:
    """The customer, whose subscription is over, buys again (SUBSCRIBED, RESUBSCRIBE)."""
    body = {"product_id": product_id, "app_account_token": app_account_token, "notify": notify}
    show(_befall(subscription_id, "resubscribe", **body))


@click.command()
@click.option("--month-s", type=float, help="So many seconds are a month.")
@click.option("--calendar", is_flag=True, help="Months are those of the calendar again.")
@click.option("--run/--pause", default=None, help="Whether subscriptions live by themselves.")
def clock(month_s: float | None, calendar: bool, run: bool | None) -> None:
    """How long a month is, and whether subscriptions live by themselves; without options, as it is.

    \b
    For example: purser simulate clock --month-s 60 --run
    """
    if month_s is not None and calendar:
        raise click.UsageError("--month-s and --calendar exclude each other")
    wanted: dict[str, Any] = {} if run is None else {"running": run}
    if month_s is not None or calendar:
        wanted["month_s"] = month_s
    show(ask("PUT", "/_sim/clock", wanted) if wanted else ask("GET", "/_sim/clock"))


@dataclass(frozen=True, slots=True)
class Line:
    """One subscription on one line."""

    original_transaction_id: str
    customer: str
    environment: str
    product_id: str
    status: str
    renews_as: str
    expires_at: str
    periods: int


@click.command()
@click.option("--customer", help="Of this customer only.")
@click.option("--status", type=click.Choice([each.name.lower() for each in Status]), help="As they stand now.")
@desk.json_option
def subscriptions(customer: str | None, status: str | None, as_json: bool) -> None:
    """How all subscriptions stand, as the App Store has it: the oldest first; as JSON with every period."""
    wanted = {"customer": customer, "status": int(Status[status.upper()]) if status else None}
    found = list(_truths({name: value for name, value in wanted.items() if value is not None}))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    columns = list(Line.__dataclass_fields__)
    desk.show([_line(each) for each in found], columns, as_json=False, empty="there is none")


def _truths(query: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All of them, page by page."""
    after = None
    while True:
        page = ask("GET", "/_sim/subscriptions", query=query | ({"after": after} if after else {}))
        yield from page["subscriptions"]
        after = page["next"]
        if after is None:
            return


def _line(truth: dict[str, Any]) -> Line:
    return Line(
        original_transaction_id=truth["original_transaction_id"],
        customer=truth["customer"],
        environment=truth["environment"],
        product_id=truth["product_id"],
        status=Status(truth["status"]).name.lower(),
        renews_as=truth["auto_renew_product_id"] if truth["auto_renew"] else "-",
        expires_at=truth["expires_at"],
        periods=len(truth["periods"]),
    )


def _befall(subscription_id: str, action: str, **body: Any) -> dict[str, Any]:
    return post(f"/_sim/subscriptions/{subscription_id}/{action}", body)


COMMANDS: Final[Sequence[click.Command]] = (
    renew,
    expire,
    fail_billing,
    end_grace,
    recover,
    cancel,
    resume,
    upgrade,
    downgrade,
    revert_downgrade,
    price_increase,
    extend,
    extend_all,
    redeem_offer,
    resubscribe,
    clock,
    subscriptions,
)
