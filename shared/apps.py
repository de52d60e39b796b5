"""The apps of this installation: who may call, and what the stores know them as. Read from a TOML file, checked whole.

Shape and meaning of each field: `deploy/examples/apps.toml`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal, NewType, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from shared.events import OUTWARD
from shared.ids import AppId

Scope = Literal["read", "spend", "grant", "admin"]
EndpointId = NewType("EndpointId", str)
Key = TypeVar("Key", bound=str)

EVERY_EVENT: Final = "*"
ENDPOINT_ID_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""It stands in paths and in file names as it is."""
RETRY_DELAY_S_MAX: Final = 7 * 24 * 3600.0
RetryDelay = Annotated[float, Field(gt=0, le=RETRY_DELAY_S_MAX)]


class AppsInvalid(ValueError):
    """The apps file cannot be used; the message names the file and the field."""


def first_problem(error: ValidationError) -> str:
    """`apps.0.apple.bundle_id: Field required`: the first thing that is wrong, with the path of its field."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _beside_the_apps_file(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("directory", "")) / path


NamedFile = Annotated[Path, AfterValidator(_beside_the_apps_file)]
"""A file that the apps file names, relative to where that one lies."""


class ClientTokens(_Strict):
    """How the bearer tokens of the app's users are verified: `key` for HS256, a public key or a JWKS for the others."""

    algorithm: Literal["HS256", "RS256", "ES256"]
    key: str | None = Field(default=None, repr=False)
    public_key_file: NamedFile | None = None
    jwks_url: str | None = None


class ServerKey(_Strict):
    """A key of the app's own backend; only its SHA-256 (hexadecimal) is kept."""

    id: str
    sha256: str
    scopes: frozenset[Scope]


class ApiKey(_Strict):
    """An In-App Purchase key of App Store Connect: who we are to the App Store Server API."""

    issuer_id: str
    key_id: str
    private_key_file: Path


class AppleApp(_Strict):
    """What the App Store knows the app as.

    `transaction_id_claims`: an id alone proves nothing about who bought, so a client gets what it names only when
    it was bought with that user's account token; `first_claimant` gives it to whoever names it first.
    """

    bundle_id: str
    app_apple_id: int | None = None
    shared_secret: str | None = Field(default=None, repr=False)
    issuer_id: str | None = None
    key_id: str | None = None
    private_key_file: NamedFile | None = None
    sandbox: Literal["separate", "refuse"] = "separate"
    transaction_id_claims: Literal["account_token", "first_claimant"] = "account_token"

    @property
    def api_key(self) -> ApiKey | None:
        """The key of the App Store Server API; None when the app has none, and the API is not asked for it."""
        if self.issuer_id is None or self.key_id is None or self.private_key_file is None:
            return None
        return ApiKey(issuer_id=self.issuer_id, key_id=self.key_id, private_key_file=self.private_key_file)


class WalletPolicy(_Strict):
    """`debt`: a refund larger than the balance is owed (negative) or written off (floor)."""

    debt: Literal["negative", "floor"] = "negative"
    client_may_spend: bool = False


class WebhookEndpoint(_Strict):
    """Where the app's backend wants to hear of events (Standard Webhooks).

    `events`: types, groups of them (`wallet.*`), or `*` for all. `previous_secret` signs as well, until every receiver
    knows `secret`. `retry_delays_s`: from one failed attempt to the next; None is the notifier's own schedule.
    `calls_at_once`: at most so many, from each process that calls.
    """

    id: Annotated[EndpointId, Field(pattern=ENDPOINT_ID_PATTERN)]
    url: str = Field(repr=False)  # it may hold a secret, as whoever receives it likes
    secret: str = Field(repr=False)
    previous_secret: str | None = Field(default=None, repr=False)
    events: frozenset[str] = frozenset({EVERY_EVENT})
    retry_delays_s: Annotated[tuple[RetryDelay, ...], Field(min_length=1, max_length=32)] | None = None
    calls_at_once: int = Field(default=16, ge=1, le=64)

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that sign, the one that stays first."""
        return (self.secret,) if self.previous_secret is None else (self.secret, self.previous_secret)

    def wants(self, event_type: str) -> bool:
        return any(_covers(pattern, event_type) for pattern in self.events)


def _covers(pattern: str, event_type: str) -> bool:
    """Whether it names the type: itself, its group (`wallet.*`), or every event."""
    return pattern in {EVERY_EVENT, event_type} or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))


class App(_Strict):
    """One mobile app. Its id is the audience of its client tokens; it goes into headers, so it is printable ASCII."""

    id: Annotated[AppId, Field(pattern=r"^[!-~]{1,128}$")]
    name: str
    client_tokens: ClientTokens | None = None
    server_keys: tuple[ServerKey, ...] = ()
    apple: AppleApp
    wallet: WalletPolicy = WalletPolicy()
    webhooks: tuple[WebhookEndpoint, ...] = ()


class _File(_Strict):
    apps: tuple[App, ...]


@dataclass(frozen=True, slots=True)
class Apps:
    """All apps, found by id or by bundle id."""

    by_id: Mapping[AppId, App]
    by_bundle_id: Mapping[str, App] = field(repr=False)

    @classmethod
    def of(cls, apps: tuple[App, ...]) -> Apps:
        """Raises AppsInvalid when two apps share an id, a bundle id or a server key."""
        _unique("server key", [(digest, app) for app in apps for digest in {key.sha256 for key in app.server_keys}])
        return cls(
            by_id=_unique("id", [(app.id, app) for app in apps]),
            by_bundle_id=_unique("apple.bundle_id", [(app.apple.bundle_id, app) for app in apps]),
        )

    def __iter__(self) -> Iterator[App]:
        return iter(self.by_id.values())


def _unique(name: str, pairs: list[tuple[Key, App]]) -> dict[Key, App]:
    found: dict[Key, App] = {}
    for key, app in pairs:
        if key in found:
            raise AppsInvalid(f"two apps have the {name} {key!r}")
        found[key] = app
    return found


def parse_apps(text: str, *, directory: Path = Path()) -> Apps:
    """Apps from the text of an apps file that lies in `directory`. Raises AppsInvalid with a sentence that names the
    field."""
    try:
        parsed = _File.model_validate(tomllib.loads(text), context={"directory": directory})
    except tomllib.TOMLDecodeError as error:
        raise AppsInvalid(str(error)) from error
    except ValidationError as error:
        raise AppsInvalid(first_problem(error)) from error
    if not parsed.apps:
        raise AppsInvalid("at least one [[apps]] entry is needed")
    for app in parsed.apps:
        _check(app)
    return Apps.of(parsed.apps)


def _check(app: App) -> None:
    tokens = app.client_tokens
    if tokens is not None:
        given = [tokens.key, tokens.public_key_file, tokens.jwks_url]
        wanted = [tokens.key] if tokens.algorithm == "HS256" else [tokens.public_key_file, tokens.jwks_url]
        if sum(value is not None for value in given) != 1 or all(value is None for value in wanted):
            raise AppsInvalid(
                f"app {app.id!r}: client_tokens needs `key` for HS256, `public_key_file` or `jwks_url` for the others"
            )
        if tokens.jwks_url is not None and not tokens.jwks_url.startswith(("https://", "http://")):
            raise AppsInvalid(f"app {app.id!r}: client_tokens.jwks_url has to be http(s)://…")
        if tokens.key is not None and len(tokens.key) < 32:
            raise AppsInvalid(f"app {app.id!r}: client_tokens.key needs at least 32 characters (RFC 7518, section 3.2)")
    for server_key in app.server_keys:
        if len(server_key.sha256) != 64 or not all(digit in "0123456789abcdef" for digit in server_key.sha256):
            raise AppsInvalid(
                f"app {app.id!r}: server key {server_key.id!r}: sha256 is 64 lower-case hexadecimal digits"
            )
    named: dict[str, list[str]] = {
        "webhooks": [endpoint.id for endpoint in app.webhooks],
        "server keys": [server_key.id for server_key in app.server_keys],
    }
    for name, ids in named.items():
        if len(set(ids)) != len(ids):
            raise AppsInvalid(f"app {app.id!r}: two {name} have the same id")
    key = {"issuer_id": app.apple.issuer_id, "key_id": app.apple.key_id, "private_key_file": app.apple.private_key_file}
    missing = [name for name, value in key.items() if value is None]
    if missing and len(missing) < len(key):
        raise AppsInvalid(
            f"app {app.id!r}: apple.{missing[0]} is missing: the Server API's key is all of {', '.join(key)}"
        )
    for endpoint in app.webhooks:
        if unknown := [each for each in endpoint.events if not any(_covers(each, known) for known in OUTWARD)]:
            raise AppsInvalid(
                f"app {app.id!r}: webhook {endpoint.id!r}: there is no event {min(unknown)!r} to be told; "
                f"there are: {', '.join(sorted(OUTWARD))}; a group such as wallet.*; and * for all"
            )


def load_apps(path: Path) -> Apps:
    """Apps from a file. Raises AppsInvalid with a sentence that names the file and the field.

    Files that it names are looked for where it lies, wherever the process was started.
    """
    try:
        return parse_apps(path.read_text(encoding="utf-8"), directory=path.parent)
    except OSError as error:
        raise AppsInvalid(f"{path}: {error.strerror}") from error
    except AppsInvalid as error:
        raise AppsInvalid(f"{path}: {error}") from error
