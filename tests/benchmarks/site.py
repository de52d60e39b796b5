"""A ledger to be measured: a database with its users, and what they do there, prepared as jobs for a crew."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import Connection, Engine

from ledger.app import ROLE
from ledger.domain.books import WalletKey
from ledger.domain.commands import Command, IdempotencyKey, Spend
from ledger.handlers.auditing import audit
from ledger.store.audit import PostgresAudits, PostgresEvidence
from shared.bus import journal
from shared.bus.routes import LEDGER
from shared.clock import SystemClock
from shared.database import connect_engine, transact
from shared.events import Draft, Payload, PurchaseVerified, RefundReceived, RefundReversed, StoreTransaction
from shared.ids import EventId, PurchaseId, TransactionId, UserId, purchase_id
from tests.benchmarks.crew import Asked, Crew, Facts, Look
from tests.benchmarks.past import APP, GEMS, HOT, PRODUCT
from tests.support.seeded import seeded_ids

Crowd = Literal["5,000 wallets", "one hot wallet"]
CROWDS: Final[tuple[Crowd, ...]] = ("5,000 wallets", "one hot wallet")

USERS: Final = 5_000
BATCH: Final = 200
"""Events in one message to the ledger (shared.bus.routes)."""
HOT_PURCHASES: Final = 1_000
RECORDED_AT_ONCE: Final = 1_000
PATIENCE_S: Final = 3_600
"""Of what is done beside the measurements: making a past takes minutes."""
FIRST_TRANSACTION: Final = 3_000_000_000_000_000
"""Beyond those of any past: the App Store's ids grow."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bought:
    """A purchase by somebody."""

    user_id: UserId
    purchase_id: PurchaseId
    transaction: StoreTransaction


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit of all the books came to."""

    books: str
    rows: int
    seconds: float
    problems: int
    findings: Sequence[str]


@dataclass(frozen=True, slots=True)
class Mix:
    """What the bus brings, and what is asked for meanwhile."""

    facts: Sequence[Facts]
    spends: Sequence[Asked]


class Site:
    """One database. The same seed chooses the same users, in the same order."""

    def __init__(self, name: str, *, url: str, engine: Engine, crew: Crew, wallets: int, seed: int) -> None:
        self.name = name
        self.url = url
        self.crew = crew
        self._engine = engine
        self._ids = seeded_ids(seed)
        self._clock = SystemClock()
        self._transactions = itertools.count(FIRST_TRANSACTION)
        self._keys = itertools.count()
        self._users = itertools.cycle(self._chosen(wallets))

    def _chosen(self, wallets: int) -> list[UserId]:
        """One user at random of each five-thousandth part of them, so that wallets of all sizes are met; shuffled."""
        width = wallets / USERS
        chosen = [1 + int(width * (part + self._ids.uniform(0, 0.999))) for part in range(USERS)]
        chosen.sort(key=lambda _: self._ids.uniform(0, 1))
        return [UserId(f"user-{number}") for number in chosen]

    def prime(self) -> None:
        """Every user has bought something, so that wallets are open and there is something to be spent."""
        for crowd, count in zip(CROWDS, (USERS, HOT_PURCHASES), strict=True):
            self.crew.divided(self.credits(crowd, count, batch=BATCH), processes=2, threads=2)

    # ---- jobs -----------------------------------------------------------------------------------------------------

    def credits(self, crowd: Crowd, count: int, *, batch: int) -> list[Facts]:
        """So many purchases."""
        return self._facts([self._verified(bought) for bought in self._buy(crowd, count)], batch)

    def mix(self, crowd: Crowd, count: int) -> Mix:
        """So many postings: 70 % purchases, 15 % refunds, 5 % refunds taken back, 10 % spends.

        What is refunded, and what was, is in the books before.
        """
        refunds, reversals, spends = (count * percent // 100 for percent in (15, 5, 10))
        old = self._buy(crowd, refunds + reversals)
        to_refund, to_reverse = old[:refunds], old[refunds:]
        for drafts in ([self._verified(each) for each in old], [self._refunded(each) for each in to_reverse]):
            self.crew.divided(self._facts(drafts, BATCH), processes=2, threads=2)
        facts = _spread(
            self.credits(crowd, count - refunds - reversals - spends, batch=BATCH),
            self._facts([self._refunded(each) for each in to_refund], BATCH),
            self._facts([self._reversed(each) for each in to_reverse], BATCH),
        )
        return Mix(facts, self.spends(crowd, spends))

    def spends(self, crowd: Crowd, count: int) -> list[Asked]:
        """So many spends of one gem, each with a key of its own."""
        return [Asked(self._spend(self._wallet(crowd))) for _ in range(count)]

    def looks(self, crowd: Crowd, count: int) -> list[Look]:
        """So many reads of a wallet."""
        return [Look(self._wallet(crowd)) for _ in range(count)]

    # ---- what the database says -----------------------------------------------------------------------------------

    def postings(self) -> int:
        """How many there have been: each has one entry in the house's accounts, where nothing is written off."""
        return int(self._execute("select sum(version) from ledger.account where wallet_id is null").scalar_one() or 0)

    def unhandled(self) -> int:
        """Events that the ledger was to handle and has not."""
        left = "select count(*) from journal.delivery where consumer = %(ledger)s"
        return int(self._execute(left, ledger=LEDGER).scalar_one())

    def tell_everybody(self) -> None:
        """What the ledger has said is heard, as if the notifier ran: deliveries do not pile up."""
        self._execute("delete from journal.delivery where consumer <> %(ledger)s", ledger=LEDGER)

    def _execute(self, statement: str, **parameters: str) -> Any:
        return transact(self._engine, lambda connection: connection.exec_driver_sql(statement, parameters))

    # ---- facts and commands ---------------------------------------------------------------------------------------

    def _facts(self, drafts: Sequence[Draft], batch: int) -> list[Facts]:
        """They are in the journal, and due for the ledger."""
        if not drafts:
            return []
        event_ids: list[EventId] = []
        for some in _batches(drafts, RECORDED_AT_ONCE):
            event_ids += self._record(some)
        return [Facts(drafts[0].payload.TYPE, ids) for ids in _batches(event_ids, batch)]

    def _record(self, drafts: Sequence[Draft]) -> list[EventId]:
        return transact(self._engine, lambda connection: journal.append(connection, drafts, ids=self._ids))

    def _wallet(self, crowd: Crowd) -> WalletKey:
        return WalletKey(APP, "production", next(self._users) if crowd == "5,000 wallets" else UserId(HOT))

    def _buy(self, crowd: Crowd, count: int) -> list[Bought]:
        return [self._bought(self._wallet(crowd).user_id) for _ in range(count)]

    def _bought(self, user_id: UserId) -> Bought:
        now, number = self._clock.now(), TransactionId(str(next(self._transactions)))
        transaction = StoreTransaction(
            store="apple",
            environment="production",
            transaction_id=number,
            original_transaction_id=number,
            product_id=PRODUCT,
            product_type="consumable",
            quantity=1,
            purchased_at=now,
            signed_at=now,
        )
        claim = purchase_id(app=APP, store="apple", transaction_id=number, user_id=user_id)
        return Bought(user_id, claim, transaction)

    def _verified(self, bought: Bought) -> Draft:
        return self._draft(bought, PurchaseVerified(bought.purchase_id, bought.transaction))

    def _refunded(self, bought: Bought) -> Draft:
        said = _signed_later(bought, seconds=1)
        return self._draft(bought, RefundReceived(said, said.signed_at, "OTHER", purchase_id=bought.purchase_id))

    def _reversed(self, bought: Bought) -> Draft:
        return self._draft(bought, RefundReversed(_signed_later(bought, seconds=2), purchase_id=bought.purchase_id))

    def _draft(self, bought: Bought, payload: Payload) -> Draft:
        return Draft(
            payload=payload,
            app=APP,
            subject=bought.purchase_id,
            user_id=bought.user_id,
            occurred_at=bought.transaction.signed_at,
            trace_id=self._ids.trace_id(),
        )

    def _spend(self, wallet: WalletKey) -> Command:
        key = f"order-{next(self._keys)}"
        return Command(
            Spend(wallet, GEMS, 1, reference=key),
            actor="server:backend",
            trace_id=self._ids.trace_id(),
            key=IdempotencyKey("spends", key, hashlib.sha256(key.encode()).digest()),
        )


def audited(url: str, *, books: str) -> Audited:
    """The ledger's own audit of all the books in a database, as its own role, within its own time-outs."""
    engine = connect_engine(url, role=ROLE, pool_size=1, application_name="benchmark-audit")

    def run(work: Callable[[Connection], T]) -> T:
        return transact(engine, work)

    report = audit(evidence=PostgresEvidence(run), audits=PostgresAudits(run), clock=SystemClock())
    engine.dispose()
    assert report is not None, "nobody stopped it"
    return Audited(
        books=books,
        rows=sum(report.checked.values()),
        seconds=(report.finished_at - report.started_at).total_seconds(),
        problems=report.problems,
        findings=[f"{each.check}: {each.thing}: {each.found}, not {each.expected}" for each in report.findings],
    )


@contextlib.contextmanager
def site_on(name: str, *, url: str, crew: Crew, wallets: int, seed: int) -> Iterator[Site]:
    """The ledger in that database, where all may be done."""
    engine = connect_engine(url, role=None, pool_size=2, application_name="benchmark", timeout_s=PATIENCE_S)
    yield Site(name, url=url, engine=engine, crew=crew, wallets=wallets, seed=seed)
    engine.dispose()


def _signed_later(bought: Bought, *, seconds: int) -> StoreTransaction:
    moment = bought.transaction.signed_at + timedelta(seconds=seconds)
    return replace(bought.transaction, signed_at=moment)


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _spread(*kinds: Sequence[Facts]) -> list[Facts]:
    """All of them, each kind evenly from the beginning to the end."""
    placed = [((number + 0.5) / len(jobs), job) for jobs in kinds for number, job in enumerate(jobs)]
    return [job for _, job in sorted(placed, key=lambda each: each[0])]
