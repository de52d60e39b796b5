"""HTTP as apps and their backends do it: again and again until there is an answer that is one. All are counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import requests

from shared.clock import SystemClock

REQUEST_TIMEOUT_S: Final = 35.0
PATIENCE_S: Final = 300.0
"""Whoever gets no answer for so long is lost to the app."""
PAUSE_S: Final = 0.2
PAUSE_S_MAX: Final = 1.0
"""Of what `Retry-After` asks for no more is waited: a crowd that hurries is worse than one that waits."""
SHOWN_MAX: Final = 300
ASKS_TO_WAIT: Final = frozenset({429, 503})


class Stopped(Exception):
    """The run is over, and this request with it."""


class NeverAnswered(Exception):
    """Nothing that is an answer came within PATIENCE_S, or one that no repeating changes."""


@dataclass(slots=True)
class Answers:
    """What the gateway answered, by status (`none`: the connection failed). Thread-safe. `wrong`: what may never be
    answered, with the request it was for."""

    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def note(self, request: str, response: requests.Response | None, *, wanted: Collection[int]) -> None:
        with self._lock:
            self.statuses["none" if response is None else str(response.status_code)] += 1
            if response is not None and (problem := _problem(response, wanted)) is not None:
                self.wrong.append(f"{request}: {problem}")


def _problem(response: requests.Response, wanted: Collection[int]) -> str | None:
    status = response.status_code
    if status in ASKS_TO_WAIT:
        seconds = response.headers.get("Retry-After", "")
        return None if seconds.isdigit() and int(seconds) >= 1 else f"{status} without a Retry-After"
    return None if status in wanted else f"{status} {response.text[:SHOWN_MAX]}"


class Clients:
    """Requests to the gateway and to the store. Thread-safe."""

    def __init__(self, *, gateway: str, store: str, answers: Answers) -> None:
        self._gateway, self._store = gateway, store
        self.answers = answers
        self._local = threading.local()
        self._stopped = threading.Event()
        self._clock = SystemClock()

    def stop(self) -> None:
        """Whatever is still asked ends with Stopped."""
        self._stopped.set()

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        wanted: Collection[int] = (200,),
    ) -> requests.Response:
        """The gateway's answer, one of the wanted ones. Raises NeverAnswered; Stopped."""
        request = f"{method} {path}"
        deadline = self._clock.monotonic() + PATIENCE_S
        while self._clock.monotonic() < deadline:
            response = self._once(method, self._gateway + path, headers, body)
            self.answers.note(request, response, wanted=wanted)
            if response is not None and response.status_code in wanted:
                return response
            if response is not None and 400 <= response.status_code < 500 and response.status_code not in ASKS_TO_WAIT:
                raise NeverAnswered(f"{request}: {response.status_code} {response.text[:SHOWN_MAX]}")
            self._pause(response)
        raise NeverAnswered(f"{request}: not answered for {PATIENCE_S:g} s")

    def tell_store(self, path: str, body: Mapping[str, Any] | None = None, *, method: str = "POST") -> dict[str, Any]:
        """The store's answer to a command; while its notifications pile up it takes none. Raises Stopped; and
        requests.HTTPError, for it is not the store that is put to the proof.

        What only reads is asked for again where its answer was cut off, and has no body: a server that does not read
        one may reset the connection within its answer.
        """
        reads = method == "GET"
        while True:
            try:
                response = self._session().request(
                    method, self._store + path, json=None if reads else body or {}, timeout=REQUEST_TIMEOUT_S
                )
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if not reads:
                    raise
                self._pause(None)
                continue
            if response.status_code != 503:
                response.raise_for_status()
                answer: dict[str, Any] = response.json()
                return answer
            self._pause(response)

    def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> requests.Response | None:
        """None: refused, too late, or cut off within the answer."""
        try:
            return self._session().request(method, url, headers=dict(headers), json=body, timeout=REQUEST_TIMEOUT_S)
        except requests.RequestException:
            return None

    def _pause(self, response: requests.Response | None) -> None:
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        if self._stopped.wait(min(float(asked), PAUSE_S_MAX) if asked.isdigit() else PAUSE_S):
            raise Stopped

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
        session: requests.Session = self._local.session
        return session
