"""What the demo chooses to play with."""

from __future__ import annotations

import pytest

from deploy.demo import demo_app, demo_product, local_endpoint
from deploy.errors import StackInvalid
from deploy.settings import PROJECT
from shared.apps import load_apps, parse_apps
from shared.catalog import load_catalog, parse_catalog

APPS = load_apps(PROJECT / "deploy/examples/apps.toml")
CATALOG = load_catalog(PROJECT / "deploy/examples/catalog.toml")
RS256 = """
[[apps]]
id = "other"
name = "Other"
[apps.client_tokens]
algorithm = "RS256"
jwks_url = "https://login.example.com/jwks"
[apps.apple]
bundle_id = "com.example.other"
[[apps.webhooks]]
id = "backend"
url = "https://backend.example.com/hooks"
secret = "whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh"
"""
SUBSCRIPTION_ONLY = """
[[products]]
id = "com.example.game.vip"
app = "game"
type = "auto_renewable"
group = "vip"
name = "VIP"
"""


def test_the_example_files_play_100_gems_and_a_webhook_on_this_machine() -> None:
    app = demo_app(list(APPS))
    assert demo_product(CATALOG, app).id == "com.example.game.gems100"
    endpoint = local_endpoint(app)
    assert endpoint is not None
    assert endpoint.url == "http://127.0.0.1:8091/hooks"


def test_an_app_whose_tokens_cannot_be_minted_here_is_no_demo() -> None:
    with pytest.raises(StackInvalid, match="--no-demo"):
        demo_app(list(parse_apps(RS256)))


def test_a_catalogue_without_a_consumable_is_no_demo() -> None:
    with pytest.raises(StackInvalid, match="PURSER_CATALOG_FILE"):
        demo_product(parse_catalog(SUBSCRIPTION_ONLY), demo_app(list(APPS)))


def test_a_webhook_elsewhere_is_not_listened_for() -> None:
    (app,) = parse_apps(RS256)
    assert local_endpoint(app) is None
