"""The keys of the Server API, and the tokens that they sign."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.apps import App, AppleApp, parse_apps
from shared.clock import ManualClock
from shared.ids import AppId
from tests.support.server_api_key import new_signing_key
from verifier.apple.keys import SigningKeyInvalid, Tokens, checked_signing_keys, read_signing_key, read_signing_keys

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def app_with(path: Path) -> App:
    apple = AppleApp(bundle_id="com.example.game", issuer_id="issuer", key_id="KEY", private_key_file=path)
    return App(id=AppId("game"), name="Game", apple=apple)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def test_a_key_is_read_from_its_file_with_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "key.p8"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    key = read_signing_key(app_with(path))
    assert key is not None
    assert (key.bundle_id, key.issuer_id, key.key_id) == ("com.example.game", "issuer", "KEY")


def test_a_key_does_not_show_itself(tmp_path: Path) -> None:
    assert "PRIVATE" not in repr(new_signing_key())
    assert "private_key" not in repr(new_signing_key())


def test_apps_without_a_key_have_none() -> None:
    apps = parse_apps('[[apps]]\nid = "game"\nname = "Game"\n[apps.apple]\nbundle_id = "com.example.game"\n')
    assert read_signing_keys(apps) == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "no PEM file"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no PEM file"),
        (pem(ec.generate_private_key(ec.SECP256R1()), password=b"x"), "no PEM file with an unencrypted"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "not on P-256"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "not on P-256"),
        (pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)), "not on P-256"),
    ],
)
def test_a_key_that_cannot_be_used_ends_the_process_with_a_sentence_that_names_app_and_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, reason: str
) -> None:
    path = tmp_path / "key.p8"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        checked_signing_keys([app_with(path)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"app 'game': apple.private_key_file {path}: " in error
    assert reason in error
    assert error.count("\n") == 1


def test_a_directory_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyInvalid, match="Is a directory"):
        read_signing_key(app_with(tmp_path))


class Minted:
    """Tokens of a new key, on a clock of their own."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.key = new_signing_key()
        self.tokens = Tokens(self.key, clock=self.clock)


def test_a_token_is_what_apple_asks_for() -> None:
    minted = Minted()
    token = minted.tokens.current()
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": minted.key.key_id, "typ": "JWT"}
    claims = jwt.decode(
        token,
        minted.key.private_key.public_key(),
        algorithms=["ES256"],
        options={"verify_signature": True, "verify_exp": False, "verify_iat": False, "verify_aud": False},
    )
    assert claims.pop("iat") == int((NOW - timedelta(seconds=60)).timestamp())
    assert claims.pop("exp") == int((NOW + timedelta(seconds=600)).timestamp())
    assert claims == {"iss": minted.key.issuer_id, "aud": "appstoreconnect-v1", "bid": minted.key.bundle_id}


def test_a_token_is_used_again_until_shortly_before_its_end() -> None:
    minted = Minted()
    token = minted.tokens.current()
    minted.clock.advance(539)
    assert minted.tokens.current() == token
    minted.clock.advance(1)
    assert minted.tokens.current() != token


def test_a_machine_that_slept_does_not_use_a_token_of_before() -> None:
    minted = Minted()
    token = minted.tokens.current()
    minted.clock.suspend(540)
    assert minted.tokens.current() != token


def test_a_token_that_the_store_does_not_take_is_not_used_again() -> None:
    minted = Minted()
    token = minted.tokens.current()
    minted.clock.advance(1)
    minted.tokens.discard(token)
    second = minted.tokens.current()
    assert second != token
    minted.tokens.discard(token)  # somebody else who was told so late
    assert minted.tokens.current() == second


def test_threads_that_come_at_once_share_a_token() -> None:
    minted = Minted()
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: minted.tokens.current(), range(100)))) == 1
