"""What has to come of a run: said by what the App Store sold and what was answered, knowing nothing of how the services
work. Whatever order things arrived in, it is the same, but for one thing: whose a purchase is that several may claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from typing import Final

import msgspec

from ledger.domain.commands import Answer
from shared.catalog import Catalog
from shared.ids import AppId, UserId
from tests.simulation.apple import SimulatedAppStore, receipt_for
from tests.simulation.plan import (
    AD_FREE,
    IN_PARTS,
    SEASON,
    WHOLE_MILLI,
    Commanded,
    Input,
    Notified,
    PeriodPosted,
    Plan,
    Posted,
    ReceiptPosted,
    Sale,
    Subscription,
    TokenAsked,
)

GAME: Final = AppId("game")
Amounts = Counter[tuple[str, UserId, str]]
"""By environment, user and currency."""
Owners = Mapping[int, UserId]
"""Of sales, by number."""

ENTITLED: Final = {AD_FREE: "adfree", SEASON: "season"}


def may_own(sale: Sale, accepted: Iterable[Input], store: SimulatedAppStore, *, hurried: bool) -> set[UserId]:
    """Who may have it: whoever proved it, or the one whose account token it was bought with. `hurried`: somebody
    claimed it before that token was known to be the buyer's, so he who came first may have it.
    """
    inputs = list(accepted)
    if sale.with_token and TokenAsked in {type(each) for each in inputs if _is_for_token_of(sale, each)}:
        if not hurried:
            return {sale.buyer}
        return {sale.buyer, *_proved(sale, inputs, store)}
    return _proved(sale, inputs, store)


def _is_for_token_of(sale: Sale, given: Input) -> bool:
    return isinstance(given, TokenAsked) and given.user == sale.buyer


def _proved(sale: Sale, inputs: Iterable[Input], store: SimulatedAppStore) -> set[UserId]:
    return {
        each.user
        for each in inputs
        if (isinstance(each, Posted) and each.sale == sale.number and each.proof in ("signed", "vouched"))
        or (isinstance(each, Posted | ReceiptPosted) and _shows(each, sale, store))
    }


def _shows(given: Posted | ReceiptPosted, sale: Sale, store: SimulatedAppStore) -> bool:
    """Whether it comes with a receipt that proves the sale: that is claimed from it, or is a consumable, and unfinished
    ones are claimed with it. The rest of a receipt is only heard."""
    if isinstance(given, ReceiptPosted):
        return sale.product in IN_PARTS and sale.number in store.stated[receipt_for(given)]
    if given.proof != "receipt" or sale.number not in store.stated[receipt_for(given)]:
        return False
    return sale.product in IN_PARTS or given.sale == sale.number


def must_be_owned(sale: Sale, accepted: Iterable[Input], possible: Set[UserId]) -> bool:
    """Whether somebody must have it by now: it stands, and somebody has proved it, or the App Store has told of it and
    of whose token it was bought with."""
    inputs = list(accepted)
    told = any(isinstance(each, Notified) and each.sale == sale.number for each in inputs)
    claimed = any(isinstance(each, Posted) and each.sale == sale.number and each.user in possible for each in inputs)
    return sale.refunded_milli < WHOLE_MILLI and bool(possible) and (claimed or (told and sale.with_token))


def status(sale: Sale, *, owned: bool) -> str:
    """What its claimant is told in the end."""
    if not owned:
        return "rejected"
    return {0: "completed", WHOLE_MILLI: "refunded"}.get(sale.refunded_milli, "partially_refunded")


def is_claimed(one: Subscription, accepted: Iterable[Input]) -> bool:
    """Whether its buyer has claimed it, in whatever way."""
    for each in accepted:
        if isinstance(each, PeriodPosted | ReceiptPosted) and each.subscription == one.number:
            return True
        if isinstance(each, TokenAsked) and one.with_token and each.user == one.buyer:
            return True
    return False


def balances(plan: Plan, owners: Owners, answers: Mapping[int, Answer], catalog: Catalog) -> Amounts:
    """What users have of what they bought once and of what was asked of the ledger; debts are negative."""
    amounts: Amounts = Counter()
    for sale in plan.sales:
        if sale.number in owners:
            for currency, amount in stands(sale, catalog).items():
                amounts[sale.environment, owners[sale.number], currency] += amount
    for each in plan.inputs:
        if isinstance(each, Commanded) and (answer := answers.get(each.key)) is not None and answer.status < 400:
            amounts["production", each.user, "gems"] += _moved(each, answer)
    return amounts


def stands(sale: Sale, catalog: Catalog) -> dict[str, int]:
    """What it gave and no refund took; a part of a unit is its user's."""
    product = catalog.find(app=GAME, product_id=sale.product)
    assert product is not None
    return {
        each.currency: each.amount - each.amount * sale.refunded_milli // WHOLE_MILLI
        for each in product.granted(sale.quantity)
    }


def _moved(given: Commanded, answer: Answer) -> int:
    match given.asked:
        case "spend":
            return -given.amount
        case "grant" | "reverse":
            return given.amount
        case "capture":
            captured: int = msgspec.json.decode(answer.document)["captured"]
            return -captured
        case _:
            return 0
