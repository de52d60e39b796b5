"""Whose request it is: client tokens (JWT, RFC 7519, as the app's entry says) and server keys (`sk_…`)."""

from __future__ import annotations

import hashlib
import hmac
import threading
from binascii import Error as Base64Error
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.jwk_set_cache import JWKSetCache
from jwt.utils import base64url_decode

from gateway.domain.callers import Caller, Client, Server, UserIdInvalid, parse_living_user_id
from shared.apps import App, Apps, ClientTokens
from shared.clock import Clock
from shared.ids import AppId
from shared.log import get_logger
from shared.nesting import is_too_deep

log = get_logger(__name__)

SERVER_KEY_PREFIX: Final = "sk_"
TOKEN_LENGTH_MAX: Final = 8 * 1024
LEEWAY_S: Final = 10
"""How far the clock of whoever issues client tokens may be off."""
JWKS_TIMEOUT_S: Final = 3.0
JWKS_LIFESPAN_S: Final = 300
JWKS_STALE_S: Final = 3_600
"""So old may keys become while their provider is away. Whoever signed in before it went is served, for about as long as
tokens live; a key that it has withdrawn is not asked for, and so not noticed, for as long."""
JWKS_AWAY_S: Final = 2.0
"""After a failure nobody is asked for so long: a provider that hangs must not hold every thread."""
JWKS_TURN_S: Final = 0.5
"""One thread asks at a time; the others wait for what it brings, but no longer than this, for the same reason."""
_USES: Final = {"sig", None}
"""Of a provider's keys (RFC 7517, section 4.2), those that sign."""
CACHE_SIZE: Final = 10_000
CACHE_TTL_S: Final = 60.0
"""A verified token is believed for so long without another look at the key, and never beyond its own `exp`."""


class CredentialRejected(Exception):
    """There is no credential, or not a good one. The message may be shown and tells nothing that helps guessing."""


class KeysUnavailable(Exception):
    """The app's login provider does not give its public keys at the moment. Try again later."""


class Credentials:
    """Tells callers by their `Authorization` header. Thread-safe: one serves a whole process.

    Raises OSError or ValueError when a `public_key_file` cannot be read.
    """

    def __init__(self, *, apps: Apps, clock: Clock) -> None:
        self._clock = clock
        self._issuers = {app.id: _Issuer.of(app, app.client_tokens, clock) for app in apps if app.client_tokens}
        self._servers = [
            (key.sha256, Server(app=app, key_id=key.id, scopes=key.scopes)) for app in apps for key in app.server_keys
        ]
        self._known = _KnownTokens(clock)

    def authenticate(self, authorization: str | None) -> Caller:
        """Raises CredentialRejected, KeysUnavailable."""
        credential = _bearer(authorization)
        if not credential:
            raise CredentialRejected("an Authorization header with a bearer credential is wanted")
        if len(credential) > TOKEN_LENGTH_MAX or not credential.isascii():
            raise CredentialRejected("the credential is not a token of this service")
        if credential.startswith(SERVER_KEY_PREFIX):
            return self._server(credential)
        return self._client(credential)

    def _server(self, key: str) -> Server:
        """Compares with every key there is, in constant time, so that the time taken tells nothing about any."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        found = [server for sha256, server in self._servers if hmac.compare_digest(sha256, digest)]
        if not found:
            raise CredentialRejected("the server key is not known")
        return found[0]

    def _client(self, token: str) -> Client:
        known = self._known.get(token)
        if known is not None:
            return known
        client, expires_s = self._issuer_of(token).client(token, now_s=self._clock.now().timestamp())
        self._known.put(token, client, expires_s=expires_s)
        return client

    def _issuer_of(self, token: str) -> _Issuer:
        """The issuer for the app that the token says it is for: it is then held to it."""
        audience = _unverified_audience(token)
        issuers = [self._issuers[AppId(name)] for name in audience if name in self._issuers]
        if len(issuers) != 1:
            raise CredentialRejected("the client token is not for an app of this service")
        return issuers[0]


def _bearer(authorization: str | None) -> str:
    """The credential of an `Authorization` header (RFC 6750, 2.1); empty when there is none."""
    scheme, _, credential = (authorization or "").partition(" ")
    return credential.strip() if scheme.lower() == "bearer" else ""


class _Issuer:
    """Verifies the client tokens of one app."""

    def __init__(self, *, app: App, algorithm: str, key_for: Callable[[str], Any]) -> None:
        self._app = app
        self._algorithm = algorithm
        self._key_for = key_for

    @classmethod
    def of(cls, app: App, tokens: ClientTokens, clock: Clock) -> _Issuer:
        if tokens.jwks_url is not None:
            return cls(app=app, algorithm=tokens.algorithm, key_for=_ProviderKeys(tokens.jwks_url, clock).key_for)
        key = tokens.key if tokens.public_key_file is None else _public_key(tokens.algorithm, tokens.public_key_file)
        return cls(app=app, algorithm=tokens.algorithm, key_for=lambda _token: key)

    def client(self, token: str, *, now_s: float) -> tuple[Client, float]:
        """Whose token it is, and when (UNIX seconds) it ends. Raises CredentialRejected, KeysUnavailable.

        The times are ours to check, by the injected clock (RFC 7519, 4.1.4 and 4.1.5).
        """
        try:
            claims = jwt.decode(
                token,
                self._key_for(token),
                algorithms=[self._algorithm],
                audience=self._app.id,
                options={
                    "require": ["exp", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            expires_s = _times(claims, now_s=now_s)
            return Client(app=self._app, user_id=parse_living_user_id(claims["sub"])), expires_s
        except UserIdInvalid as error:  # the app's own login signed it, so whoever runs that is told
            raise CredentialRejected(f"the client token's sub: {error}") from error
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise CredentialRejected("the client token is not valid") from error


def _times(claims: Mapping[str, Any], *, now_s: float) -> float:
    """When the token ends. Raises CredentialRejected if it has, or has not begun, or does not say it in numbers."""
    ends_s, begins_s = claims["exp"], claims.get("nbf", now_s)
    if any(type(moment) not in {int, float} for moment in (ends_s, begins_s)):
        raise CredentialRejected("the client token is not valid")
    if not begins_s - LEEWAY_S <= now_s < ends_s + LEEWAY_S:
        raise CredentialRejected("the client token is expired or not yet valid")
    return float(ends_s)


class _ProviderKeys:
    """The public keys of a login provider (RFC 7517), fetched when they are needed and kept for a while."""

    def __init__(self, url: str, clock: Clock) -> None:
        self._kept = _KeptKeys(clock)
        self._client = jwt.PyJWKClient(url, timeout=JWKS_TIMEOUT_S)
        self._client.jwk_set_cache = self._kept
        self._clock = clock
        self._turn = threading.Lock()
        self._away_until_s = float("-inf")

    def key_for(self, token: str) -> Any:
        """The key that the token names. Raises KeysUnavailable, jwt.PyJWTError."""
        key_id = jwt.get_unverified_header(token).get("kid")
        if not isinstance(key_id, str):
            raise jwt.InvalidTokenError("no kid")
        kept = self._kept.key(key_id, within_s=JWKS_LIFESPAN_S)
        if kept is not None:
            return kept
        stale = self._kept.key(key_id, within_s=JWKS_STALE_S)
        try:
            return self._fetched_key(key_id, turn_s=JWKS_TURN_S if stale is None else 0)
        except KeysUnavailable:
            if stale is None:
                raise
            return stale

    def _fetched_key(self, key_id: str, *, turn_s: float) -> Any:
        if self._is_away() or not self._turn.acquire(timeout=turn_s):
            raise KeysUnavailable
        try:
            if self._is_away():  # since a moment ago: whoever had the turn before found out
                raise KeysUnavailable
            return self._client.get_signing_key(key_id).key
        except (jwt.PyJWKClientConnectionError, jwt.PyJWKSetError, ValueError, OSError) as error:
            self._away_until_s = self._clock.monotonic() + JWKS_AWAY_S
            log.warning("a login provider does not give its keys", url=self._client.uri, error=type(error).__name__)
            raise KeysUnavailable from error
        finally:
            self._turn.release()

    def _is_away(self) -> bool:
        return self._clock.monotonic() < self._away_until_s


class _KeptKeys(JWKSetCache):
    """The keys that came last, and when."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(JWKS_LIFESPAN_S)
        self._clock = clock
        self._came: tuple[jwt.PyJWKSet, float] | None = None

    def put(self, jwk_set: jwt.PyJWKSet | dict[str, Any] | None) -> None:
        """Raises jwt.PyJWKSetError."""
        super().put(jwk_set)
        parsed = super().get()
        self._came = None if parsed is None else (parsed, self._clock.monotonic())

    def get(self) -> jwt.PyJWKSet | None:
        return self._within(JWKS_LIFESPAN_S)

    def key(self, key_id: str, *, within_s: float) -> Any:
        """The key, if it came within so many seconds, whether or not the provider answers now."""
        keys = self._within(within_s)
        return next((each.key for each in keys or () if each.key_id == key_id and each.public_key_use in _USES), None)

    def _within(self, age_s: float) -> jwt.PyJWKSet | None:
        if self._came is None:
            return None
        keys, at_s = self._came
        return keys if self._clock.monotonic() - at_s < age_s else None


def _public_key(algorithm: str, path: Path) -> RSAPublicKey | EllipticCurvePublicKey:
    """Raises OSError, or ValueError naming the file when there is no key of the algorithm in it."""
    wanted = RSAPublicKey if algorithm == "RS256" else EllipticCurvePublicKey
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path}: no public key in PEM") from error
    if not isinstance(key, wanted):
        raise ValueError(f"{path}: not a key for {algorithm}")
    return key


class _KnownTokens:
    """Tokens that were verified lately, by their digest: bounded, the least recently used goes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, tuple[Client, float]] = OrderedDict()

    def get(self, token: str) -> Client | None:
        digest = hashlib.sha256(token.encode()).digest()
        with self._lock:
            entry = self._entries.get(digest)
            if entry is None:
                return None
            client, until_s = entry
            if self._clock.monotonic() >= until_s:
                del self._entries[digest]
                return None
            self._entries.move_to_end(digest)
            return client

    def put(self, token: str, client: Client, *, expires_s: float) -> None:
        left_s = min(CACHE_TTL_S, expires_s - self._clock.now().timestamp())
        if left_s <= 0:
            return
        with self._lock:
            self._entries[hashlib.sha256(token.encode()).digest()] = (client, self._clock.monotonic() + left_s)
            while len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)


class _Audience(msgspec.Struct):
    aud: str | list[str]


def _unverified_audience(token: str) -> list[str]:
    """Whom the token says that it is for: only to find out which app's rules it has to keep."""
    segments = token.split(".")
    if len(segments) != 3:
        raise CredentialRejected("the credential is not a token of this service")
    try:
        claims = base64url_decode(segments[1])
        if is_too_deep(claims):
            raise CredentialRejected("the credential is not a token of this service")
        said = msgspec.json.decode(claims, type=_Audience).aud
    except (msgspec.DecodeError, Base64Error, ValueError, RecursionError) as error:
        raise CredentialRejected("the credential is not a token of this service") from error
    return [said] if isinstance(said, str) else said
