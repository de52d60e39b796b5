"""What concurrent requests want recorded goes into one transaction, and each hears when it is durable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine

from shared.bus import journal
from shared.bus.group_commit import GroupCommit
from shared.database import transact
from shared.events import Draft, NotificationReceived, ReceiptSubmitted, TransactionIdSubmitted, TransactionSubmitted
from shared.ids import EventId, IdSource
from shared.metrics.counted import ACCEPTED

KINDS: Final[Mapping[str, str]] = {
    ReceiptSubmitted.TYPE: "receipt",
    TransactionIdSubmitted.TYPE: "transaction_id",
    TransactionSubmitted.TYPE: "transaction",
    NotificationReceived.TYPE: "notification",
}
"""What is taken in, as the metrics call it."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One draft to be recorded unless its subject is known (see journal.append_once)."""

    draft: Draft
    fingerprint: bytes | None
    reopen: tuple[str, ...]
    repeat: tuple[str, ...]

    def goes_with(self, others: Sequence[Recording]) -> bool:
        """One statement has one set of rules, and each subject once."""
        subjects = {(other.draft.app, other.draft.subject) for other in others}
        return all((self.reopen, self.repeat) == (other.reopen, other.repeat) for other in others) and (
            (self.draft.app, self.draft.subject) not in subjects
        )


class GroupRecorder:
    """`journal.append_once` for many threads at once. Thread-safe."""

    def __init__(self, *, engine: Engine, ids: IdSource) -> None:
        self._engine = engine
        self._ids = ids
        for kind in KINDS.values():
            ACCEPTED.begin(kind, "recorded")
            ACCEPTED.begin(kind, "repeated")
        self._group = GroupCommit(self._append, may_join=Recording.goes_with)

    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._group.waiting()

    def record(self, recording: Recording) -> bool:
        """Durable when it returns. True: recorded now; False: its subject was known.

        Raises DatabaseUnavailable, or what is wrong with this one alone.
        """
        recorded = self._group.submit(recording) is not None
        if (kind := KINDS.get(recording.draft.payload.TYPE)) is not None:
            ACCEPTED.add(kind, "recorded" if recorded else "repeated")
        return recorded

    def _append(self, recordings: Sequence[Recording]) -> Sequence[EventId | None]:
        def append(connection: Connection) -> list[EventId | None]:
            return journal.append_each_once(
                connection,
                [each.draft for each in recordings],
                ids=self._ids,
                fingerprints=[each.fingerprint for each in recordings],
                reopen=recordings[0].reopen,
                repeat=recordings[0].repeat,
            )

        return transact(self._engine, append)
