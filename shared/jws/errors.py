"""What is said of a token that is not taken, and of an anchor that cannot be one."""

from __future__ import annotations


class JwsError(Exception):
    """The token is refused for good. The message is short, quotes nothing of the token, and may be shown."""


class JwsMalformed(JwsError):
    """It is not a JWS of the App Store's form; whoever sent it sent something else, or half of it."""


class JwsUntrusted(JwsError):
    """It has the form, but the App Store did not sign it, or we cannot rely on that any more."""


class JwsUnconfirmed(Exception):
    """All is well but for one thing: whether a certificate was revoked is not known at the moment.

    No JwsError, since the token is not refused: verify it again, in `retry_after_s` seconds at the earliest.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TrustAnchorInvalid(ValueError):
    """A configured pin or root certificate cannot be used; the message says which and why."""
