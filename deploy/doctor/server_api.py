"""The App Store Server API: is it reached, and does it take each app's key?"""

from __future__ import annotations

from collections.abc import Sequence

from deploy.app_store import server_api
from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from shared.apps import App
from shared.clock import Clock
from shared.events import Environment
from verifier.apple.keys import SigningKey, SigningKeyInvalid, read_signing_key
from verifier.apple.refusals import (
    UNAUTHORIZED,
    ServerApiError,
    ServerApiMisconfigured,
    ServerApiRejected,
    ServerApiUnavailable,
)
from verifier.apple.server_api import ServerApi
from verifier.settings import StoreSettings

NO_TRANSACTION = "0"
"""The App Store has none of this id: what it says to that shows that it took the key."""

NO_KEY = "no API key that can be used"
RIGHT_KEY = "issuer_id, key_id, private_key_file and bundle_id of the apps file, as App Store Connect has them"


def usable_key(app: App) -> SigningKey | None:
    """The key of an app; None when it has none that can be used (its own line says so)."""
    try:
        return read_signing_key(app)
    except SigningKeyInvalid:
        return None


def check_server_api(app: App, *, settings: StoreSettings, clock: Clock) -> list[Finding]:
    """One finding for production, one for the sandbox."""
    environments: Sequence[Environment] = ("production", "sandbox")
    key = usable_key(app)
    if key is None:
        return [unchecked(_name(app, environment), NO_KEY) for environment in environments]
    with server_api(app, key, settings=settings, clock=clock) as api:
        answers = {environment: _answer(api, app, environment) for environment in environments}
    sandbox_takes_it = isinstance(answers["sandbox"], ServerApiRejected)
    return [
        _read(_name(app, environment), answer, sandbox_takes_it=sandbox_takes_it)
        for environment, answer in answers.items()
    ]


def complaint(error: ServerApiError) -> str:
    """What is wrong, in a line: a 401 has many reasons, and where to look stands beside it."""
    return "401: it does not take the key" if error.code == UNAUTHORIZED else error.sentence


def _name(app: App, environment: Environment) -> str:
    return f"Server API {app.id} {environment}"


def _answer(api: ServerApi, app: App, environment: Environment) -> ServerApiError | None:
    try:
        api.transaction(NO_TRANSACTION, app=app, environment=environment)
    except ServerApiError as error:
        return error
    return None


def _read(name: str, answer: ServerApiError | None, *, sandbox_takes_it: bool) -> Finding:
    match answer:
        case None:
            return ok(name, f"takes the key, and even knows a transaction {NO_TRANSACTION}")
        case ServerApiRejected():
            return ok(name, f"takes the key (it has no transaction {NO_TRANSACTION}: {answer.code})")
        case ServerApiMisconfigured(code=code) if code == UNAUTHORIZED and sandbox_takes_it:
            return warning(
                name,
                "401, and the sandbox takes the key",
                "nothing, before the app's first release; then: " + RIGHT_KEY,
            )
        case ServerApiMisconfigured():
            return failed(name, complaint(answer), RIGHT_KEY)
        case ServerApiUnavailable():
            return failed(name, answer.sentence, "let verifier-store reach it (HTTPS, port 443), or try again later")
    return failed(name, answer.sentence, "try again later")
