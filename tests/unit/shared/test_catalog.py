"""The catalogue: read whole, and refused with a sentence that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.catalog import QUANTITY_MAX, CatalogInvalid, load_catalog, parse_catalog
from shared.ids import AppId
from shared.money import AMOUNT_MAX, Amount, CurrencyId

EXAMPLE = Path("deploy/examples/catalog.toml")
GAME = AppId("game")


def catalogue(product: str, *, id: str = "gems", type: str = "consumable", policy: str = "") -> str:
    return f"""
{policy}
[currencies.gems]
name = "Gems"
[entitlements.adfree]
name = "No ads"
[[products]]
id = "{id}"
app = "game"
type = "{type}"
name = "A product"
{product}
"""


class TestTheExample:
    def test_its_products_are_found_by_app_and_store_id(self) -> None:
        catalog = load_catalog(EXAMPLE)
        product = catalog.find(app=GAME, product_id="com.example.game.gems100")
        assert product is not None
        assert product.granted(3) == [Amount(CurrencyId("gems"), 300)]
        assert catalog.find(app=AppId("other"), product_id="com.example.game.gems100") is None
        assert catalog.find(app=GAME, product_id="com.example.game.gems1") is None

    def test_what_a_product_gives_is_sorted_by_currency(self) -> None:
        product = load_catalog(EXAMPLE).find(app=GAME, product_id="com.example.game.gems550")
        assert product is not None
        assert product.granted(1) == [Amount(CurrencyId("coins"), 50), Amount(CurrencyId("gems"), 550)]

    def test_an_apps_products_keep_the_files_order(self) -> None:
        products = load_catalog(EXAMPLE).of_app(GAME)
        assert [product.id.rsplit(".", 1)[-1] for product in products] == [
            "gems100",
            "gems550",
            "adfree",
            "season",
            "monthly",
            "yearly",
        ]
        assert load_catalog(EXAMPLE).of_app(AppId("other")) == []

    def test_currencies_and_entitlements_have_names(self) -> None:
        catalog = load_catalog(EXAMPLE)
        assert catalog.currencies == {"gems": "Gems", "coins": "Coins"}
        assert catalog.entitlements == {"adfree": "No ads", "vip": "VIP", "season": "Season pass"}


class TestRequestsForRefunds:
    """Which policy a user's request for a refund is held to."""

    WIDE = "[refund_requests]\nwindow_days = 30\nspent_percent_max = 50"

    @pytest.mark.parametrize(
        ("policy", "own", "expected"),
        [
            ("", "", None),
            (WIDE, "", (30, 50, 14)),
            ("", "refund_requests = { window_days = 7, spent_percent_max = 0, open_days = 3 }", (7, 0, 3)),
            (WIDE, "refund_requests = { window_days = 7, spent_percent_max = 0 }", (7, 0, 14)),
            (WIDE, "refund_requests = false", None),
            ("", "refund_requests = false", None),
        ],
    )
    def test_a_products_own_policy_goes_before_the_catalogues_and_false_is_never(
        self, policy: str, own: str, expected: tuple[int, int, int] | None
    ) -> None:
        catalog = parse_catalog(catalogue(own, policy=policy))
        product = catalog.find(app=GAME, product_id="gems")
        assert product is not None
        found = catalog.refund_policy(product)
        assert (found and (found.window_days, found.spent_percent_max, found.open_days)) == expected

    def test_the_example_has_a_policy_one_product_of_its_own_and_one_never(self) -> None:
        catalog = load_catalog(EXAMPLE)
        windows = {
            product.id.removeprefix("com.example.game."): policy and policy.window_days
            for product in catalog.of_app(GAME)
            for policy in [catalog.refund_policy(product)]
        }
        assert windows == {
            "gems100": 14,
            "gems550": 30,
            "adfree": 14,
            "season": 14,
            "vip.monthly": 14,
            "vip.yearly": None,
        }

    @pytest.mark.parametrize(
        ("own", "field"),
        [
            ("{ window_days = 0, spent_percent_max = 0 }", "window_days"),
            ("{ window_days = 366, spent_percent_max = 0 }", "window_days"),
            ("{ window_days = 1.5, spent_percent_max = 0 }", "window_days"),
            ("{ window_days = 1, spent_percent_max = 101 }", "spent_percent_max"),
            ("{ window_days = 1, spent_percent_max = -1 }", "spent_percent_max"),
            ("{ window_days = 1 }", "spent_percent_max"),
            ("{ window_days = 1, spent_percent_max = 0, open_days = 61 }", "open_days"),
            ("{ window_days = 1, spent_percent_max = 0, days = 1 }", "days"),
            ("true", ""),
        ],
    )
    def test_a_policy_that_cannot_be_meant_is_refused_with_its_field(self, own: str, field: str) -> None:
        with pytest.raises(CatalogInvalid, match=rf"products\.0\.refund_requests.*{field}"):
            parse_catalog(catalogue(f"refund_requests = {own}"))
        if field:
            with pytest.raises(CatalogInvalid, match=rf"refund_requests\.{field}"):
                parse_catalog(f"refund_requests = {own}\n{catalogue('')}")


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("", "products: Field required"),
            ("products", "after a key"),
            (catalogue("grants = { gold = 1 }"), "product 'gems' grants 'gold', which is no currency"),
            (catalogue('entitlements = ["vip"]'), "product 'gems' gives 'vip', which is no entitlement"),
            (catalogue("grants = { gems = 0 }"), "products.0.grants.gems"),
            (catalogue("grants = { gems = -1 }"), "products.0.grants.gems"),
            (catalogue("grants = { gems = 1.5 }"), "products.0.grants.gems"),
            (catalogue(f"grants = {{ gems = {AMOUNT_MAX // QUANTITY_MAX + 1} }}"), "products.0.grants.gems"),
            (catalogue("", type="gift"), "products.0.type"),
            (catalogue("price = 1"), "products.0.price: Extra inputs are not permitted"),
            (catalogue("", type="auto_renewable"), "product 'gems' renews, so it needs its subscription `group`"),
            (
                catalogue('[[products]]\nid = "gems"\napp = "game"\ntype = "consumable"\nname = "Again"'),
                "product 'gems' of app 'game' stands twice",
            ),
        ],
    )
    def test_it_is_named(self, text: str, sentence: str) -> None:
        with pytest.raises(CatalogInvalid) as refused:
            parse_catalog(text)
        assert sentence in str(refused.value)

    def test_currency_for_what_is_bought_once_is_refused_because_a_restore_would_be_paid_again(self) -> None:
        with pytest.raises(CatalogInvalid, match="restored"):
            parse_catalog(catalogue("grants = { gems = 100 }", type="non_consumable"))

    def test_the_largest_grant_times_the_largest_quantity_is_still_an_amount(self) -> None:
        largest = AMOUNT_MAX // QUANTITY_MAX
        product = parse_catalog(catalogue(f"grants = {{ gems = {largest} }}")).find(app=GAME, product_id="gems")
        assert product is not None
        assert product.granted(QUANTITY_MAX)[0].amount <= AMOUNT_MAX

    def test_the_same_product_id_may_belong_to_two_apps(self) -> None:
        text = catalogue('[[products]]\nid = "gems"\napp = "other"\ntype = "consumable"\nname = "Its own"')
        assert len(parse_catalog(text).products) == 2

    def test_a_file_that_is_missing_or_wrong_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CatalogInvalid, match=r"nowhere\.toml: No such file"):
            load_catalog(tmp_path / "nowhere.toml")
        (tmp_path / "catalog.toml").write_text("products = 1")
        with pytest.raises(CatalogInvalid, match=r"catalog\.toml: products"):
            load_catalog(tmp_path / "catalog.toml")
