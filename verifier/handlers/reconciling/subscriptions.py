"""How subscriptions stand that should have renewed, and of which nothing was heard: the store is asked, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from shared.apps import App
from shared.clock import Clock
from shared.events import Draft, StoreTransaction, SubscriptionReported
from shared.ids import TransactionId, subscription_id
from shared.jws import JwsMalformed, peek_claims
from shared.log import get_logger
from verifier.domain.reconciliation import (
    PUT_OFF,
    SPOKEN_LATELY,
    DueOrigin,
    Standing,
    StoreUnanswered,
    SubscriptionUnknown,
    is_news,
    next_check,
)
from verifier.domain.transactions import Rejected, read_transaction
from verifier.handlers.reconciling.ports import Errand, Reconciliations, Run, StoreMemory

log = get_logger(__name__)

DUE_AT_ONCE_MAX: Final = 50

UNANSWERED_MAX: Final = 5
"""So many questions in a row without an answer, and it is not the question: the store is left alone until next time."""


@dataclass(slots=True)
class _Trouble:
    """What the store left unanswered: the newest, and how many in a row."""

    newest: StoreUnanswered | None = None
    in_a_row: int = 0


class Subscriptions:
    """The road of the subscriptions."""

    def __init__(
        self, *, memory: StoreMemory, records: Reconciliations, clock: Clock, new_trace: Callable[[], str]
    ) -> None:
        self._memory = memory
        self._records = records
        self._clock = clock
        self._new_trace = new_trace

    def walk(self, run: Run, *, app: App, errand: Errand) -> bool:
        """All that are due, the longest overdue first. One that the store does not answer keeps no other waiting.

        False: it was told to stop. Raises StoreUnanswered.
        """
        now, trouble = self._clock.now(), _Trouble()
        due_now = partial(
            self._records.due_origins,
            run.key,
            until=now + errand.ahead,
            spoken_before=now - SPOKEN_LATELY,
            limit=DUE_AT_ONCE_MAX,
        )
        while batch := due_now():
            for due in batch:
                if errand.stopped():
                    return False
                self._ask(run, due, app=app, trouble=trouble)
                errand.observe(run)
        if trouble.newest is not None:
            raise trouble.newest
        return True

    def _ask(self, run: Run, due: DueOrigin, *, app: App, trouble: _Trouble) -> None:
        try:
            standings = self._memory.standings(due.original_transaction_id, app=app, environment=run.key.environment)
        except SubscriptionUnknown:
            standings = ()
        except StoreUnanswered as error:
            self._records.put_off_origin(run.key, due, until=self._clock.now() + PUT_OFF)
            trouble.newest, trouble.in_a_row = error, trouble.in_a_row + 1
            if trouble.in_a_row >= UNANSWERED_MAX:
                raise
            return
        trouble.in_a_row = 0
        self._settle(run, due, standings)

    def _settle(self, run: Run, due: DueOrigin, standings: Sequence[Standing]) -> None:
        now = self._clock.now()
        stated = dict(self._read(run, standings))
        known = self._records.statements(run.key, {transaction.transaction_id for transaction in stated.values()})
        news = [standing for standing in stated if _is_news(standing, stated, known, due)]
        status = next((each.status for each in standings if _is_of(each, due)), None)
        settled = self._records.settle_origin(
            run.key,
            due,
            [self._draft(run, standing) for standing in news],
            check_at=next_check(due, status=status, now=now),
            now=now,
        )
        run.looked_at += 1
        run.recorded += len(news) if settled else 0
        run.missed += len(news) if settled else 0

    def _read(self, run: Run, standings: Iterable[Standing]) -> Iterable[tuple[Standing, StoreTransaction]]:
        """What is signed inside is verified by who acts on it; here it is only compared."""
        for standing in standings:
            try:
                read = read_transaction(peek_claims(standing.signed_transaction))
            except JwsMalformed as error:
                read = Rejected("receipt_malformed", str(error))
            if isinstance(read, Rejected):
                run.unreadable += 1
                log.warning("a subscription's transaction cannot be read", app=run.key.app, reason=read.detail)
            else:
                yield standing, read.transaction

    def _draft(self, run: Run, standing: Standing) -> Draft:
        key = run.key
        payload = SubscriptionReported(
            store="apple",
            environment=key.environment,
            original_transaction_id=standing.original_transaction_id,
            status=standing.status,
            signed_transaction=standing.signed_transaction,
            signed_renewal_info=standing.signed_renewal_info,
        )
        subject = subscription_id(
            app=key.app,
            store="apple",
            environment=key.environment,
            original_transaction_id=standing.original_transaction_id,
        )
        now, trace_id = self._clock.now(), self._new_trace()
        return Draft(payload=payload, app=key.app, subject=subject, user_id=None, occurred_at=now, trace_id=trace_id)


def _is_of(standing: Standing, due: DueOrigin) -> bool:
    return standing.original_transaction_id == due.original_transaction_id


def _is_news(
    standing: Standing,
    stated: Mapping[Standing, StoreTransaction],
    known: Mapping[TransactionId, StoreTransaction],
    due: DueOrigin,
) -> bool:
    transaction = stated[standing]
    return is_news(
        transaction,
        known=known.get(transaction.transaction_id),
        status=standing.status,
        due=due if _is_of(standing, due) else None,
    )
