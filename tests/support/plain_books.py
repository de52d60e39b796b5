"""Books that are a few dictionaries, for the rules of posting and spending alone: every batch is given all there is.

What a batch asks for, and what is written of it, is the database's part: tests/integration/ledger has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.domain.books import (
    Account,
    AccountId,
    AccountKey,
    AccountKind,
    KnownTransaction,
    Locked,
    TransactionKey,
    TransferId,
    Wallet,
    WalletId,
    WalletKey,
)
from ledger.domain.commands import Command, Outcome, Request
from ledger.domain.decisions import decide, key_of
from ledger.domain.lots import Lot, LotKey, LotsFound, Portion, PortionKey, Reservation
from ledger.domain.postings import Batch, Posting, say
from ledger.domain.spending import Counter, Hold, PostedSpend, Standing
from shared.events import Draft, Environment, Event
from shared.ids import AppId, UserId
from shared.money import CurrencyId
from tests.support.ledger import ALICE, APPS, BOB, CATALOG, COINS, FLOOR_GAME, GAME, GEMS, NOW
from tests.support.seeded import seeded_ids

ACTOR, TRACE = "server:backend", "0af7651916cd43dd8448eb211c80319c"
_HOUSE: Sequence[AccountKind] = ("issuance", "sink", "goodwill", "write_off")


def account_of(user: UserId = ALICE, currency: CurrencyId = GEMS, *, app: AppId = GAME) -> AccountKey:
    """A user's account in production."""
    return AccountKey("wallet", app, "production", currency, user)


def _every_account() -> Iterable[AccountKey]:
    environments: Sequence[Environment] = ("production", "sandbox")
    for app in (GAME, FLOOR_GAME):
        for environment in environments:
            for currency in (GEMS, COINS):
                yield from (AccountKey(kind, app, environment, currency) for kind in _HOUSE)
                yield from (AccountKey("wallet", app, environment, currency, user) for user in (ALICE, BOB))


class PlainBooks:
    """The accounts of Alice and Bob in two apps, and the house's."""

    def __init__(self) -> None:
        self.accounts = {key: Account(AccountId(number), 0, 0) for number, key in enumerate(_every_account(), start=1)}
        keys = {wallet: None for key in self.accounts if (wallet := key.wallet) is not None}
        self.wallets: dict[WalletKey, Wallet] = {
            key: Wallet(WalletId(number), 0) for number, key in enumerate(keys, start=1)
        }
        self.spends: dict[UUID, PostedSpend] = {}
        self.holds: dict[UUID, Hold] = {}
        self.said: Sequence[Draft] = ()  # by the last batch
        self._known: dict[TransactionKey, KnownTransaction] = {}
        self._credits: Mapping[TransactionKey, Mapping[CurrencyId, Sequence[int]]] = {}
        self._lots: dict[LotKey, Lot] = {}
        self._portions: dict[tuple[AccountId, PortionKey], Portion] = {}
        self._reservations: dict[UUID, list[Reservation]] = {}
        self._refunds: dict[TransactionKey, list[TransferId]] = {}
        self._new_id: Callable[[], UUID] = seeded_ids(1).event_id

    # ---- what is done ------------------------------------------------------------------------------------------

    def apply(self, *events: Event[Any]) -> Posting:
        """Posts what a store says, in one batch."""
        decisions = decide(events=events, known=self._known, catalog=CATALOG, apps=APPS)
        batch = self._batch(NOW)
        for event, decision in decisions.steps:
            if decision.movement is not None:
                batch.post(event, decision.movement)
            say(batch, event, decision)
        posting = self._keep(batch)
        self._known |= decisions.changed
        self._credits = {**self._credits, **posting.credits}
        return posting

    def ask(self, *requests: Request, now: datetime = NOW) -> list[Outcome]:
        """What each of these requests comes to, one after the other in one batch."""
        return self.carry_out(*(Command(request, ACTOR, TRACE) for request in requests), now=now)

    def carry_out(self, *commands: Command, now: datetime = NOW) -> list[Outcome]:
        batch = self._batch(now)
        counter = Counter(
            batch=batch,
            standing=Standing(self.spends, self.holds, self._reservations),
            debt_of=lambda wallet: APPS.by_id[wallet.app].wallet.debt,
            new_id=self._new_id,
        )
        outcomes = [counter.carry_out(command) for command in commands]
        self._keep(batch)
        self.spends |= counter.spends
        self.holds |= counter.holds
        for reservation in counter.reservations:
            self._reservations.setdefault(reservation.hold_id, []).append(reservation)
        return outcomes

    def _batch(self, now: datetime) -> Batch:
        found = LotsFound(
            lots=list(self._lots.values()), portions=list(self._portions.values()), refunds=dict(self._refunds)
        )
        locked = Locked(accounts=dict(self.accounts), wallets=dict(self.wallets))
        known = {key: KnownTransaction(lots=lots) for key, lots in self._credits.items()}
        return Batch(locked=locked, found=found, known=known, new_id=self._new_id, now=now)

    def _keep(self, batch: Batch) -> Posting:
        posting = batch.result()
        accounts = {account.id: account for account in posting.accounts}
        wallets = {wallet.id: wallet for wallet in posting.wallets}
        self.accounts = {key: accounts.get(account.id, account) for key, account in self.accounts.items()}
        self.wallets = {key: wallets.get(wallet.id, wallet) for key, wallet in self.wallets.items()}
        self._lots |= {lot.key: lot for lot in [*posting.new_lots, *posting.changed_lots]}
        portions = [*posting.new_portions, *posting.changed_portions]
        self._portions |= {(portion.account_id, portion.key): portion for portion in portions}
        for transfer in posting.transfers:
            if transfer.kind == "refund" and transfer.cause.transaction is not None:
                self._refunds.setdefault(transfer.cause.transaction, []).append(transfer.id)
        self.said = posting.drafts
        return posting

    # ---- what is there -----------------------------------------------------------------------------------------

    def account(self, user: UserId = ALICE, currency: CurrencyId = GEMS, *, app: AppId = GAME) -> Account:
        """How a user's account stands."""
        return self.accounts[account_of(user, currency, app=app)]

    def balances(self, user: UserId = ALICE, *, app: AppId = GAME) -> dict[str, int]:
        """What the user has, zeros left out."""
        return {
            key.currency: account.balance
            for key, account in self.accounts.items()
            if key.wallet == WalletKey(app, "production", user) and account.balance
        }

    def house(self, kind: str, currency: CurrencyId = GEMS) -> int:
        """The balance of the house's accounts of that kind."""
        return sum(
            account.balance for key, account in self.accounts.items() if (key.kind, key.currency) == (kind, currency)
        )

    def lots(
        self, user: UserId = ALICE, currency: CurrencyId = GEMS, *, app: AppId = GAME
    ) -> list[tuple[int, int, int]]:
        """What remains, is held and is spent of each of a user's lots, the oldest first."""
        account_id = self.account(user, currency, app=app).id
        mine = sorted((lot for lot in self._lots.values() if lot.key.account_id == account_id), key=lambda lot: lot.key)
        return [(lot.remaining, lot.held, lot.spent) for lot in mine]

    def known(self, event: Event[Any]) -> KnownTransaction:
        """How the event's transaction stands."""
        return self._known[key_of(event)]
