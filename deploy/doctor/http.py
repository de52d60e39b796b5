"""One HTTP question with a limit on everything, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from shared.clock import Clock

CONNECT_TIMEOUT_S = 3.05
READ_TIMEOUT_S = 6.0
ANSWER_BYTES_MAX = 64 * 1024


class Unreached(Exception):
    """There was no answer; the message says why in a few words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, cut at ANSWER_BYTES_MAX. `ahead_s`: how far the server's clock is ahead of ours, if it tells."""

    status: int
    body: bytes
    ahead_s: float | None


def ask(method: str, url: str, *, clock: Clock, json: Any = None) -> Answer:
    """Raises Unreached. No redirect is followed."""
    began = clock.now()
    try:
        with requests.request(
            method, url, json=json, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), allow_redirects=False, stream=True
        ) as response:
            middle = began + (clock.now() - began) / 2
            body = response.raw.read(ANSWER_BYTES_MAX, decode_content=True)
            return Answer(response.status_code, body, _ahead_s(response.headers.get("Date"), middle))
    except requests.exceptions.SSLError as error:
        raise Unreached("TLS fails: its certificate is not trusted, or it speaks no TLS") from error
    except requests.Timeout as error:
        raise Unreached("no answer in time") from error
    except (requests.RequestException, HTTPError) as error:
        raise Unreached(f"no connection ({type(error).__name__})") from error


def _ahead_s(date: str | None, now: datetime) -> float | None:
    """From a `Date` header, which is whole seconds."""
    if date is None:
        return None
    try:
        return (parsedate_to_datetime(date) - now).total_seconds()
    except (ValueError, TypeError):
        return None
