"""Who may call the App Store Server API: the tokens that an app's backend signs with its In-App Purchase key.

Source: Apple, Generating JSON Web Tokens for API requests. A token is checked with the public half of the key that the
apps file names; the caller has the private one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.types import Options

from shared.apps import ApiKey, App, Apps
from shared.clock import Clock
from simulator.domain import SimulatorError

AUDIENCE: Final = "appstoreconnect-v1"
LIFETIME_S_MAX: Final = 60 * 60
"""Apple: a token lives for an hour at most, from `iat` on."""
CLOCK_SKEW_S_MAX: Final = 60

_CLAIMS: Final[Options] = {
    "require": ["iss", "exp", "aud", "bid"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}
"""The times are compared with a clock of ours, below."""


class TokenRefused(SimulatorError):
    """The caller is nobody; the message is for the log, the caller only learns that (Apple: 401)."""


class KeyInvalid(Exception):
    """The key that the apps file names cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What a token of one app has to agree with."""

    app: App
    key: ApiKey
    public_key: ec.EllipticCurvePublicKey


class TokenCheck:
    """Knows every app by its key. Thread-safe: it keeps nothing between calls."""

    def __init__(self, apps: Apps, clock: Clock) -> None:
        """Raises KeyInvalid."""
        self._clock = clock
        self._credentials = {
            app.apple.bundle_id: _Credentials(app, key, _public_key(key.private_key_file))
            for app in apps
            if (key := app.apple.api_key) is not None
        }

    def app_of(self, authorization: str) -> App:
        """The app whose key signed the token in an `Authorization` header. Raises TokenRefused."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise TokenRefused("there is no bearer token")
        try:
            credentials = self._claimed(token)
            claims = jwt.decode(
                token,
                credentials.public_key,
                algorithms=["ES256"],
                audience=AUDIENCE,
                issuer=credentials.key.issuer_id,
                options=_CLAIMS,
            )
        except jwt.PyJWTError as error:
            raise TokenRefused(f"the token is not valid: {error}") from error
        self._check_times(claims)
        return credentials.app

    def _claimed(self, token: str) -> _Credentials:
        """The credentials that the token claims; nothing is proved yet."""
        unproved = jwt.decode_complete(token, options={"verify_signature": False})
        bundle_id = unproved["payload"].get("bid")
        credentials = self._credentials.get(bundle_id) if isinstance(bundle_id, str) else None
        if credentials is None:
            raise TokenRefused(f"bid: no app has the bundle id {bundle_id!r} and a key of the Server API")
        if unproved["header"].get("kid") != credentials.key.key_id:
            raise TokenRefused(f"kid: the key of {bundle_id} is {credentials.key.key_id}")
        return credentials

    def _check_times(self, claims: dict[str, Any]) -> None:
        now_s = self._clock.now().timestamp()
        expires_s, issued_s = claims["exp"], claims.get("iat", now_s)
        if not all(isinstance(each, int | float) for each in (expires_s, issued_s)):
            raise TokenRefused("exp, iat: not numbers")
        if expires_s <= now_s:
            raise TokenRefused("exp: the token has expired")
        if issued_s > now_s + CLOCK_SKEW_S_MAX:
            raise TokenRefused("iat: the token is from the future")
        if expires_s - min(issued_s, now_s) > LIFETIME_S_MAX:
            raise TokenRefused(f"exp: more than {LIFETIME_S_MAX} s after the token was made")


def _public_key(path: Path) -> ec.EllipticCurvePublicKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyInvalid(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:  # TypeError: a key with a password
        raise KeyInvalid(f"{path} holds no private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KeyInvalid(f"{path} holds no P-256 key, which App Store Connect's are")
    return key.public_key()
