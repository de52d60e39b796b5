"""The App Store as an operator asks it: its Server API with an app's own key, and what it signed, verified or not."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appstoreserverlibrary.models.CheckTestNotificationResponse import CheckTestNotificationResponse

from deploy.addresses import known_environment
from deploy.desk import chosen_app
from deploy.errors import StackInvalid, StackUnavailable
from deploy.settings import StackSettings
from shared.apps import App
from shared.clock import Clock, SystemClock, from_unix_ms
from shared.events import Environment
from shared.jws import JwsError, JwsMalformed, JwsVerifier, peek_claims
from shared.settings import TrustSettings, read
from shared.trust import jws_verifier
from verifier.apple.keys import SigningKey, SigningKeyInvalid, read_signing_key
from verifier.apple.pace import WAIT_S_MAX, Pace
from verifier.apple.refusals import ServerApiError, ServerApiNotFound, ServerApiUnavailable
from verifier.apple.server_api import ServerApi
from verifier.apple.transport import Transport, store_session
from verifier.settings import StoreSettings

TURN_WAIT_S_MAX = 30.0
"""A person at a terminal waits for Apple's slowest endpoint (in the sandbox: one question in ten seconds)."""

ASK_EVERY_S = 2.0

_UNIX_MS_MAX = 253_402_300_799_999  # the last moment of the year 9999


@dataclass(frozen=True, slots=True)
class Desk:
    """What is needed to ask about one app, and to check the answers."""

    api: ServerApi
    app: App
    verifier: JwsVerifier
    clock: Clock


@dataclass(frozen=True, slots=True)
class Statement:
    """Something that the App Store is said to have signed. `doubt`: why it is not verified; None: it is."""

    claims: Mapping[str, Any]
    doubt: str | None


@contextmanager
def app_store(app_id: str | None) -> Iterator[Desk]:
    """The Server API for one app, as the configuration or a `purser up` beside us has it. Raises DeployErrors only."""
    stack = read(StackSettings)
    app = chosen_app(stack, app_id)
    known = known_environment(stack)
    store, trust = read(StoreSettings, known), read(TrustSettings, known)
    clock = SystemClock()
    with server_api(app, _signing_key(app), settings=store, clock=clock, wait_s_max=TURN_WAIT_S_MAX) as api:
        try:
            yield Desk(api, app, jws_verifier(trust, production=stack.production), clock)
        except ServerApiUnavailable as error:
            raise StackUnavailable(error.sentence) from error
        except ServerApiError as error:
            raise StackInvalid(error.sentence) from error


@contextmanager
def server_api(
    app: App, key: SigningKey | None, *, settings: StoreSettings, clock: Clock, wait_s_max: float = WAIT_S_MAX
) -> Iterator[ServerApi]:
    """The Server API as this app; without a key, every question is answered with ServerApiMisconfigured.

    `wait_s_max`: how long a question waits for its turn; one that has to wait longer is ServerApiUnavailable.
    """
    with store_session(connections=1) as session:
        yield ServerApi(
            keys={} if key is None else {app.id: key},
            transport=Transport(
                session=session,
                connect_timeout_s=settings.store_connect_timeout_s,
                read_timeout_s=settings.store_read_timeout_s,
            ),
            production_url=settings.apple_api_url,
            sandbox_url=settings.apple_api_sandbox_url,
            pace=Pace(share=settings.apple_api_share, clock=clock, wait_s_max=wait_s_max),
            clock=clock,
        )


def state(desk: Desk, token: str | None) -> Statement:
    """What a JWS says. One that does not verify is read all the same, and carries its doubt with it."""
    if token is None:
        return Statement({}, "there is nothing signed")
    try:
        return Statement(desk.verifier.verify(token, now=desk.clock.now()).claims, None)
    except JwsError as error:
        return Statement(_claimed(token), str(error))


def sent_test_notification(
    desk: Desk, token: str, *, environment: Environment, within_s: float
) -> CheckTestNotificationResponse | None:
    """The TEST notification of this token with its first attempt; None when there was none in time."""
    until_s = desk.clock.monotonic() + within_s
    pause = threading.Event()
    while desk.clock.monotonic() < until_s:
        with suppress(ServerApiNotFound):  # not sent yet
            answer = desk.api.test_notification(token, app=desk.app, environment=environment)
            if answer.sendAttempts:
                return answer
        pause.wait(ASK_EVERY_S)
    return None


def moment(claims: Mapping[str, Any], name: str) -> datetime | None:
    """A time (UNIX milliseconds) of claims that anybody may have written."""
    value = claims.get(name)
    known = isinstance(value, int | float) and 0 <= value <= _UNIX_MS_MAX
    return from_unix_ms(value) if known and value is not None else None


def _claimed(token: str) -> Mapping[str, Any]:
    try:
        return peek_claims(token)
    except JwsMalformed:
        return {}


def _signing_key(app: App) -> SigningKey | None:
    try:
        return read_signing_key(app)
    except SigningKeyInvalid as error:
        raise StackInvalid(str(error)) from error
