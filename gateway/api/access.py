"""Who may make a call. The texts are the contract's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from gateway.domain.callers import Caller, require_scope, require_server, require_spending
from shared.apps import Scope


class Access(Enum):
    """Who may make a call. A client acts on what is its own user's, whatever the call."""

    EVERYBODY = "Everybody may call."
    STORE = "The store calls; what it sends is signed."
    SUBMITTER = "A client token, or any server key."
    READER = "A client token, or a server key with the scope `read`."
    OPERATOR = "A server key with the scope `read`."
    SPENDER = "A server key with the scope `spend`; a client token where the app's entry says `client_may_spend`."
    CASHIER = "A server key with the scope `spend`."
    GRANTER = "A server key with the scope `grant`."
    REFUND_ASKER = "A client token, or a server key with the scope `admin`."
    ADMINISTRATOR = "A server key with the scope `admin`."

    @property
    def needs_credential(self) -> bool:
        return self not in {Access.EVERYBODY, Access.STORE}

    @property
    def is_for_servers_alone(self) -> bool:
        return self in _FOR_SERVERS_ALONE


_FOR_SERVERS_ALONE: Final = frozenset({Access.OPERATOR, Access.CASHIER, Access.GRANTER, Access.ADMINISTRATOR})
_SCOPES: Final[Mapping[Access, Scope]] = {
    Access.READER: "read",
    Access.OPERATOR: "read",
    Access.SPENDER: "spend",
    Access.CASHIER: "spend",
    Access.GRANTER: "grant",
    Access.REFUND_ASKER: "admin",
    Access.ADMINISTRATOR: "admin",
}


def admit(caller: Caller, access: Access) -> None:
    """Raises ScopeRejected."""
    if access.is_for_servers_alone:
        require_server(caller)
    if access is Access.SPENDER:
        require_spending(caller)
    elif access in _SCOPES:
        require_scope(caller, _SCOPES[access])
