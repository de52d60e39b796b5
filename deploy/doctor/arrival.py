"""A test notification on its way: asked for at the Server API, watched for in our journal and in the store's log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from deploy.app_store import server_api
from deploy.doctor.findings import Finding, failed, ok, unchecked, warning
from deploy.doctor.server_api import NO_KEY, RIGHT_KEY, complaint, usable_key
from deploy.told import Told, told
from shared.apps import App
from shared.clock import Clock, from_unix_ms, rfc3339
from shared.database import INTERACTIVE_TIMEOUT_S, DatabaseUnavailable, connect_engine, transact
from shared.events import Environment
from shared.jws import JwsError, peek_claims
from verifier.apple.refusals import ServerApiError, ServerApiNotFound, ServerApiUnavailable
from verifier.apple.server_api import ServerApi
from verifier.settings import StoreSettings

TEST: Final = "TEST"
LOOKED_AT = 20
"""The newest test notifications of the app."""
LOOK_EVERY_S = 0.5
STATUS_ASKED_AFTER_S = 5.0
"""The store is asked what became of it once it has arrived, or after so long: it may be asked seldom."""
STATUS_ASKED_EVERY_S = 2.0

URL_UNSET = 4040007
RIGHT_URL = "https://<your host>/webhooks/apple, version 2"
SUCCESS: Final = "SUCCESS"

MEANINGS: Final[Mapping[str, str]] = {
    "TIMED_OUT": "the gateway did not answer in time: a firewall drops it, or the gateway waits for its database",
    "TLS_ISSUE": "the certificate of the URL is not trusted or incomplete, or TLS 1.2 is not spoken: mend the proxy",
    "CIRCULAR_REDIRECT": "the URL is redirected in a circle: enter the one that it should end at",
    "NO_RESPONSE": "nothing listens at the URL: its host, its port, the proxy",
    "SOCKET_ISSUE": "the connection broke: a firewall, or the proxy",
    "UNSUPPORTED_CHARSET": "something answers that is not the gateway: the URL, the proxy",
    "INVALID_RESPONSE": "something answers that is not the gateway: the URL, the proxy",
    "PREMATURE_CLOSE": "the connection was closed before the answer: the proxy's limits, the gateway's log",
    "UNSUCCESSFUL_HTTP_RESPONSE_CODE": "the gateway or the proxy refused it: 401 for another bundle id or app_apple_id"
    " or an unknown root, 404 for a wrong path, 503 for a database that is away; see the gateway's log",
    "OTHER": "the App Store does not say more: the gateway's and the proxy's log",
}
"""The App Store's words for an attempt that failed (SendAttemptResult), and where to look."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the store says of one of its attempts to reach us."""

    at_ms: int | None
    result: str


@dataclass(frozen=True, slots=True)
class Way:
    """How far a test notification has come: by our journal, and by what the store says of its attempts."""

    requested_at: datetime
    arrived: Told | None = None
    attempts: Sequence[Attempt] = ()

    @property
    def handled(self) -> bool:
        return self.arrived is not None and not self.arrived.became.startswith("waiting")

    @property
    def failed_attempt(self) -> Attempt | None:
        """The store's last attempt, when none has reached anybody."""
        if not self.attempts or any(one.result == SUCCESS for one in self.attempts):
            return None
        return self.attempts[-1]

    @property
    def ended(self) -> bool:
        """Both have said how it went, or the store that it went wrong."""
        return self.failed_attempt is not None or (self.handled and bool(self.attempts))


class _Watch:
    """One test notification, from the moment it was asked for."""

    def __init__(
        self,
        *,
        app: App,
        environment: Environment,
        api: ServerApi,
        in_journal: Callable[[], Sequence[Told]],
        clock: Clock,
    ) -> None:
        self._app = app
        self._environment = environment
        self._api = api
        self._in_journal = in_journal
        self._clock = clock
        self._before = {row.notification_id for row in in_journal()}
        self._way = Way(requested_at=clock.now())
        self._token = api.request_test_notification(app=app, environment=environment)
        self._ask_at_s = clock.monotonic() + STATUS_ASKED_AFTER_S
        self._asked = False
        self._notification_id: str | None = None

    def wait(self, wait_s: float) -> Way:
        """How far it has come when it has ended, or the time is up."""
        until_s = self._clock.monotonic() + wait_s
        pause = threading.Event()
        while not self._way.ended and self._clock.monotonic() < until_s:
            pause.wait(LOOK_EVERY_S)
            if self._clock.monotonic() >= self._ask_at_s or (self._way.handled and not self._asked):
                self._ask_store()
            self._look_into_journal()
        return self._way

    def _ask_store(self) -> None:
        self._asked = True
        self._ask_at_s = self._clock.monotonic() + STATUS_ASKED_EVERY_S
        try:
            status = self._api.test_notification(self._token, app=self._app, environment=self._environment)
        except ServerApiNotFound:
            return  # it has not been sent yet
        except ServerApiUnavailable as error:
            self._ask_at_s += error.retry_after_s or 0
            return
        self._notification_id = _notification_id(status.signedPayload)
        attempts = [Attempt(one.attemptDate, one.rawSendAttemptResult or "OTHER") for one in status.sendAttempts or ()]
        self._way = replace(self._way, attempts=attempts)

    def _look_into_journal(self) -> None:
        """Ours is the one that the store names; before it names one, the newest that was not there before."""
        rows = [row for row in self._in_journal() if row.environment == self._environment]
        if self._notification_id is not None:
            rows = [row for row in rows if row.notification_id == self._notification_id]
        arrived = next((row for row in rows if row.notification_id not in self._before), None)
        self._way = replace(self._way, arrived=arrived)


def check_arrival(
    name: str,
    app: App,
    environment: Environment,
    *,
    settings: StoreSettings,
    database_url: str,
    wait_s: float,
    clock: Clock,
) -> list[Finding]:
    """Asks the store for a test notification and watches it arrive, `wait_s` at the longest."""
    key = usable_key(app)
    if key is None:
        return [unchecked(name, NO_KEY)]
    engine = connect_engine(
        database_url, role=None, pool_size=1, application_name="doctor", timeout_s=INTERACTIVE_TIMEOUT_S
    )

    def in_journal() -> Sequence[Told]:
        return transact(
            engine, lambda connection: told(connection, limit=LOOKED_AT, app=app.id, notification_type=TEST, days=1)
        )

    try:
        with server_api(app, key, settings=settings, clock=clock) as api:
            watch = _Watch(app=app, environment=environment, api=api, in_journal=in_journal, clock=clock)
            return [verdict(name, watch.wait(wait_s))]
    except DatabaseUnavailable:
        return [unchecked(name, "no database to watch it arrive in")]
    except ServerApiError as error:
        return [_not_asked(name, error)]
    finally:
        engine.dispose()


def _not_asked(name: str, error: ServerApiError) -> Finding:
    if error.code == URL_UNSET:
        return failed(
            name, "App Store Connect has no URL for it", "App Information, App Store Server Notifications: " + RIGHT_URL
        )
    if isinstance(error, ServerApiUnavailable):
        return failed(name, error.sentence, "try again later")
    return failed(name, complaint(error), RIGHT_KEY)


def verdict(name: str, way: Way) -> Finding:
    """What the way that it took says, and what to do about it."""
    word = _word(way.attempts)
    if way.arrived is not None:
        return _arrived(name, way, way.arrived, word)
    if (attempt := way.failed_attempt) is not None:
        return failed(name, f"not received; {word}", MEANINGS.get(attempt.result, MEANINGS["OTHER"]))
    if way.attempts:
        return failed(name, f"not in this journal; {word}", f"the URL leads to another installation than {RIGHT_URL}")
    found = f"requested {rfc3339(way.requested_at)}, not received in time; {word}"
    return failed(name, found, f"is the URL {RIGHT_URL}? or --wait longer")


def _arrived(name: str, way: Way, arrived: Told, word: str) -> Finding:
    found = (
        f"requested {rfc3339(way.requested_at)}, received {rfc3339(arrived.received_at)}"
        f" ({arrived.notification_id}), {arrived.became}; {word}"
    )
    if arrived.became.startswith(("parked", "dead")):
        return failed(name, found, "purser parked list")
    if not way.handled:
        return warning(name, found, "the courier, the broker or the verifier: see their lines")
    return ok(name, found)


def _word(attempts: Sequence[Attempt]) -> str:
    """What the App Store says of its attempts."""
    if not attempts:
        return "the App Store has not told how it went"
    told_at = [f"{one.result} at {rfc3339(from_unix_ms(one.at_ms))}" if one.at_ms else one.result for one in attempts]
    return f"the App Store says {', '.join(told_at)}"


def _notification_id(signed_payload: str | None) -> str | None:
    """Of what the store says that it sent; what arrives has its signature checked by the gateway."""
    try:
        found = peek_claims(signed_payload or "").get("notificationUUID")
    except JwsError:
        return None
    return found if isinstance(found, str) else None
