"""What is broken on purpose, one thing at a time: a simulation that finds none of it would find nothing else either.

The code under test stays as it is: a statement is changed on its way to the server, or a function while runs last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final
from unittest.mock import patch

from sqlalchemy import Connection

from gateway.store.journal import PostgresJournal
from ledger.domain import books, decisions
from ledger.domain.books import ALL_MILLI, UNKNOWN, KnownTransaction
from ledger.domain.decisions import Decision
from ledger.store.answers import PostgresAnswers
from ledger.store.entitlements import PostgresEntitlements
from shared.bus.consumer import ConsumerRuntime, InBatches
from shared.database import transact
from shared.ids import EventId
from tests.simulation.database import SimulatedDatabase
from verifier.domain import decide_claim
from verifier.domain.records import Record
from verifier.handlers import holding


@dataclass(frozen=True, slots=True)
class Sabotage:
    """`breaks`: what is broken, in a sentence. `statements`: texts in SQL, and what they become. `functions`: of which
    class or module which one, and what takes its place. `schema`: what is done to the tables."""

    breaks: str
    statements: Mapping[str, str] = field(default_factory=dict)
    functions: Sequence[tuple[Any, str, Any]] = ()
    schema: str = ""

    @contextmanager
    def on(self, database: SimulatedDatabase) -> Iterator[None]:
        """For all runs inside. Raises AssertionError when the code has no such statement any more."""
        with ExitStack() as stack:
            for owner, name, instead in self.functions:
                stack.enter_context(patch.object(owner, name, instead))
            stack.enter_context(database.rewriting(self.statements, schema=self.schema))
            yield


# ---- the bus -----------------------------------------------------------------------------------------------------

_CLAIM_KEPT: Final = {
    """delete from journal.delivery d using mine
          where d.consumer = %(consumer)s and d.event_id = mine.event_id
         returning d.event_id, d.attempts""": """select d.event_id, d.attempts from journal.delivery d, mine
          where d.consumer = %(consumer)s and d.event_id = mine.event_id"""
}
_CLAIM_IGNORED: Final = {
    ", attempts, extract(epoch": ", coalesce(attempts, 0) as attempts, extract(epoch",
    "from journal.event join claimed on": "from journal.event left join claimed on",
}
_NEVER_AGAIN: Final = {"where q.consumer = free.name and": "where q.consumer = free.name and q.state = 'waiting' and"}
_TAKEN_FOR_GOOD: Final = {
    "   set due_at = %(lost_at)s\n": "   set due_at = %(lost_at)s::timestamptz + interval '99 y'\n"
}


def _claims_first(self: ConsumerRuntime, handler: InBatches, event_ids: Sequence[EventId], *, counted: bool) -> None:
    """At most once: the claim is committed, then its events are handled."""
    claims = transact(self._engine, lambda on: self._claim(on, event_ids, counted=event_ids if counted else ()))

    def apply(connection: Connection) -> None:
        self._record(connection, claims, handler.apply(connection, [claim.event for claim in claims]))

    if claims:
        transact(self._engine, apply)


_record_once = PostgresJournal.record_once


def _answers_first(self: PostgresJournal, draft: Any, **how: Any) -> bool:
    """What it has said is written is written when somebody comes the next time, if it lives so long."""
    owed = self.__dict__.setdefault("owed", [])
    while owed:
        each, as_then = owed.pop()
        _record_once(self, each, **as_then)
    owed.append((draft, how))
    return True


# ---- the verifier and the ledger ---------------------------------------------------------------------------------

_with_refund, _decide_claim = Record._with_refund, decide_claim
_restate, _decide_purchase = decisions._restate, decisions._decide_purchase


def _forgets_refunds_of_nobodys(self: Record, statement: Any) -> Record:
    return self if self.user_id is None else _with_refund(self, statement)


def _promises_nothing(self: Record, user_id: Any) -> Record:
    return self


def _counts_the_last_word(self: Record, statement: Any) -> Record:
    return _with_refund(replace(self, revoked=None), statement) if statement.revoked else self


def _believes_every_claimant(*, known: Any, **claim: Any) -> Any:
    return _decide_claim(**claim | {"known": replace(known, owner=None), "token_holder": None, "proven": True})


def _forgets_early_refunds(event: Any, transaction: Any, known: KnownTransaction, **how: Any) -> Decision:
    return _restate(event, transaction, known, **how) if known.state == "granted" else Decision(known)


def _obeys_any_word(event: Any, transaction: Any, known: KnownTransaction, **how: Any) -> Decision:
    return _restate(event, transaction, replace(known, revoked_signed_at=None), **how)


def _grants_whatever_it_has_granted(event: Any, fact: Any, known: KnownTransaction, product: Any) -> Decision:
    return _decide_purchase(event, fact, replace(UNKNOWN, refunded_milli=known.refunded_milli), product)


def _keeps_nothing(self: PostgresAnswers, answers: Any, *, now: Any) -> None:
    """As if they had been kept."""


def _finds_nothing_due(self: PostgresEntitlements, *, now: Any, limit: int) -> list[Any]:
    return []


def _rounds_up(amount: int, milli: int) -> int:
    return -(-amount * milli // ALL_MILLI)


SABOTAGES: Final[Mapping[str, Sabotage]] = {
    "claim-kept": Sabotage("a consumer's claim leaves the delivery row where it is", _CLAIM_KEPT),
    "claim-ignored": Sabotage("a consumer handles what a message names, handled before or not", _CLAIM_IGNORED),
    "nothing-unique": Sabotage(
        "the same, the ledger does not know what it has granted, and the database does not mind",
        _CLAIM_IGNORED,
        ((decisions, "_decide_purchase", _grants_whatever_it_has_granted),),
        "drop index ledger.transfer_of_store",
    ),
    "claim-first": Sabotage(
        "a claim is committed before its events are handled",
        functions=((ConsumerRuntime, "_in_one_transaction", _claims_first),),
    ),
    "never-again": Sabotage("the courier hands over nothing a second time", _NEVER_AGAIN),
    "answers-first": Sabotage(
        "the gateway answers, then writes", functions=((PostgresJournal, "record_once", _answers_first),)
    ),
    "webhook-kept": Sabotage("a webhook that was taken is not taken again", _TAKEN_FOR_GOOD),
    "keys-forgotten": Sabotage(
        "the ledger keeps no answers to repeated requests",
        functions=((PostgresAnswers, "keep", _keeps_nothing),),
    ),
    "nobodys-refund": Sabotage(
        "the verifier forgets the refund of what nobody has claimed",
        functions=((Record, "_with_refund", _forgets_refunds_of_nobodys),),
    ),
    "promise-forgotten": Sabotage(
        "the verifier forgets who claimed what was refunded",
        functions=((Record, "promised", _promises_nothing),),
    ),
    "early-refund": Sabotage(
        "the ledger forgets the refund of what it has not granted",
        functions=((decisions, "_restate", _forgets_early_refunds),),
    ),
    "last-word": Sabotage(
        "of two words on a refund the one that came last counts",
        functions=((Record, "_with_refund", _counts_the_last_word), (decisions, "_restate", _obeys_any_word)),
    ),
    "token-ignored": Sabotage(
        "whoever names a purchase may have it, whoever's account token it was bought with",
        functions=((holding, "decide_claim", _believes_every_claimant),),
    ),
    "rounding": Sabotage("a refund takes a unit too much", functions=((books, "part", _rounds_up),)),
    "time-ignored": Sabotage(
        "nothing ends by itself that a user may use",
        functions=((PostgresEntitlements, "due", _finds_nothing_due),),
    ),
}
