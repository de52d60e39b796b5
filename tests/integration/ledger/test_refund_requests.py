"""Users' requests for refunds in a real PostgreSQL: what they hold, what ends them, and who comes at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from ledger.apple import AppleRefunds
from ledger.domain.books import TransactionKey, WalletKey
from ledger.domain.commands import Answer, CaptureHold, Command, PlaceHold, Refused, ReleaseHold, Request, Spend
from ledger.domain.refund_requests import NotEligible, RefundRequestView
from ledger.domain.statements import Funds
from ledger.handlers.commands import execute
from ledger.handlers.expiring import Expired
from ledger.handlers.facts import apply_facts
from ledger.handlers.refund_requests import Ask, Asked, FoundRequests, StoreRefunds, ask, expire_requests, find
from ledger.store import (
    PostgresAnswers,
    PostgresBooks,
    PostgresCommissions,
    PostgresRefundRequests,
    PostgresWallets,
)
from shared.catalog import RefundPolicy
from shared.database import transact
from shared.events import Draft, Event, RefundDeclined, RefundRequestUpdated, Store, StoreTransaction
from shared.ids import AppId, PurchaseId, UserId, parse_public_id, purchase_id, system_ids
from shared.money import Amount, CurrencyId
from tests.support.ledger import (
    ALICE,
    APPS,
    BOB,
    CATALOG,
    COINS,
    FLOOR_GAME,
    GAME,
    GEMS,
    NOW,
    faults,
    refunded,
    said,
    transaction,
    verified,
)
from tests.support.ledger_tables import tables_on

T = TypeVar("T")

POLICY = RefundPolicy(window_days=14, spent_percent_max=50, open_days=7)
POLICIES = replace(CATALOG, refund_requests=POLICY)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
STORES: Mapping[Store, StoreRefunds] = {"apple": AppleRefunds()}

ids = system_ids()


@dataclass
class Desk:
    """The use-cases, each in a transaction of its own."""

    engine: Engine
    now: datetime = NOW

    def on(self, work: Callable[[Connection], T]) -> T:
        return transact(self.engine, work)

    def tell(self, *events: Event[Any]) -> Sequence[Draft]:
        """What the store says, in one batch."""

        def apply(connection: Connection) -> Sequence[Draft]:
            return apply_facts(
                events,
                tables=tables_on(connection),
                catalog=POLICIES,
                apps=APPS,
                new_id=ids.event_id,
                now=self.now,
            ).drafts

        return self.on(apply)

    def ask(self, of: StoreTransaction, *, user: UserId, app: AppId = GAME, only_user: UserId | None = None) -> Asked:
        asked = Ask(
            app=app,
            purchase_id=_purchase(of, user=user, app=app),
            actor="server:backend",
            trace_id=TRACE,
            only_user=only_user,
            reason="bought by mistake",
        )

        def work(connection: Connection) -> Asked:
            return ask(
                asked,
                books=PostgresBooks(connection, shard=0),
                requests=PostgresRefundRequests(connection),
                commissions=PostgresCommissions(connection),
                catalog=POLICIES,
                apps=APPS,
                stores=STORES,
                new_id=ids.event_id,
                now=self.now,
            )

        return self.on(work)

    def open(self, of: StoreTransaction, *, user: UserId, app: AppId = GAME) -> RefundRequestView:
        """Asks, and sees that a new request is open."""
        answer = self.ask(of, user=user, app=app).answer
        assert isinstance(answer, RefundRequestView)
        assert (answer.status, answer.is_new) == ("open", True)
        return answer

    def find(self, request: RefundRequestView, *, app: AppId = GAME, user: UserId | None = None) -> Any:
        uuid = parse_public_id(request.id, prefix="rfr")
        assert uuid is not None
        return self.on(
            lambda connection: find(
                requests=PostgresRefundRequests(connection), stores=STORES, app=app, id=uuid, only_user=user
            )
        )

    def expire(
        self, *, limit: int = 100, requests_on: Callable[[Connection], FoundRequests] = PostgresRefundRequests
    ) -> Expired:
        return self.on(
            lambda connection: expire_requests(
                books=PostgresBooks(connection, shard=0),
                requests=requests_on(connection),
                commissions=PostgresCommissions(connection),
                apps=APPS,
                new_id=ids.event_id,
                new_trace=ids.trace_id,
                now=self.now,
                limit=limit,
            )
        )

    def do(self, request: Request) -> Answer:
        command = Command(request, actor="server:backend", trace_id=TRACE)

        def work(connection: Connection) -> Answer:
            (answer,) = execute(
                [command],
                books=PostgresBooks(connection, shard=0),
                commissions=PostgresCommissions(connection),
                answers=PostgresAnswers(connection),
                apps=APPS,
                render=lambda _, outcome: Answer(200, outcome.code if isinstance(outcome, Refused) else outcome.id),
                new_id=ids.event_id,
                now=self.now,
            ).answers
            return answer

        return self.on(work)

    def funds(self, user: UserId, *, currency: CurrencyId = GEMS, app: AppId = GAME) -> Funds:
        state = self.on(lambda connection: PostgresWallets(connection).wallet(WalletKey(app, "production", user)))
        assert state is not None
        return state.balances[currency]

    def holds_of(self, request: RefundRequestView) -> list[tuple[UUID, str, int]]:
        """Of each: its id, its state, its amount."""
        uuid = parse_public_id(request.id, prefix="rfr")
        query = "select id, state, amount from ledger.hold where refund_request_id = %(id)s order by amount"
        return self.on(lambda connection: [tuple(row) for row in connection.exec_driver_sql(query, {"id": uuid})])


def _purchase(of: StoreTransaction, *, user: UserId, app: AppId = GAME) -> PurchaseId:
    return purchase_id(app=app, store=of.store, transaction_id=of.transaction_id, user_id=user)


def declined(of: StoreTransaction) -> Event[Any]:
    event: Event[Any] = refunded(of)
    return replace(event, payload=RefundDeclined(of))


@pytest.fixture
def desk(engine: Engine) -> Iterator[Desk]:
    yield Desk(engine)
    with engine.connect() as connection:
        assert faults(connection) == []


def bought(desk: Desk, name: str, *, user: UserId, product: str = "gems100", app: AppId = GAME) -> StoreTransaction:
    """A purchase that is granted; transactions are named once in this module's database."""
    of = transaction(name, product=product)
    desk.tell(verified(of, user=user, app=app))
    return of


# ---- what it holds -----------------------------------------------------------------------------------------------


def test_what_is_left_of_the_purchase_is_held_and_nothing_of_others(desk: Desk) -> None:
    user = UserId("holds")
    of = bought(desk, "holds-1", user=user)
    bought(desk, "holds-2", user=user)
    desk.do(Spend(WalletKey(GAME, "production", user), GEMS, 30))
    request = desk.open(of, user=user)
    assert (request.held, request.spent_percentage_milli) == ([Amount(GEMS, 70)], 30_000)
    assert request.expires_at == NOW + timedelta(days=7)
    assert desk.funds(user) == Funds(balance=170, available=100, held=70, debt=0)


def test_each_currency_is_held_by_itself(desk: Desk) -> None:
    user = UserId("each")
    request = desk.open(bought(desk, "each", user=user, product="bundle"), user=user)
    assert request.held == [Amount(COINS, 7), Amount(GEMS, 551)]
    assert [(state, amount) for _, state, amount in desk.holds_of(request)] == [("open", 7), ("open", 551)]


def test_a_purchase_without_currency_may_be_asked_back_and_holds_nothing(desk: Desk) -> None:
    user = UserId("adfree")
    of = bought(desk, "adfree", user=user, product="adfree")
    request = desk.open(of, user=user)
    assert (request.held, request.spent_percentage_milli) == ([], 0)
    desk.tell(refunded(of))
    assert desk.find(request).status == "refunded"


def test_what_another_hold_has_set_aside_counts_as_spent(desk: Desk) -> None:
    user = UserId("aside")
    of = bought(desk, "aside", user=user)
    desk.do(PlaceHold(WalletKey(GAME, "production", user), GEMS, 51, expires_in_s=900))
    answer = desk.ask(of, user=user).answer
    assert isinstance(answer, NotEligible)
    assert (answer.reason, answer.members["spent_percentage_milli"]) == ("spent_too_much", 51_000)


def test_a_refusal_holds_nothing_and_says_nothing(desk: Desk) -> None:
    user = UserId("late")
    of = bought(desk, "late", user=user)
    desk.now = NOW + timedelta(days=15)
    asked = desk.ask(of, user=user)
    assert isinstance(asked.answer, NotEligible)
    assert (asked.answer.reason, asked.drafts) == ("window_passed", ())
    assert desk.funds(user).held == 0


def test_the_app_can_neither_capture_nor_release_what_a_request_holds(desk: Desk) -> None:
    user = UserId("mine")
    request = desk.open(bought(desk, "mine", user=user), user=user)
    ((hold, _, _),) = desk.holds_of(request)
    assert desk.do(CaptureHold(GAME, hold)).document == "not-found"
    assert desk.do(ReleaseHold(GAME, hold)).document == "not-found"
    assert desk.funds(user).held == 100


def test_it_is_said_that_it_is_open_in_the_timeline_of_the_purchase(desk: Desk) -> None:
    user = UserId("said")
    of = bought(desk, "said", user=user)
    drafts = desk.ask(of, user=user).drafts
    assert said(drafts) == ["refund_request.updated", "hold.placed"]
    assert (drafts[0].subject, drafts[0].user_id, drafts[0].trace_id) == (_purchase(of, user=user), user, TRACE)
    assert isinstance(drafts[0].payload, RefundRequestUpdated)
    assert (drafts[0].payload.status, drafts[0].payload.held) == ("open", [Amount(GEMS, 100)])


# ---- whose it is -------------------------------------------------------------------------------------------------


def test_another_users_purchase_and_request_are_not_there(desk: Desk) -> None:
    of = bought(desk, "whose", user=ALICE)
    assert desk.ask(of, user=ALICE, only_user=BOB).answer is None
    request = desk.open(of, user=ALICE)
    assert desk.find(request, user=BOB) is None
    assert desk.find(request, app=FLOOR_GAME) is None
    assert desk.find(request, user=ALICE) == replace(request, is_new=False)


def test_a_purchase_that_the_ledger_never_heard_of_is_not_there(desk: Desk) -> None:
    assert desk.ask(transaction("never"), user=ALICE).answer is None
    desk.tell(refunded(transaction("only-refunded")))
    assert desk.ask(transaction("only-refunded"), user=ALICE).answer is None


# ---- asking again, and at once -----------------------------------------------------------------------------------


def test_asking_again_answers_the_request_that_is_open(desk: Desk) -> None:
    user = UserId("again")
    of = bought(desk, "again", user=user)
    request = desk.open(of, user=user)
    asked = desk.ask(of, user=user)
    assert (asked.answer, asked.drafts) == (replace(request, is_new=False), ())
    assert desk.funds(user).held == 100


def test_of_many_that_ask_at_once_one_opens_a_request_and_all_are_told_of_it(desk: Desk) -> None:
    user = UserId("at-once")
    of = bought(desk, "at-once", user=user)
    with ThreadPoolExecutor(8) as pool:
        answers = [asked.answer for asked in pool.map(lambda _: desk.ask(of, user=user), range(8), timeout=60)]
    views = [answer for answer in answers if isinstance(answer, RefundRequestView)]
    assert (len(views), len({view.id for view in views}), sum(view.is_new for view in views)) == (8, 1, 1)
    assert desk.funds(user).held == 100


# ---- what ends it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milli", "app", "left"),
    [
        (100_000, GAME, Funds(balance=-30, available=0, held=0, debt=30)),
        (100_000, FLOOR_GAME, Funds(balance=0, available=0, held=0, debt=0)),
        (40_000, GAME, Funds(balance=30, available=30, held=0, debt=0)),
    ],
)
def test_the_stores_refund_takes_what_was_held_for_it(desk: Desk, milli: int, app: AppId, left: Funds) -> None:
    user = UserId(f"refunded-{milli}-{app}")
    of = bought(desk, user, user=user, app=app)
    desk.do(Spend(WalletKey(app, "production", user), GEMS, 30))
    request = desk.open(of, user=user, app=app)
    drafts = desk.tell(refunded(of, milli=milli, app=app))
    assert said(drafts) == ["hold.ended", "refund_request.updated", "wallet.debited", "purchase.refunded"]
    over = desk.find(request, app=app)
    assert (over.status, over.held) == ("refunded", [])
    assert [state for _, state, _ in desk.holds_of(request)] == ["released"]
    assert desk.funds(user, app=app) == left


def test_the_stores_refusal_frees_what_was_held(desk: Desk) -> None:
    user = UserId("declined")
    of = bought(desk, "declined", user=user)
    request = desk.open(of, user=user)
    assert said(desk.tell(declined(of))) == ["hold.ended", "refund_request.updated"]
    assert desk.find(request).status == "declined"
    assert desk.funds(user) == Funds(balance=100, available=100, held=0, debt=0)


def test_what_is_freed_pays_what_is_owed(desk: Desk) -> None:
    """100 are held for one purchase when the refund of another leaves the user owing."""
    user = UserId("owing")
    first, second = bought(desk, "owing-1", user=user), bought(desk, "owing-2", user=user)
    desk.do(Spend(WalletKey(GAME, "production", user), GEMS, 80))
    desk.open(second, user=user)
    desk.tell(refunded(first))
    assert desk.funds(user) == Funds(balance=20, available=0, held=100, debt=80)
    desk.tell(declined(second))
    assert desk.funds(user) == Funds(balance=20, available=20, held=0, debt=0)


def test_one_batch_may_end_a_request_once_and_say_all_that_follows(desk: Desk) -> None:
    user = UserId("batch")
    of = bought(desk, "batch", user=user)
    request = desk.open(of, user=user)
    later = replace(of, signed_at=NOW + timedelta(hours=1))
    drafts = desk.tell(refunded(of, milli=25_000), declined(of), refunded(later))
    assert said(drafts).count("refund_request.updated") == 1
    assert desk.find(request).status == "refunded"
    assert desk.funds(user).balance == 0


def test_when_its_time_is_over_it_ends_with_its_hold_and_another_may_be_opened(desk: Desk) -> None:
    user = UserId("over")
    of = bought(desk, "over", user=user)
    request = desk.open(of, user=user)
    desk.now = request.expires_at - timedelta(seconds=1)
    assert desk.expire().count == 0
    desk.now = request.expires_at
    _expire_all(desk, request)
    assert desk.find(request).status == "expired"
    assert [state for _, state, _ in desk.holds_of(request)] == ["expired"]
    assert desk.funds(user) == Funds(balance=100, available=100, held=0, debt=0)
    assert desk.open(of, user=user).id != request.id


def _expire_all(desk: Desk, request: RefundRequestView) -> None:
    """One at a time, with all that other tests have left open; what was said of this one names its purchase."""
    said_of_it: list[Draft] = []
    while (expired := desk.expire(limit=1)).count:
        said_of_it += [draft for draft in expired.drafts if draft.subject == request.purchase_id]
    assert said(said_of_it) == ["refund_request.updated"]


def test_a_second_that_expires_them_too_finds_nothing_to_do(desk: Desk) -> None:
    user = UserId("twice")
    request = desk.open(bought(desk, "twice", user=user), user=user)
    desk.now = request.expires_at
    with ThreadPoolExecutor(4) as pool:
        drafts = [draft for each in pool.map(lambda _: desk.expire(), range(4), timeout=60) for draft in each.drafts]
    ended = [draft for draft in drafts if draft.subject == request.purchase_id]
    assert said(ended) == ["refund_request.updated"]


def test_a_request_that_was_opened_since_another_was_due_is_left_open(desk: Desk) -> None:
    """What is due is read before it is locked; by then another may have ended it, and the user have asked again."""
    user = UserId("since")
    of = bought(desk, "since", user=user)

    class ReadBefore(PostgresRefundRequests):
        def due(self, *, now: datetime, limit: int) -> Sequence[TransactionKey]:
            return [TransactionKey(GAME, of.store, of.environment, of.transaction_id)]

    request = desk.open(of, user=user)
    assert desk.expire(requests_on=ReadBefore) == Expired(0, [])
    assert desk.find(request).status == "open"
    assert desk.funds(user).held == 100


# ---- growth ------------------------------------------------------------------------------------------------------


def test_requests_are_found_by_index(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With sequential scans as expensive as they are in large tables."""
    plans: list[str] = []
    original = Connection.exec_driver_sql

    def explained(connection: Connection, statement: str, parameters: Any = None) -> Any:
        if "set_config" not in statement and "for update" not in statement:
            plans.append("\n".join(original(connection, "explain " + statement, parameters).scalars().all()))
        return original(connection, statement, parameters)

    user = UserId("explained")
    of = bought(desk, "explained", user=user)
    with desk.engine.connect() as connection:
        connection.exec_driver_sql("set enable_seqscan = off")
        monkeypatch.setattr(Connection, "exec_driver_sql", explained)
        requests = PostgresRefundRequests(connection)
        key = requests.transaction_of(app=GAME, purchase_id=_purchase(of, user=user))
        assert key is not None
        requests.open_of([key])
        requests.holds_of([UUID(int=1)])
        requests.find(app=GAME, id=UUID(int=1))
        requests.due(now=NOW, limit=1)
        monkeypatch.undo()
    assert len(plans) == 5
    assert [plan for plan in plans if "Seq Scan" in plan] == []
    assert [plan for plan in plans if re.search(r"hold_open\b|hold_open_of_account", plan)] == []  # whole, of all users
