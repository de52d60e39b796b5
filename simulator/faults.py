"""What goes wrong on command. One set of faults is in force at a time; a new one replaces it whole."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace

from shared.ids import IdSource

SHUFFLE_WINDOW_S = 2.0
"""How long a shuffled notification is held back at most, so that later ones overtake it."""


@dataclass(frozen=True, slots=True)
class VerifyReceiptFaults:
    """What verifyReceipt does wrong.

    `statuses` are answered one per call, 0 standing for a normal answer, until they are used up; `retryable` is what
    those from 21100 to 21199 say of themselves. The others last: `delay_ms` before each answer; `http_status` instead
    of 200, with an empty body; `not_json` for a body that is a web page; `cut` for one that ends half-way.
    """

    statuses: tuple[int, ...] = ()
    retryable: bool = True
    delay_ms: int = 0
    http_status: int | None = None
    not_json: bool = False
    cut: bool = False


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
    notifications: NotificationFaults = NotificationFaults()


@dataclass(frozen=True, slots=True)
class Journey:
    """What befalls one notification on its way. `hold_s` is in seconds."""

    dropped: bool
    copies: int
    hold_s: float


class FaultBoard:
    """The faults in force, and which of their statuses are still to come. Thread-safe."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids
        self._lock = threading.Lock()
        self._faults = Faults()
        self._statuses: deque[int] = deque()

    def put(self, faults: Faults) -> None:
        with self._lock:
            self._faults = faults
            self._statuses = deque(faults.verify_receipt.statuses)

    def get(self) -> Faults:
        """The faults in force; of the statuses only those that are still to come."""
        with self._lock:
            remaining = replace(self._faults.verify_receipt, statuses=tuple(self._statuses))
            return replace(self._faults, verify_receipt=remaining)

    def take_status(self) -> int:
        """The status that this call of verifyReceipt has to answer; 0 is its normal answer."""
        with self._lock:
            return self._statuses.popleft() if self._statuses else 0

    def draw_journey(self) -> Journey:
        """What befalls the next notification."""
        faults = self.get().notifications
        held_back_s = self._ids.uniform(0, SHUFFLE_WINDOW_S) if self._strikes(faults.shuffle) else 0.0
        return Journey(
            dropped=self._strikes(faults.drop),
            copies=2 if self._strikes(faults.duplicate) else 1,
            hold_s=faults.delay_ms / 1000 + held_back_s,
        )

    def _strikes(self, probability: float) -> bool:
        return probability > 0 and self._ids.uniform(0, 1) <= probability
