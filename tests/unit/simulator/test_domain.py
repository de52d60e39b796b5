"""The rules of a sale."""

from __future__ import annotations

import pytest

from simulator.domain import FieldInvalid, Listing, check_purchase, invented_price_milli, percentage_milli


def listing(kind: str) -> Listing:
    return Listing("b", 1, "p", kind, "g", 990, "USD")  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "most"), [("consumable", 10), ("non_renewing", 10), ("non_consumable", 1)])
def test_the_quantity_goes_from_one_to_what_storekit_allows(kind: str, most: int) -> None:
    check_purchase(listing(kind), quantity=1, family_shared=False)
    check_purchase(listing(kind), quantity=most, family_shared=False)
    for quantity in (-1, 0, most + 1):
        with pytest.raises(FieldInvalid, match="quantity"):
            check_purchase(listing(kind), quantity=quantity, family_shared=False)


@pytest.mark.parametrize("kind", ["consumable", "non_renewing"])
def test_what_storekit_does_not_share_cannot_be_shared(kind: str) -> None:
    with pytest.raises(FieldInvalid, match="family_shared"):
        check_purchase(listing(kind), quantity=1, family_shared=True)


@pytest.mark.parametrize(("percent", "milli"), [(100, 100_000), (67.932, 67_932), (1.001, 1_001), (0.001, 1)])
def test_percent_becomes_milliunits(percent: float, milli: int) -> None:
    assert percentage_milli(percent) == milli


@pytest.mark.parametrize("percent", [0, -1, 100.001, 0.0001, float("nan"), float("inf")])
def test_percent_outside_of_its_range_is_refused(percent: float) -> None:
    with pytest.raises(FieldInvalid, match="percent"):
        percentage_milli(percent)


def test_a_product_costs_the_same_every_time_and_not_all_cost_the_same() -> None:
    prices = [invented_price_milli(f"p{number}") for number in range(50)]
    assert prices == [invented_price_milli(f"p{number}") for number in range(50)]
    assert len(set(prices)) > 1
