"""What the internal API is asked for and told: the use-cases, each in a transaction of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from ledger import api
from ledger.api.metrics import metrics_text
from ledger.apple import AppleRefunds
from ledger.domain.belongings import EntitlementList, SubscriptionPage, SubscriptionPlace
from ledger.domain.books import WalletKey
from ledger.domain.commands import Answer, Command
from ledger.domain.entitlements import Holder
from ledger.domain.refund_requests import NotEligible, RefundRequestView
from ledger.domain.statements import EntryPage, WalletStatement
from ledger.handlers import commands as executing
from ledger.handlers import reading, refund_requests
from ledger.store import (
    PostgresAnswers,
    PostgresAudits,
    PostgresBelongings,
    PostgresCommissions,
    PostgresRefundRequests,
    PostgresWallets,
    Run,
)
from ledger.tables import books_on
from shared.apps import Apps
from shared.bus import journal
from shared.bus.group_commit import GroupCommit
from shared.bus.wake import Waker
from shared.catalog import Catalog
from shared.clock import Clock
from shared.database import transact
from shared.events import Store
from shared.ids import AppId, IdSource, PurchaseId, UserId

T = TypeVar("T")


class Desk:
    """The use-cases, each in a transaction of one database. Thread-safe; every method raises DatabaseUnavailable."""

    def __init__(self, *, engine: Engine, catalog: Catalog, apps: Apps, ids: IdSource, clock: Clock) -> None:
        self._engine = engine
        self._catalog = catalog
        self._apps = apps
        self._ids = ids
        self._clock = clock
        self._waker = Waker(engine)
        self._group = GroupCommit(self._execute, may_join=_is_of_another_key)
        self._stores: dict[Store, refund_requests.StoreRefunds] = {"apple": AppleRefunds()}

    def execute(self, command: Command) -> Answer:
        """Does what is asked, with what else is asked for at this moment in one transaction."""
        answer = self._group.submit(command)
        self._waker.poke()
        return answer

    def ask(
        self,
        *,
        app: AppId,
        purchase_id: PurchaseId,
        only_user: UserId | None,
        actor: str,
        reason: str | None,
        trace_id: str,
    ) -> RefundRequestView | NotEligible | None:
        """A user asks for a refund."""
        asked = refund_requests.Ask(app, purchase_id, actor, trace_id, only_user=only_user, reason=reason)

        def work(connection: Connection) -> refund_requests.Asked:
            done = refund_requests.ask(
                asked,
                books=books_on(connection, self._ids),
                requests=PostgresRefundRequests(connection),
                commissions=PostgresCommissions(connection),
                catalog=self._catalog,
                apps=self._apps,
                stores=self._stores,
                new_id=self._ids.event_id,
                now=self._clock.now(),
            )
            journal.append(connection, done.drafts, ids=self._ids)
            return done

        answer = transact(self._engine, work).answer
        self._waker.poke()
        return answer

    def find(self, *, app: AppId, id: UUID, only_user: UserId | None) -> RefundRequestView | None:
        """A request for a refund."""
        return self._reading(
            lambda connection: refund_requests.find(
                requests=PostgresRefundRequests(connection), stores=self._stores, app=app, id=id, only_user=only_user
            )
        )

    def wallet(self, key: WalletKey) -> WalletStatement:
        """A wallet."""
        return self._reading(
            lambda connection: reading.read_wallet(wallets=PostgresWallets(connection), catalog=self._catalog, key=key)
        )

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> EntryPage:
        """A page of its entries."""
        return self._reading(
            lambda connection: reading.read_entries(
                wallets=PostgresWallets(connection), key=key, before=before, limit=limit
            )
        )

    def subscriptions(self, holder: Holder, *, after: SubscriptionPlace | None, limit: int) -> SubscriptionPage:
        """A page of a user's subscriptions."""
        return subscriptions_of(self._reading, holder, after=after, limit=limit, clock=self._clock)

    def entitlements(self, holder: Holder) -> EntitlementList:
        """What a user may use."""
        return entitlements_of(self._reading, holder, catalog=self._catalog, clock=self._clock)

    def ready(self) -> None:
        """Whether the database answers."""
        self._reading(lambda connection: connection.exec_driver_sql("select 1"))

    def metrics(self) -> bytes:
        """What the newest audit found, in Prometheus' text."""
        return metrics_text(PostgresAudits(self._reading).newest())

    def _reading(self, work: Callable[[Connection], T]) -> T:
        return transact(self._engine, work)

    def _execute(self, commands: Sequence[Command]) -> Sequence[Answer]:
        def work(connection: Connection) -> Sequence[Answer]:
            executed = executing.execute(
                commands,
                books=books_on(connection, self._ids),
                commissions=PostgresCommissions(connection),
                answers=PostgresAnswers(connection),
                apps=self._apps,
                render=api.render,
                new_id=self._ids.event_id,
                now=self._clock.now(),
            )
            journal.append(connection, executed.drafts, ids=self._ids)
            return executed.answers

        return transact(self._engine, work)


def subscriptions_of(
    run: Run, holder: Holder, *, after: SubscriptionPlace | None, limit: int, clock: Clock
) -> SubscriptionPage:
    """A page of a user's subscriptions. Raises DatabaseUnavailable."""
    page: SubscriptionPage = run(
        lambda connection: reading.read_subscriptions(
            belongings=PostgresBelongings(connection), holder=holder, after=after, limit=limit, now=clock.now()
        )
    )
    return page


def entitlements_of(run: Run, holder: Holder, *, catalog: Catalog, clock: Clock) -> EntitlementList:
    """What a user may use. Raises DatabaseUnavailable."""
    found: EntitlementList = run(
        lambda connection: reading.read_entitlements(
            belongings=PostgresBelongings(connection), catalog=catalog, holder=holder, now=clock.now()
        )
    )
    return found


def _is_of_another_key(command: Command, others: Sequence[Command]) -> bool:
    """A repeat is answered after the first, whose answer it is to find."""
    if command.key is None:
        return True
    named = (command.key.call, command.key.key)
    return all(other.key is None or (other.key.call, other.key.key) != named for other in others)
