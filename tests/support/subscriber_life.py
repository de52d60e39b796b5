"""A small model of Apple: one subscription's life, move by move, and what Apple states of it after each of them.

It knows nothing of how the ledger reads statements. How the subscription stands is a phase that the moves change; time
only makes the next move due (`due`).
Source of the moves and of what each changes: developer.apple.com, appstoreservernotifications/notificationtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from shared.events import Offer, Period, Renewal, RevocationCause, Revoked, StoreTransaction
from shared.ids import TransactionId

BORN: Final = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
MONTHLY, YEARLY = "com.example.game.vip.monthly", "com.example.game.vip.yearly"
LENGTHS: Final[Mapping[str, timedelta]] = {MONTHLY: timedelta(days=30), YEARLY: timedelta(days=365)}
PRICES_MILLI: Final[Mapping[str, int]] = {MONTHLY: 4_990, YEARLY: 49_990}
TRIAL: Final = Offer("introductory", discount_type="free_trial", period="P1W")
TRIAL_LASTS: Final = timedelta(days=7)
AHEAD: Final = timedelta(hours=6)
RETRIES: Final = timedelta(days=60)
A_MOMENT: Final = timedelta(milliseconds=1)

Kind = tuple[str, str | None]
EXPIRED: Final[Mapping[str, str]] = {
    "customer_cancelled": "VOLUNTARY",
    "billing_error": "BILLING_RETRY",
    "price_increase_not_consented": "PRICE_INCREASE",
    "product_not_available": "PRODUCT_NOT_FOR_SALE",
}
Phase = Literal["running", "grace", "retry", "over", "taken back"]
STATUS: Final[Mapping[Phase, int]] = {"running": 1, "over": 2, "retry": 3, "grace": 4, "taken back": 5}
"""Apple's numbers (appstoreserverapi/status)."""


@dataclass(frozen=True, slots=True)
class Said:
    """What Apple states at once, of one period and of the next renewal, and its own status at that moment. `kind`:
    type and subtype of the notification that tells it; in a receipt it is told without one."""

    transaction: StoreTransaction
    revoked: Revoked | None
    renewal: Renewal
    status: int
    kind: Kind | None


@dataclass(slots=True)
class Paid:
    """A period, as Apple's books have it."""

    number: int
    product: str
    starts: datetime
    ends: datetime
    offer: Offer | None
    price_milli: int | None
    refunded_milli: int = 0
    taken_back_at: datetime | None = None


@dataclass(slots=True)
class Life:
    """One subscription at Apple. `said` is all that was stated of it so far; `grace` is what the app has set up."""

    family: bool = False
    grace: timedelta = timedelta(0)
    original: str = "1000"
    now: datetime = BORN
    phase: Phase = "running"
    periods: list[Paid] = field(default_factory=list)
    auto_renew: bool = True
    next_product: str = MONTHLY
    card_fails: bool = False
    price_increase: Literal["pending", "accepted"] | None = None
    product_is_gone: bool = False
    grace_until: datetime | None = None
    reason: str | None = None
    said: list[Said] = field(default_factory=list)

    # ---- how it stands --------------------------------------------------------------------------------------------

    @property
    def last(self) -> Paid:
        return self.periods[-1]

    @property
    def status(self) -> int:
        return STATUS[self.phase]

    @property
    def usable_until(self) -> datetime | None:
        """Until when the customer may use it, as things are; None: not now."""
        return {"running": self.last.ends, "grace": self.grace_until}.get(self.phase)

    @property
    def due(self) -> datetime | None:
        """When something happens by itself."""
        match self.phase:
            case "running":
                return self.last.ends
            case "grace":
                return self.grace_until
            case "retry":
                return self.last.ends + RETRIES
        return None

    @property
    def due_is_paid(self) -> bool:
        """What happens then is a charge or its failure, which nobody can know before it is stated."""
        return self.phase == "running" and self._ends_because() is None

    @property
    def _is_ahead(self) -> bool:
        """The last period is paid, and has not begun."""
        return self.now < self.last.starts

    def _ends_because(self) -> str | None:
        if not self.auto_renew:
            return "customer_cancelled"
        if self.price_increase == "pending":
            return "price_increase_not_consented"
        return "product_not_available" if self.product_is_gone else None

    # ---- what may happen ------------------------------------------------------------------------------------------

    def moves(self) -> dict[str, Callable[[], None]]:
        """What may happen next, by name. Parts and shares of it are drawn by who makes the move."""
        possible: dict[str, Callable[[], None]] = {"is stated in a receipt": self.shows_receipt}
        if self.due is not None:
            possible["what is due happens"] = self.lets_due_happen
        if self.phase == "running":
            possible |= self._moves_of_running()
        if self.phase in {"grace", "retry"}:
            possible |= {"recovers": self.recovers, "is cancelled while it failed": self.gives_up_by_cancelling}
        if self.phase in {"over", "taken back"}:
            possible["is bought again"] = self.resubscribes
        if self.family and self.phase == "running" and not self._is_ahead:
            possible["is shared no more"] = lambda: self.takes_back(self.last)
        return possible

    def _moves_of_running(self) -> dict[str, Callable[[], None]]:
        possible: dict[str, Callable[[], None]] = {
            "is cancelled" if self.auto_renew else "is resumed": self.toggles,
            "is downgraded" if self.next_product == self.last.product else "stays as it is": self.changes_next_product,
            "is extended": self.is_extended,
            "costs more": self.costs_more,
            "the card fails": self.lets_card_fail,
            "is sold no more": self.is_sold_no_more,
        }
        if not self._is_ahead:
            possible["is upgraded"] = self.upgrades
        if self.due_is_paid and not self.card_fails and not self._is_ahead:
            possible["is renewed ahead"] = self.renews_ahead
        return possible

    # ---- moves ----------------------------------------------------------------------------------------------------

    def begins(self, *, trial: bool = False) -> None:
        self._adds(MONTHLY, starts=self._ticks(), offer=TRIAL if trial else None)
        self._tells("SUBSCRIBED", "INITIAL_BUY")

    def waits(self, part: float) -> None:
        """A part of the time to what is due passes; or of forty days."""
        ends = self.now + timedelta(days=40) if self.due is None else self.due
        left = max(timedelta(0), ends - self.now - timedelta(minutes=1))
        self.now += timedelta(milliseconds=round(left / A_MOMENT * part))

    def lets_due_happen(self) -> None:
        assert self.due is not None
        self.now = max(self.now, self.due)
        match self.phase:
            case "grace":
                self.phase = "retry"
                self._tells("GRACE_PERIOD_EXPIRED")
            case "retry":
                self._is_over("billing_error")
            case _ if (reason := self._ends_because()) is not None:
                self._is_over(reason)
            case _ if self.card_fails:
                self._fails()
            case _:
                self._adds(self.next_product, starts=self.last.ends)
                self._tells("DID_RENEW")

    def renews_ahead(self) -> None:
        """Apple charges up to a day before the period ends; the next one begins when this one is over."""
        self.now = max(self.now, self.last.ends - AHEAD)
        self._adds(self.next_product, starts=self.last.ends)
        self._tells("DID_RENEW")

    def recovers(self) -> None:
        """Within its grace it has lost nothing: the new period is counted from the end of the last."""
        starts = self._ticks()
        counted_from = self.last.ends if self.phase == "grace" else starts
        self.card_fails = False
        self._adds(self.next_product, starts=starts, ends=counted_from + LENGTHS[self.next_product])
        self._tells("DID_RENEW", "BILLING_RECOVERY")

    def gives_up_by_cancelling(self) -> None:
        self._is_over("customer_cancelled")

    def resubscribes(self) -> None:
        self.auto_renew, self.card_fails, self.product_is_gone = True, False, False
        self._adds(self.next_product, starts=self._ticks())
        self._tells("SUBSCRIBED", "RESUBSCRIBE")

    def upgrades(self) -> None:
        """At once; the rest of what it was is paid back by Apple, of which nothing is stated."""
        self._adds(YEARLY, starts=self._ticks())
        self._tells("DID_CHANGE_RENEWAL_PREF", "UPGRADE")

    def changes_next_product(self) -> None:
        other = {MONTHLY: YEARLY, YEARLY: MONTHLY}[self.last.product]
        self.next_product = self.last.product if self.next_product != self.last.product else other
        self._tells("DID_CHANGE_RENEWAL_PREF", "DOWNGRADE" if self.next_product == other else None)

    def toggles(self) -> None:
        self.auto_renew = not self.auto_renew
        self._tells("DID_CHANGE_RENEWAL_STATUS", f"AUTO_RENEW_{'ENABLED' if self.auto_renew else 'DISABLED'}")

    def is_extended(self) -> None:
        self.last.ends += timedelta(days=10)
        self._tells("RENEWAL_EXTENDED")

    def costs_more(self) -> None:
        self.price_increase = "accepted" if self.price_increase == "pending" else "pending"
        self._tells("PRICE_INCREASE", self.price_increase.upper())

    def lets_card_fail(self) -> None:
        self.card_fails = True

    def is_sold_no_more(self) -> None:
        self.product_is_gone = True

    def takes_back(self, period: Paid, *, milli: int = 100_000) -> None:
        """Of a period that is not the last nothing else follows; of the last one, that it is not renewed."""
        period.refunded_milli, period.taken_back_at = milli, self._ticks()
        if period is self.last:
            self.phase, self.auto_renew = "taken back", False
        self._tells("REVOKE" if self.family else "REFUND", of=period)

    def reverses(self, period: Paid) -> None:
        """The period stands again; what of its time is over is over."""
        period.refunded_milli = 0
        if period is self.last:
            self.phase = "running" if self.now < period.ends else "over"
            self.reason = None if self.phase == "running" else "customer_cancelled"
        self._tells("REFUND_REVERSED", of=period)

    def refundable(self) -> list[Paid]:
        """Those that may be refunded, or further so. What is shared was not paid here; what has not begun is left."""
        return [] if self.family or self._is_ahead else [each for each in self.periods if each.refunded_milli < 100_000]

    def reversible(self) -> list[Paid]:
        return [] if self.family else [each for each in self.periods if each.refunded_milli]

    # ---- how it is stated -----------------------------------------------------------------------------------------

    def shows_receipt(self) -> None:
        """All periods at one moment: without prices, and with less about the next renewal."""
        signed_at = self._ticks()
        for period in self.periods:
            said = self.says(period, signed_at)
            bare, renewal = _without_price(said.transaction), _as_in_receipt(said.renewal)
            self.said.append(replace(said, transaction=bare, renewal=renewal))

    def says(self, period: Paid, signed_at: datetime, kind: Kind | None = None) -> Said:
        """What Apple states of a period and of the next renewal, at this moment."""
        transaction, revoked = self._transaction(period, signed_at), self._revoked(period, signed_at)
        if kind is not None and kind[0] == "REFUND_REVERSED":
            revoked = Revoked(signed_at, 0, signed_at)
        return Said(transaction, revoked, self._renewal(signed_at), self.status, kind)

    def answers(self) -> Said:
        """Asked for the subscription's status, Apple states its last period; here, that a refund is none any more."""
        signed_at = self._ticks()
        said = self.says(self.last, signed_at)
        return said if said.revoked else replace(said, revoked=Revoked(signed_at, 0, signed_at))

    def _tells(self, kind: str, subtype: str | None = None, *, of: Paid | None = None) -> None:
        self.said.append(self.says(of or self.last, self._ticks(), (kind, subtype)))

    def _transaction(self, period: Paid, signed_at: datetime) -> StoreTransaction:
        return StoreTransaction(
            store="apple",
            environment="production",
            transaction_id=TransactionId(f"{self.original}{period.number:03}"),
            original_transaction_id=TransactionId(self.original),
            product_id=period.product,
            product_type="auto_renewable",
            quantity=1,
            purchased_at=period.starts,
            signed_at=signed_at,
            charge_id=TransactionId(f"{self.original}/{period.number}"),
            family_shared=self.family,
            period=Period(period.ends, "vip", period.offer, period.price_milli, None if self.family else "USD"),
        )

    def _revoked(self, period: Paid, signed_at: datetime) -> Revoked | None:
        """That nothing is refunded is said only when a refund is reversed: what does not show one says nothing."""
        if period.taken_back_at is None or not period.refunded_milli:
            return None
        cause: RevocationCause = "family_sharing_ended" if self.family else "refund"
        return Revoked(signed_at, period.refunded_milli, period.taken_back_at, cause)

    def _renewal(self, signed_at: datetime) -> Renewal:
        is_tried = self.phase in {"grace", "retry"}
        return Renewal(
            signed_at=signed_at,
            auto_renew=self.auto_renew,
            product_id=self.next_product,
            renews_at=self.last.ends,
            price_milli=PRICES_MILLI[self.next_product],
            currency="USD",
            in_billing_retry=is_tried,
            grace_period_expires_at=self.grace_until,
            expiration_reason="billing_error" if is_tried else self.reason,
            price_increase=self.price_increase,
        )

    # ---- what moves have in common --------------------------------------------------------------------------------

    def _ticks(self) -> datetime:
        """No two things happen, and no two statements are signed, in the same millisecond."""
        self.now += A_MOMENT
        return self.now

    def _adds(
        self, product: str, *, starts: datetime, ends: datetime | None = None, offer: Offer | None = None
    ) -> None:
        lasts = TRIAL_LASTS if offer else LENGTHS[product]
        price = None if self.family else 0 if offer else PRICES_MILLI[product]
        self.periods.append(Paid(len(self.periods) + 1, product, starts, ends or starts + lasts, offer, price))
        self.phase, self.next_product, self.grace_until, self.reason = "running", product, None, None
        self.price_increase = None

    def _is_over(self, reason: str) -> None:
        self.phase, self.reason, self.auto_renew = "over", reason, False
        self._tells("EXPIRED", EXPIRED[reason])

    def _fails(self) -> None:
        self.phase = "grace" if self.grace else "retry"
        self.grace_until = self.last.ends + self.grace if self.grace else None
        self._tells("DID_FAIL_TO_RENEW", "GRACE_PERIOD" if self.grace else None)


def _without_price(transaction: StoreTransaction) -> StoreTransaction:
    assert transaction.period is not None
    return replace(transaction, period=replace(transaction.period, price_milli=None, currency=None))


def _as_in_receipt(renewal: Renewal) -> Renewal:
    return replace(renewal, renews_at=None, price_milli=None, currency=None)
