"""What happens in one run, whatever the system does about it: all is drawn from the seed beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from random import Random  # noqa: TID251 - a run's own, from its seed
from typing import Any, Final, Literal
from uuid import UUID

from shared.events import Environment
from shared.ids import TransactionId, UserId
from tests.simulation.database import START
from tests.support.subscriber_life import A_MOMENT, Life, Paid

GEMS_100, GEMS_550 = "com.example.game.gems100", "com.example.game.gems550"
AD_FREE, SEASON = "com.example.game.adfree", "com.example.game.season"
PRODUCTS: Final = (GEMS_100, GEMS_100, GEMS_550, GEMS_550, AD_FREE, SEASON)
IN_PARTS: Final = (GEMS_100, GEMS_550)
USERS: Final = tuple(UserId(name) for name in ("alice", "bob", "carol", "dave"))
SHARES_MILLI: Final = (100_000, 100_000, 100_000, 50_000, 33_333, 12_345)
WHOLE_MILLI: Final = 100_000
LIFE_DAYS: Final = 100

Proof = Literal["signed", "receipt", "named", "vouched"]
"""`signed`: a StoreKit 2 transaction; `named`: its id and no more; `vouched`: the same by the app's own backend."""
Asked = Literal["spend", "hold", "capture", "release", "reverse", "grant"]
Debt = Literal["negative", "floor"]


# ---- what the App Store sells ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """So much of a sale is refunded from then on (0: a refund was reversed). Seconds after START."""

    at_s: float
    milli: int


@dataclass(frozen=True, slots=True)
class Sale:
    """Something that is bought once. `with_token`: with its buyer's account token."""

    number: int
    buyer: UserId
    product: str
    quantity: int
    environment: Environment
    with_token: bool
    sold_s: float
    changes: tuple[Change, ...]

    @property
    def transaction_id(self) -> TransactionId:
        return TransactionId(str(2_000_000_000_000_000 + self.number))

    @property
    def refunded_milli(self) -> int:
        """In the end."""
        return self.changes[-1].milli if self.changes else 0

    def refunded_at(self, at_s: float) -> int:
        """So much by then."""
        return next((change.milli for change in reversed(self.changes) if change.at_s <= at_s), 0)

    def __str__(self) -> str:
        what = self.product.rpartition(".")[2] + (f" ×{self.quantity}" if self.quantity > 1 else "")
        where = "" if self.environment == "production" else ", sandbox"
        return f"sale {self.number} ({what}, {self.buyer}'s{', with token' if self.with_token else ''}{where})"


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription, whose life up to START follows from its seed; so many `events` are in it beside renewals."""

    number: int
    seed: str
    events: int
    buyer: UserId
    with_token: bool

    def life(self) -> Life:
        """Anew each time: it goes on in the run."""
        return _lived(Random(self.seed), events=self.events, original=f"{self.number}000000")

    def __str__(self) -> str:
        return f"subscription {self.number} ({self.buyer}'s{', with token' if self.with_token else ''})"


# ---- what arrives ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Input:
    """Something that somebody sends, `at_s` seconds after START or later, and sends again until it is answered."""

    at_s: float


@dataclass(frozen=True, slots=True)
class TokenAsked(Input):
    """A user's app asks for the account token."""

    user: UserId


@dataclass(frozen=True, slots=True)
class Posted(Input):
    """A user's app posts a purchase; what it has of the App Store was signed after the first `knows` changes."""

    user: UserId
    sale: int
    proof: Proof
    knows: int = 0


@dataclass(frozen=True, slots=True)
class Notified(Input):
    """The App Store tells of a change of a sale (0: that it was sold). `again`: once more, signed anew."""

    sale: int
    change: int
    again: int = 0


@dataclass(frozen=True, slots=True)
class Declined(Input):
    """The App Store tells that somebody was denied a refund."""

    sale: int


@dataclass(frozen=True, slots=True)
class PeriodTold(Input):
    """The App Store tells what was said of a subscription, by its place in what was."""

    subscription: int
    said: int
    again: int = 0


@dataclass(frozen=True, slots=True)
class PeriodPosted(Input):
    """A user's app posts a period of a subscription."""

    user: UserId
    subscription: int
    said: int


@dataclass(frozen=True, slots=True)
class ReceiptPosted(Input):
    """A user's app posts its receipt for the newest period of a subscription."""

    user: UserId
    subscription: int


@dataclass(frozen=True, slots=True)
class Commanded(Input):
    """The app's backend asks the ledger for something, under a key of its own. `of`: the command that it goes on
    from; `lasts_s`: of a hold."""

    key: int
    user: UserId
    asked: Asked
    amount: int
    of: int = 0
    lasts_s: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it. `debt`: what the app does about a refund that its user cannot give back."""

    users: tuple[UserId, ...]
    debt: Debt
    sales: tuple[Sale, ...]
    subscriptions: tuple[Subscription, ...]
    inputs: tuple[Input, ...]

    def simpler(self) -> Iterator[Plan]:
        """Plans with one thing less. Of what the App Store tells, only repeats and all of a sale can be left out."""
        for sale in self.sales:
            about = [each for each in self.inputs if getattr(each, "sale", None) == sale.number]
            yield self._without(about, sales=tuple(each for each in self.sales if each is not sale))
        for one in self.subscriptions:
            about = [each for each in self.inputs if getattr(each, "subscription", None) == one.number]
            yield self._without(about, subscriptions=tuple(each for each in self.subscriptions if each is not one))
        for each in self.inputs:
            if getattr(each, "again", 1):
                yield self._without([each])

    def _without(self, gone: list[Input], **changes: Any) -> Plan:
        return replace(self, inputs=tuple(each for each in self.inputs if each not in gone), **changes)


def token_of(user: UserId) -> UUID:
    """The account token that the user's app will be given."""
    return UUID(int=0x4A00_0000_0000_4000_8000_0000_0000_0000 + USERS.index(user) + 1)


def planned(seed: str) -> Plan:
    """The plan of a seed."""
    return _Planning(Random(f"{seed}/plan")).plan()


class _Planning:
    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._is_large = rng.random() < 0.03
        self._users = USERS[: rng.choice((1, 1, 1, 2, 2, 3, 4))]

    def plan(self) -> Plan:
        rng = self._rng
        sales = tuple(
            self._sale(number) for number in self._numbers((3, 4, 6) if self._is_large else (1, 1, 1, 1, 1, 1, 2, 3))
        )
        subscriptions = tuple(
            self._subscription(number) for number in self._numbers((0, 1, 2) if self._is_large else (0,) * 11 + (1,))
        )
        inputs = [each for sale in sales for each in self._about_sale(sale)]
        inputs += [each for one in subscriptions for each in self._about_subscription(one)]
        inputs += self._commands(rng.choice((4, 7) if self._is_large else (0, 0, 0, 0, 1, 2, 3)))
        bought_with = {sale.buyer for sale in sales if sale.with_token}
        bought_with |= {one.buyer for one in subscriptions if one.with_token}
        inputs += [TokenAsked(self._soon(0), user) for user in sorted(bought_with)]
        return Plan(
            users=self._users,
            debt=rng.choice(("negative", "negative", "floor")),
            sales=sales,
            subscriptions=subscriptions,
            inputs=tuple(sorted(inputs, key=lambda each: each.at_s)),
        )

    def _numbers(self, counts: Sequence[int]) -> range:
        return range(1, self._rng.choice(counts) + 1)

    def _sale(self, number: int) -> Sale:
        rng = self._rng
        product = rng.choice(PRODUCTS)
        sold_s = round(rng.choice((rng.uniform(0, 1), rng.uniform(0, 10))), 3)
        return Sale(
            number=number,
            buyer=rng.choice(self._users),
            product=product,
            quantity=rng.choice((1, 1, 1, 3)) if product in IN_PARTS else 1,
            environment=rng.choice(("production",) * 7 + ("sandbox",)),
            with_token=rng.random() < 0.4,
            sold_s=sold_s,
            changes=tuple(self._changes(product, sold_s)),
        )

    def _changes(self, product: str, sold_s: float) -> Iterator[Change]:
        """Refunds, each for more than the one before, and reversals of all that was refunded."""
        rng, at_s, milli = self._rng, sold_s, 0
        for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2, 3))):
            at_s = round(at_s + rng.choice((0.001, rng.uniform(0.01, 1), rng.uniform(1, 3), rng.uniform(3, 60))), 3)
            more = [share for share in SHARES_MILLI if share > milli] if product in IN_PARTS else [WHOLE_MILLI]
            milli = 0 if milli and (milli == WHOLE_MILLI or rng.random() < 0.4) else rng.choice(more)
            yield Change(at_s, milli)

    def _about_sale(self, sale: Sale) -> Iterator[Input]:
        """The App Store tells every change; some claim it: its buyer mostly, and now and then somebody else too."""
        rng = self._rng
        yield from self._told(sale)
        claimants = [sale.buyer] * rng.choice((0, 1, 1, 1, 1, 2))
        claimants += [rng.choice(self._users)] * (rng.random() < 0.2)
        for user in claimants:
            at_s = self._soon(sale.sold_s)
            known = sum(change.at_s <= at_s for change in sale.changes)
            yield Posted(at_s, user, sale.number, self._proof(sale), knows=rng.randint(0, known))

    def _told(self, sale: Sale) -> Iterator[Input]:
        rng = self._rng
        moments = [sale.sold_s, *(change.at_s for change in sale.changes)]
        for number, moment in enumerate(moments):
            if number or rng.random() < 0.6:
                for again in range(rng.choice((1, 1, 1, 1, 2))):
                    yield Notified(self._soon(moment), sale.number, number, again)
        if rng.random() < 0.1:
            yield Declined(self._soon(moments[-1]), sale.number)

    def _proof(self, sale: Sale) -> Proof:
        if sale.environment == "sandbox":  # a receipt is of one environment, and here of production
            return self._rng.choice(("signed", "signed", "named"))
        return self._rng.choice(("signed", "signed", "signed", "receipt", "named", "vouched"))

    def _subscription(self, number: int) -> Subscription:
        rng = self._rng
        events = rng.randint(0, 6 if self._is_large else 2)
        return Subscription(number, str(rng.getrandbits(64)), events, rng.choice(self._users), rng.random() < 0.5)

    def _about_subscription(self, one: Subscription) -> Iterator[Input]:
        rng = self._rng
        said = one.life().said
        for number in range(len(said)):
            for again in range(rng.choice((1, 1, 1, 1, 2))):
                yield PeriodTold(self._soon(0), one.number, number, again)
        if one.with_token and rng.random() < 0.5:
            return
        if rng.random() < 0.5:
            yield PeriodPosted(self._soon(0), one.buyer, one.number, rng.randrange(len(said)))
        else:
            yield ReceiptPosted(self._soon(0), one.buyer, one.number)

    def _commands(self, count: int) -> Iterator[Input]:
        rng = self._rng
        before: dict[Asked, list[tuple[int, UserId]]] = {"spend": [], "hold": []}
        for key in range(1, count + 1):
            kinds: list[Asked] = ["spend", "spend", "grant", "hold"]
            if before["spend"]:
                kinds += ["reverse", "reverse"]
            if before["hold"]:
                kinds += ["capture", "release"]
            asked, user, of = rng.choice(kinds), rng.choice(self._users), 0
            if asked in ("reverse", "capture", "release"):
                of, user = rng.choice(before["spend" if asked == "reverse" else "hold"])
            elif asked in before:
                before[asked].append((key, user))
            amount = rng.choice((1, 7, 40, 100, 300))
            yield Commanded(
                self._soon(rng.uniform(0, 20)), key, user, asked, amount, of=of, lasts_s=rng.choice((30, 120))
            )

    def _soon(self, at_s: float) -> float:
        """After that moment: at once mostly, or so late that much has happened meanwhile."""
        rng = self._rng
        return at_s + rng.choice(
            (rng.uniform(0, 0.5), rng.uniform(0, 0.5), rng.uniform(0, 3), rng.uniform(0, 3), rng.uniform(0, 90))
        )


# ---- the lives of subscriptions ----------------------------------------------------------------------------------


def _lived(rng: Random, *, events: int, original: str) -> Life:
    """A life up to START."""
    days = rng.choice((1, 20, 35, LIFE_DAYS) if events > 2 else (1, 20, 35))
    life = Life(grace=timedelta(days=rng.choice((0, 6))), original=original, now=START - timedelta(days=days))
    life.begins(trial=rng.random() < 0.3)
    for _ in range(events):
        _until(life, life.now + A_MOMENT * int((START - life.now) / A_MOMENT * rng.uniform(0, 0.6)))
        moves = _moves(life, rng)
        moves[rng.choice([name for name in sorted(moves) for _ in range(3 if name == "is cancelled" else 1)])]()
    _until(life, START)
    return life


def _until(life: Life, moment: datetime) -> None:
    """Time passes, and what is due by then happens."""
    while life.due is not None and life.due <= moment:
        life.lets_due_happen()
    life.now = max(life.now, moment)


_NOT_YET: Final = frozenset({"what is due happens", "is renewed ahead", "is stated in a receipt", "is shared no more"})
"""These come in their own time, or are told in another way."""


def _moves(life: Life, rng: Random) -> dict[str, Callable[[], None]]:
    moves = {name: move for name, move in life.moves().items() if name not in _NOT_YET}
    if refundable := life.refundable():
        moves["is refunded"] = lambda: _refund(life, rng.choice(refundable), rng)
    if reversible := life.reversible():
        moves["has its refund reversed"] = lambda: life.reverses(rng.choice(reversible))
    return moves or {"waits": lambda: None}


def _refund(life: Life, period: Paid, rng: Random) -> None:
    life.takes_back(period, milli=max(rng.choice(SHARES_MILLI), min(period.refunded_milli + 1, WHOLE_MILLI)))


# ---- what goes wrong ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Weather:
    """How likely each trouble is, each time that it might come. `troubles`: after so many there are no more, so that
    every run comes to rest."""

    cut: float = 0.0  # of a transaction: see database.Cut
    lost: float = 0.0  # of a message
    twice: float = 0.0  # of a message
    late: float = 0.0  # of a message
    unacknowledged: float = 0.0  # a message is handled, and comes again
    broker_away: float = 0.0
    broker_wiped: float = 0.0  # at any moment
    killed: float = 0.0  # at any moment, a process that does nothing just then
    repeated: float = 0.0  # at any moment, somebody sends again what was answered
    unanswered: float = 0.0  # an answer does not arrive, so it is sent again
    store_busy: float = 0.0
    webhook_refused: float = 0.0
    webhook_unheard: float = 0.0  # it arrived, and its sender dies before it knows
    stalls: float = 0.0  # at any moment, all stands still, for longer than leases last
    troubles: int = 25

    def simpler(self) -> Iterator[Weather]:
        """Weathers with one trouble less."""
        for name in self.rates():
            without: dict[str, Any] = {name: 0.0}
            yield replace(self, **without)

    def __str__(self) -> str:
        return ", ".join(f"{name} {rate:.0%}" for name, rate in self.rates().items()) or "fair"

    def rates(self) -> dict[str, float]:
        """Of the troubles that may come, by name."""
        rates = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "troubles"}
        return {name: rate for name, rate in rates.items() if rate}


_RATES: Final = Weather(
    cut=0.1,
    lost=0.1,
    twice=0.15,
    late=0.2,
    unacknowledged=0.15,
    broker_away=0.1,
    broker_wiped=0.02,
    killed=0.03,
    repeated=0.03,
    unanswered=0.1,
    store_busy=0.2,
    webhook_refused=0.2,
    webhook_unheard=0.1,
    stalls=0.01,
)


def weather(seed: str) -> Weather:
    """The weather of a seed: some of the troubles, each as bad as it gets or less. With all of them in every run, one
    would hide what another does."""
    rng = Random(f"{seed}/weather")
    rates: dict[str, Any] = {
        name: rate * rng.choice((0.5, 1, 1)) for name, rate in _RATES.rates().items() if rng.random() < 0.4
    }
    return Weather(**rates)
