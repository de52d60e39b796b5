"""What customers, their apps, the store and the app's backend are going to do: planned by the seed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded, and the seed is said
from typing import Final, Literal, TypeVar

from shared.events import Environment

T = TypeVar("T")

GEMS_100, GEMS_550, ADFREE, VIP = (
    f"com.example.game.{name}" for name in ("gems100", "gems550", "adfree", "vip.monthly")
)

Kind = Literal["purchase", "subscription", "contested", "refused"]
Proof = Literal["signed", "receipt", "id", "none"]
"""What the app posts. `none`: nothing, only the store tells of it, and the account token says whose it is."""
Refund = Literal["full", "partial", "reversed"]
Repeat = Literal["again", "at once", "with another proof", "told again"]
RefusalCode = Literal["wrong_app", "transaction_not_found"]

KINDS: Final[dict[Kind, int]] = {"purchase": 85, "subscription": 8, "contested": 3, "refused": 4}
PRODUCTS: Final = {GEMS_100: 60, GEMS_550: 32, ADFREE: 8}
PROOFS: Final[dict[Proof, int]] = {"signed": 55, "receipt": 20, "id": 12, "none": 13}
REFUNDS: Final[dict[Refund, int]] = {"full": 9, "partial": 5, "reversed": 4}
"""Of a hundred purchases."""
REPEATS: Final[dict[Repeat, int]] = {"again": 12, "at once": 8, "with another proof": 6, "told again": 8}
"""Of a hundred."""
SPENDS_OF_100: Final = 12
SPEND_AFTER: Final = 60
"""So many stories later the backend spends of what was bought: mostly it is there by then."""
PURCHASES_PER_USER: Final = 5
POPULAR: Final = "user-popular"
"""Has one of POPULAR_OF purchases: a wallet that many want at once."""
POPULAR_OF: Final = 25


@dataclass(frozen=True, slots=True)
class Story:
    """One purchase and what becomes of it. `refunded_first`: before the app posts it. `token`: it was bought with the
    user's account token. `renewals`, `cancels`: of a subscription. `rival`: another user who posts it too."""

    kind: Kind
    number: int
    user: str
    product_id: str = GEMS_100
    quantity: int = 1
    environment: Environment = "production"
    proof: Proof = "signed"
    token: bool = False
    notified: bool = False
    refund: Refund | None = None
    refunded_first: bool = False
    repeat: Repeat | None = None
    renewals: int = 0
    cancels: bool = False
    rival: str = ""
    refusal: RefusalCode | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """The app's backend spends for a user, and asks `repeats` times more with the same key."""

    number: int
    user: str
    amount: int
    repeats: int


def plan(*, seed: int, purchases: int) -> list[Story | Spending]:
    """So many stories, and the spends between them."""
    return list(_planned(Random(f"{seed}/stories"), purchases))


def _planned(random: Random, purchases: int) -> Iterator[Story | Spending]:
    users = max(8, purchases // PURCHASES_PER_USER)
    before: list[str] = []
    for number in range(purchases):
        story = _story(random, number, users)
        before.append(story.user)
        yield story
        if random.random() * 100 < SPENDS_OF_100:
            user = before[max(0, number - SPEND_AFTER)]
            yield Spending(number, user, amount=random.randint(5, 60), repeats=random.randint(0, 2))


def _story(random: Random, number: int, users: int) -> Story:
    user = POPULAR if random.randrange(POPULAR_OF) == 0 else f"user-{random.randrange(users)}"
    match _choice(random, KINDS):
        case "purchase":
            return _purchase(random, number, user)
        case "subscription":
            return _subscription(random, number, user)
        case "contested":
            return Story("contested", number, user, rival=f"rival-{random.randrange(users)}")
        case "refused":
            code: RefusalCode = "wrong_app" if random.random() < 0.5 else "transaction_not_found"
            return Story("refused", number, user, proof="receipt" if code == "wrong_app" else "id", refusal=code)


def _purchase(random: Random, number: int, user: str) -> Story:
    product_id = _choice(random, PRODUCTS)
    proof = _choice(random, PROOFS)
    refund = _perhaps(random, REFUNDS)
    # Only the token says whose a purchase is when its refund came before a receipt: what is refunded is in none any
    # more, and to name an id is no proof.
    needs_token = proof in ("id", "none") or (proof == "receipt" and refund is not None)
    token = needs_token or random.random() < 0.2
    return Story(
        "purchase",
        number,
        user,
        product_id=product_id,
        quantity=random.choice((1, 1, 1, 2, 3)) if product_id != ADFREE else 1,
        environment="sandbox" if random.random() < 0.06 else "production",
        proof=proof,
        token=token,
        notified=proof == "none" or random.random() < 0.5,
        refund=refund,
        refunded_first=refund is not None and random.random() < 0.3,
        repeat=_perhaps(random, REPEATS),
    )


def _subscription(random: Random, number: int, user: str) -> Story:
    token = random.random() < 0.5
    return Story(
        "subscription",
        number,
        user,
        product_id=VIP,
        proof="none" if token and random.random() < 0.5 else "signed",
        token=token,
        notified=True,
        refund="full" if random.random() < 0.2 else None,
        repeat=_perhaps(random, REPEATS),
        renewals=random.randint(1, 3),
        cancels=random.random() < 0.3,
    )


def _choice(random: Random, weights: Mapping[T, int]) -> T:
    return random.choices(list(weights), list(weights.values()))[0]


def _perhaps(random: Random, of_100: Mapping[T, int]) -> T | None:
    return _choice(random, of_100) if random.random() * 100 < sum(of_100.values()) else None
