"""Who may ask for what."""

from __future__ import annotations

import pytest

from gateway.domain.callers import (
    Caller,
    Client,
    ScopeRejected,
    Server,
    UserIdInvalid,
    UserRejected,
    UserUnnamed,
    addressed_user,
    may_see,
    parse_living_user_id,
    parse_user_id,
    require_scope,
    require_server,
    require_spending,
    submitting_user,
    vouches,
)
from shared.apps import App, AppleApp, WalletPolicy
from shared.ids import AppId, UserId

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game"))
ALICE, BOB = UserId("alice"), UserId("bob")
CLIENT = Client(app=GAME, user_id=ALICE)
READER = Server(app=GAME, key_id="backend", scopes=frozenset({"read"}))
BLIND = Server(app=GAME, key_id="spender", scopes=frozenset({"spend"}))


@pytest.mark.parametrize(
    ("caller", "named", "outcome"),
    [
        (CLIENT, None, ALICE),
        (CLIENT, ALICE, ALICE),
        (CLIENT, BOB, ScopeRejected),
        (READER, BOB, BOB),
        (BLIND, BOB, BOB),
        (READER, None, UserUnnamed),
    ],
)
def test_a_client_submits_for_itself_and_a_server_for_whom_it_names(
    caller: Caller, named: UserId | None, outcome: str | type[Exception]
) -> None:
    if isinstance(outcome, str):
        assert submitting_user(caller, named) == outcome
    else:
        with pytest.raises(outcome):
            submitting_user(caller, named)


@pytest.mark.parametrize(
    ("caller", "path", "outcome"),
    [
        (CLIENT, "me", ALICE),
        (CLIENT, "alice", ALICE),
        (CLIENT, "bob", UserRejected),
        (CLIENT, "\x00", UserRejected),
        (READER, "bob", BOB),
        (READER, "me", UserUnnamed),
        (READER, "\x00", UserIdInvalid),
        (READER, "b" * 129, UserIdInvalid),
        (READER, ".", UserIdInvalid),
        (READER, "..", UserIdInvalid),
        (CLIENT, "..", UserRejected),
    ],
)
def test_a_path_names_the_clients_own_user_or_any_user_of_a_server(
    caller: Caller, path: str, outcome: str | type[Exception]
) -> None:
    if isinstance(outcome, str):
        assert addressed_user(caller, path) == outcome
    else:
        with pytest.raises(outcome):
            addressed_user(caller, path)


def test_only_a_server_key_can_lack_a_scope() -> None:
    require_scope(CLIENT, "read")
    require_scope(READER, "read")
    with pytest.raises(ScopeRejected, match="read"):
        require_scope(BLIND, "read")


def test_what_operators_see_is_not_for_clients() -> None:
    require_server(BLIND)
    with pytest.raises(ScopeRejected):
        require_server(CLIENT)


def test_a_client_spends_where_its_app_lets_it_and_a_server_with_the_scope() -> None:
    require_spending(BLIND)
    with pytest.raises(ScopeRejected, match="spend"):
        require_spending(READER)
    with pytest.raises(ScopeRejected, match="server key"):
        require_spending(CLIENT)
    generous = GAME.model_copy(update={"wallet": WalletPolicy(client_may_spend=True)})
    require_spending(Client(app=generous, user_id=ALICE))
    with pytest.raises(ScopeRejected, match="spend"):
        require_spending(Server(app=generous, key_id="backend", scopes=frozenset({"read"})))


def test_only_the_apps_own_backend_vouches() -> None:
    assert vouches(BLIND)
    assert not vouches(CLIENT)


@pytest.mark.parametrize("text", [".", "..", "me"])
def test_what_means_something_else_in_a_path_is_no_users_id(text: str) -> None:
    with pytest.raises(UserIdInvalid, match="in a path"):
        parse_user_id(text)


def test_who_was_erased_is_read_by_a_server_and_does_not_come_back() -> None:
    pseudonym = f"erased:{'0' * 32}"
    assert addressed_user(READER, pseudonym) == pseudonym
    for text in (pseudonym, "erased:", "erased:alice"):
        with pytest.raises(UserIdInvalid, match="kept for users who were erased"):
            parse_living_user_id(text)


@pytest.mark.parametrize("text", ["erased", "Erased:alice", "alice erased:", "漢字"])
def test_whoever_is_not_called_so_lives(text: str) -> None:
    assert parse_living_user_id(text) == text


def test_a_client_sees_its_own_things_and_a_server_all_of_its_app() -> None:
    assert may_see(CLIENT, ALICE)
    assert not may_see(CLIENT, BOB)
    assert not may_see(CLIENT, None)
    assert may_see(READER, BOB)


@pytest.mark.parametrize("text", ["a", "x" * 128, "漢字 👩‍👩‍👧", "auth0|1234", "a/b?c=d", "...", "Me", "a/../b"])
def test_a_user_id_is_any_text_that_an_apps_login_may_use(text: str) -> None:
    assert parse_user_id(text) == text


@pytest.mark.parametrize("text", ["", "x" * 129, "a\x00b", "line\n", "\x7f", "\ud800"])
def test_a_user_id_is_never_empty_endless_or_unprintable(text: str) -> None:
    with pytest.raises(UserIdInvalid):
        parse_user_id(text)
