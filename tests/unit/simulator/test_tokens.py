"""The keys of the apps file: what is wrong with one is said when the simulator starts. Tokens: see test_server_api."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from shared.apps import Apps, load_apps, parse_apps
from shared.clock import ManualClock
from simulator.tokens import KeyInvalid, TokenCheck, TokenRefused
from tests.support.shop import START, example_apps

EXAMPLE = Path(__file__).parents[3] / "deploy" / "examples" / "apps.toml"


def apps_with(key_file: Path) -> Apps:
    return parse_apps(
        '[[apps]]\nid = "game"\nname = "-"\n[apps.apple]\nbundle_id = "com.example.game"\nissuer_id = "i"\n'
        f'key_id = "k"\nprivate_key_file = "{key_file}"\n'
    )


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, encryption: KeySerializationEncryption | None = None
) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_the_example_has_a_key_that_can_be_used() -> None:
    TokenCheck(load_apps(EXAMPLE), ManualClock(START))


def test_apps_without_a_key_are_no_error_and_nobody_can_call_for_them() -> None:
    check = TokenCheck(example_apps(), ManualClock(START))
    with pytest.raises(TokenRefused):
        check.app_of("Bearer x.y.z")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        pem(ec.generate_private_key(ec.SECP384R1())),
        pem(rsa.generate_private_key(65537, 2048)),
        pem(ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"secret")),
    ],
    ids=["empty", "not PEM", "P-384", "RSA", "with a password"],
)
def test_a_file_that_holds_no_key_of_apples_kind_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "AuthKey.p8"
    file.write_bytes(content)
    with pytest.raises(KeyInvalid, match=r"AuthKey\.p8"):
        TokenCheck(apps_with(file), ManualClock(START))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyInvalid, match=r"AuthKey\.p8: No such file"):
        TokenCheck(apps_with(tmp_path / "AuthKey.p8"), ManualClock(START))
