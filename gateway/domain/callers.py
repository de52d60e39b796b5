"""Who asks, and what they may ask for: a user through their app's client token, or an app's own backend by its key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from shared.apps import App, Scope
from shared.ids import ERASED_PREFIX, ME, UNADDRESSABLE, UserId, is_pseudonym

_USER_ID: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")


class CallRejected(Exception):
    """The caller may not do this. The message may be shown."""


class ScopeRejected(CallRejected):
    """The credential is good, but this call is not within what it may do (403)."""


class UserRejected(CallRejected):
    """The call is about a user that the caller may not act for, and need not know of (404)."""


class UserUnnamed(CallRejected):
    """A server key acts for any user, so it has to say for which (400)."""


class UserIdInvalid(ValueError):
    """It is no user's id. The message says why."""


@dataclass(frozen=True, slots=True)
class Client:
    """The app on a user's device: acts for that user only."""

    app: App
    user_id: UserId


@dataclass(frozen=True, slots=True)
class Server:
    """The app's own backend: acts for any user of its app, within its scopes."""

    app: App
    key_id: str
    scopes: frozenset[Scope]


Caller = Client | Server


def parse_user_id(text: str) -> UserId:
    """1 to 128 characters, none of them a control character, and a path can name it. Raises UserIdInvalid."""
    if _USER_ID.fullmatch(text) is None:
        raise UserIdInvalid("1 to 128 characters are wanted, none of them a control character")
    if text in UNADDRESSABLE:
        raise UserIdInvalid(f"{text!r} cannot be the id of a user: it means something else in a path")
    return UserId(text)


def parse_living_user_id(text: str) -> UserId:
    """The id of somebody who may sign in and buy: nobody who was erased comes back. Raises UserIdInvalid."""
    user_id = parse_user_id(text)
    if is_pseudonym(user_id):
        raise UserIdInvalid(f"ids that begin with {ERASED_PREFIX!r} are kept for users who were erased")
    return user_id


def require_scope(caller: Caller, scope: Scope) -> None:
    """A client may do all that its own user may; a server key needs the scope. Raises ScopeRejected."""
    if isinstance(caller, Server) and scope not in caller.scopes:
        raise ScopeRejected(f"this key lacks the scope {scope!r}")


def require_server(caller: Caller) -> None:
    """Raises ScopeRejected for a client: the call shows, or does, more than a user's device is to."""
    if isinstance(caller, Client):
        raise ScopeRejected("this call takes a server key")


def require_spending(caller: Caller) -> None:
    """A client's app has to let its users spend by themselves; a server key needs the scope. Raises ScopeRejected."""
    if isinstance(caller, Client) and not caller.app.wallet.client_may_spend:
        raise ScopeRejected("this app's users do not spend by themselves: the call takes a server key")
    require_scope(caller, "spend")


def submitting_user(caller: Caller, named: UserId | None) -> UserId:
    """Whose purchase it is: a client's own, or the one that a server names. Raises ScopeRejected, UserUnnamed."""
    if isinstance(caller, Client):
        if named not in {None, caller.user_id}:
            raise ScopeRejected("a client token acts for its own user only")
        return caller.user_id
    if named is None:
        raise UserUnnamed("user_id: a server key names the user")
    return named


def vouches(caller: Caller) -> bool:
    """Whether it is the app's own backend that says whose a purchase is: a device says it of itself."""
    return isinstance(caller, Server)


def addressed_user(caller: Caller, path: str) -> UserId:
    """The user of a path: `me`, or an id. Raises UserRejected, UserUnnamed, UserIdInvalid."""
    if isinstance(caller, Client):
        if path not in {ME, caller.user_id}:
            raise UserRejected("there is no such user")
        return caller.user_id
    if path == ME:
        raise UserUnnamed("a server key has no user of its own: name one in the path")
    return parse_user_id(path)


def may_see(caller: Caller, owner: UserId | None) -> bool:
    """Whether something of this owner, in the caller's own app, is the caller's to see."""
    return isinstance(caller, Server) or caller.user_id == owner
