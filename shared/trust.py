"""The trust anchors that are configured, as the processes that check the App Store's signatures start with them."""

from __future__ import annotations

from shared.jws import TrustAnchorInvalid, TrustAnchors
from shared.settings import TrustSettings, refuse


def trust_anchors(settings: TrustSettings, *, production: bool) -> TrustAnchors:
    """The configured anchors; ends the process when one cannot be used, or is a simulator's in production."""
    try:
        anchors = TrustAnchors.of(
            pins=settings.root_pins(), files=[path.read_bytes() for path in settings.root_files()]
        )
    except OSError as error:
        refuse(f"PURSER_APPLE_ROOT_FILES: {error.filename}: {error.strerror}")
    except TrustAnchorInvalid as error:
        refuse(f"PURSER_APPLE_ROOT_SHA256, PURSER_APPLE_ROOT_FILES: {error}")
    if production and anchors.name_simulator():
        refuse("PURSER_APPLE_ROOT_FILES names a simulator's root, and PURSER_PRODUCTION=1 trusts none")
    return anchors
