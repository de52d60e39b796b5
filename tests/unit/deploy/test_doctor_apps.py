"""What the doctor says of each app: what it has, what it lacks, and where that is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.doctor.apps import check_apps
from deploy.doctor.findings import Finding
from deploy.settings import PROJECT
from shared.apps import parse_apps
from shared.catalog import Catalog, load_catalog, parse_catalog
from shared.clock import SystemClock

APPLE = """
[apps.apple]
bundle_id = "com.example.game"
app_apple_id = 1234567890
shared_secret = "a-shared-secret"
"""
KEY = 'issuer_id = "issuer"\nkey_id = "KEY1"\nprivate_key_file = "AuthKey.p8"\n'
CATALOG = load_catalog(PROJECT / "deploy/examples/catalog.toml")


def findings(
    directory: Path, apple: str = APPLE, *, rest: str = "", catalog: Catalog | None = CATALOG, production: bool = False
) -> dict[str, Finding]:
    """The last finding of each check, for one app with this `[apps.apple]`."""
    apps = parse_apps(f'[[apps]]\nid = "game"\nname = "Game"\n{apple}{rest}', directory=directory)
    found = check_apps(apps, catalog=catalog, production=production, clock=SystemClock())
    return {finding.check: finding for finding in found}


def write_key(directory: Path, curve: ec.EllipticCurve) -> None:
    (directory / "AuthKey.p8").write_bytes(
        ec.generate_private_key(curve).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def test_an_app_with_everything_is_well(tmp_path: Path) -> None:
    write_key(tmp_path, ec.SECP256R1())
    assert {finding.outcome for finding in findings(tmp_path, APPLE + KEY).values()} == {"ok"}


@pytest.mark.parametrize(
    ("without", "check"), [("app_apple_id", "app game"), ("shared_secret", "shared secret game"), ("", "API key game")]
)
def test_what_is_missing_warns_and_says_where_it_is_found(without: str, check: str, tmp_path: Path) -> None:
    apple = "\n".join(line for line in APPLE.splitlines() if not (without and line.startswith(without)))
    missing = findings(tmp_path, apple + "\n")[check]
    assert missing.outcome == "warning"
    assert "App Store Connect" in (missing.remedy or "")


def test_an_app_that_refuses_the_sandbox_is_warned_of_app_review(tmp_path: Path) -> None:
    refusing = findings(tmp_path, APPLE + 'sandbox = "refuse"\n')["app game"]
    assert refusing.outcome == "warning"
    assert "App Review" in refusing.found


def test_a_key_file_that_is_not_there_fails(tmp_path: Path) -> None:
    missing = findings(tmp_path, APPLE + KEY)["API key game"]
    assert missing.outcome == "failed"
    assert "AuthKey.p8" in missing.found


def test_a_key_on_another_curve_fails(tmp_path: Path) -> None:
    write_key(tmp_path, ec.SECP384R1())
    assert findings(tmp_path, APPLE + KEY)["API key game"].outcome == "failed"


def test_a_key_file_that_is_no_key_fails_and_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "AuthKey.p8").write_text(
        "-----BEGIN PRIVATE KEY-----\nsecret-looking-text\n-----END PRIVATE KEY-----\n"
    )
    broken = findings(tmp_path, APPLE + KEY)["API key game"]
    assert broken.outcome == "failed"
    assert "secret-looking-text" not in str(broken)


def test_the_examples_secrets_fail_in_production_and_nowhere_else(tmp_path: Path) -> None:
    apple = APPLE.replace("a-shared-secret", "example-shared-secret")
    assert "secrets" not in findings(tmp_path, apple)
    assert findings(tmp_path, apple, production=True)["secrets"].outcome == "failed"


def test_a_webhook_over_plain_http_fails_in_production(tmp_path: Path) -> None:
    rest = '[[apps.webhooks]]\nid = "b"\nurl = "http://b.example/"\nsecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"\n'
    assert "webhooks" not in findings(tmp_path, rest=rest)
    assert findings(tmp_path, rest=rest, production=True)["webhooks"].outcome == "failed"


def test_a_login_providers_keys_over_plain_http_fail_in_production(tmp_path: Path) -> None:
    rest = '[apps.client_tokens]\nalgorithm = "ES256"\njwks_url = "http://login.example/jwks.json"\n'
    assert findings(tmp_path, rest=rest)["client tokens"].outcome == "ok"
    assert findings(tmp_path, rest=rest, production=True)["client tokens"].outcome == "failed"


def test_client_tokens_whose_key_file_is_missing_fail(tmp_path: Path) -> None:
    rest = '[apps.client_tokens]\nalgorithm = "ES256"\npublic_key_file = "login.pem"\n'
    assert findings(tmp_path, rest=rest)["client tokens"].outcome == "failed"


def test_an_app_without_products_warns_and_products_without_an_app_fail(tmp_path: Path) -> None:
    nothing = parse_catalog("products = []")
    assert findings(tmp_path, catalog=nothing)["products game"].outcome == "warning"
    others = parse_catalog('[[products]]\nid = "x"\napp = "other"\ntype = "consumable"\nname = "X"\n')
    assert "'other'" in findings(tmp_path, catalog=others)["catalogue"].found
