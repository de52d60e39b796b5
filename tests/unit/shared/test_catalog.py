"""The catalogue: read whole, and refused with a sentence that names what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.catalog import QUANTITY_MAX, CatalogInvalid, load_catalog, parse_catalog
from shared.ids import AppId
from shared.money import AMOUNT_MAX, Amount, CurrencyId

EXAMPLE = Path("deploy/examples/catalog.toml")
GAME = AppId("game")


def catalogue(product: str, *, id: str = "gems", type: str = "consumable") -> str:
    return f"""
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
            "monthly",
            "yearly",
        ]
        assert load_catalog(EXAMPLE).of_app(AppId("other")) == []

    def test_currencies_and_entitlements_have_names(self) -> None:
        catalog = load_catalog(EXAMPLE)
        assert catalog.currencies == {"gems": "Gems", "coins": "Coins"}
        assert catalog.entitlements == {"adfree": "No ads", "vip": "VIP"}


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
