"""Whose request it is: client tokens by each kind of key, and server keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.api.credentials import (
    CACHE_TTL_S,
    JWKS_AWAY_S,
    JWKS_LIFESPAN_S,
    JWKS_STALE_S,
    LEEWAY_S,
    CredentialRejected,
    Credentials,
    KeysUnavailable,
)
from gateway.domain.callers import Client, Server
from shared.apps import App, AppleApp, Apps, ClientTokens, ServerKey
from shared.clock import ManualClock
from shared.ids import AppId
from tests.support.apple_pki import segment
from tests.support.stack import wait_until

START = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW_S = START.timestamp()
KEY, OTHER_KEY = "k" * 64, "o" * 64
SERVER_KEY = "sk_example_only_change_me"
SERVER_KEY_SHA256 = "7506735a6bca2302fca43e50bcc8954b7fb65138b092fe9be1d160b544037926"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def app(app_id: str, tokens: ClientTokens | None, *keys: ServerKey) -> App:
    return App(
        id=AppId(app_id),
        name=app_id,
        client_tokens=tokens,
        server_keys=keys,
        apple=AppleApp(bundle_id=f"com.example.{app_id}"),
    )


GAME = app(
    "game",
    ClientTokens(algorithm="HS256", key=KEY),
    ServerKey(id="backend", sha256=SERVER_KEY_SHA256, scopes=frozenset({"read"})),
)
QUIZ = app("quiz", ClientTokens(algorithm="HS256", key=OTHER_KEY))
SILENT = app("silent", None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def credentials(clock: ManualClock) -> Credentials:
    return Credentials(apps=Apps.of((GAME, QUIZ, SILENT)), clock=clock)


def token(key: Any = KEY, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {"aud": "game", "sub": "alice", "exp": int(NOW_S) + 300} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers=headers)


def bearer(credential: str) -> str:
    return f"Bearer {credential}"


def test_a_client_token_names_its_app_and_its_user(credentials: Credentials) -> None:
    assert credentials.authenticate(bearer(token())) == Client(app=GAME, user_id="alice")  # type: ignore[arg-type]
    quiz = credentials.authenticate(bearer(token(OTHER_KEY, aud="quiz")))
    assert quiz.app == QUIZ


def test_a_list_of_audiences_names_one_of_our_apps(credentials: Credentials) -> None:
    assert credentials.authenticate(bearer(token(aud=["elsewhere", "game"]))).app == GAME
    with pytest.raises(CredentialRejected):
        credentials.authenticate(bearer(token(aud=["game", "quiz"])))


def test_a_server_key_names_its_app_and_its_scopes(credentials: Credentials) -> None:
    caller = credentials.authenticate(f"bearer   {SERVER_KEY}")
    assert caller == Server(app=GAME, key_id="backend", scopes=frozenset({"read"}))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YWxpY2U6c2VjcmV0",
        token(),
        bearer("sk_"),
        bearer(SERVER_KEY + "x"),
        bearer("x"),
        bearer("a.b.c"),
        bearer("a.b"),
        bearer(token() + "x"),
        bearer("ä" + token()),
        bearer(token() + "." * 9000),
        bearer(f"{segment({'alg': 'HS256'})}.{segment(b'[' * 4000)}.c2ln"),
        bearer(f"{segment({'alg': 'HS256'})}.{segment(b'no json')}.c2ln"),
    ],
)
def test_what_is_no_credential_of_ours_is_rejected(credentials: Credentials, header: str | None) -> None:
    with pytest.raises(CredentialRejected):
        credentials.authenticate(header)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": int(NOW_S) - LEEWAY_S - 1},
        {"nbf": int(NOW_S) + LEEWAY_S + 1},
        {"nbf": "later"},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 129},
        {"sub": "a\x00b"},
        {"aud": None},
        {"aud": "elsewhere"},
        {"aud": "silent"},
        {"aud": []},
        {"aud": {"game": 1}},
    ],
)
def test_a_signed_token_with_a_bad_claim_is_rejected(credentials: Credentials, changes: dict[str, Any]) -> None:
    with pytest.raises(CredentialRejected):
        credentials.authenticate(bearer(token(**changes)))


def test_a_number_for_a_user_is_rejected(credentials: Credentials) -> None:
    claims = {"aud": "game", "sub": 5, "exp": NOW_S + 300}
    signing = jwt.PyJWS()
    with pytest.raises(CredentialRejected):
        credentials.authenticate(bearer(signing.encode(json.dumps(claims).encode(), KEY, "HS256")))


def test_clocks_may_differ_a_little(credentials: Credentials) -> None:
    credentials.authenticate(bearer(token(exp=int(NOW_S) - LEEWAY_S + 1)))
    credentials.authenticate(bearer(token(nbf=int(NOW_S) + LEEWAY_S - 1)))


def test_a_token_of_one_app_is_not_good_for_another(credentials: Credentials) -> None:
    with pytest.raises(CredentialRejected):
        credentials.authenticate(bearer(token(OTHER_KEY, aud="game")))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "none"])
def test_the_algorithm_is_the_one_that_the_app_names(credentials: Credentials, algorithm: str) -> None:
    key = None if algorithm == "none" else KEY
    with pytest.raises(CredentialRejected):
        credentials.authenticate(bearer(token(key, algorithm)))


def test_a_known_token_ends_with_its_time(credentials: Credentials, clock: ManualClock) -> None:
    short = bearer(token(exp=int(NOW_S) + 5))
    credentials.authenticate(short)
    clock.advance(4)
    credentials.authenticate(short)
    clock.advance(LEEWAY_S + 2)
    with pytest.raises(CredentialRejected):
        credentials.authenticate(short)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were looked at, in order."""
    looked_at: list[str] = []
    decode = jwt.decode

    def counted(given: str, *args: Any, **options: Any) -> Any:
        looked_at.append(given)
        return decode(given, *args, **options)

    monkeypatch.setattr("gateway.api.credentials.jwt.decode", counted)
    return looked_at


def test_a_token_is_verified_once_a_minute(credentials: Credentials, clock: ManualClock, verified: list[str]) -> None:
    for _ in range(3):
        credentials.authenticate(bearer(token()))
    assert len(verified) == 1
    clock.advance(CACHE_TTL_S)
    credentials.authenticate(bearer(token()))
    assert len(verified) == 2


def test_only_so_many_tokens_are_remembered_and_the_least_used_goes(
    credentials: Credentials, verified: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.credentials.CACHE_SIZE", 2)
    alice, bob, carol = (token(sub=user) for user in ("alice", "bob", "carol"))
    for each in (alice, bob, alice, carol, alice, bob):
        credentials.authenticate(bearer(each))
    assert verified == [alice, bob, carol, bob]


def test_a_bad_token_is_not_remembered_as_a_good_one(credentials: Credentials, verified: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(CredentialRejected):
            credentials.authenticate(bearer(token(OTHER_KEY)))
    assert len(verified) == 2


# ---- public keys ------------------------------------------------------------------------------------------------


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(("algorithm", "key"), [("RS256", RSA_KEY), ("ES256", EC_KEY)])
def test_a_public_key_in_a_file_verifies_its_algorithm_alone(
    tmp_path: Path, clock: ManualClock, algorithm: Any, key: Any
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(key))
    public = app("game", ClientTokens(algorithm=algorithm, public_key_file=file))
    credentials = Credentials(apps=Apps.of((public,)), clock=clock)
    assert credentials.authenticate(bearer(token(key, algorithm))).app == public
    # the old trick: HS256, keyed with the public key that everybody may know
    claims = {"aud": "game", "sub": "alice", "exp": int(NOW_S) + 300}
    forged = f"{segment({'alg': 'HS256'})}.{segment(claims)}"
    signature = jwt.get_algorithm_by_name("HS256").sign(forged.encode(), pem(key))
    with pytest.raises(CredentialRejected):
        credentials.authenticate(bearer(f"{forged}.{segment(signature)}"))


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PUBLIC KEY-----", pem(EC_KEY)])
def test_a_public_key_that_cannot_be_read_is_an_error_at_the_start(
    tmp_path: Path, clock: ManualClock, content: bytes | None
) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    public = app("game", ClientTokens(algorithm="RS256", public_key_file=file))
    with pytest.raises((OSError, ValueError)):
        Credentials(apps=Apps.of((public,)), clock=clock)


# ---- a login provider's keys ------------------------------------------------------------------------------------


@dataclass
class Provider:
    """A login provider that publishes keys, and may be out of order."""

    url: str = ""
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=lambda: {"one": RSA_KEY})
    answer: Callable[[Provider], tuple[int, bytes]] = field(default=lambda provider: (200, provider.jwks()))
    asked: int = 0

    def jwks(self) -> bytes:
        keys = [
            json.loads(jwt.get_algorithm_by_name("RS256").to_jwk(key.public_key())) | {"kid": name, "use": "sig"}
            for name, key in self.keys.items()
        ]
        return json.dumps({"keys": keys}).encode()


@contextmanager
def providing() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked += 1
            status, body = provider.answer(provider)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_port}/jwks.json"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as running:
        yield running


@pytest.fixture
def by_provider(provider: Provider, clock: ManualClock) -> Credentials:
    public = app("game", ClientTokens(algorithm="RS256", jwks_url=provider.url))
    return Credentials(apps=Apps.of((public,)), clock=clock)


def provided(kid: str | None = "one", key: rsa.RSAPrivateKey = RSA_KEY, user: str = "alice") -> str:
    return bearer(token(key, "RS256", headers={} if kid is None else {"kid": kid}, sub=user))


def living(clock: ManualClock, **changes: Any) -> str:
    """One that is issued now."""
    user, kid, key = changes.get("user", "alice"), changes.get("kid", "one"), changes.get("key", RSA_KEY)
    return bearer(token(key, "RS256", headers={"kid": kid}, sub=user, exp=int(clock.now().timestamp()) + 600))


def test_a_providers_keys_are_fetched_once(by_provider: Credentials, provider: Provider) -> None:
    callers = [by_provider.authenticate(provided(user=user)) for user in ("alice", "bob", "carol")]
    assert [caller.user_id for caller in callers if isinstance(caller, Client)] == ["alice", "bob", "carol"]
    assert provider.asked == 1


def test_an_unknown_key_is_not_looked_for_again_and_again(by_provider: Credentials, provider: Provider) -> None:
    by_provider.authenticate(provided())
    for number in range(5):
        with pytest.raises(CredentialRejected):
            by_provider.authenticate(provided(kid=f"unknown-{number}"))
    assert provider.asked == 1


def test_a_token_that_names_no_key_is_rejected_unasked(by_provider: Credentials, provider: Provider) -> None:
    with pytest.raises(CredentialRejected):
        by_provider.authenticate(provided(kid=None))
    assert provider.asked == 0


def test_a_token_by_another_key_than_it_names_is_rejected(by_provider: Credentials) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with pytest.raises(CredentialRejected):
        by_provider.authenticate(provided(key=other))


@pytest.mark.parametrize("answer", [(500, b""), (200, b"no json"), (200, b"{}"), (200, b'{"keys": []}'), (302, b"")])
def test_a_provider_out_of_order_is_temporary_and_asked_sparingly(
    by_provider: Credentials, provider: Provider, clock: ManualClock, answer: tuple[int, bytes]
) -> None:
    provider.answer = lambda _: answer
    for _ in range(5):
        with pytest.raises(KeysUnavailable):
            by_provider.authenticate(provided())
    assert provider.asked == 1
    provider.answer = lambda running: (200, running.jwks())
    clock.advance(JWKS_AWAY_S)
    assert by_provider.authenticate(provided()).app.id == "game"


def test_a_provider_that_hangs_is_asked_by_one_request_and_holds_no_other(
    by_provider: Credentials, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.credentials.JWKS_TURN_S", 0.05)
    others_are_done = threading.Event()

    def hang(running: Provider) -> tuple[int, bytes]:
        others_are_done.wait(10)
        return 200, running.jwks()

    provider.answer = hang
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(by_provider.authenticate, provided())
        wait_until(lambda: provider.asked == 1, what="the provider being asked")
        for user in ("bob", "carol"):
            with pytest.raises(KeysUnavailable):
                by_provider.authenticate(provided(user=user))
        others_are_done.set()
        assert first.result().app.id == "game"
    assert by_provider.authenticate(provided(user="bob")).app.id == "game"
    assert provider.asked == 1


def test_whoever_waited_for_a_provider_that_is_away_does_not_ask_again(
    by_provider: Credentials, provider: Provider
) -> None:
    everybody_is_there = threading.Barrier(4)

    def ask(user: str) -> None:
        everybody_is_there.wait(10)
        with pytest.raises(KeysUnavailable):
            by_provider.authenticate(provided(user=user))

    provider.answer = lambda _: (500, b"")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, ("alice", "bob", "carol", "dave")))
    assert provider.asked == 1


def test_who_is_known_is_served_while_the_provider_is_away_for_an_hour_and_no_longer(
    by_provider: Credentials, provider: Provider, clock: ManualClock
) -> None:
    by_provider.authenticate(provided())
    provider.answer = lambda _: (500, b"")
    clock.advance(JWKS_STALE_S - 1)
    for user in ("alice", "bob", "carol"):
        assert by_provider.authenticate(living(clock, user=user)).app.id == "game"
    assert provider.asked == 2, "sparingly, though each is served"
    with pytest.raises(KeysUnavailable):
        by_provider.authenticate(living(clock, kid="unknown"))
    with pytest.raises(CredentialRejected):
        by_provider.authenticate(living(clock, key=rsa.generate_private_key(public_exponent=65537, key_size=2048)))
    clock.advance(1)
    with pytest.raises(KeysUnavailable):
        by_provider.authenticate(living(clock, user="dave"))
    provider.answer = lambda running: (200, running.jwks())
    clock.advance(JWKS_AWAY_S)
    assert by_provider.authenticate(living(clock, user="dave")).app.id == "game"


def test_a_key_that_the_provider_has_withdrawn_is_not_used_once_it_says_so(
    by_provider: Credentials, provider: Provider, clock: ManualClock
) -> None:
    by_provider.authenticate(provided())
    provider.answer = lambda running: (200, running.jwks().replace(b'"one"', b'"two"'))
    clock.advance(JWKS_LIFESPAN_S)
    for user in ("alice", "bob"):
        with pytest.raises(CredentialRejected):
            by_provider.authenticate(living(clock, user=user))


def test_a_provider_that_hangs_holds_nobody_who_is_known(
    by_provider: Credentials, provider: Provider, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.api.credentials.JWKS_TURN_S", 60.0)
    by_provider.authenticate(provided())
    clock.advance(JWKS_LIFESPAN_S)
    others_are_done = threading.Event()

    def hang(running: Provider) -> tuple[int, bytes]:
        assert others_are_done.wait(10)
        return 200, running.jwks()

    provider.answer = hang
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(by_provider.authenticate, living(clock))
        wait_until(lambda: provider.asked == 2, what="the provider being asked")
        for user in ("bob", "carol"):
            assert by_provider.authenticate(living(clock, user=user)).app.id == "game"
        assert not first.done()
        others_are_done.set()
        assert first.result().app.id == "game"
    assert provider.asked == 2


def test_a_token_is_believed_without_its_key_for_a_minute_at_most() -> None:
    assert CACHE_TTL_S <= 60 < JWKS_LIFESPAN_S
