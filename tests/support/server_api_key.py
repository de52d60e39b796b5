"""A key of the App Store Server API, for tests."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from verifier.apple.keys import SigningKey

BUNDLE_ID = "com.example.game"


def new_signing_key() -> SigningKey:
    """A fresh one, of the example app."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey(BUNDLE_ID, "57246542-96fe-1a63-e053-0824d011072a", "2X9R4HXF34", pem, private_key)
