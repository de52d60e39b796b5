"""How much one caller may ask for: users by what they ask, addresses by what is refused to them.

Each process counts for itself, in memory: accepting rests on nothing but the database (ADR 18).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from math import ceil
from typing import Final

from flask import request

from gateway.domain.callers import Caller, Client
from gateway.domain.peers import IpNetwork, origin
from gateway.domain.rates import FULL, Rate
from shared.clock import Clock
from shared.http import Problem

KEYS_MAX: Final = 50_000
"""Of each limit: 12 MB at most. Beyond, whoever was quiet the longest begins anew; so many addresses that somebody has
are not to be counted one by one anyway."""


class Allowances:
    """What each of many has left of one rate; of those that came last. Thread-safe."""

    def __init__(self, rate: Rate, *, clock: Clock, keys_max: int = KEYS_MAX) -> None:
        self._rate = rate
        self._clock = clock
        self._keys_max = keys_max
        self._full_at_s: OrderedDict[int, float] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._full_at_s)

    def wait_s(self, key: Hashable) -> float:
        """How long until there is something left; 0: there is."""
        return self._rate.wait_s(self._full_at_s.get(hash(key), FULL), now_s=self._clock.monotonic())

    def take(self, key: Hashable) -> float:
        """Takes one. If there is none: nothing is taken, and it is how long until there will be."""
        # Its hash stands for the key: of a fixed size, whatever somebody calls themselves, and not to be guessed.
        digest, now_s = hash(key), self._clock.monotonic()
        with self._lock:
            full_at_s = self._full_at_s.get(digest, FULL)
            wait_s = self._rate.wait_s(full_at_s, now_s=now_s)
            if not wait_s:
                self._full_at_s[digest] = self._rate.after_one(full_at_s, now_s=now_s)
                self._full_at_s.move_to_end(digest)
                if len(self._full_at_s) > self._keys_max:
                    self._full_at_s.popitem(last=False)
            return wait_s


class Limits:
    """The gateway's limits. A rate that is None is no limit. Thread-safe: one serves a whole process.

    `users`: all calls of one user. `submissions`: those of them that cost the store's or the books' time. `failures`:
    what is refused to strangers, by address.
    """

    def __init__(
        self,
        *,
        users: Rate | None,
        submissions: Rate | None,
        failures: Rate | None,
        proxies: Sequence[IpNetwork],
        clock: Clock,
    ) -> None:
        self._users = _allowances(users, clock)
        self._submissions = _allowances(submissions, clock)
        self._failures = _allowances(failures, clock)
        self._proxies = proxies

    def admit(self, caller: Caller, *, costly: bool) -> None:
        """Counts a call. An app's own backend is not limited. Raises Problem: 429."""
        if not isinstance(caller, Client):
            return
        user = (caller.app.id, caller.user_id)
        _require(self._users, user, "this user calls too often")
        if costly:
            _require(self._submissions, user, "this user submits too often")

    def count_failure(self) -> None:
        """Counts what is about to be refused. Raises Problem: 429 in its place if it was too much."""
        _require(self._failures, self._origin(), "too much that came from this address was refused")

    def _origin(self) -> str:
        forwarded_for = request.headers.get("X-Forwarded-For", "")
        return origin(request.remote_addr or "", forwarded_for, proxies=self._proxies)


def too_many_requests(detail: str, *, wait_s: float) -> Problem:
    """429, with how long to wait in whole seconds (RFC 6585, section 4)."""
    headers = {"Retry-After": str(ceil(wait_s))}
    return Problem(429, "too-many-requests", "Too many requests", detail, headers=headers)


def _allowances(rate: Rate | None, clock: Clock) -> Allowances | None:
    return None if rate is None else Allowances(rate, clock=clock)


def _require(allowances: Allowances | None, key: Hashable, detail: str) -> None:
    if allowances is not None and (wait_s := allowances.take(key)):
        raise too_many_requests(detail, wait_s=wait_s)
