"""The pieces of configuration that several services read: `PURSER_…` variables, checked when the process starts.

Each service composes its own settings from these in its `settings.py`. A missing or bad value ends the process with a
sentence that names the variable. A secret (whatever is a `SecretStr`) may stand in a file instead, which the variable
with `_FILE` behind its name names: `PURSER_DATABASE_URL_FILE=/run/secrets/database-url`.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NoReturn, TypeVar, get_args
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.apps import Apps, AppsInvalid, load_apps
from shared.catalog import Catalog, CatalogInvalid, load_catalog
from shared.urls import BrokerUrl, DatabaseUrl

APPLE_ROOT_CA_G3_SHA256 = "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179"
"""Apple Root CA - G3, valid until 2039-04-30. Source: apple.com/certificateauthority."""

SERVICE_TOKEN_LENGTH_MIN = 16
"""Characters: what can be guessed is no secret."""

EXAMPLE_SECRETS = frozenset(
    {
        "example-only-client-token-key-change-me",
        "7506735a6bca2302fca43e50bcc8954b7fb65138b092fe9be1d160b544037926",
        "example-shared-secret",
        "45bc72e86b47a69bd04e521f897d334ed0641edd1a2d8c61a103320d6ce3aa57",  # SHA-256 of AuthKey_EXAMPLE.p8
        "whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh",
        "example-only-service-token-change-me",
        "example-only-password-change-me",
    }
)
"""What the example files and docker-compose.yml carry; a process in production refuses them."""


PREFIX: Final = "PURSER_"
IN_FILE: Final = "_FILE"
"""Behind the name of a variable: the file that its secret stands in."""
SECRET_FILE_BYTES_MAX: Final = 64 * 1024

IpNetwork = IPv4Network | IPv6Network

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[!-~]([ -~]*[!-~])?")
"""RFC 9110, section 5.5, without what is not ASCII."""

NOTHING_KNOWN: Final[Mapping[str, str]] = MappingProxyType({})


class Piece(BaseSettings):
    """A piece of configuration: reads `PURSER_…`, ignores what it does not know."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    def unfit_for_production(self) -> list[str]:
        """A sentence per variable, named at its beginning, that may be so on a developer's machine only."""
        examples = _example_variables(self)
        return [f"{name} holds an example's secret" for name in examples]


class TracingSettings(Piece):
    """Who is told of traces, by OTLP over HTTP; nobody without a URL. Paths (`/v1/traces`) are put behind it.

    `otlp_headers`: sent along, a comma list of `name=value`, the values percent-encoded (a hosted collector's key).
    `traces_sample`: so much of all traces, chosen by their ids; the same for all processes, so that traces are whole.
    """

    otlp_url: str = Field(default="", pattern=r"^(https?://[^/@\s?#]+(/[^@\s?#]*)?)?$")
    otlp_headers: SecretStr = SecretStr("")
    traces_sample: float = Field(default=1.0, ge=0, le=1)

    @field_validator("otlp_headers")
    @classmethod
    def _is_headers(cls, value: SecretStr) -> SecretStr:
        _headers(value.get_secret_value())
        return value

    def otlp_header_pairs(self) -> dict[str, str]:
        return _headers(self.otlp_headers.get_secret_value())


class ProcessSettings(TracingSettings):
    """What every process reads. `bind`: the address that it listens on, where it listens.

    `metrics_port`: there it tells its metrics; 0: nowhere.
    """

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    production: bool = False
    bind: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65_500)  # `purser up` takes those after it too


class DatabaseSettings(Piece):
    """Where PostgreSQL is: `postgresql://user:password@host:port/name`."""

    database_url: DatabaseUrl


class BrokerSettings(Piece):
    """Where the broker is: `redis://…` (Redis or Valkey) or `amqp://…` (RabbitMQ)."""

    broker_url: BrokerUrl


class WorkerSettings(ProcessSettings, DatabaseSettings, BrokerSettings):
    """What every worker process reads; `heartbeat_file` is touched while it is well (for health checks)."""

    heartbeat_file: Path | None = None


class CourierSettings(WorkerSettings):
    """What couriers read. `proofs_kept_days`: so long receipts, and what stores have signed, stay in the journal after
    they were handled; 0: for ever."""

    proofs_kept_days: int = Field(default=90, ge=0, le=36_500)


class AppsSettings(Piece):
    """Where the apps and the catalogue are described."""

    apps_file: Path = Path("deploy/examples/apps.toml")
    catalog_file: Path = Path("deploy/examples/catalog.toml")


class TrustSettings(Piece):
    """How the App Store's signatures are checked. The roots are SHA-256 pins and files, each a comma list.

    `apple_expired_chain_days`: so long a chain that has expired still vouches for what it signed before; 0: not at all.
    `apple_chain_kept_s`: so long a chain that was found good is not walked again; 0: each time.
    `apple_ocsp`: the verifier asks Apple whether certificates were revoked, and takes nothing that it does not know of.
    """

    apple_root_sha256: str = APPLE_ROOT_CA_G3_SHA256
    apple_root_files: str = ""
    apple_expired_chain_days: float = Field(default=60, ge=0, le=3650)
    apple_chain_kept_s: float = Field(default=900, ge=0, le=86_400)
    apple_ocsp: bool = False

    def root_files(self) -> list[Path]:
        return [Path(name.strip()) for name in self.apple_root_files.split(",") if name.strip()]

    def root_pins(self) -> list[str]:
        return [pin.strip() for pin in self.apple_root_sha256.split(",") if pin.strip()]


class ServiceTokenSettings(Piece):
    """The secret between the gateway and the ledger's internal API."""

    service_token: SecretStr = Field(min_length=SERVICE_TOKEN_LENGTH_MIN)


S = TypeVar("S", bound=Piece)


class SecretFilesInvalid(ValueError):
    """Secrets that were to come from files do not. Each argument is a sentence that names a variable."""


def read(settings_class: type[S], known: Mapping[str, str] = NOTHING_KNOWN) -> S:
    """The settings as `examine` reads them; ends the process with a sentence per variable that is missing or bad."""
    settings, problems = examine(settings_class, known)
    if settings is None or problems:
        refuse(*problems)
    return settings


def examine(settings_class: type[S], known: Mapping[str, str] = NOTHING_KNOWN) -> tuple[S | None, list[str]]:
    """The settings, from these `PURSER_…` variables and from the environment for the rest; None if they cannot be read.

    With them a sentence per variable that is missing or bad, without its value. In production a secret that the
    examples carry, by itself or within a URL, is bad, and so is what else is unfit for it.
    """
    values: dict[str, Any] = {name.removeprefix(PREFIX).lower(): value for name, value in known.items()}
    try:
        values |= _secrets_in_files(name for name in secrets_of(settings_class) if name not in values)
    except SecretFilesInvalid as error:
        return None, list(error.args)
    try:
        settings = settings_class(**values)
    except ValidationError as error:
        return None, [f"{_variable(*problem['loc'])}: {problem['msg']}" for problem in error.errors()]
    if not (isinstance(settings, ProcessSettings) and settings.production):
        return settings, []
    return settings, [f"{problem}, and PURSER_PRODUCTION=1 refuses it" for problem in settings.unfit_for_production()]


def checked_apps(settings: AppsSettings, *, production: bool) -> Apps:
    """The apps of the apps file; ends the process when it cannot be used, or in production not as it is."""
    try:
        apps = load_apps(settings.apps_file)
    except AppsInvalid as error:
        refuse(f"PURSER_APPS_FILE: {error}")
    if production and (problems := [*example_secrets(apps), *plain_key_urls(apps)]):
        where = f"PURSER_APPS_FILE: {settings.apps_file}"
        refuse(*(f"{where}: {problem}, and PURSER_PRODUCTION=1 refuses it" for problem in problems))
    return apps


def checked_catalog(settings: AppsSettings) -> Catalog:
    """The catalogue of the catalogue file; ends the process when it cannot be used."""
    try:
        return load_catalog(settings.catalog_file)
    except CatalogInvalid as error:
        refuse(f"PURSER_CATALOG_FILE: {error}")


def example_secrets(apps: Apps) -> list[str]:
    """Where the apps file still holds a secret of the example file: everybody knows those."""
    found = [
        (app.id, name)
        for app in apps
        for name, secret in [
            ("client_tokens.key", app.client_tokens.key if app.client_tokens else None),
            ("apple.shared_secret", app.apple.shared_secret),
            ("apple.private_key_file", _digest(app.apple.private_key_file)),
            *((f"server key {key.id!r}", key.sha256) for key in app.server_keys),
            *((f"webhook {endpoint.id!r}", secret) for endpoint in app.webhooks for secret in endpoint.secrets),
        ]
        if secret in EXAMPLE_SECRETS
    ]
    return [f"app {app!r}: {name} is the example's" for app, name in found]


def plain_key_urls(apps: Apps) -> list[str]:
    """Whose login provider is asked for its keys over plain HTTP: whoever is on the way could be any user."""
    return [
        f"app {app.id!r}: client_tokens.jwks_url is not https:// (what is near may be a file: public_key_file)"
        for app in apps
        if app.client_tokens and app.client_tokens.jwks_url and not app.client_tokens.jwks_url.startswith("https://")
    ]


def _digest(path: Path | None) -> str | None:
    """SHA-256 of a file. None when there is none that can be read: whoever needs it says so."""
    try:
        return None if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def count_into(directory: Path) -> None:
    """Has prometheus_client count into files of this directory, in this process and those that it forks from now on.

    The library reads the variable when it is imported.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)


def refuse(*sentences: str) -> NoReturn:
    """Ends the process: it cannot run with this configuration."""
    for sentence in sentences:
        sys.stderr.write(f"purser: {sentence}\n")
    raise SystemExit(2)


def secrets_of(settings_class: type[Piece]) -> list[str]:
    """The names of its settings that are secrets."""
    return [name for name, field in settings_class.model_fields.items() if _holds_a_secret(field.annotation)]


def _holds_a_secret(annotation: Any) -> bool:
    """SecretStr, one that is checked further (Annotated), or either of these or None."""
    return annotation is SecretStr or any(map(_holds_a_secret, get_args(annotation)))


def _secrets_in_files(names: Iterable[str]) -> dict[str, str]:
    """Those of these secrets that stand in files. Raises SecretFilesInvalid with all that is wrong."""
    found, problems = {}, []
    for variable, name in ((_variable(name), name) for name in names):
        path = os.environ.get(variable + IN_FILE)
        if not path:
            continue
        if os.environ.get(variable):
            problems.append(f"{variable} and {variable}{IN_FILE} are both set: one of them is wanted")
            continue
        try:
            found[name] = _secret_in(Path(path))
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else error
            problems.append(f"{variable}{IN_FILE}: {_named(path)}: {problem}")
    if problems:
        raise SecretFilesInvalid(*problems)
    return found


def _named(path: str) -> str:
    """The path; what is none may be the secret itself, put there by mistake."""
    return path if path.startswith("/") and "://" not in path else "what it says is no absolute path"


def _secret_in(path: Path) -> str:
    """The file's text without the line's end, which editors and `echo` add. Raises OSError, ValueError."""
    with path.open("rb") as file:
        content = file.read(SECRET_FILE_BYTES_MAX + 1)
    if len(content) > SECRET_FILE_BYTES_MAX:
        raise ValueError("the file is too large for a secret")
    try:
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("the file is not text in UTF-8") from None  # its error would quote the secret
    if not secret:
        raise ValueError("the file is empty")
    return secret


def _headers(listed: str) -> dict[str, str]:
    """The headers of a comma list. Raises PydanticCustomError, whose message quotes nothing: a value is a secret."""
    pairs = [pair.partition("=") for pair in listed.split(",") if pair.strip()]
    headers = {name.strip(): unquote(value.strip()) for name, _, value in pairs}
    if not all(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value) for name, value in headers.items()):
        raise PydanticCustomError("headers", "wanted is a comma list of name=value, the values percent-encoded")
    return headers


def networks(listed: str) -> tuple[IpNetwork, ...]:
    """The networks of a comma list (CIDR). Raises PydanticCustomError, whose message is the whole sentence."""
    items = [item.strip() for item in listed.split(",")]
    return tuple(_network(item, number) for number, item in enumerate(items, start=1) if item)


def _network(item: str, number: int) -> IpNetwork:
    try:
        return ip_network(item)
    except ValueError:
        context = {"problem": _network_problem(item, number)}
        raise PydanticCustomError(
            "networks",
            "{problem}; wanted is a comma list of networks such as 10.0.0.0/8 or fd12:3456::/32",
            context,
        ) from None


def _network_problem(item: str, number: int) -> str:
    """Only what begins with an address is quoted: anything else may be a secret that was meant for another variable."""
    address = item.partition("/")[0]
    try:
        ip_address(address)
    except ValueError:
        return f"item {number} is no network"
    try:
        return f"{item} has host bits set: its network is {ip_network(item, strict=False)}"
    except ValueError:
        return f"{address} is followed by no prefix length that it may have"


def _example_variables(settings: Piece) -> list[str]:
    return [
        _variable(name)
        for name, value in settings
        if isinstance(value, SecretStr) and any(secret in value.get_secret_value() for secret in EXAMPLE_SECRETS)
    ]


def _variable(*location: int | str) -> str:
    return PREFIX + "_".join(str(part) for part in location).upper()
