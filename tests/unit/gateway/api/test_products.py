"""What is for sale, as the catalogue says it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.api.documents import Product
from shared.catalog import parse_catalog
from shared.ids import AppId

PRODUCTS = """
[currencies.gems]
name = "Gems"

[[products]]
id = "plain"
app = "game"
type = "consumable"
name = "Plain"
grants = { gems = 3 }

[[products]]
id = "own"
app = "game"
type = "consumable"
name = "With a policy of its own"
grants = { gems = 3 }
refund_requests = { window_days = 2, spent_percent_max = 0, open_days = 7 }

[[products]]
id = "never"
app = "game"
type = "consumable"
name = "With none"
grants = { gems = 3 }
refund_requests = false
"""
POLICY = """
[refund_requests]
window_days = 30
spent_percent_max = 50
"""
OWN = {"window_days": 2, "spent_percent_max": 0, "open_days": 7}
WHOLE = {"window_days": 30, "spent_percent_max": 50, "open_days": 14}


PASS = """
[entitlements.season]
name = "Season pass"

[[products]]
id = "season"
app = "game"
type = "non_renewing"
name = "A season"
entitlements = ["season"]
days = 90
"""


def test_a_product_says_what_it_entitles_to_and_for_how_long() -> None:
    (product,) = parse_catalog(PASS).of_app(AppId("game"))
    shown = msgspec.to_builtins(Product.of(product, None))
    assert (list(shown["entitlements"]), shown["days"], shown["grants"]) == (["season"], 90, [])


@pytest.mark.parametrize(("text", "plain"), [(PRODUCTS, None), (PRODUCTS + POLICY, WHOLE)])
def test_a_product_says_when_a_refund_can_be_asked_for(text: str, plain: dict[str, Any] | None) -> None:
    catalog = parse_catalog(text)
    shown = [Product.of(product, catalog.refund_policy(product)) for product in catalog.of_app(AppId("game"))]
    assert [msgspec.to_builtins(each)["refund_requests"] for each in shown] == [plain, OWN, None]
