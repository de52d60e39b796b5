"""Whom the App Store's signatures are trusted to: the pins and the root files, and until when they hold."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509

from deploy.doctor.findings import Finding, failed, ok, warning
from shared.jws import TrustAnchorInvalid, TrustAnchors
from shared.jws.chain import names_simulator
from shared.settings import APPLE_ROOT_CA_G3_SHA256, TrustSettings

NAME = "trust anchors"
ROOT_ENDS_SOON = timedelta(days=365)
APPLE_ROOTS = "apple.com/certificateauthority"
APPLE_ROOT_CA_G3_ENDS = "2039-04-30"


def check_anchors(trust: TrustSettings, *, production: bool, now: datetime) -> list[Finding]:
    """One finding per anchor, or why none of them can be used."""
    try:
        anchors = TrustAnchors.of(pins=trust.root_pins(), files=[path.read_bytes() for path in trust.root_files()])
    except OSError as error:
        return [failed(NAME, f"{error.filename}: {error.strerror}", "mend PURSER_APPLE_ROOT_FILES")]
    except TrustAnchorInvalid as error:
        return [failed(NAME, str(error), "mend PURSER_APPLE_ROOT_SHA256 or PURSER_APPLE_ROOT_FILES")]
    pins = [_pin(pin.hex()) for pin in sorted(anchors.sha256_pins)]
    return [*pins, *(_root(root, production=production, now=now) for root in anchors.roots())]


def _pin(pin: str) -> Finding:
    if pin == APPLE_ROOT_CA_G3_SHA256:
        return ok(NAME, f"Apple Root CA - G3 by its SHA-256, until {APPLE_ROOT_CA_G3_ENDS}")
    return warning(
        NAME,
        f"the pin {pin[:16]}… is not Apple Root CA - G3's; what it stands for cannot be told",
        f"compare it with the roots of {APPLE_ROOTS}",
    )


def _root(root: x509.Certificate, *, production: bool, now: datetime) -> Finding:
    subject = root.subject.rfc4514_string()
    found = f"{subject}, until {root.not_valid_after_utc:%Y-%m-%d}"
    if production and names_simulator(root):
        return failed(NAME, f"{found}: a simulator's root, in production", "take it out of PURSER_APPLE_ROOT_FILES")
    if now >= root.not_valid_after_utc:
        return failed(NAME, f"{found}: it has expired", f"its successor: {APPLE_ROOTS}")
    if now + ROOT_ENDS_SOON >= root.not_valid_after_utc:
        return warning(NAME, f"{found}: less than a year", f"add its successor: {APPLE_ROOTS}")
    return ok(NAME, found)
