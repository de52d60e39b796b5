"""Two that know nothing of each other, the simulated App Store and the road of what Apple says, agree on `status`.

What befalls a subscription is the simulator's own; what it signs of it is read as the verifier reads it, and heard as
the ledger hears it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from random import Random  # noqa: TID251 - Hypothesis gives the seeded ones
from typing import Any, Final
from uuid import UUID

from hypothesis import given, note, settings
from hypothesis import strategies as st

from ledger.domain.subscriptions import Statement, Subscription, heard, status_at
from shared.events import SubscriptionStatus
from shared.ids import TransactionId
from simulator import choices, domain, lives, sales
from simulator.domain import Customer, CustomerName, Listing, Offer, StateConflict, Transaction
from simulator.lengths import BY_THE_CALENDAR, MONTH, WEEK, Lengths
from simulator.payloads import notification_payload, renewal_payload, transaction_payload
from simulator.subscriptions import Moment, Step, Steps, restated
from simulator.subscriptions import Subscription as Simulated
from verifier.domain import (
    Act,
    AppleNotification,
    AppleRenewalInfo,
    AppleTransaction,
    as_notified,
    intent_of,
    read_notification,
    read_renewal_info,
    read_transaction,
)

BORN: Final = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
A_MOMENT: Final = timedelta(milliseconds=1)
BUYER: Final = Customer("com.example.game", 1234567890, "production", CustomerName("somebody"))
MONTHLY, YEARLY = (
    Listing(BUYER.bundle_id, BUYER.app_apple_id, product_id, "auto_renewable", "vip", price_milli, "USD")
    for product_id, price_milli in (("vip.monthly", 4_990), ("vip.yearly", 49_990))
)
TRIAL: Final = Offer("introductory", "free_trial", WEEK)
WIN_BACK: Final = Offer("win_back", "pay_as_you_go", MONTH, "back")
APPLE: Final[dict[SubscriptionStatus, int]] = {
    "active": 1,
    "expired": 2,
    "in_billing_retry": 3,
    "in_grace_period": 4,
    "revoked": 5,
    "refunded": 5,
}
RANDOM = st.randoms(use_true_random=False)
Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass
class Simulation:
    """One subscription of the simulator's, and what was told of it."""

    lengths: Lengths
    now: datetime = BORN
    told: list[tuple[Statement, int]] = field(default_factory=list)
    periods: dict[TransactionId, Transaction] = field(default_factory=dict)
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def is_bought(self, *, family: bool, offer: Offer | None) -> None:
        order = sales.Order(BUYER, MONTHLY, family_shared=family, offer=offer)
        self._happen((sales.sold(order, sales.Holdings((), ()), self._number, self.now, self.lengths),))

    def is_told(self, command: Callable[[Simulated, Moment], Steps]) -> bool:
        """Whether the command made sense."""
        self.now = max(self.now, self.subscription.stated_at) + A_MOMENT
        try:
            self._happen(command(self.subscription, Moment(self.now, self._number, self.lengths)))
        except StateConflict:
            return False
        return True

    def passes(self, part: float) -> None:
        """A part of the time to what is due; or of forty days. At its end, what is due happens."""
        due = self.subscription.due_at() or self.now + timedelta(days=40)
        self.now += timedelta(milliseconds=round(max(timedelta(0), due - self.now) / A_MOMENT * part))
        while (due_at := self.subscription.due_at()) is not None and due_at <= self.now:
            assert self.is_told(lives.due)

    def _happen(self, steps: Steps) -> None:
        for step in steps:
            assert step.subscription is not None
            self.subscription = step.subscription
            self.now = max(self.now, step.stated_at)
            for transaction in (*step.others, step.transaction):
                self.periods[transaction.transaction_id] = transaction
            if step.notice is not None:
                self.told.append((_read(step), int(step.subscription.status(step.stated_at))))

    def _number(self) -> TransactionId:
        return TransactionId(f"{2_000_000_000_000_000 + next(self.numbers)}")


def _read(step: Step) -> Statement:
    """A notification of it, as the verifier reads it; the signatures aside."""
    assert step.subscription is not None
    assert step.notice is not None
    signed_at = step.stated_at
    notification = read_notification(
        notification_payload(
            BUYER,
            notification_id=UUID(int=1),
            notice=step.notice,
            signed_at=signed_at,
            signed_transaction="-",
            subscription=step.subscription,
            signed_renewal="-",
        )
    )
    transaction = read_transaction(transaction_payload(step.transaction, signed_at=signed_at))
    renewal = read_renewal_info(renewal_payload(step.subscription, signed_at=signed_at))
    assert isinstance(notification, AppleNotification)
    assert isinstance(transaction, AppleTransaction)
    assert isinstance(renewal, AppleRenewalInfo)
    intent = intent_of(notification)
    assert isinstance(intent, Act), f"{step.notice} is of no consequence"
    told = as_notified(transaction, action=intent.action, at=signed_at)
    return Statement(told.transaction, told.revoked, renewal.renewal)


@st.composite
def simulations(draw: st.DrawFn) -> Simulation:
    """Some commands and some time, in any order; what makes no sense is refused."""
    month = draw(st.sampled_from((None, timedelta(seconds=5), timedelta(seconds=60))))
    simulation = Simulation(BY_THE_CALENDAR if month is None else Lengths(month))
    family, offer = draw(st.sampled_from(((False, None), (False, TRIAL), (True, None))))
    simulation.is_bought(family=family, offer=offer)
    for _ in range(draw(st.integers(0, 20))):
        _one_more(simulation, draw)
    return simulation


def _one_more(simulation: Simulation, draw: Draw) -> None:
    name = draw(st.sampled_from([*sorted(COMMANDS), "time", "time", "time", "refund", "reversal", "revoke"]))
    if name == "time":
        simulation.passes(draw(st.sampled_from((0.5, 1.0, 1.0))))
    elif name in COMMANDS:
        simulation.is_told(COMMANDS[name])
    else:
        period = simulation.periods[draw(st.sampled_from(sorted(simulation.periods)))]
        milli = draw(st.sampled_from((33_333, 100_000)))
        simulation.is_told(partial(_taken_back, period=period, name=name, milli=milli))


COMMANDS: Final[dict[str, Callable[[Simulated, Moment], Steps]]] = {
    "renew": lives.renew,
    "fail": partial(lives.fail_billing, grace=False, now=False),
    "fail now": partial(lives.fail_billing, grace=False, now=True),
    "fail with grace": partial(lives.fail_billing, grace=True, now=False),
    "fail now with grace": partial(lives.fail_billing, grace=True, now=True),
    "end grace": lives.end_grace,
    "recover": lives.recover,
    "expire": lives.expire,
    "cancel": choices.cancel,
    "resume": choices.resume,
    "upgrade": partial(choices.upgrade, to=YEARLY),
    "downgrade": partial(choices.downgrade, to=MONTHLY),
    "revert": lambda subscription, moment: choices.revert_downgrade(subscription, moment, to=_listing(subscription)),
    "redeem": lambda subscription, moment: choices.redeem_offer(
        subscription, moment, offer=WIN_BACK, to=_listing(subscription), effect=None
    ),
    "resubscribe": partial(choices.resubscribe, to=MONTHLY),
    "ask for more": partial(lives.increase_price, accepted=False),
    "get more": partial(lives.increase_price, accepted=True),
    "extend": partial(lives.extend, days=10),
    "extend if possible": partial(lives.extend_if_possible, days=10),
}


def _listing(subscription: Simulated) -> Listing:
    return YEARLY if subscription.period.product_id == YEARLY.product_id else MONTHLY


def _taken_back(subscription: Simulated, moment: Moment, *, period: Transaction, name: str, milli: int) -> Steps:
    if name == "reversal":
        after = domain.refund_reversed(period, now=moment.at)
        return (restated(subscription, after, domain.Notice("REFUND_REVERSED")),)
    if name == "revoke":
        return (restated(subscription, domain.family_revoked(period, now=moment.at), domain.Notice("REVOKE")),)
    after = domain.refunded(period, percentage_milli=milli, reason=0, now=moment.at)
    return (restated(subscription, after, domain.Notice("REFUND")),)


@settings(deadline=None)
@given(simulation=simulations(), random=RANDOM)
def test_the_status_of_the_simulator_is_that_of_what_it_signs_after_each_notification_in_any_order(
    simulation: Simulation, random: Random
) -> None:
    for end in range(1, len(simulation.told) + 1):
        told = simulation.told[:end]
        statement, status = told[-1]
        note(f"{statement.transaction.signed_at} {status}")
        moment = statement.transaction.signed_at
        in_any_order = _told([each for each, _ in random.sample(told, end)])
        assert APPLE[status_at(in_any_order, moment)] == status
    whole = _told([each for each, _ in simulation.told])
    assert APPLE[status_at(whole, simulation.now)] == simulation.subscription.status(simulation.now)


def _told(statements: list[Statement]) -> Subscription:
    return reduce(heard, statements[1:], heard(None, statements[0]))
