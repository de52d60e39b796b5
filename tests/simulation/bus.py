"""A broker that keeps no promise: what is put on it may be lost, doubled, delayed, and is taken off in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.bus.courier import BrokerUnavailable, Message
from shared.clock import Clock
from tests.simulation.luck import Luck

LATE_S_MAX = 40.0
"""Longer than most leases."""


@dataclass(eq=False, slots=True)
class Letter:
    """A message on its way. It is not there before `arrives_at`."""

    message: Message
    arrives_at: datetime


class SimulatedBus:
    """As shared.bus.courier.Publisher. `tell` is told what became of messages."""

    def __init__(self, *, luck: Luck, clock: Clock, tell: Callable[[str], None]) -> None:
        self.letters: list[Letter] = []
        self._luck = luck
        self._clock = clock
        self._tell = tell

    def publish(self, messages: Sequence[Message]) -> None:
        away_after = self._luck.number(len(messages) + 1) if self._luck.strikes("broker_away") else None
        for message in messages[:away_after]:
            self._take(message)
        if away_after is not None:
            self._tell(f"the broker goes away after {away_after} of {len(messages)} messages")
            raise BrokerUnavailable("simulated")

    def put(self, message: Message, *, after_s: float = 0.0) -> None:
        """It arrives, after so long."""
        self.letters.append(Letter(message, self._clock.now() + timedelta(seconds=after_s)))

    def arrived(self) -> list[Letter]:
        """Those that may be taken now."""
        now = self._clock.now()
        return [letter for letter in self.letters if letter.arrives_at <= now]

    def next_arrival(self) -> datetime | None:
        return min((letter.arrives_at for letter in self.letters), default=None)

    def wipe(self) -> int:
        """All that is on it is gone; how many."""
        count = len(self.letters)
        self.letters.clear()
        return count

    def _take(self, message: Message) -> None:
        if self._luck.strikes("lost"):
            self._tell(f"lost: {named(message)}")
            return
        for _ in range(2 if self._luck.strikes("twice") else 1):
            after_s = self._luck.between(0, LATE_S_MAX) if self._luck.strikes("late") else 0.0
            self.put(message, after_s=after_s)


def named(message: Message) -> str:
    """`ledger ← purchase.verified ×2`."""
    return f"{message.queue} ← {message.event_type} ×{len(message.event_ids)}{' alone' if message.alone else ''}"
