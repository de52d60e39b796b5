"""The control of subscriptions over HTTP: what befalls one, the clock that they live by, and the store's own truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final, Literal

from flask import Flask, Response
from pydantic import Field

from shared.events import Environment
from shared.http import answer, read_query
from shared.ids import TransactionId
from simulator import choices, lives
from simulator.agenda import Agenda
from simulator.api_bodies import Body, NotifyBody, OfferBody, ProductId, StrictBody, UuidText, offer_of, optional_body
from simulator.api_views import command_view, setting_view, truth_view
from simulator.choices import Effect
from simulator.domain import DiscountType, Listing, OfferType
from simulator.lengths import MONTH_S_MAX, MONTH_S_MIN
from simulator.lives import EXTENSION_DAYS_MAX
from simulator.records import caller_of
from simulator.shelf import Shelf
from simulator.subscribers import Live, Subscribers
from simulator.subscriptions import Ending, Moment, Status, Steps, Subscription
from simulator.telling import Statement

PAGE_MAX = 1_000

Act = Callable[[Subscribers, TransactionId, Any], Statement]
"""Does something with a subscription, as the body says (which is of the command's own type)."""

Days = Annotated[int, Field(ge=1, le=EXTENSION_DAYS_MAX)]


class ExpireBody(NotifyBody):
    """`reason` is the one that fits if not given."""

    reason: Ending | None = None


class FailBillingBody(NotifyBody):
    """`now` false: when the renewal is due. If not given, it is now unless subscriptions live by themselves."""

    grace: bool = False
    now: bool | None = None


class EnterGraceBody(FailBillingBody):
    """The same, with a grace period."""

    grace: Literal[True] = True


class ProductBody(NotifyBody):
    """Another subscription of the group."""

    product_id: ProductId


class PriceIncreaseBody(NotifyBody):
    """Whether the customer has agreed, or need not."""

    accepted: bool = False


class ExtendBody(NotifyBody):
    days: Days


class RedeemBody(OfferBody, NotifyBody):
    """An offer of the product that it is, or of another of the group, and then whether that is better or less."""

    type: OfferType = "offer_code"
    product_id: ProductId | None = None
    effect: Effect | None = None


class ResubscribeBody(NotifyBody):
    """The same product if none is given, and the same account token."""

    product_id: ProductId | None = None
    app_account_token: UuidText | None = None
    offer: OfferBody | DiscountType | None = None


class ExtensionBody(Body):
    """All subscriptions to a product of an app (the first of the apps file if not given)."""

    product_id: ProductId
    days: Days
    app: str | None = Field(default=None, max_length=255)
    environment: Environment = "production"


class ClockBody(StrictBody):
    """What is not given stays as it is; `month_s` null is the calendar's."""

    month_s: Annotated[float, Field(ge=MONTH_S_MIN, le=MONTH_S_MAX)] | None = None
    running: bool = False


class TruthQuery(Body):
    """Which subscriptions: `status` is Apple's number, `after` the `next` of another page."""

    customer: str | None = Field(default=None, max_length=128)
    status: Status | None = None
    limit: int = Field(default=PAGE_MAX, ge=1, le=PAGE_MAX)
    after: TransactionId | None = None


def add_subscription_routes(app: Flask, *, subscribers: Subscribers, shelf: Shelf, agenda: Agenda) -> None:
    """Adds the calls to the simulator's HTTP."""
    _add_commands(app, subscribers)
    _add_truth(app, subscribers)
    _add_clock(app, agenda)

    @app.post("/_sim/extensions")
    def extend_all() -> Response:
        body = optional_body(ExtensionBody)
        where = caller_of(shelf.app(body.app), body.environment)
        done = subscribers.extend_all(where, product_id=body.product_id, days=body.days)
        return answer({"request_id": done.request_id, "succeeded": done.succeeded, "failed": done.failed})


def _add_commands(app: Flask, subscribers: Subscribers) -> None:
    def add(action: str, model: type[NotifyBody], act: Act) -> None:
        def view(subscription_id: str) -> Response:
            return answer(command_view(act(subscribers, TransactionId(subscription_id), optional_body(model))))

        rule = f"/_sim/subscriptions/<subscription_id>/{action}"
        app.add_url_rule(rule, f"subscription {action}", view, methods=["POST"])

    for action, (model, act) in COMMANDS.items():
        add(action, model, act)


def _plain(live: Live) -> tuple[type[NotifyBody], Act]:
    return NotifyBody, lambda subscribers, of, body: subscribers.befall(of, live, notify=body.notify)


def _expire(subscribers: Subscribers, of: TransactionId, body: ExpireBody) -> Statement:
    return subscribers.befall(of, partial(lives.expire, reason=body.reason), notify=body.notify)


def _fail_billing(subscribers: Subscribers, of: TransactionId, body: FailBillingBody) -> Statement:
    return subscribers.fail_billing(of, grace=body.grace, now=body.now, notify=body.notify)


def _upgrade(subscribers: Subscribers, of: TransactionId, body: ProductBody) -> Statement:
    return subscribers.befall_with_product(of, choices.upgrade, product_id=body.product_id, notify=body.notify)


def _downgrade(subscribers: Subscribers, of: TransactionId, body: ProductBody) -> Statement:
    return subscribers.befall_with_product(of, choices.downgrade, product_id=body.product_id, notify=body.notify)


def _revert_downgrade(subscribers: Subscribers, of: TransactionId, body: NotifyBody) -> Statement:
    return subscribers.befall_with_product(of, choices.revert_downgrade, notify=body.notify)


def _increase_price(subscribers: Subscribers, of: TransactionId, body: PriceIncreaseBody) -> Statement:
    return subscribers.befall(of, partial(lives.increase_price, accepted=body.accepted), notify=body.notify)


def _extend(subscribers: Subscribers, of: TransactionId, body: ExtendBody) -> Statement:
    return subscribers.befall(of, partial(lives.extend, days=body.days), notify=body.notify)


def _redeem_offer(subscribers: Subscribers, of: TransactionId, body: RedeemBody) -> Statement:
    def live(subscription: Subscription, moment: Moment, *, to: Listing) -> Steps:
        return choices.redeem_offer(subscription, moment, offer=body.offer(to.product_id), to=to, effect=body.effect)

    return subscribers.befall_with_product(of, live, product_id=body.product_id, notify=body.notify)


def _resubscribe(subscribers: Subscribers, of: TransactionId, body: ResubscribeBody) -> Statement:
    token = str(body.app_account_token) if body.app_account_token else None

    def live(subscription: Subscription, moment: Moment, *, to: Listing) -> Steps:
        offer = offer_of(body.offer, to.product_id)
        return choices.resubscribe(subscription, moment, to=to, app_account_token=token, offer=offer)

    return subscribers.befall_with_product(of, live, product_id=body.product_id, notify=body.notify)


COMMANDS: Final[Mapping[str, tuple[type[NotifyBody], Act]]] = {
    "renew": _plain(lives.renew),
    "expire": (ExpireBody, _expire),
    "fail-billing": (FailBillingBody, _fail_billing),
    "enter-grace": (EnterGraceBody, _fail_billing),
    "end-grace": _plain(lives.end_grace),
    "recover": _plain(lives.recover),
    "cancel": _plain(choices.cancel),
    "resume": _plain(choices.resume),
    "upgrade": (ProductBody, _upgrade),
    "downgrade": (ProductBody, _downgrade),
    "revert-downgrade": (NotifyBody, _revert_downgrade),
    "price-increase": (PriceIncreaseBody, _increase_price),
    "extend": (ExtendBody, _extend),
    "redeem-offer": (RedeemBody, _redeem_offer),
    "resubscribe": (ResubscribeBody, _resubscribe),
}
"""What can be done with a subscription: what the call takes, and what it does."""


def _add_truth(app: Flask, subscribers: Subscribers) -> None:
    @app.get("/_sim/subscriptions")
    def truths() -> Response:
        query = read_query(TruthQuery)
        found = subscribers.truths(limit=query.limit, after=query.after, customer=query.customer, status=query.status)
        more = found[-1].subscription.id if len(found) == query.limit else None
        return answer({"subscriptions": [truth_view(each) for each in found], "next": more})

    @app.get("/_sim/subscriptions/<subscription_id>")
    def truth(subscription_id: str) -> Response:
        return answer(truth_view(subscribers.truth(TransactionId(subscription_id))))


def _add_clock(app: Flask, agenda: Agenda) -> None:
    @app.get("/_sim/clock")
    def setting() -> Response:
        return answer(setting_view(agenda.setting))

    @app.put("/_sim/clock")
    def put_setting() -> Response:
        agenda.put(replace(agenda.setting, **optional_body(ClockBody).model_dump(exclude_unset=True)))
        return setting()
