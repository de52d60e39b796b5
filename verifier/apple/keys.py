"""Who we are to the App Store Server API: each app's In-App Purchase key, and the tokens that it signs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared.apps import App
from shared.clock import Clock
from shared.ids import AppId
from shared.settings import refuse

TOKEN_LIFETIME_S: Final = 600
"""Apple takes tokens that live for an hour at most (generating-json-web-tokens-for-api-requests)."""

TOKEN_RENEWED_BEFORE_END_S: Final = 60

CLOCK_SKEW_S: Final = 60
"""A token says that it was issued so long ago: Apple's clock may be behind ours."""

FRESH_S: Final = 60
"""A token that is younger has not become too old, whatever happened to our clock."""


class SigningKeyInvalid(Exception):
    """The key of an app cannot be used; the message names the app and the file."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An app's In-App Purchase key."""

    bundle_id: str
    issuer_id: str
    key_id: str
    pem: bytes = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)


def read_signing_key(app: App) -> SigningKey | None:
    """The key of an app; None when none is configured. Raises SigningKeyInvalid."""
    configured = app.apple.api_key
    if configured is None:
        return None
    try:
        pem = configured.private_key_file.read_bytes()
        private_key = _p256_key(pem)
    except (OSError, SigningKeyInvalid) as error:
        raise SigningKeyInvalid(_sentence(app, configured.private_key_file, error)) from error
    return SigningKey(app.apple.bundle_id, configured.issuer_id, configured.key_id, pem, private_key)


def read_signing_keys(apps: Iterable[App]) -> Mapping[AppId, SigningKey]:
    """The keys of the apps that have one. Raises SigningKeyInvalid."""
    keys = {app.id: read_signing_key(app) for app in apps}
    return {app_id: key for app_id, key in keys.items() if key is not None}


def checked_signing_keys(apps: Iterable[App]) -> Mapping[AppId, SigningKey]:
    """The keys of the apps that have one; ends the process when one cannot be used."""
    try:
        return read_signing_keys(apps)
    except SigningKeyInvalid as error:
        refuse(f"PURSER_APPS_FILE: {error}")


def _p256_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise SigningKeyInvalid("it is no PEM file with an unencrypted private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SigningKeyInvalid("its key is not on P-256, as ES256 wants it")
    return key


def _sentence(app: App, path: Path, error: OSError | SigningKeyInvalid) -> str:
    reason = error.strerror if isinstance(error, OSError) else error
    return f"app {app.id!r}: apple.private_key_file {path}: {reason}"


class Tokens:
    """Bearer tokens of one key, each used again until shortly before its end. Thread-safe.

    Production and sandbox take the same ones.
    """

    def __init__(self, key: SigningKey, *, clock: Clock) -> None:
        self._key = key
        self._clock = clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._signed_at = clock.now()
        self._signed_at_s = clock.monotonic()

    def current(self) -> str:
        """A token that is good for a minute at least."""
        with self._lock:
            if self._token is None or self._age_s() >= TOKEN_LIFETIME_S - TOKEN_RENEWED_BEFORE_END_S:
                self._signed_at, self._signed_at_s = self._clock.now(), self._clock.monotonic()
                self._token = self._sign()
            return self._token

    def _age_s(self) -> float:
        """By the clock that says more: a machine that was suspended has a monotonic one that stood still, and the other
        may be set back."""
        by_date = (self._clock.now() - self._signed_at).total_seconds()
        return max(by_date, self._clock.monotonic() - self._signed_at_s)

    def discard(self, token: str) -> bool:
        """The store does not take this one: it may have been signed while our clock was wrong. Whether another may do:
        one that was signed just now is not taken for what it is, but for the key."""
        with self._lock:
            if self._token == token:
                self._token = None
                return self._age_s() >= FRESH_S
            return True  # somebody else was told so before

    def _sign(self) -> str:
        now_s = int(self._clock.now().timestamp())
        claims = {
            "iss": self._key.issuer_id,
            "iat": now_s - CLOCK_SKEW_S,
            "exp": now_s + TOKEN_LIFETIME_S,
            "aud": "appstoreconnect-v1",
            "bid": self._key.bundle_id,
        }
        return jwt.encode(claims, self._key.private_key, algorithm="ES256", headers={"kid": self._key.key_id})
