"""What is held under locks while a batch is settled: origins and records as they stand by now, and what follows when a
statement, or an owner, meets them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.catalog import Catalog, Product
from shared.events import Draft, Event, Payload, Renewal, StoreTransaction
from shared.ids import AppId, TransactionId, UserId
from verifier.domain import AppleTransaction, Rejected, Verified, decide_claim, shows_owner
from verifier.domain.claims import KnownTransaction
from verifier.domain.origins import Origin
from verifier.domain.records import OriginKey, Record, TransactionKey
from verifier.handlers.ports import Records
from verifier.handlers.words import about_refunds, rejected, subscription_changed, verified

Holders = Mapping[tuple[AppId, UUID], UserId]


@dataclass(frozen=True, slots=True)
class Statement:
    """An authentic statement about this app's transaction, what it says with it of the next renewal, and what became of
    it.

    `over`: by the store's own status the subscription has ended. `claimant` is who claims it (None: it is a fact, and
    its account token may tell whose); a claim that is `told` gets its rejection too, and one that is not `proven` needs
    the account token to say the same.
    """

    event: Event[Payload]
    transaction: AppleTransaction
    renewal: Renewal | None = None
    over: bool = False
    claimant: UserId | None = None
    claimed_id: TransactionId | None = None
    told: bool = False
    proven: bool = True

    @classmethod
    def claimed(
        cls,
        event: Event[Payload],
        transaction: AppleTransaction,
        *,
        claimed_id: TransactionId,
        renewal: Renewal | None = None,
        told: bool = True,
        proven: bool = True,
    ) -> Statement:
        """A statement that came with the claim of the event's user."""
        return cls(
            event,
            transaction,
            renewal=renewal,
            claimant=event.user_id,
            claimed_id=claimed_id,
            told=told,
            proven=proven,
        )

    @property
    def key(self) -> TransactionKey:
        return TransactionKey.of(self.event.app, self.transaction.transaction)

    @property
    def origin(self) -> OriginKey | None:
        return OriginKey.of(self.event.app, self.transaction.transaction)

    @property
    def token(self) -> tuple[AppId, UUID] | None:
        """That of the buyer, which of what a family member shares tells nothing."""
        token, shared = self.transaction.app_account_token, self.transaction.transaction.family_shared
        return None if token is None or shared else (self.event.app, token)


class Held:
    """The records and origins of a batch. Each of its steps returns what follows; `save` writes what has changed."""

    def __init__(
        self,
        *,
        records: Mapping[TransactionKey, Record],
        origins: Mapping[OriginKey, Origin],
        holders: Holders,
        catalog: Catalog,
        now: datetime,
    ) -> None:
        self._found = dict(records), dict(origins)
        self._records = dict(records)
        self._origins = dict(origins)
        self._holders = holders
        self._catalog = catalog
        self._now = now
        self._of_origin: defaultdict[OriginKey, list[TransactionKey]] = defaultdict(list)
        for record in records.values():
            if record.origin is not None:
                self._of_origin[record.origin].append(record.key)

    def record(self, key: TransactionKey) -> Record:
        return self._records[key]

    def unowned(self, key: OriginKey) -> bool:
        return self._origins[key].user_id is None

    def meet(self, statement: Statement) -> list[Draft]:
        """A statement meets the record of its transaction, and what it belongs to."""
        before, origin_before = self._records[statement.key], self._origin(statement)
        self._hear(statement, before)
        drafts = self._claim(statement)
        record, origin = self._records[statement.key], self._origin(statement)
        if record.tells_of_refunds(before, statement.transaction):
            said, renewal = statement.transaction, self._renewal(record)
            drafts.append(about_refunds(statement.event, said, record, renewal, self._now))
        if origin is not None and origin_before is not None:
            told = {record.key} if record.tells_of_more(before) or origin.tells_of_renewal(origin_before) else set()
            if origin.user_id != origin_before.user_id:
                told |= self._newest(origin.key)
            drafts += self._tell(statement.event, told, origin)
        return drafts

    def own(self, event: Event[Payload], key: OriginKey, user_id: UserId) -> list[Draft]:
        """An account token has told whose an origin is that was nobody's: all of it is his."""
        origin = self._origins[key].owned_by(user_id)
        self._origins[key] = origin
        return [
            *self._give(event, self._of_origin[key], user_id),
            *self._tell(event, self._newest(key), origin),
        ]

    def give(self, event: Event[Payload], key: TransactionKey, user_id: UserId) -> list[Draft]:
        """The same of a transaction that has no origin."""
        return self._give(event, [key], user_id)

    def save(self, records: Records) -> None:
        """Writes what has changed."""
        were, origins_were = self._found
        records.save_origins(origin for key, origin in self._origins.items() if origin != origins_were[key])
        records.save(record for key, record in self._records.items() if record != were[key])

    # ---- steps -------------------------------------------------------------------------------------------------------

    def _origin(self, statement: Statement) -> Origin | None:
        return None if statement.origin is None else self._origins[statement.origin]

    def _renewal(self, record: Record) -> Renewal | None:
        """None as well where the record has an origin that its newest statement denies: that is not held."""
        origin = self._origins.get(record.origin) if record.origin is not None else None
        return None if origin is None else origin.renewal

    def _hear(self, statement: Statement, before: Record) -> None:
        record = before.stated(statement.transaction)
        self._records[record.key] = record
        if record.origin is not None and before.origin is None:
            self._of_origin[record.origin].append(record.key)
        if (origin := self._origin(statement)) is not None and record.statement and record.statement.period:
            heard = origin.heard(record, statement.renewal, now=self._now, over=statement.over)
            self._origins[origin.key] = heard

    def _claim(self, statement: Statement) -> list[Draft]:
        """Who claims it may have it, or not; and whoever owns what it belongs to has it, whoever brought it."""
        record, origin = self._records[statement.key], self._origin(statement)
        holder = self._holder(statement, record)
        owner = (origin.user_id if origin is not None else None) or record.given_or_promised_to(holder)
        claimant = statement.claimant or owner or holder
        if claimant is None:
            return []
        decided = self._decide(statement, record, claimant=claimant, owner=owner, holder=holder)
        drafts = []
        if isinstance(decided, Rejected) and statement.told and record.user_id != claimant:
            shown = statement.transaction if statement.proven else None
            drafts.append(rejected(statement.event, decided, shown, self._now))
        given = [statement.key]
        if owner is None and shows_owner(decided):
            owner = claimant
            if origin is not None:
                self._origins[origin.key] = origin.owned_by(claimant)
                given = self._of_origin[origin.key]
            if record.refunded:
                self._records[record.key] = record.promised(claimant)
        return drafts if owner is None else drafts + self._give(statement.event, given, owner)

    def _holder(self, statement: Statement, record: Record) -> UserId | None:
        """Whose account token it was bought with; of what was promised to an erased user none is kept on record."""
        token = record.token or statement.token
        return self._holders.get(token) if token else None

    def _decide(
        self, statement: Statement, record: Record, *, claimant: UserId, owner: UserId | None, holder: UserId | None
    ) -> Verified | Rejected:
        assert record.statement is not None  # it has met this one
        return decide_claim(
            transaction=record.statement,
            claimed_id=statement.claimed_id or record.key.transaction_id,
            claimant=claimant,
            known=KnownTransaction(owner=owner, refunded=record.refunded),
            token_holder=holder,
            product=self._product(statement.event, record.statement),
            proven=statement.proven,
        )

    def _give(self, event: Event[Payload], keys: Iterable[TransactionKey], user_id: UserId) -> list[Draft]:
        """Those of them that are still nobody's, and may be had."""
        drafts = []
        for key in keys:
            record = self._records[key]
            if record.user_id is None and self._may_be_given(event, record, user_id):
                self._records[key] = owned = record.claimed(user_id)
                drafts.append(verified(event, owned, self._renewal(owned), self._now))
        return drafts

    def _may_be_given(self, event: Event[Payload], record: Record, user_id: UserId) -> bool:
        if record.statement is None:
            return False
        decided = decide_claim(
            transaction=record.statement,
            claimed_id=record.key.transaction_id,
            claimant=user_id,
            known=KnownTransaction(owner=user_id, refunded=record.refunded),
            token_holder=None,
            product=self._product(event, record.statement),
        )
        return isinstance(decided, Verified)

    def _newest(self, key: OriginKey) -> set[TransactionKey]:
        """The period that began last: by it the new owner is told of the subscription."""
        periods = [
            (statement.purchased_at, each)
            for each in self._of_origin[key]
            if (statement := self._records[each].statement) is not None and statement.period is not None
        ]
        return {max(periods)[1]} if periods else set()

    def _tell(self, event: Event[Payload], keys: Iterable[TransactionKey], origin: Origin) -> list[Draft]:
        records = [self._records[key] for key in sorted(keys)]
        return [
            subscription_changed(event, record, origin, self._now)
            for record in records
            if record.statement is not None and record.statement.period is not None
        ]

    def _product(self, event: Event[Payload], transaction: StoreTransaction) -> Product | None:
        return self._catalog.find(app=event.app, product_id=transaction.product_id)
