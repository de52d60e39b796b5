"""Where all roads meet: authentic statements of the store, our records of their transactions, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from shared.catalog import Catalog
from shared.events import Draft, Event, Payload, StoreTransaction
from shared.ids import EventId, PurchaseId
from shared.jws import JwsError, JwsUnconfirmed
from shared.outcome import Handled, Later, Parked
from verifier.domain import Rejected
from verifier.domain.records import OriginKey, TransactionKey
from verifier.handlers.holding import Held, Holders, Statement
from verifier.handlers.ports import Records
from verifier.handlers.words import claimed_id, declined, rejected

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Declined:
    """The store's word that it refunds nothing to somebody who asked: told on, and on record nothing changes."""

    event: Event[Payload]
    transaction: StoreTransaction

    @property
    def key(self) -> TransactionKey:
        return TransactionKey.of(self.event.app, self.transaction)


@dataclass(slots=True)
class Findings:
    """What a batch came to, before anything is written."""

    statements: list[Statement] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)
    rejections: list[tuple[Event[Payload], Rejected]] = field(default_factory=list)
    parked: dict[EventId, str] = field(default_factory=dict)
    later: dict[EventId, Later] = field(default_factory=dict)

    def read(self, event: Event[Payload], reading: Callable[[], T]) -> T | None:
        """What the store says in an event that is nobody's claim. None as well when it is not known yet whether it
        holds, and when it does not: then somebody should look at it.
        """
        try:
            return reading()
        except JwsUnconfirmed as unconfirmed:
            self.later[event.id] = Later(str(unconfirmed), after_s=unconfirmed.retry_after_s)
        except (JwsError, Parked) as error:
            self.parked[event.id] = str(error)
        return None


def settle(findings: Findings, *, records: Records, catalog: Catalog, now: datetime) -> Handled:
    """Statements meet the records, under their locks."""
    held = _hold(findings, records=records, catalog=catalog, now=now)
    drafts = [draft for statement in findings.statements for draft in held.meet(statement)]
    held.save(records)
    drafts += [declined(each.event, each.transaction, held.record(each.key), now) for each in findings.declined]
    drafts += _rejections(findings.rejections, records, now)
    return Handled(drafts, parked=findings.parked, later=findings.later)


def _hold(findings: Findings, *, records: Records, catalog: Catalog, now: datetime) -> Held:
    """Locks account tokens first, then origins, then records, both in their keys' order.

    The order is the same everywhere, so that no two transactions wait for each other in a circle. Of an origin that
    somebody may come to own here, what nobody has claimed yet is held too: no new one can appear meanwhile, because who
    records one holds its origin.
    """
    tokens = {statement.token for statement in findings.statements if statement.token}
    holders = dict(records.token_holders(tokens))
    origins = records.lock_origins({statement.origin for statement in findings.statements if statement.origin})
    nobodys = {key for key, origin in origins.items() if origin.user_id is None}
    keys = {statement.key for statement in findings.statements} | {each.key for each in findings.declined}
    held = records.lock(keys | records.unclaimed_of(nobodys & _claimed(findings, holders)))
    remembered = {record.token for record in held.values() if record.token}
    holders |= records.known_holders(remembered - tokens)
    return Held(records=held, origins=origins, holders=holders, catalog=catalog, now=now)


def _claimed(findings: Findings, holders: Holders) -> set[OriginKey]:
    """The origins that may get their owner: somebody claims them, or the account token tells who."""
    return {
        statement.origin
        for statement in findings.statements
        if statement.origin and (statement.claimant or (statement.token and statement.token in holders))
    }


def _rejections(rejections: Sequence[tuple[Event[Payload], Rejected]], records: Records, now: datetime) -> list[Draft]:
    """A proof that is no good takes nothing back: whoever has the purchase already is not told that it was refused."""
    if not rejections:
        return []
    had = records.claimed({PurchaseId(event.subject): (event.app, claimed_id(event)) for event, _ in rejections})
    return [rejected(event, why, None, now) for event, why in rejections if event.subject not in had]
