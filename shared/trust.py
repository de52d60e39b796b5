"""How the App Store's signatures are checked, as the processes that check them start with it."""

from __future__ import annotations

from shared.jws import JwsVerifier, Revocation, TrustAnchorInvalid, TrustAnchors
from shared.settings import TrustSettings, refuse

_DAY_S = 86_400


def jws_verifier(settings: TrustSettings, *, production: bool, revocation: Revocation | None = None) -> JwsVerifier:
    """The verifier that the settings describe; ends the process when an anchor cannot be used.

    `revocation` is the caller's to give if `settings.apple_ocsp`: who only authenticates a sender goes without it.
    """
    return JwsVerifier(
        anchors=trust_anchors(settings, production=production),
        chain_ttl_s=settings.apple_chain_kept_s,
        expired_chain_window_s=settings.apple_expired_chain_days * _DAY_S,
        revocation=revocation,
    )


def trust_anchors(settings: TrustSettings, *, production: bool) -> TrustAnchors:
    """The configured anchors; ends the process when one cannot be used, or is a simulator's in production.

    What a pin stands for is seen when a token brings it along: in production, a simulator's chain is refused then.
    """
    try:
        anchors = TrustAnchors.of(
            pins=settings.root_pins(),
            files=[path.read_bytes() for path in settings.root_files()],
            simulators=not production,
        )
    except OSError as error:
        refuse(f"PURSER_APPLE_ROOT_FILES: {error.filename}: {error.strerror}")
    except TrustAnchorInvalid as error:
        refuse(f"PURSER_APPLE_ROOT_SHA256, PURSER_APPLE_ROOT_FILES: {error}")
    if production and anchors.name_simulator():
        refuse("PURSER_APPLE_ROOT_FILES names a simulator's root, and PURSER_PRODUCTION=1 trusts none")
    return anchors
