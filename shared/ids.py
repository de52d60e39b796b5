"""Identifiers: the types, the time-ordered ones that are minted, and the ones that are derived.

A derived id is a digest of what it names, so that whoever computes it gets the same one, without asking anybody.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
import threading
from datetime import datetime
from typing import Final, Literal, NewType, Protocol
from uuid import UUID

from shared.clock import Clock, SystemClock, from_unix_ms, to_unix_ms

AppId = NewType("AppId", str)
UserId = NewType("UserId", str)
PurchaseId = NewType("PurchaseId", str)
TransactionId = NewType("TransactionId", str)  # the store's own
EventId = NewType("EventId", UUID)
SpendId = NewType("SpendId", str)
HoldId = NewType("HoldId", str)
GrantId = NewType("GrantId", str)
RefundRequestId = NewType("RefundRequestId", str)
SubscriptionId = NewType("SubscriptionId", str)
EntitlementId = NewType("EntitlementId", str)  # the catalogue's own


ME: Final = "me"
"""In a path: the user whose token it is."""
UNADDRESSABLE: Final = frozenset({".", "..", ME})
"""No users' ids, since a path cannot name them: whoever normalizes a URL drops the dots (RFC 3986, 6.2.2.3)."""


class IdSource(Protocol):
    """Where every new id and every random number comes from."""

    def event_id(self) -> EventId:
        """A UUIDv7, greater than every one this source gave before."""
        ...

    def trace_id(self) -> str:
        """32 hexadecimal digits, as W3C Trace Context wants them."""
        ...

    def uuid(self) -> UUID:
        """A random UUIDv4."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A random float between the two, for jitter."""
        ...


class Ids:
    """Ids from a clock and a source of randomness. Thread-safe.

    UUIDv7 (RFC 9562): 48 bits of UNIX milliseconds, then here a 12-bit counter within the millisecond (method 1), then
    62 random bits. A clock that steps back does not: the last millisecond is used until the clock has caught up.
    """

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._lock = threading.Lock()
        self._last_ms = 0
        self._counter = 0

    def event_id(self) -> EventId:
        with self._lock:
            milliseconds = max(to_unix_ms(self._clock.now()), self._last_ms)
            self._counter = self._counter + 1 if milliseconds == self._last_ms else 0
            if self._counter > 0xFFF:  # more than 4,096 in one millisecond: borrow the next
                milliseconds, self._counter = milliseconds + 1, 0
            self._last_ms = milliseconds
            return EventId(_uuid7(milliseconds, self._counter, self._rng.getrandbits(62)))

    def trace_id(self) -> str:
        with self._lock:
            return f"{self._rng.getrandbits(128):032x}"

    def uuid(self) -> UUID:
        with self._lock:
            return UUID(int=self._rng.getrandbits(128), version=4)

    def uniform(self, low: float, high: float) -> float:
        with self._lock:
            return self._rng.uniform(low, high)


def system_ids() -> Ids:
    """Ids from the machine's clock and its entropy."""
    return Ids(SystemClock(), random.SystemRandom())


def _uuid7(milliseconds: int, counter: int, random_62: int) -> UUID:
    return UUID(int=milliseconds << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | random_62)


def uuid7_floor(moment: datetime) -> UUID:
    """The smallest UUIDv7 of that millisecond: the bound between two time partitions."""
    return UUID(int=to_unix_ms(moment) << 80)


def uuid7_moment(value: UUID) -> datetime:
    """When a UUIDv7 was minted, to the millisecond (RFC 9562: its first 48 bits)."""
    return from_unix_ms(value.int >> 80)


ERASED_PREFIX: Final = "erased:"


def pseudonym(value: UUID) -> UserId:
    """Who an erased user's things belong to from then on: `value` is random, and leads back to nobody."""
    return UserId(ERASED_PREFIX + value.hex)


def is_pseudonym(user_id: str) -> bool:
    """Whether this is who an erased user's things belong to."""
    return user_id.startswith(ERASED_PREFIX)


_PUBLIC_ID: Final = re.compile(r"(?P<prefix>[a-z]{3})_(?P<digits>[0-9a-f]{32})")


def spend_id(value: UUID) -> SpendId:
    """The id of a spend outside the ledger."""
    return SpendId(f"spd_{value.hex}")


def hold_id(value: UUID) -> HoldId:
    """The id of a hold outside the ledger."""
    return HoldId(f"hld_{value.hex}")


def grant_id(value: UUID) -> GrantId:
    """The id of a goodwill grant outside the ledger."""
    return GrantId(f"grt_{value.hex}")


def refund_request_id(value: UUID) -> RefundRequestId:
    """The id of a user's request for a refund outside the ledger."""
    return RefundRequestId(f"rfr_{value.hex}")


def parse_public_id(text: str, *, prefix: Literal["spd", "hld", "grt", "rfr"]) -> UUID | None:
    """The UUID in an id that one of the functions above wrote; None for what is none of that kind."""
    match = _PUBLIC_ID.fullmatch(text)
    return UUID(hex=match["digits"]) if match is not None and match["prefix"] == prefix else None


def purchase_id(*, app: str, store: str, transaction_id: str, user_id: str) -> PurchaseId:
    """The id of one user's claim to one store transaction: whoever posts it, however often, gets the same one.

    The environment is not part of it, because a receipt does not say which it is from before the store was asked.
    """
    return PurchaseId("pur_" + _digest(app, store, transaction_id, user_id))


def transaction_subject(*, app: str, store: str, environment: str, transaction_id: str) -> str:
    """The subject of events about a store transaction that no user has claimed."""
    return "txn_" + _digest(app, store, environment, transaction_id)


def subscription_id(*, app: str, store: str, environment: str, original_transaction_id: str) -> SubscriptionId:
    """The id of a subscription: of all its periods, whoever has it."""
    return SubscriptionId("sub_" + _digest(app, store, environment, original_transaction_id))


def entitlement_subject(*, app: str, environment: str, user_id: str, entitlement: str) -> str:
    """The subject of what one user may use."""
    return "ent_" + _digest(app, environment, user_id, entitlement)


def notification_subject(*, app: str, store: str, notification_id: str) -> str:
    """The subject of one store notification, by the id that stays the same when the store repeats it."""
    return "ntf_" + _digest(app, store, notification_id)


def webhook_endpoint_subject(*, app: str, endpoint_id: str) -> str:
    """The subject of one endpoint of an app's backend."""
    return "whe_" + _digest(app, endpoint_id)


def account_subject(*, app: str, user_id: str) -> str:
    """The subject of a user's account token."""
    return "acc_" + _digest(app, user_id)


def erasure_subject(*, app: str, user_id: str) -> str:
    """The subject of a user's having been erased, by the pseudonym."""
    return "era_" + _digest(app, user_id)


def _digest(*parts: str) -> str:
    """26 characters of base32 (130 bits) over the parts, each with its length, so that no two lists run together."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        hashed.update(len(encoded).to_bytes(4, "big"))
        hashed.update(encoded)
    return base64.b32encode(hashed.digest()).decode().lower()[:26]
