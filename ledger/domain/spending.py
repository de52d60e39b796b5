"""What a request does to the books: spends, holds and grants, on accounts that are locked.

Each request is done whole, or refused before anything moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ledger.domain.books import AccountKey, TransferId, WalletKey
from ledger.domain.commands import (
    CaptureHold,
    Command,
    Grant,
    GrantDone,
    HoldDone,
    HoldState,
    Outcome,
    PlaceHold,
    Refused,
    ReleaseHold,
    ReverseSpend,
    Spend,
    SpendDone,
    WalletAfter,
)
from ledger.domain.decisions import Debt
from ledger.domain.lots import Reservation
from ledger.domain.postings import Batch, Cause
from ledger.domain.statements import Funds
from shared.events import Draft, GrantPosted, HoldEnded, HoldPlaced, Payload, SpendPosted, SpendReversed
from shared.ids import EventId, HoldId, SpendId, grant_id, hold_id, refund_request_id, spend_id
from shared.money import CurrencyId

LEDGER_ITSELF: Final = "ledger"
"""Who ends a hold that has expired."""


@dataclass(frozen=True, slots=True)
class PostedSpend:
    """A spend as it is kept; its id is its transfer's. `reversed` of it was given back."""

    id: UUID
    wallet: WalletKey
    currency: CurrencyId
    amount: int
    created_at: datetime
    reversed: int = 0
    reference: str | None = None
    item: str | None = None
    hold: UUID | None = None

    @property
    def account(self) -> AccountKey:
        return AccountKey.of_wallet(self.wallet, self.currency)

    @property
    def public_id(self) -> SpendId:
        return spend_id(self.id)


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold as it is kept. One of a `refund_request` is not for the app to capture or release; `spend` is what a
    captured one became.
    """

    id: UUID
    wallet: WalletKey
    currency: CurrencyId
    amount: int
    expires_at: datetime
    created_at: datetime
    captured: int = 0
    state: HoldState = "open"
    reference: str | None = None
    refund_request: UUID | None = None
    spend: UUID | None = None

    @property
    def account(self) -> AccountKey:
        return AccountKey.of_wallet(self.wallet, self.currency)

    @property
    def public_id(self) -> HoldId:
        return hold_id(self.id)


@dataclass(frozen=True, slots=True)
class Standing:
    """The spends and holds that a batch is about, as they stand, with what the holds have reserved."""

    spends: Mapping[UUID, PostedSpend] = field(default_factory=dict)
    holds: Mapping[UUID, Hold] = field(default_factory=dict)
    reservations: Mapping[UUID, Sequence[Reservation]] = field(default_factory=dict)


class Counter:
    """Carries out requests, one after the other, on one batch of the books.

    `debt_of` tells an app's policy. What was made and changed is in `spends`, `holds` and `reservations` afterwards.
    """

    def __init__(
        self,
        *,
        batch: Batch,
        standing: Standing,
        debt_of: Callable[[WalletKey], Debt],
        new_id: Callable[[], UUID],
    ) -> None:
        self.spends: dict[UUID, PostedSpend] = {}
        self.holds: dict[UUID, Hold] = {}
        self.reservations: list[Reservation] = []
        self._batch = batch
        self._known_spends = dict(standing.spends)
        self._known_holds = dict(standing.holds)
        self._reserved = {hold: list(parts) for hold, parts in standing.reservations.items()}
        self._debt_of = debt_of
        self._new_id = new_id

    def carry_out(self, command: Command) -> Outcome:
        """What it comes to."""
        match command.request:
            case Spend() as request:
                return self._spend(command, request)
            case ReverseSpend() as request:
                return self._reverse(command, request)
            case PlaceHold() as request:
                return self._hold(command, request)
            case CaptureHold() as request:
                return self._capture(command, request)
            case ReleaseHold() as request:
                return self._release(command, request)
            case Grant() as request:
                return self._grant(command, request)

    # ---- spends --------------------------------------------------------------------------------------------------

    def _spend(self, command: Command, request: Spend) -> Outcome:
        account = AccountKey.of_wallet(request.wallet, request.currency)
        if refused := self._short_of(account, request.amount) or self._beyond(account.house("sink"), request.amount):
            return refused
        spend = PostedSpend(
            id=self._new_id(),
            wallet=request.wallet,
            currency=request.currency,
            amount=request.amount,
            created_at=self._batch.now,
            reference=request.reference,
            item=request.item,
        )
        self._post_spend(command, spend)
        self._batch.lots(account).spend(TransferId(spend.id), spend.amount)
        return self._spend_done(spend)

    def _reverse(self, command: Command, request: ReverseSpend) -> Outcome:
        spend = self._known_spends[request.spend]
        left = spend.amount - spend.reversed
        amount = left if request.amount is None else request.amount
        if not 0 < amount <= left:
            detail = f"{left} of the spend's {spend.amount} are left to be given back"
            return Refused("spend-not-reversible", detail, {"reversible": left})
        if refused := self._beyond(spend.account, amount) or self._beyond(spend.account.house("sink"), -amount):
            return refused
        reversed_ = replace(spend, reversed=spend.reversed + amount)
        word = SpendReversed(
            spend.public_id,
            spend.wallet.environment,
            spend.currency,
            amount=amount,
            reversed=reversed_.reversed,
            actor=command.actor,
        )
        event_id = self._say(word, spend.public_id, spend.wallet, command.trace_id)
        cause = replace(self._cause_of(command, spend, event_id), reverses=TransferId(spend.id))
        self._batch.transfer("spend_reversal", cause, spend.account, amount, "sink")
        self._batch.lots(spend.account).give_back([TransferId(spend.id)], amount)
        self._collect(spend, amount, replace(cause, reverses=None, actor=LEDGER_ITSELF))
        self._keep_spend(reversed_)
        return self._spend_done(reversed_)

    def _collect(self, spend: PostedSpend, amount: int, cause: Cause) -> None:
        """What a refund wrote off because this was spent is taken after all."""
        lots = self._batch.lots(spend.account)
        taken_at = spend.id if spend.hold is None else spend.hold  # a hold took it before it was spent
        if collected := lots.collect(amount, spent=TransferId(spend.id), since=taken_at):
            self._batch.transfer("write_off", cause, spend.account, -collected, "write_off")

    def _post_spend(self, command: Command, spend: PostedSpend) -> None:
        word = SpendPosted(
            spend.public_id,
            spend.wallet.environment,
            spend.currency,
            amount=spend.amount,
            actor=command.actor,
            reference=spend.reference,
            item=spend.item,
            hold_id=None if spend.hold is None else hold_id(spend.hold),
        )
        event_id = self._say(word, spend.public_id, spend.wallet, command.trace_id)
        cause = self._cause_of(command, spend, event_id)
        self._batch.transfer("spend", cause, spend.account, -spend.amount, "sink", id=spend.id)
        self._keep_spend(spend)

    def _cause_of(self, command: Command, spend: PostedSpend, event_id: EventId) -> Cause:
        return Cause(
            event_id=event_id,
            trace_id=command.trace_id,
            wallet=spend.wallet,
            subject=spend.public_id,
            spend_id=spend.public_id,
            reference=spend.reference,
            actor=command.actor,
        )

    def _keep_spend(self, spend: PostedSpend) -> None:
        self._known_spends[spend.id] = self.spends[spend.id] = spend

    # ---- holds ---------------------------------------------------------------------------------------------------

    def _hold(self, command: Command, request: PlaceHold) -> Outcome:
        account = AccountKey.of_wallet(request.wallet, request.currency)
        if refused := self._short_of(account, request.amount):
            return refused
        hold = Hold(
            id=self._new_id(),
            wallet=request.wallet,
            currency=request.currency,
            amount=request.amount,
            expires_at=self._batch.now + timedelta(seconds=request.expires_in_s),
            created_at=self._batch.now,
            reference=request.reference,
        )
        self.place(hold, actor=command.actor, trace_id=command.trace_id)
        return self._hold_done(hold)

    def place(self, hold: Hold, *, actor: str, trace_id: str, lots: Sequence[int] | None = None) -> None:
        """Sets aside what a hold says, of these lots or of the oldest; the caller has seen that it is there."""
        reserved = self._batch.lots(hold.account).hold(hold.id, hold.amount, lots=lots)
        self.reservations += reserved
        self._reserved[hold.id] = reserved
        word = HoldPlaced(
            hold.public_id,
            hold.wallet.environment,
            hold.currency,
            amount=hold.amount,
            expires_at=hold.expires_at,
            actor=actor,
            reference=hold.reference,
            refund_request_id=None if hold.refund_request is None else refund_request_id(hold.refund_request),
        )
        self._say(word, hold.public_id, hold.wallet, trace_id)
        self._keep_hold(hold)

    def _capture(self, command: Command, request: CaptureHold) -> Outcome:
        hold = self._known_holds[request.hold]
        amount = hold.amount if request.amount is None else request.amount
        if refused := self._not_open(hold, command.trace_id):
            return refused
        if amount > hold.amount:
            detail = f"the hold has {hold.amount} set aside, not {amount}"
            return Refused("hold-too-small", detail, {"amount": hold.amount})
        if refused := self._beyond(hold.account, -amount) or self._beyond(hold.account.house("sink"), amount):
            return refused
        spend = PostedSpend(
            id=self._new_id(),
            wallet=hold.wallet,
            currency=hold.currency,
            amount=amount,
            created_at=self._batch.now,
            reference=hold.reference if request.reference is None else request.reference,
            item=request.item,
            hold=hold.id,
        )
        self._post_spend(command, spend)
        self._batch.lots(hold.account).capture(TransferId(spend.id), self._reserved[hold.id], amount)
        became = replace(hold, spend=spend.id)
        captured, event_id = self._end(
            became, "captured", captured=amount, actor=command.actor, trace_id=command.trace_id
        )
        self._forgive(captured, event_id, trace_id=command.trace_id)
        return self._hold_done(captured)

    def _release(self, command: Command, request: ReleaseHold) -> Outcome:
        hold = self._known_holds[request.hold]
        if refused := self._not_open(hold, command.trace_id):
            return refused
        return self._hold_done(self.release(hold, "released", actor=command.actor, trace_id=command.trace_id))

    def release(self, hold: Hold, state: HoldState, *, actor: str, trace_id: str) -> Hold:
        """What an open hold set aside is free again; the hold as it ends."""
        self._batch.lots(hold.account).release(self._reserved[hold.id])
        ended, _ = self._end(hold, state, captured=0, actor=actor, trace_id=trace_id)
        return ended

    def _not_open(self, hold: Hold, trace_id: str) -> Refused | None:
        """A hold whose time is over ends now, if nobody has come by to end it yet."""
        if hold.state == "open" and hold.expires_at <= self._batch.now:
            hold = self.release(hold, "expired", actor=LEDGER_ITSELF, trace_id=trace_id)
        if hold.state == "open":
            return None
        became = {} if hold.spend is None else {"spend_id": spend_id(hold.spend)}  # for whoever missed the answer
        return Refused("hold-not-open", f"the hold is {hold.state}", {"state": hold.state, **became})

    def _end(self, hold: Hold, state: HoldState, *, captured: int, actor: str, trace_id: str) -> tuple[Hold, EventId]:
        """The hold as it ends, and the event that says so."""
        assert state != "open"
        ended = replace(hold, state=state, captured=captured)
        word = HoldEnded(
            hold.public_id,
            hold.wallet.environment,
            hold.currency,
            amount=hold.amount,
            captured=captured,
            state=state,
            actor=actor,
        )
        event_id = self._say(word, hold.public_id, hold.wallet, trace_id)
        self._keep_hold(ended)
        return ended, event_id

    def _keep_hold(self, hold: Hold) -> None:
        self._known_holds[hold.id] = self.holds[hold.id] = hold

    def _forgive(self, hold: Hold, event_id: EventId, *, trace_id: str) -> None:
        """Where nothing may be owed, a refund left owing what was held. Now that it is spent, it is written off."""
        if self._debt_of(hold.wallet) == "negative" or not (excess := self._batch.lots(hold.account).forgive()):
            return
        cause = Cause(
            event_id=event_id,
            trace_id=trace_id,
            wallet=hold.wallet,
            subject=hold.public_id,
            reference=hold.reference,
            actor=LEDGER_ITSELF,
        )
        self._batch.transfer("write_off", cause, hold.account, excess, "write_off")

    # ---- goodwill ------------------------------------------------------------------------------------------------

    def _grant(self, command: Command, request: Grant) -> Outcome:
        account = AccountKey.of_wallet(request.wallet, request.currency)
        amount = request.amount
        if refused := self._beyond(account, amount) or self._beyond(account.house("goodwill"), -amount):
            return refused
        granted = grant_id(new := self._new_id())
        word = GrantPosted(
            granted,
            request.wallet.environment,
            request.currency,
            amount=amount,
            reason=request.reason,
            actor=command.actor,
        )
        cause = Cause(
            event_id=self._say(word, granted, request.wallet, command.trace_id),
            trace_id=command.trace_id,
            wallet=request.wallet,
            subject=granted,
            grant_id=granted,
            reason=request.reason,
            actor=command.actor,
        )
        transfer = self._batch.open("grant", cause, id=new)
        self._batch.enter(transfer, account, amount)
        self._batch.lots(account).credit(self._batch.account(account).version, amount)
        self._batch.enter(transfer, account.house("goodwill"), -amount)
        return GrantDone(
            id=granted,
            user_id=request.wallet.user_id,
            environment=request.wallet.environment,
            currency=request.currency,
            amount=amount,
            reason=request.reason,
            granted_by=command.actor,
            created_at=self._batch.now,
            wallet=self._after(account),
        )

    # ---- what they share -----------------------------------------------------------------------------------------

    def _short_of(self, account: AccountKey, amount: int) -> Refused | None:
        available = self._batch.account(account).available
        if amount <= available:
            return None
        detail = f"{available} {account.currency} are available, {amount} are asked for"
        return Refused("insufficient-funds", detail, {"currency": account.currency, "available": available})

    def _beyond(self, account: AccountKey, amount: int) -> Refused | None:
        """Looked at before anything moves: what is refused leaves no trace."""
        balance = self._batch.account(account).balance + amount
        if abs(balance) <= account.balance_max:
            return None
        detail = f"a balance in {account.currency} would be beyond what can be kept exactly"
        return Refused("balance-out-of-range", detail, {"currency": account.currency})

    def _say(self, payload: Payload, subject: str, wallet: WalletKey, trace_id: str) -> EventId:
        event_id = EventId(self._new_id())
        self._batch.drafts.append(
            Draft(
                payload=payload,
                app=wallet.app,
                subject=subject,
                user_id=wallet.user_id,
                occurred_at=self._batch.now,
                trace_id=trace_id,
                id=event_id,
            )
        )
        return event_id

    def _after(self, account: AccountKey) -> WalletAfter:
        stands = self._batch.account(account)
        assert account.wallet is not None
        funds = Funds.of(balance=stands.balance, held=stands.held, owed=stands.owed)
        return WalletAfter(self._batch.wallet_version(account.wallet), funds)

    def _spend_done(self, spend: PostedSpend) -> SpendDone:
        return SpendDone(
            id=spend.public_id,
            user_id=spend.wallet.user_id,
            environment=spend.wallet.environment,
            currency=spend.currency,
            amount=spend.amount,
            reversed=spend.reversed,
            reference=spend.reference,
            item=spend.item,
            created_at=spend.created_at,
            wallet=self._after(spend.account),
            hold_id=None if spend.hold is None else hold_id(spend.hold),
        )

    def _hold_done(self, hold: Hold) -> HoldDone:
        return HoldDone(
            id=hold.public_id,
            user_id=hold.wallet.user_id,
            environment=hold.wallet.environment,
            currency=hold.currency,
            amount=hold.amount,
            captured=hold.captured,
            state=hold.state,
            expires_at=hold.expires_at,
            reference=hold.reference,
            created_at=hold.created_at,
            wallet=self._after(hold.account),
            spend_id=None if hold.spend is None else spend_id(hold.spend),
        )
