"""Why somebody has, or has not, what a purchase gives: one sentence, for whoever was asked "where are my coins?".

Pure: what is known of a purchase goes in, words come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from gateway.domain.purchases import Delivery, Purchase, Standing, purchase_of
from shared.clock import rfc3339
from shared.events import PurchaseParked
from shared.money import Amount

TAKEN_UP_WITHIN: Final = timedelta(seconds=10)
"""Within so long an event is with its consumer, when all that has to run does."""


def verdict(standing: Standing, *, untold: Sequence[str] = (), now: datetime) -> str:
    """The sentence. `untold`: what webhooks have not taken of it, in words.

    Raises gateway.domain.purchases.PurchaseMalformed.
    """
    purchase = purchase_of(standing)
    said = _verdict(purchase, standing, now=now)
    return f"{said}; not taken yet: {', '.join(untold)}" if untold else said


def _verdict(purchase: Purchase, standing: Standing, *, now: datetime) -> str:
    match purchase.status:
        case "accepted" | "verifying":
            return _under_way(standing, now=now)
        case "parked":
            return _parked(standing)
        case "rejected" if purchase.rejection is not None:
            return f"rejected, {purchase.rejection.code}: {purchase.rejection.detail}"
        case "completed" if not purchase.refunded:
            return f"completed: {_amounts(purchase.granted)} granted"
        case _:
            taken = f"{_amounts(purchase.granted)} granted, {_amounts(purchase.refunded)} taken back"
            return f"{purchase.status.replace('_', ' ')}: {taken}"


def _under_way(standing: Standing, *, now: datetime) -> str:
    """Whoever is to say the next word has it, or is to get it. Without a delivery that word is being written."""
    if not standing.deliveries:
        return f"{standing.word.type} was handled; what follows is being written"
    return "; ".join(_waits(delivery, standing, now=now) for delivery in standing.deliveries)


def _waits(delivery: Delivery, standing: Standing, *, now: datetime) -> str:
    waits = f"{standing.word.type} waits for {delivery.consumer}"
    if delivery.attempts:
        again = "" if delivery.due_at is None else f", the next at {rfc3339(delivery.due_at)}"
        return f"{waits}, which has failed {_times(delivery.attempts)}{again}: {delivery.error}"
    if now - standing.word.recorded_at < TAKEN_UP_WITHIN:
        return waits
    since = f"{waits} since {rfc3339(standing.word.recorded_at)}"
    if delivery.handovers == 0:
        return f"{since} and was handed to nobody: does the courier run, and does the broker answer?"
    return f"{since}, handed over {_times(delivery.handovers)} without an answer: does {delivery.consumer} run?"


def _parked(standing: Standing) -> str:
    word = standing.word.payload
    for delivery in standing.deliveries:
        if delivery.is_stuck:
            mend = f"mend that, then `purser parked retry {delivery.event_id}`"
            return f"{delivery.state}, {delivery.consumer} says: {delivery.error}: {mend}"
    reason = word.reason if isinstance(word, PurchaseParked) else "an operator has to look"
    return f"parked: {reason}: mend that, then `purser parked retry` what `purser parked list` names"


def _amounts(amounts: Sequence[Amount]) -> str:
    return ", ".join(f"{each.amount} {each.currency}" for each in amounts) or "no currency"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
