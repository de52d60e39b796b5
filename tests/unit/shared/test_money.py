"""Amounts are whole numbers within what JSON carries exactly, and nothing else."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from decimal import Decimal
from typing import Any

import pytest

from shared.money import AMOUNT_MAX, Amount, AmountInvalid, CurrencyId

GEMS = CurrencyId("gems")


@pytest.mark.parametrize("amount", [0, 1, -1, AMOUNT_MAX, -AMOUNT_MAX])
def test_a_whole_number_within_bounds_is_an_amount(amount: int) -> None:
    assert Amount(GEMS, amount).amount == amount


@pytest.mark.parametrize("amount", [1.0, 0.1, True, "1", None, Decimal(1), AMOUNT_MAX + 1, -AMOUNT_MAX - 1])
def test_anything_else_is_not(amount: Any) -> None:
    with pytest.raises(AmountInvalid, match="gems"):
        Amount(GEMS, amount)


def test_so_many_times_an_amount_is_an_amount_of_the_same_currency() -> None:
    assert Amount(GEMS, 100).times(3) == Amount(GEMS, 300)


def test_so_many_times_an_amount_that_leaves_the_bounds_is_refused() -> None:
    with pytest.raises(AmountInvalid):
        Amount(GEMS, AMOUNT_MAX).times(2)


def test_an_amount_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Amount(GEMS, 1).amount = 2  # type: ignore[misc]
