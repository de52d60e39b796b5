"""Who may make which call: each kind of access, for a client and for server keys with one scope each."""

from __future__ import annotations

from typing import get_args

import pytest

from gateway.api.access import Access, admit
from gateway.domain.callers import Caller, Client, ScopeRejected, Server
from shared.apps import App, AppleApp, Scope, WalletPolicy
from shared.ids import AppId, UserId

STRICT = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game"))
GENEROUS = STRICT.model_copy(update={"wallet": WalletPolicy(client_may_spend=True)})
CALLERS: dict[str, Caller] = {
    "client": Client(app=STRICT, user_id=UserId("alice")),
    "spending client": Client(app=GENEROUS, user_id=UserId("alice")),
    "bare key": Server(app=GENEROUS, key_id="bare", scopes=frozenset()),
    **{scope: Server(app=GENEROUS, key_id=scope, scopes=frozenset({scope})) for scope in get_args(Scope)},
}
CLIENTS = {"client", "spending client"}
ADMITTED: dict[Access, set[str]] = {
    Access.SUBMITTER: set(CALLERS),
    Access.READER: {*CLIENTS, "read"},
    Access.OPERATOR: {"read"},
    Access.SPENDER: {"spending client", "spend"},
    Access.CASHIER: {"spend"},
    Access.GRANTER: {"grant"},
    Access.REFUND_ASKER: {*CLIENTS, "admin"},
    Access.ADMINISTRATOR: {"admin"},
}


def is_admitted(caller: Caller, access: Access) -> bool:
    try:
        admit(caller, access)
    except ScopeRejected:
        return False
    return True


@pytest.mark.parametrize("access", list(ADMITTED), ids=lambda access: access.name)
def test_each_access_admits_these_callers_and_no_other(access: Access) -> None:
    assert {name for name, caller in CALLERS.items() if is_admitted(caller, access)} == ADMITTED[access]


def test_every_access_that_needs_a_credential_was_asked_about() -> None:
    assert {access for access in Access if access.needs_credential} == set(ADMITTED)


def test_what_is_for_servers_alone_admits_no_client() -> None:
    alone = {access for access, admitted in ADMITTED.items() if not admitted & CLIENTS}
    assert {access for access in Access if access.is_for_servers_alone} == alone
