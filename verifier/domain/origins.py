"""Who owns a subscription, or what can be restored, with all its transactions; and when the store is to be asked about
one of which nothing was heard.

The newest period and the newest word on its renewal are kept, in whatever order they come, as far as they say when it
should have renewed. How it stands is the ledger's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from shared.events import Renewal
from shared.ids import UserId
from verifier.domain.records import OriginKey, Record

LATE: Final = timedelta(minutes=5)
"""So long after a subscription should have renewed its notification is waited for."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Its owner, once somebody has claimed one of its transactions, or the account token of one has told him.

    Of a subscription, the newest period: when it began (`period_at`), when the store last spoke of it
    (`period_signed_at`), when it ends, and whether it was taken back. `check_at` is when the store is to be asked if
    nothing is heard by then (None: never), `checks` how often that was in vain.
    """

    key: OriginKey
    user_id: UserId | None = None
    period_at: datetime | None = None
    period_signed_at: datetime | None = None
    expires_at: datetime | None = None
    revoked: bool = False
    renewal: Renewal | None = None
    check_at: datetime | None = None
    checks: int = 0

    def heard(self, record: Record, renewal: Renewal | None, *, now: datetime, over: bool = False) -> Origin:
        """After a statement about one of its periods, which its record has met, and about its next renewal. `over`: by
        the store's own status it has ended.

        Whatever is new of it begins the waiting anew; only what should have renewed already is asked about when it was
        to be asked about anyway, or each answer would lead to the next question.
        """
        after = self._with_period(record)._with_renewal(renewal)
        if after == self or after.expires_at is None:
            return after
        check_at = None if over and after._is_of(record) else _check_at(after, after.expires_at)
        if check_at is not None and self.check_at is not None and check_at <= now < self.check_at:
            return after
        return replace(after, check_at=check_at, checks=0)

    def _is_of(self, record: Record) -> bool:
        """The newest period is this one."""
        return record.statement is not None and record.statement.purchased_at == self.period_at

    def _with_period(self, record: Record) -> Origin:
        statement = record.statement
        if statement is None or statement.period is None:
            return self
        if self.period_at is not None and self.period_signed_at is not None:
            newest = self.period_at, self.period_signed_at
            if newest > (statement.purchased_at, statement.signed_at):
                return self
        return replace(
            self,
            period_at=statement.purchased_at,
            period_signed_at=statement.signed_at,
            expires_at=statement.period.expires_at,
            revoked=record.refunded_milli > 0,
        )

    def _with_renewal(self, renewal: Renewal | None) -> Origin:
        if renewal is None or (self.renewal is not None and self.renewal.signed_at >= renewal.signed_at):
            return self
        return replace(self, renewal=renewal)

    @property
    def last_renewal(self) -> Renewal | None:
        """What was said of how the newest period ends; an earlier word is about an earlier period."""
        if self.renewal is None or self.period_at is None or self.renewal.signed_at < self.period_at:
            return None
        return self.renewal

    def tells_of_renewal(self, before: Origin) -> bool:
        """That it says something new about the next renewal to whoever knew it `before`: something else, or the same,
        but of the newest period now."""
        now, then = self.renewal, before.renewal
        if now is None or then is None:
            return now is not then
        same = replace(now, signed_at=then.signed_at) == then
        return not same or (before.last_renewal is None and self.last_renewal is not None)

    def owned_by(self, user_id: UserId) -> Origin:
        """After the first claim that was found good: for good."""
        return replace(self, user_id=user_id) if self.user_id is None else self


def _check_at(origin: Origin, expires_at: datetime) -> datetime | None:
    """Some minutes after its end, as long as the store has not said how it ended.

    Also when it is said not to renew: that may have been taken back, and then it has renewed.
    """
    renewal = origin.last_renewal
    if origin.revoked:
        return None
    if renewal is None:
        return expires_at + LATE
    if renewal.in_billing_retry:
        return max(expires_at, renewal.grace_period_expires_at or expires_at) + LATE
    ended = renewal.expiration_reason is not None or (not renewal.auto_renew and renewal.signed_at >= expires_at)
    return None if ended else expires_at + LATE
