"""What the command line and the stack read from the environment: the only place of this package that does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

from shared.settings import IN_FILE, AppsSettings, ProcessSettings, TrustSettings
from shared.urls import BrokerUrl, DatabaseUrl

PROJECT = Path(__file__).resolve().parent.parent


def _is_flower_password(password: SecretStr) -> SecretStr:
    """Flower takes what stands before a comma for the whole password, and what follows for another login."""
    if "," in password.get_secret_value():
        raise PydanticCustomError("flower_password", "a password without a comma is wanted")
    return password


FlowerPassword = Annotated[SecretStr, AfterValidator(_is_flower_password)]


class StackSettings(ProcessSettings, AppsSettings, TrustSettings):
    """`PURSER_…`; without a URL the stack runs its own PostgreSQL, or its own Redis, under `data_dir`.

    `embedded` says where their programs come from: `installed`, `wheels`, or `auto`, which is the first that works.
    """

    model_config = SettingsConfigDict(env_ignore_empty=True)

    database_url: DatabaseUrl | None = None
    broker_url: BrokerUrl | None = None
    embedded: Literal["auto", "installed", "wheels"] = "auto"
    data_dir: Path = Path(".purser")
    bind: str = "127.0.0.1"
    gateway_port: int = Field(default=8080, ge=1, le=65_535)
    gateway_workers: int = Field(default=2, ge=1, le=256)
    gateway_threads: int = Field(default=8, ge=1, le=1_024)
    ledger_port: int = Field(default=8081, ge=1, le=65_535)
    notifier_port: int = Field(default=8082, ge=1, le=65_535)
    simulator_port: int = Field(default=8090, ge=1, le=65_535)
    simulator_threads: int = Field(default=128, ge=1, le=1_024)
    flower_port: int = Field(default=5555, ge=1, le=65_535)
    flower_user: str = Field(default="purser", pattern=r"^[^:,\s]+$")
    flower_password: FlowerPassword | None = None
    service_token: SecretStr | None = None

    @field_validator("apps_file", "catalog_file")
    @classmethod
    def _found_from_anywhere(cls, path: Path) -> Path:
        """The examples lie in the project, wherever the command is called from."""
        return path.absolute() if path.exists() or path.is_absolute() else PROJECT / path

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.absolute()


class GivenStoreSettings(ProcessSettings):
    """Which of the addresses and roots of the App Store are given; those that are not are the simulator's."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    apple_root_files: str | None = None
    apple_verify_receipt_url: str | None = None
    apple_verify_receipt_sandbox_url: str | None = None
    apple_api_url: str | None = None
    apple_api_sandbox_url: str | None = None
    simulator_url: str | None = None
    simulator_webhook_url: str | None = None
    ledger_url: str | None = None
    notifier_url: str | None = None


def inherited_environment() -> dict[str, str]:
    """The environment that child processes start from: ours."""
    return dict(os.environ)


def environment_with(known: Mapping[str, str]) -> dict[str, str]:
    """The same with these variables. A secret that is among them is not to be read from a file too."""
    files = {name + IN_FILE for name in known}
    return {name: value for name, value in inherited_environment().items() if name not in files} | dict(known)


def reach_of(bind: str) -> str:
    """The address at which this machine itself reaches what is bound to `bind`, as it stands in a URL."""
    if bind in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{bind}]" if ":" in bind else bind
