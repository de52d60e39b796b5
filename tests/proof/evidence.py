"""What is found when all is over: in the books and the journal, at the gateway, at the backend, in the store's log."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from shared.events import OUTWARD
from tests.proof.clients import Clients
from tests.proof.model import Model
from tests.proof.world import World
from tests.support.system import server

THREADS: Final = 8
FEED_PAGE: Final = 200
NOTIFICATIONS_PAGE: Final = 200
AUDIT_SHOWN_MAX: Final = 500

Transaction = tuple[str, str]
"""Environment, and the store's id."""
Wallet = tuple[str, str, str]
"""Environment, user, currency."""

_BOOKED: Final = """
select environment, coalesce(stated_as, transaction_id), transaction_id, user_id, state
  from ledger.store_transaction where state <> 'awaited'
"""
_MOVED: Final = """
select t.environment, t.transaction_id, a.currency, sum(e.amount)::bigint,
       count(*) filter (where t.kind = 'purchase'), count(*) filter (where t.kind = 'refund')
  from ledger.transfer t
  join ledger.entry e on e.transfer_id = t.id and e.wallet_id is not null
  join ledger.account a on a.id = e.account_id
 where t.transaction_id is not null group by 1, 2, 3
"""
_WALLETS: Final = """
select w.environment, w.user_id, a.currency, a.balance from ledger.account a join ledger.wallet w on w.id = a.wallet_id
"""
_SPENT: Final = """
select t.reference, count(*), -sum(e.amount)::bigint
  from ledger.transfer t join ledger.entry e on e.transfer_id = t.id and e.wallet_id is not null
 where t.kind = 'spend' group by 1
"""
_SUBSCRIPTIONS: Final = """
select original_transaction_id, user_id, told ->> 'status', told ->> 'transaction_id', (told ->> 'auto_renew')::bool
  from ledger.subscription where told is not null
"""
_UNHANDLED: Final = """
select consumer, type, state, attempts, handovers, error, count(*) from journal.delivery group by 1, 2, 3, 4, 5, 6
"""
_UNSENT: Final = "select state, count(*) from notifier.delivery where state <> 'delivered' group by 1"
_OUTWARD: Final = "select id::text from journal.event where type = any(%(types)s)"
_PLACES: Final = "select position from journal.outward order by position"


@dataclass(frozen=True, slots=True)
class Booked:
    """One transaction of the store in the books. `moved` into its owner's wallet, all in all; `grants` and `refunds`
    are how many transfers did so."""

    owner: str | None
    state: str
    moved: Mapping[str, int]
    grants: int
    refunds: int


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger's. `spent`: by reference, how many transfers, and how much."""

    transactions: Mapping[Transaction, Booked]
    wallets: Mapping[Wallet, int]
    spent: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Unhandled:
    """Deliveries that are left, of one kind."""

    consumer: str
    type: str
    state: str
    attempts: int
    handovers: int
    error: str | None
    count: int

    @property
    def is_stuck(self) -> bool:
        return self.state in {"parked", "dead"}


@dataclass(frozen=True, slots=True)
class Standing:
    """A subscription, as its user was told it."""

    user: str
    status: str
    transaction_id: str
    auto_renew: bool | None


@dataclass(frozen=True, slots=True)
class Told:
    """One webhook that arrived."""

    id: str
    genuine: bool
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it. `purchases`: by id, as the gateway shows them; `feed`: as it tells, in order; `outward`: the ids of
    the events in the journal that have to be told; `store_heard`: what the store's notifications were answered, by
    status; `wrong_answers`: what the gateway answered to others, and may not.
    """

    books: Books
    purchases: Mapping[str, Mapping[str, Any]]
    subscriptions: Mapping[str, Standing]
    unhandled: Sequence[Unhandled]
    unsent: Mapping[str, int]
    outward: frozenset[str]
    places: Sequence[int]
    feed: Sequence[Mapping[str, Any]]
    told: Sequence[Told]
    store_heard: Mapping[str, int]
    wrong_answers: Sequence[str]
    audit: Mapping[str, Any]


def read_books(world: World) -> Books:
    """What the ledger has written down."""
    moved: defaultdict[Transaction, dict[str, int]] = defaultdict(dict)
    transfers: defaultdict[Transaction, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for environment, charge, currency, amount, grants, refunds in world.rows(_MOVED):
        key = environment, charge
        if amount:
            moved[key][currency] = amount
        transfers[key] = max(transfers[key][0], grants), max(transfers[key][1], refunds)
    return Books(
        transactions={
            (environment, stated): Booked(owner, state, moved[environment, charge], *transfers[environment, charge])
            for environment, stated, charge, owner, state in world.rows(_BOOKED)
        },
        wallets={
            (environment, user, currency): balance for environment, user, currency, balance in world.rows(_WALLETS)
        },
        spent={reference: (count, amount) for reference, count, amount in world.rows(_SPENT)},
    )


def read_unhandled(world: World) -> list[Unhandled]:
    """What some consumer has still to handle, or cannot."""
    return [Unhandled(*row) for row in world.rows(_UNHANDLED)]


def read_unsent(world: World) -> dict[str, int]:
    """Webhooks that were not delivered, by their state."""
    return {str(state): int(count) for state, count in world.rows(_UNSENT)}


def gather(world: World, *, clients: Clients, model: Model) -> Evidence:
    """Everything, while nothing moves any more."""
    return Evidence(
        books=read_books(world),
        purchases=_purchases(clients, _claimed(model)),
        subscriptions={original: Standing(*standing) for original, *standing in world.rows(_SUBSCRIPTIONS)},
        unhandled=read_unhandled(world),
        unsent=read_unsent(world),
        outward=frozenset(row[0] for row in world.rows(_OUTWARD, types=sorted(OUTWARD))),
        places=[row[0] for row in world.rows(_PLACES)],
        feed=_feed(clients),
        told=[Told(each.id, each.genuine, json.loads(each.raw)) for each in world.backend.received],
        store_heard=_heard(clients),
        wrong_answers=list(clients.answers.wrong),
        audit=_audit(world),
    )


def _claimed(model: Model) -> Iterable[str]:
    yield from (purchase_id for sale in model.sales for purchase_id in sale.claims.values() if purchase_id)
    yield from (refusal.purchase_id for refusal in model.refusals)


def _purchases(clients: Clients, ids: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    def read(purchase_id: str) -> tuple[str, Mapping[str, Any]]:
        answer = clients.ask("GET", f"/v1/purchases/{purchase_id}", headers=server(), wanted=(200, 404))
        return purchase_id, answer.json()

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(pool.map(read, ids))


def _feed(clients: Clients) -> list[Mapping[str, Any]]:
    told: list[Mapping[str, Any]] = []
    after = ""
    while True:
        page = clients.ask("GET", f"/v1/events?limit={FEED_PAGE}{after}", headers=server()).json()
        told += page["events"]
        if not page["events"]:
            return told
        after = f"&after={page['next']}"


def _heard(clients: Clients) -> Counter[str]:
    """What the gateway answered to the store."""
    heard: Counter[str] = Counter()
    after = ""
    while True:
        page = clients.tell_store(f"/_sim/notifications?limit={NOTIFICATIONS_PAGE}{after}", method="GET")
        for notification in page["notifications"]:
            heard.update(str(attempt["http_status"] or "none") for attempt in notification["attempts"])
        if page["next"] is None:
            return heard
        after = f"&after={page['next']}"


def _audit(world: World) -> Mapping[str, Any]:
    """`purser audit --json`; what it says where it cannot do it."""
    ended = world.purser("audit", "--json")
    try:
        report: Mapping[str, Any] = json.loads(ended.stdout)
    except ValueError:
        return {"clean": False, "problems": 1, "findings": [(ended.stdout + ended.stderr)[-AUDIT_SHOWN_MAX:]]}
    return {**report, "clean": report["clean"] and ended.returncode == 0}
