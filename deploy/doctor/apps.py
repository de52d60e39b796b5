"""What the apps file and the catalogue say of each app: is there what the App Store and the apps' users need?"""

from __future__ import annotations

from collections.abc import Iterator

from deploy.doctor.findings import Finding, failed, ok, warning
from gateway.api.credentials import Credentials
from notifier.domain.addresses import IpNetwork
from notifier.domain.endpoints import endpoint_problems
from shared.apps import App, Apps
from shared.catalog import Catalog
from shared.clock import Clock
from shared.settings import example_secrets, plain_key_urls
from verifier.apple.keys import SigningKeyInvalid, read_signing_key

WHERE_KEYS_ARE_MADE = "App Store Connect, Users and Access, Integrations, In-App Purchase"


def check_apps(
    apps: Apps,
    *,
    catalog: Catalog | None,
    production: bool,
    clock: Clock,
    allowed_networks: tuple[IpNetwork, ...] = (),
) -> list[Finding]:
    """What is wrong with the file as a whole, then each app by itself."""
    problems = endpoint_problems(apps, production=production, allowed_networks=allowed_networks)
    findings = [*_secrets(apps, production=production)]
    findings += [failed("webhooks", problem, "mend it in the apps file") for problem in problems]
    findings.append(_client_tokens(apps, clock, production=production))
    if catalog is not None:
        findings += _strangers(apps, catalog)
    for app in apps:
        findings += _app(app)
        if catalog is not None:
            findings.append(_products(app, catalog))
    return findings


def _secrets(apps: Apps, *, production: bool) -> Iterator[Finding]:
    for problem in example_secrets(apps) if production else []:
        yield failed("secrets", f"{problem}, in production", "put your own into the apps file")


def _client_tokens(apps: Apps, clock: Clock, *, production: bool) -> Finding:
    if production and (plain := plain_key_urls(apps)):
        return failed("client tokens", "; ".join(plain) + ", in production", "mend client_tokens in the apps file")
    try:
        Credentials(apps=apps, clock=clock)
    except (OSError, ValueError) as error:
        return failed("client tokens", str(error), "mend client_tokens in the apps file")
    without = [app.id for app in apps if app.client_tokens is None]
    if without:
        return ok("client tokens", f"keys usable; none for {', '.join(without)}, which is reached by server keys only")
    return ok("client tokens", "keys usable")


def _strangers(apps: Apps, catalog: Catalog) -> Iterator[Finding]:
    for name in sorted({app for app, _ in catalog.products} - set(apps.by_id)):
        yield failed("catalogue", f"it has products of {name!r}, which is no app of the apps file", "mend either file")


def _app(app: App) -> Iterator[Finding]:
    apple = app.apple
    name = f"app {app.id}"
    if apple.app_apple_id is None:
        yield warning(
            name,
            f"{apple.bundle_id}, without app_apple_id: the App Store's own number is not compared",
            "App Store Connect, the app, App Information: Apple ID",
        )
    else:
        yield ok(name, f"{apple.bundle_id}, Apple ID {apple.app_apple_id}, sandbox {apple.sandbox}")
    if apple.sandbox == "refuse":
        yield warning(
            name,
            "sandbox purchases are rejected, and App Review buys in the sandbox",
            'sandbox = "separate" for as long as a version is in review',
        )
    yield _shared_secret(app)
    yield _api_key(app)


def _shared_secret(app: App) -> Finding:
    name = f"shared secret {app.id}"
    if app.apple.shared_secret is None:
        return warning(
            name,
            "none: receipts with subscriptions in them are not verified (21004)",
            "App Store Connect, the app, App Information: App-Specific Shared Secret",
        )
    return ok(name, "there; whether it is this app's shows with the first receipt (21004: it is not)")


def _api_key(app: App) -> Finding:
    name = f"API key {app.id}"
    key = app.apple.api_key
    if key is None:
        return warning(
            name,
            "none: purchases by transaction id alone are refused, and the Server API is not asked",
            f"{WHERE_KEYS_ARE_MADE}; then issuer_id, key_id and private_key_file",
        )
    try:
        read_signing_key(app)
    except SigningKeyInvalid as error:
        return failed(name, str(error), f"the .p8 file of the key {key.key_id}: {WHERE_KEYS_ARE_MADE}")
    return ok(name, f"{key.key_id}, a P-256 key in {key.private_key_file}")


def _products(app: App, catalog: Catalog) -> Finding:
    name = f"products {app.id}"
    products = catalog.of_app(app.id)
    if not products:
        return warning(
            name, "none in the catalogue: every purchase will be parked", "add the app's products to the catalogue"
        )
    kinds = sorted({product.type for product in products})
    return ok(name, f"{len(products)} in the catalogue: {', '.join(kinds)}")
