"""Lives of subscriptions that Hypothesis draws, move by move."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from hypothesis import strategies as st

from tests.support.subscriber_life import BORN, Life, Paid

SHARES = st.sampled_from((100_000, 100_000, 33_333, 50_000))
PARTS = st.floats(0, 1)
WEIGHTS: Final = {"what is due happens": 6, "the card fails": 3}
"""What is more likely than other moves: so lives come to their ends."""


class Draw(Protocol):
    """Of each strategy one value, as Hypothesis' own `draw`."""

    def __call__(self, strategy: st.SearchStrategy[Any], /) -> Any: ...


@st.composite
def lives(draw: st.DrawFn, *, moves: int, original: str = "1000", born: datetime = BORN, years: int = 1000) -> Life:
    """A life of up to so many moves; about so many years long at most."""
    grace = timedelta(days=draw(st.sampled_from((0, 6, 16))))
    life = Life(family=draw(st.booleans()), grace=grace, original=original, now=born)
    life.begins(trial=draw(st.booleans()))
    for _ in range(draw(st.integers(0, moves))):
        if life.now - born < timedelta(days=(years - 1) * 365):
            makes_move(life, draw)
    return life


def makes_move(life: Life, draw: Draw) -> str:
    """Something happens to it; what it was."""
    possible: dict[str, Callable[[], None]] = {**life.moves(), "time passes": lambda: life.waits(draw(PARTS))}
    if refundable := life.refundable():
        possible["is refunded"] = lambda: _refunds(life, draw(st.sampled_from(refundable)), draw)
    if reversible := life.reversible():
        possible["has its refund reversed"] = lambda: life.reverses(draw(st.sampled_from(reversible)))
    name: str = draw(st.sampled_from([name for name in sorted(possible) for _ in range(WEIGHTS.get(name, 1))]))
    possible[name]()
    return name


def _refunds(life: Life, period: Paid, draw: Draw) -> None:
    """Each further refund is told as the whole that is refunded by then."""
    life.takes_back(period, milli=max(draw(SHARES), min(period.refunded_milli + 1, 100_000)))
