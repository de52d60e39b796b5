"""The URLs of servers that we log in to, checked before anybody takes them apart.

What libraries make of a URL that is none they quote in their errors, and so a part of the password: one with an `@` in
it begins the host, and one with a `/` is a port that is no number.
"""

from __future__ import annotations

import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr
from pydantic_core import PydanticCustomError

_DATABASE_URL: Final = re.compile(
    r"""postgresql://
        (?: [^@:/?\#\s]* (?: :[^@:/?\#\s]* )? @ )?  # who
        (?: \[[0-9A-Fa-f:.%]+\] | [^@:/?\#\s\[\]]* ) (?: :[0-9]{1,5} )?  # where
        (?: /[^@/?\#\s]* )? (?: \?[^@\#\s]* )?""",
    re.VERBOSE,
)
_BROKER_SCHEMES: Final = ("redis://", "rediss://", "amqp://", "amqps://")
_ENCODED: Final = "what is neither a letter nor a digit in the user or the password is percent-encoded (@ is %40)"


def _is_database_url(url: SecretStr) -> SecretStr:
    if _DATABASE_URL.fullmatch(url.get_secret_value()) is None:
        raise PydanticCustomError("database_url", "wanted is postgresql://user:password@host:port/name; " + _ENCODED)
    return url


def _is_broker_url(url: SecretStr) -> SecretStr:
    if not all(map(_can_be_a_broker, url.get_secret_value().split(";"))):  # several of a cluster (kombu)
        schemes = ", ".join(_BROKER_SCHEMES)
        raise PydanticCustomError("broker_url", f"a URL that starts with one of {schemes} is wanted; {_ENCODED}")
    return url


def _can_be_a_broker(url: str) -> bool:
    try:
        urlsplit(url).port  # noqa: B018 - raises when it is none
    except ValueError:
        return False
    return url.startswith(_BROKER_SCHEMES) and url.count("@") <= 1


DatabaseUrl = Annotated[SecretStr, AfterValidator(_is_database_url)]
"""`postgresql://user:password@host:port/name`; all of it but the scheme may be left out."""
BrokerUrl = Annotated[SecretStr, AfterValidator(_is_broker_url)]
"""`redis://…` (Redis or Valkey) or `amqp://…` (RabbitMQ); `rediss`, `amqps` over TLS."""
