"""What goes wrong on command. One set of faults is in force at a time; a new one replaces it whole."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Literal

from shared.ids import IdSource

SHUFFLE_WINDOW_S = 2.0
"""How long a shuffled notification is held back at most, so that later ones overtake it."""


API_ERROR_CODE_MIN = 1_000_000
"""Apple's error codes have seven digits, the first three of them the HTTP status."""

CallFault = int | str
"""What befalls one call: 0 nothing, another number the store's own word for it (a status of verifyReceipt; of the
Server API an HTTP status or an errorCode), `http_503` and its like that HTTP status with no body, `timeout` an answer
that comes `hang_ms` late, and a word of Spoiling what that says."""

Spoiling = Literal["not_json", "cut", "huge"]
"""What becomes of an answer on its way: a web page instead; half of it, then the connection breaks; far too much."""

CALL_FAULT_PATTERN = r"^(timeout|not_json|cut|huge|http_[45][0-9]{2})$"
HANG_MS = 15_000
"""How late an answer is that should find nobody waiting any more."""


@dataclass(frozen=True, slots=True)
class CallFaults:
    """What calls of the store have in common.

    `statuses` are for one call each, until they are used up; everything else lasts. `delay_ms` is before each answer,
    `not_json`, `cut` and `huge` are as in Spoiling. What `statuses` says of a call counts before what lasts.
    """

    statuses: tuple[CallFault, ...] = ()
    delay_ms: int = 0
    hang_ms: int = HANG_MS
    not_json: bool = False
    cut: bool = False
    huge: bool = False


@dataclass(frozen=True, slots=True)
class VerifyReceiptFaults(CallFaults):
    """What verifyReceipt does wrong.

    `retryable` is what statuses from 21100 to 21199 say of themselves; `http_status` is answered with an empty body.
    """

    retryable: bool = True
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class ApiFaults(CallFaults):
    """What the App Store Server API does wrong.

    `error_code` is answered as Apple does, with the HTTP status in its first three digits unless `status` gives
    another; `status` alone comes with no body. `retry_after_ms` from now is when such an answer says to come back.
    `limit_rates` holds callers to Apple's limits, `rate_per_s` to another, for each app and each call (429, 4290000).
    """

    status: int | None = None
    error_code: int | None = None
    retry_after_ms: int | None = None
    limit_rates: bool = False
    rate_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class OcspFaults:
    """What the OCSP responder says: `status` of every certificate of ours, `stale` in an answer of the day before
    yesterday. `http_status` comes with an empty body."""

    status: Literal["good", "revoked", "unknown"] = "good"
    stale: bool = False
    http_status: int | None = None
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class NotificationFaults:
    """What happens to notifications on their way; the first three are probabilities, 0 to 1, for each new one.

    `duplicate`: it is posted twice. `shuffle`: it is held back for a random time of up to SHUFFLE_WINDOW_S. `drop`: it
    is never posted (a resend posts it). `delay_ms`: each is held back for so long.
    """

    duplicate: float = 0.0
    shuffle: float = 0.0
    drop: float = 0.0
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class Faults:
    """Everything that can go wrong; the default is that nothing does."""

    verify_receipt: VerifyReceiptFaults = VerifyReceiptFaults()
    api: ApiFaults = ApiFaults()
    ocsp: OcspFaults = OcspFaults()
    notifications: NotificationFaults = NotificationFaults()


@dataclass(frozen=True, slots=True)
class Mishap:
    """What befalls one call. `code` is the store's own word instead of an answer, `hold_s` is in seconds."""

    code: int | None = None
    http_status: int | None = None
    spoiling: Spoiling | None = None
    hold_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Journey:
    """What befalls one notification on its way. `hold_s` is in seconds."""

    dropped: bool
    copies: int
    hold_s: float


class FaultBoard:
    """The faults in force, and which of those for single calls are still to come. Thread-safe."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids
        self._lock = threading.Lock()
        self._faults = Faults()
        self._receipt_calls: deque[CallFault] = deque()
        self._api_calls: deque[CallFault] = deque()

    def put(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._receipt_calls = deque(faults.verify_receipt.statuses)
            self._api_calls = deque(faults.api.statuses)

    def get(self) -> Faults:
        """The faults in force; of those for single calls only what is still to come."""
        with self._lock:
            return replace(
                self._faults,
                verify_receipt=replace(self._faults.verify_receipt, statuses=tuple(self._receipt_calls)),
                api=replace(self._faults.api, statuses=tuple(self._api_calls)),
            )

    @property
    def in_force(self) -> Faults:
        """The faults as they were put: cheap, for who does not care how many calls are still to come."""
        return self._faults

    def strike_verify_receipt(self) -> Mishap:
        """What befalls this call of verifyReceipt."""
        with self._lock:
            wrong, call = self._faults.verify_receipt, _next(self._receipt_calls)
        return _mishap(call, wrong, Mishap(http_status=wrong.http_status))

    def strike_api(self) -> Mishap:
        """What befalls this call of the Server API."""
        with self._lock:
            wrong, call = self._faults.api, _next(self._api_calls)
        if isinstance(call, int) and 0 < call < API_ERROR_CODE_MIN:
            call = f"http_{call}"
        return _mishap(call, wrong, Mishap(code=wrong.error_code, http_status=wrong.status))

    def draw_journey(self) -> Journey:
        """What befalls the next notification."""
        faults = self._faults.notifications
        held_back_s = self._ids.uniform(0, SHUFFLE_WINDOW_S) if self._strikes(faults.shuffle) else 0.0
        return Journey(
            dropped=self._strikes(faults.drop),
            copies=2 if self._strikes(faults.duplicate) else 1,
            hold_s=faults.delay_ms / 1000 + held_back_s,
        )

    def _strikes(self, probability: float) -> bool:
        return probability > 0 and self._ids.uniform(0, 1) <= probability


def _next(calls: deque[CallFault]) -> CallFault:
    return calls.popleft() if calls else 0


def _mishap(call: CallFault, wrong: CallFaults, lasting: Mishap) -> Mishap:
    """What is said of this call before what lasts."""
    delay_s = wrong.delay_ms / 1000
    match call:
        case 0:
            return replace(lasting, spoiling=_lasting_spoiling(wrong), hold_s=delay_s)
        case int():
            return Mishap(code=call, hold_s=delay_s)
        case "timeout":
            return Mishap(hold_s=delay_s + wrong.hang_ms / 1000)
        case "not_json" | "cut" | "huge":
            return Mishap(spoiling=call, hold_s=delay_s)
        case _:
            return Mishap(http_status=int(call.removeprefix("http_")), hold_s=delay_s)


def _lasting_spoiling(wrong: CallFaults) -> Spoiling | None:
    words: tuple[tuple[bool, Spoiling], ...] = ((wrong.not_json, "not_json"), (wrong.cut, "cut"), (wrong.huge, "huge"))
    return next((word for is_so, word in words if is_so), None)
