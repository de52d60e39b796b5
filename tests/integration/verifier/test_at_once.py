"""Several users and several processes that want the same transactions at the same moment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random  # noqa: TID251 - seeded, and printed when the test fails
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from shared.apps import Apps
from shared.bus import journal
from shared.database import connect_engine, transact
from shared.events import Draft, Event, PurchaseVerified
from shared.ids import TransactionId
from shared.outcome import Handled
from tests.support.app_store import AppStore, refunded
from tests.support.verifying import (
    GAME,
    Answers,
    Desk,
    ask_about,
    code,
    found,
    ids,
    look_up,
    named,
    notified,
    posted,
    receipt,
    reported,
    settle_lookups,
    settle_receipts,
    token_issued,
    valid,
)
from verifier.domain.records import TransactionKey
from verifier.store import PostgresRecords

SEED = int(os.environ.get("PURSER_TEST_SEED", "20261122"))  # noqa: TID251 - a test's own setting
THREADS = 6
ROUNDS = 30
"""In each of them everybody starts at once, with transactions of which nobody has a record yet."""
SHARED = 12
"""So few transactions that everybody wants the same ones."""
PERIODS = 4
"""Of each of three subscriptions: whoever claims one of them claims them all."""
MANY = 500
"""Records that take so long to make that two who make them meet."""
USERS = ("alice", "bob")

Process = Callable[[Connection, Random], Handled]


def test_of_two_users_whose_receipts_are_settled_in_one_group_the_first_gets_it_and_the_other_is_told(
    connection: Connection, store: AppStore, apps: Apps
) -> None:
    claims = store.transaction()
    given = [receipt(user, claims["transactionId"]) for user in USERS]
    answered = [(each, ask_about(each, apps, store, Answers(valid(claims)), Answers(None))) for each in given]
    handled = settle_receipts(answered, PostgresRecords(connection), apps)
    verified, rejected = handled.drafts
    assert (verified.payload.TYPE, verified.user_id) == ("purchase.verified", "alice")
    assert (rejected.user_id, code([rejected])) == ("bob", "claimed_by_another_user")


class Crowd:
    """What several processes do to the same few transactions, in batches of any order and overlap."""

    def __init__(self, store: AppStore, apps: Apps) -> None:
        self._store = store
        self._apps = apps
        self.tokens = [ids.uuid() for _ in range(SHARED)]
        self.bare = [store.transaction() for _ in range(SHARED)]  # no lock of a token keeps their batches apart
        self.claims = self.bare + [store.transaction(appAccountToken=str(token)) for token in self.tokens]
        self.periods = [claims for token in self.tokens[:3] for claims in _subscription(store, token)]

    def processes(self) -> list[Process]:
        return [
            self.store_receipts,
            self.store_lookups,
            self.signed,
            self.notified,
            self.reported,
            self.tokens_issued,
        ]

    def store_receipts(self, connection: Connection, random: Random) -> Handled:
        answered = []
        for claims in self._some(random):
            given = receipt(random.choice(USERS), claims["transactionId"])
            held = valid(*random.sample(self.bare, 3), *random.sample(self.periods, 5), claims)
            answered.append((given, ask_about(given, self._apps, self._store, Answers(held), Answers(None))))
        return settle_receipts(answered, PostgresRecords(connection), self._apps)

    def store_lookups(self, connection: Connection, random: Random) -> Handled:
        answered = []
        for claims in self._some(random):
            given = named(random.choice(USERS), claims["transactionId"], vouched=random.random() < 0.5)
            answered.append((given, look_up(given, self._apps, self._store, Answers(found(self._store, claims)))))
        return settle_lookups(answered, PostgresRecords(connection), self._apps)

    def signed(self, connection: Connection, random: Random) -> Handled:
        events = [posted(self._store, random.choice(USERS), claims) for claims in self._some(random)]
        return self._local(connection, events)

    def notified(self, connection: Connection, random: Random) -> Handled:
        """A charge in most cases; a refund, and what may become of one."""
        kinds = ["ONE_TIME_CHARGE", "DID_RENEW"] * 2 + ["REFUND", "REFUND_REVERSED", "REFUND_DECLINED"]
        events = []
        for claims in self._some(random):
            kind = random.choice(kinds)
            events.append(notified(self._store, kind, refunded(claims) if kind == "REFUND" else claims))
        return self._local(connection, events)

    def reported(self, connection: Connection, random: Random) -> Handled:
        """The store was asked how subscriptions stand."""
        claims = random.sample(self.periods, PERIODS)
        return self._local(connection, [reported(self._store, each, None, status=1) for each in claims])

    def tokens_issued(self, connection: Connection, random: Random) -> Handled:
        return self._local(
            connection, [token_issued("alice", token) for token in random.sample(self.tokens, SHARED // 2)]
        )

    def _some(self, random: Random) -> list[dict[str, Any]]:
        claims = random.choice([self.bare, self.claims, self.periods])
        return random.sample(claims, random.randint(SHARED // 2, SHARED))

    def _local(self, connection: Connection, events: Sequence[Event[Any]]) -> Handled:
        return Desk(connection, self._store, self._apps).handled(*events)


def _subscription(store: AppStore, token: UUID) -> list[dict[str, Any]]:
    """Its periods, all signed by now. One of them shows the account token."""
    first = store.period()
    periods = [first, *(store.period(number, of=first) for number in range(2, PERIODS + 1))]
    periods[2]["appAccountToken"] = str(token)
    return [claims | {"signedDate": first["signedDate"]} for claims in periods]


@pytest.fixture
def crowded(database: str) -> Iterator[Engine]:
    engine = connect_engine(database, role="purser_verifier", pool_size=THREADS, application_name="test-crowd")
    yield engine
    engine.dispose()


def test_processes_that_want_the_same_transactions_at_once_never_wait_for_each_other_in_a_circle(
    crowded: Engine, store: AppStore, apps_with_key: Apps
) -> None:
    """Each batch is one transaction of the database, with the events that follow, as the bus has it."""
    crowds = [Crowd(store, apps_with_key) for _ in range(ROUNDS)]
    ready = threading.Barrier(THREADS, timeout=30)

    def work(number: int) -> list[Draft]:
        random, drafts = Random(SEED + number), []
        for crowd in crowds:
            ready.wait()
            drafts += _one_batch(crowded, crowd, random)
        return drafts

    with ThreadPoolExecutor(THREADS) as pool:
        working = [pool.submit(work, number) for number in range(THREADS)]
    drafts = [draft for done in working for draft in done.result()]
    payloads = [draft.payload for draft in drafts if isinstance(draft.payload, PurchaseVerified)]
    granted = [payload.transaction.transaction_id for payload in payloads]
    assert len(granted) == len(set(granted)), f"seed {SEED}"
    assert _owned(crowded) == set(granted), f"seed {SEED}"
    assert _of_somebody_elses_origin(crowded) == [], f"seed {SEED}"


def test_two_who_ask_for_the_same_new_records_in_opposite_orders_never_wait_for_each_other_in_a_circle(
    crowded: Engine,
) -> None:
    ready = threading.Barrier(2, timeout=30)

    def lock(keys: Sequence[TransactionKey]) -> int:
        ready.wait()
        return len(transact(crowded, lambda connection: PostgresRecords(connection).lock(keys)))

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, 10 * MANY, MANY):
            keys = [TransactionKey(GAME, "apple", "production", TransactionId(f"{start + n}")) for n in range(MANY)]
            locking = [pool.submit(lock, keys), pool.submit(lock, keys[::-1])]
            assert [done.result() for done in locking] == [MANY, MANY]


def _one_batch(engine: Engine, crowd: Crowd, random: Random) -> list[Draft]:
    process = random.choice(crowd.processes())

    def handle(connection: Connection) -> list[Draft]:
        handled = process(connection, random)
        assert not handled.parked
        journal.append(connection, handled.drafts, ids=ids)
        return list(handled.drafts)

    return transact(engine, handle)


STRAYS = """
select known.transaction_id, known.user_id, origin.user_id from verifier.store_transaction as known
  join verifier.origin using (app, store, environment, original_transaction_id)
 where known.user_id is distinct from origin.user_id and known.refunded_milli < 100000
"""


def _of_somebody_elses_origin(engine: Engine) -> list[Any]:
    """Transactions that do not belong to who owns what they belong to; what is taken back may be nobody's."""
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(STRAYS))


def _owned(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        owned = "select transaction_id from verifier.store_transaction where user_id is not null"
        return set(connection.exec_driver_sql(owned).scalars())
