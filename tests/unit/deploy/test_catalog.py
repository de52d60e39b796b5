"""`purser catalog check`: what the catalogue gives, in a table and for programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy import cli

PRODUCTS = """
[currencies.gems]
name = "Gems"
[entitlements.vip]
name = "VIP"

[[products]]
id = "gems"
app = "game"
type = "consumable"
name = "Gems"
grants = { gems = 100 }
[[products]]
id = "monthly"
app = "game"
type = "auto_renewable"
group = "vip"
name = "VIP"
entitlements = ["vip"]
grants = { gems = 300 }
grants_from = 2026-11-01T00:00:00Z
[[products]]
id = "season"
app = "game"
type = "non_renewing"
name = "VIP for a season"
entitlements = ["vip"]
days = 90
[[products]]
id = "life"
app = "game"
type = "non_consumable"
name = "VIP for ever"
entitlements = ["vip"]
"""


@pytest.fixture(autouse=True)
def _catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "catalog.toml").write_text(PRODUCTS, encoding="utf-8")
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(tmp_path / "catalog.toml"))
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path / "data"))


def test_each_product_is_shown_with_what_it_gives_and_for_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["catalog", "check"]) == 0
    count, _header, *rows = capsys.readouterr().out.splitlines()
    assert count == "game: 4 products; currencies: gems"
    assert [" ".join(row.split()) for row in rows] == [
        "game gems consumable 100 gems",
        "game monthly auto_renewable 300 gems 2026-11-01T00:00:00.000Z vip each period",
        "game season non_renewing vip 90 days",
        "game life non_consumable vip for ever",
    ]


def test_programs_are_told_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["catalog", "check", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["products"], document["currencies"]) == ({"game": 4}, ["gems"])
    assert {line["product"]: line["how_long"] for line in document["gives"]} == {
        "gems": "",
        "monthly": "each period",
        "season": "90 days",
        "life": "for ever",
    }


def test_a_webhook_that_no_process_would_start_with_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "apps.toml"
    file.write_text(
        '[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "com.example.game"\n'
        '[[apps.webhooks]]\nid = "backend"\nurl = "https://api.example.com/hooks"\nsecret = "whsec_short"\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("PURSER_APPS_FILE", str(file))
    with pytest.raises(SystemExit, match="2"):
        cli.run(["catalog", "check"])
    assert f"{file}: app 'game': webhook 'backend': secret has to be" in capsys.readouterr().err
