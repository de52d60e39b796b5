"""What is asked for, on a real database: done once, whole or not at all, however many ask at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from ledger.desk import Desk
from ledger.domain.books import WalletKey
from ledger.domain.commands import (
    Answer,
    CaptureHold,
    Command,
    Grant,
    IdempotencyKey,
    PlaceHold,
    ReleaseHold,
    Request,
    ReverseSpend,
    Spend,
)
from ledger.domain.statements import Funds
from shared.bus import journal
from shared.clock import ManualClock
from shared.database import transact
from shared.events import Event
from shared.ids import AppId, UserId, parse_public_id, system_ids
from tests.support.ledger import (
    APPS,
    CATALOG,
    FLOOR_GAME,
    GAME,
    GEMS,
    NOW,
    faults,
    refund_reversed,
    refunded,
    somebody_waits,
    transaction,
    verified,
)
from tests.support.ledger_driver import Driver
from tests.support.stack import wait_until

ACTOR, TRACE = "server:backend", "0af7651916cd43dd8448eb211c80319c"
ids = system_ids()


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture(scope="module")
def desks(engine: Engine, clock: ManualClock) -> Iterator[tuple[Desk, Desk]]:
    """Two processes' desks."""
    one, other = (Desk(engine=engine, catalog=CATALOG, apps=APPS, ids=ids, clock=clock) for _ in range(2))
    yield one, other
    for desk in (one, other):
        desk._waker.close()


@pytest.fixture
def desk(desks: tuple[Desk, Desk]) -> Desk:
    return desks[0]


@pytest.fixture(autouse=True)
def _the_books_are_sound_after_each(engine: Engine) -> Iterator[None]:
    yield
    assert transact(engine, faults) == []


@pytest.fixture
def wallet(request: pytest.FixtureRequest) -> WalletKey:
    """A wallet of this test's own."""
    return WalletKey(GAME, "production", UserId(request.node.name))


def command(request: Request, *, key: str | None = None, body: bytes = b"body", **more: Any) -> Command:
    """A command; its key, if it has one, is for a call of the request's name."""
    keyed = None if key is None else IdempotencyKey(type(request).__name__, key, body)
    return Command(request, ACTOR, TRACE, key=keyed, **more)


def ask(desk: Desk, request: Request, **more: Any) -> tuple[int, dict[str, Any]]:
    """The status and the document."""
    answer = desk.execute(command(request, **more))
    return answer.status, json.loads(answer.document)


def give(desk: Desk, wallet: WalletKey, amount: int) -> None:
    assert ask(desk, Grant(wallet, GEMS, amount, "to begin with"))[0] == 201


def spend(desk: Desk, wallet: WalletKey, amount: int) -> UUID:
    return _uuid(ask(desk, Spend(wallet, GEMS, amount))[1]["id"])


def hold(desk: Desk, wallet: WalletKey, amount: int, *, expires_in_s: int = 60) -> UUID:
    return _uuid(ask(desk, PlaceHold(wallet, GEMS, amount, expires_in_s))[1]["id"])


def _uuid(text: str) -> UUID:
    value = parse_public_id(text, prefix="spd" if text.startswith("spd") else "hld")
    assert value is not None
    return value


def funds(desk: Desk, wallet: WalletKey) -> Funds:
    return desk.wallet(wallet).balances[GEMS]


def say(engine: Engine, *events: Event[Any]) -> None:
    """A store says so."""
    transact(engine, lambda connection: Driver(connection, ids=ids).apply(events, now=NOW))


def recorded(engine: Engine, wallet: WalletKey) -> Counter[str]:
    """How many events of each type are in the journal about the user."""
    query = "select type, count(*)::int from journal.event where user_id = %(user)s group by type"
    rows = transact(engine, lambda connection: connection.exec_driver_sql(query, {"user": wallet.user_id}).all())
    return Counter({row[0]: row[1] for row in rows})


# ---- the first answer again -------------------------------------------------------------------------------------


def test_a_repeat_gets_the_first_answer_byte_for_byte_and_nothing_is_done(
    desk: Desk, engine: Engine, wallet: WalletKey, clock: ManualClock
) -> None:
    give(desk, wallet, 100)
    asked = command(Spend(wallet, GEMS, 30, reference="order-7"), key="k")
    first = desk.execute(asked)
    before = recorded(engine, wallet)
    give(desk, wallet, 5)
    clock.advance(3600)
    again = desk.execute(replace(asked, trace_id="f" * 32))
    assert (again.status, again.document, again.replayed) == (first.status, first.document, True)
    assert (first.status, first.replayed) == (201, False)
    assert funds(desk, wallet).balance == 75
    assert recorded(engine, wallet) - before == {"grant.posted": 1, "wallet.credited": 1}


@pytest.mark.parametrize("refused", ["insufficient-funds", "spend-not-reversible", "hold-too-small", "hold-not-open"])
def test_a_refusal_is_an_answer_too_even_when_it_would_not_be_refused_any_more(
    desk: Desk, wallet: WalletKey, refused: str
) -> None:
    give(desk, wallet, 100)
    ended = hold(desk, wallet, 10)
    ask(desk, ReleaseHold(GAME, ended))
    requests: dict[str, Request] = {
        "insufficient-funds": Spend(wallet, GEMS, 1000),
        "spend-not-reversible": ReverseSpend(GAME, spend(desk, wallet, 10), 11),
        "hold-too-small": CaptureHold(GAME, hold(desk, wallet, 10), 11),
        "hold-not-open": CaptureHold(GAME, ended),
    }
    asked = command(requests[refused], key=f"k-{refused}")
    first = desk.execute(asked)
    assert (first.status in {409, 422}, json.loads(first.document)["code"]) == (True, refused)
    give(desk, wallet, 1000)
    assert desk.execute(asked) == replace(first, replayed=True)


def test_a_key_with_another_body_is_refused_and_stays_the_firsts(desk: Desk, wallet: WalletKey) -> None:
    give(desk, wallet, 100)
    first = desk.execute(command(Spend(wallet, GEMS, 30), key="k"))
    status, problem = ask(desk, Spend(wallet, GEMS, 40), key="k", body=b"another")
    assert (status, problem["code"]) == (409, "idempotency-key-reused")
    assert desk.execute(command(Spend(wallet, GEMS, 30), key="k")) == replace(first, replayed=True)
    assert funds(desk, wallet).balance == 70


def test_a_key_is_its_users_its_calls_and_its_apps(desk: Desk, wallet: WalletKey) -> None:
    others = [
        wallet,
        wallet._replace(user_id=UserId(wallet.user_id + "-2")),
        wallet._replace(app=FLOOR_GAME),
    ]
    for one in others:
        give(desk, one, 100)
        assert not desk.execute(command(Spend(one, GEMS, 30), key="k")).replayed
        assert not desk.execute(command(PlaceHold(one, GEMS, 30, 60), key="k")).replayed
        assert funds(desk, one) == Funds(balance=70, available=40, held=30, debt=0)


def test_what_is_not_there_does_not_use_up_its_key(desk: Desk, engine: Engine, wallet: WalletKey) -> None:
    unknown = command(ReverseSpend(GAME, UUID(int=1)), key="k")
    for _ in range(2):
        answer = desk.execute(unknown)
        assert (answer.status, answer.replayed) == (404, False)
    kept = "select count(*) from ledger.answer where call = 'ReverseSpend' and key = 'k' and status = 404"
    assert transact(engine, lambda connection: connection.exec_driver_sql(kept).scalar_one()) == 0


def test_an_answer_is_kept_with_what_was_done_or_not_at_all(
    desk: Desk, engine: Engine, wallet: WalletKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails before it is committed leaves nothing, and is done when it comes again."""
    give(desk, wallet, 100)
    asked = command(Spend(wallet, GEMS, 30), key="k")
    with monkeypatch.context() as broken:
        broken.setattr(journal, "append", _fail)
        with pytest.raises(_PowerCut):
            desk.execute(asked)
    assert funds(desk, wallet).balance == 100
    assert recorded(engine, wallet)["spend.posted"] == 0
    answer = desk.execute(asked)
    assert (answer.status, answer.replayed) == (201, False)
    assert funds(desk, wallet).balance == 70


class _PowerCut(Exception):
    """Something that nobody expects."""


def _fail(*_: Any, **__: Any) -> None:
    raise _PowerCut


# ---- several at once --------------------------------------------------------------------------------------------


def at_once(works: Sequence[Callable[[], Answer]]) -> list[Answer]:
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(work) for work in works]]


def test_one_key_that_comes_many_times_at_once_is_done_once(
    desks: tuple[Desk, Desk], engine: Engine, wallet: WalletKey
) -> None:
    """In one process, and in another one beside it."""
    desk, _ = desks
    give(desk, wallet, 100)
    asked = command(Spend(wallet, GEMS, 30), key="k")
    answers = at_once([partial(each.execute, asked) for each in desks * 8])
    assert len({(answer.status, answer.document) for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert funds(desk, wallet).balance == 70
    assert recorded(engine, wallet)["spend.posted"] == 1


def test_one_key_that_comes_at_once_with_other_bodies_is_one_of_them(desk: Desk, wallet: WalletKey) -> None:
    give(desk, wallet, 100)
    works = [
        partial(desk.execute, command(Spend(wallet, GEMS, amount), key="k", body=b"%d" % amount))
        for amount in range(1, 13)
    ]
    statuses = Counter(answer.status for answer in at_once(works))
    assert statuses == {201: 1, 409: 11}


def test_of_what_is_asked_at_once_as_much_is_done_as_there_is(desks: tuple[Desk, Desk], wallet: WalletKey) -> None:
    desk, _ = desks
    give(desk, wallet, 10)
    works = [
        partial(each.execute, command(Spend(wallet, GEMS, 1), key=f"{number}"))
        for number, each in enumerate(desks * 10)
    ]
    statuses = Counter(answer.status for answer in at_once(works))
    assert statuses == {201: 10, 422: 10}
    assert funds(desk, wallet).balance == 0
    assert desk.wallet(wallet).version == 11


def test_a_hold_that_is_captured_and_released_at_once_ends_once(desk: Desk, engine: Engine, wallet: WalletKey) -> None:
    give(desk, wallet, 100)
    held = hold(desk, wallet, 60)
    works = [partial(desk.execute, command(each(GAME, held))) for each in (CaptureHold, ReleaseHold) * 6]
    statuses = Counter(answer.status for answer in at_once(works))
    assert statuses == {200: 1, 409: 11}
    assert funds(desk, wallet) in {Funds(40, 40, 0, 0), Funds(100, 100, 0, 0)}
    assert recorded(engine, wallet)["hold.ended"] == 1


def test_what_waits_for_a_busy_wallet_is_done_in_one_transaction(
    desk: Desk, engine: Engine, owner: Engine, wallet: WalletKey
) -> None:
    """One leads and waits for the wallet's lock; those that came meanwhile go together, a refusal among them."""
    give(desk, wallet, 100)
    amounts = [5, 6, 7, 1000, 8]
    with ThreadPoolExecutor(6) as pool:
        with engine.begin() as busy:
            query = "select 1 from ledger.wallet where user_id = %(user)s for update"
            busy.exec_driver_sql(query, {"user": wallet.user_id})
            first = pool.submit(desk.execute, command(Spend(wallet, GEMS, 4), key="first"))
            wait_until(lambda: transact(owner, somebody_waits), within_s=20, what="the leader to wait for the wallet")
            rest = [
                pool.submit(desk.execute, command(Spend(wallet, GEMS, amount), key=f"{amount}")) for amount in amounts
            ]
            wait_until(lambda: desk._group.waiting() == len(amounts), within_s=20, what="the others to queue up")
        answers: list[Future[Answer]] = [first, *rest]
        statuses = [future.result(timeout=60).status for future in answers]
    assert statuses == [201, 201, 201, 201, 422, 201]
    assert funds(desk, wallet).balance == 70
    transactions = """
        select count(distinct xmin::text)::int from ledger.transfer
         where kind = 'spend' and event_id in (select id from journal.event where user_id = %(user)s)"""
    mine = {"user": wallet.user_id}
    assert transact(engine, lambda connection: connection.exec_driver_sql(transactions, mine).scalar_one()) == 2


@pytest.mark.parametrize("late", [CaptureHold, ReleaseHold])
def test_who_waited_for_the_wallet_finds_the_hold_as_the_other_left_it(
    desk: Desk, engine: Engine, owner: Engine, wallet: WalletKey, late: type[CaptureHold | ReleaseHold]
) -> None:
    """It had read that the hold is open before it waited."""
    give(desk, wallet, 100)
    held = hold(desk, wallet, 60)
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as first:
            captured = Driver(first, ids=ids).execute([command(CaptureHold(GAME, held))], now=NOW)
            second = pool.submit(ask, desk, late(GAME, held))
            wait_until(lambda: transact(owner, somebody_waits), within_s=20, what="the second to wait for the wallet")
        status, document = second.result(timeout=60)
    assert (captured[0].status, status, document["state"]) == (201, 409, "captured")
    assert funds(desk, wallet) == Funds(balance=40, available=40, held=0, debt=0)


def test_who_waited_for_the_wallet_gives_no_more_back_than_the_other_left(
    desk: Desk, engine: Engine, owner: Engine, wallet: WalletKey
) -> None:
    give(desk, wallet, 100)
    spent = spend(desk, wallet, 60)
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as first:
            Driver(first, ids=ids).execute([command(ReverseSpend(GAME, spent, 50))], now=NOW)
            second = pool.submit(ask, desk, ReverseSpend(GAME, spent, 20))
            wait_until(lambda: transact(owner, somebody_waits), within_s=20, what="the second to wait for the wallet")
        status, document = second.result(timeout=60)
    assert (status, document["reversible"]) == (422, 10)


# ---- what is somebody else's ------------------------------------------------------------------------------------


def test_another_apps_and_another_users_spends_and_holds_are_not_there(desk: Desk, wallet: WalletKey) -> None:
    give(desk, wallet, 100)
    spent, held = spend(desk, wallet, 10), hold(desk, wallet, 10)
    stranger = UserId("stranger")
    for request in (ReverseSpend(FLOOR_GAME, spent), CaptureHold(FLOOR_GAME, held), ReleaseHold(FLOOR_GAME, held)):
        assert ask(desk, request)[0] == 404
    for request in (ReverseSpend(GAME, spent), CaptureHold(GAME, held), ReleaseHold(GAME, held)):
        assert ask(desk, request, only_user=stranger)[0] == 404
    assert funds(desk, wallet) == Funds(balance=90, available=80, held=10, debt=0)
    assert ask(desk, ReverseSpend(GAME, spent), only_user=wallet.user_id)[0] == 200


# ---- what one leaves to the next --------------------------------------------------------------------------------


def test_spends_and_reversals_use_the_lots_that_those_before_them_left(
    desk: Desk, engine: Engine, wallet: WalletKey
) -> None:
    for amount in (100, 50, 70):
        give(desk, wallet, amount)
    first = spend(desk, wallet, 120)
    second = spend(desk, wallet, 40)
    assert remaining(engine, wallet) == [0, 0, 60]
    assert ask(desk, ReverseSpend(GAME, first, 40))[1]["reversed"] == 40
    assert remaining(engine, wallet) == [20, 20, 60]
    assert ask(desk, ReverseSpend(GAME, second))[1]["wallet"]["funds"]["balance"] == 140
    assert remaining(engine, wallet) == [20, 50, 70]
    assert ask(desk, ReverseSpend(GAME, first, 81))[1]["reversible"] == 80
    assert ask(desk, ReverseSpend(GAME, first))[1]["reversed"] == 120
    assert remaining(engine, wallet) == [100, 50, 70]


def remaining(engine: Engine, wallet: WalletKey) -> list[int]:
    """What is left of each lot of the wallet, the oldest first."""
    query = """
        select remaining from ledger.lot join ledger.account on account.id = account_id
          join ledger.wallet on wallet.id = wallet_id where user_id = %(user)s order by lot.version"""

    def read(connection: Connection) -> list[int]:
        return list(connection.exec_driver_sql(query, {"user": wallet.user_id}).scalars())

    return transact(engine, read)


def test_several_of_one_batch_find_enough_lots_for_all_of_them(desk: Desk, engine: Engine, wallet: WalletKey) -> None:
    """Ten lots of 10: the batch spends, holds, is refused once, spends what it has freed, and what it was given."""
    for _ in range(10):
        give(desk, wallet, 10)
    held = hold(desk, wallet, 15)
    batch: list[Request] = [
        Spend(wallet, GEMS, 12),
        PlaceHold(wallet, GEMS, 21, 60),
        Spend(wallet, GEMS, 53),
        Spend(wallet, GEMS, 52),
        ReleaseHold(GAME, held),
        Spend(wallet, GEMS, 15),
        Grant(wallet, GEMS, 3, "sorry"),
        Spend(wallet, GEMS, 3),
    ]

    def work(connection: Connection) -> list[int]:
        answers = Driver(connection, ids=ids).execute([command(request) for request in batch], now=NOW)
        return [answer.status for answer in answers]

    assert transact(engine, work) == [201, 201, 422, 201, 201, 201, 201, 201]
    assert funds(desk, wallet) == Funds(balance=21, available=0, held=21, debt=0)
    assert remaining(engine, wallet) == [0] * 11


def test_a_spend_that_is_given_back_pays_a_refunds_debt(desk: Desk, engine: Engine, wallet: WalletKey) -> None:
    of = transaction(wallet.user_id)
    say(engine, verified(of, user=wallet.user_id))
    spent = spend(desk, wallet, 80)
    say(engine, refunded(of))
    assert funds(desk, wallet) == Funds(balance=-80, available=0, held=0, debt=80)
    assert ask(desk, Spend(wallet, GEMS, 1))[1]["available"] == 0
    ask(desk, ReverseSpend(GAME, spent, 50))
    assert funds(desk, wallet) == Funds(balance=-30, available=0, held=0, debt=30)
    give(desk, wallet, 40)
    assert funds(desk, wallet) == Funds(balance=10, available=10, held=0, debt=0)


@pytest.mark.parametrize("app", [GAME, FLOOR_GAME])
def test_a_hold_that_is_captured_after_a_refund_leaves_what_the_apps_policy_says(
    desk: Desk, engine: Engine, wallet: WalletKey, app: AppId
) -> None:
    """100 bought, 20 spent, 50 held, all refunded; of the hold, 30 are captured and 20 freed: they pay."""
    wallet, of = wallet._replace(app=app), transaction(wallet.user_id)
    say(engine, verified(of, user=wallet.user_id, app=app))
    spend(desk, wallet, 20)
    held = hold(desk, wallet, 50)
    say(engine, refunded(of, app=app))
    owed = 70 if app == GAME else 50
    assert funds(desk, wallet) == Funds(balance=50 - owed, available=0, held=50, debt=owed)
    status, document = ask(desk, CaptureHold(app, held, 30))
    assert (status, document["captured"], document["state"]) == (200, 30, "captured")
    left = 50 if app == GAME else 0
    assert funds(desk, wallet) == Funds(balance=-left, available=0, held=0, debt=left)
    kinds = [entry.kind for entry in desk.entries(wallet, before=None, limit=10).entries]
    assert kinds == (["write_off"] if app == FLOOR_GAME else []) + ["spend", "refund", "spend", "purchase"]
    say(engine, refund_reversed(transaction(wallet.user_id, after_s=1), app=app))
    assert funds(desk, wallet) == Funds(balance=50, available=50, held=0, debt=0)


def test_a_hold_that_is_released_pays_a_refunds_debt(desk: Desk, engine: Engine, wallet: WalletKey) -> None:
    of = transaction(wallet.user_id)
    say(engine, verified(of, user=wallet.user_id))
    held = hold(desk, wallet, 90)
    say(engine, refunded(of, milli=60_000))
    assert funds(desk, wallet) == Funds(balance=40, available=0, held=90, debt=50)
    status, document = ask(desk, ReleaseHold(GAME, held))
    assert (status, document["wallet"]["funds"]["balance"]) == (200, 40)
    assert funds(desk, wallet) == Funds(balance=40, available=40, held=0, debt=0)


def test_a_hold_whose_time_is_over_ends_when_it_is_touched_and_the_refusal_is_kept(
    desk: Desk, engine: Engine, wallet: WalletKey, clock: ManualClock
) -> None:
    give(desk, wallet, 100)
    held = hold(desk, wallet, 60, expires_in_s=60)
    clock.advance(60)
    asked = command(CaptureHold(GAME, held), key="k")
    first = desk.execute(asked)
    assert (first.status, json.loads(first.document)["state"]) == (409, "expired")
    assert funds(desk, wallet) == Funds(balance=100, available=100, held=0, debt=0)
    assert desk.execute(asked) == replace(first, replayed=True)
    assert ask(desk, ReleaseHold(GAME, held))[1]["state"] == "expired"
    assert recorded(engine, wallet)["hold.ended"] == 1


def test_every_posting_names_an_event_of_the_journal_that_says_so(
    desk: Desk, engine: Engine, wallet: WalletKey
) -> None:
    wallet = wallet._replace(app=FLOOR_GAME)
    of = transaction(wallet.user_id)
    say(engine, verified(of, user=wallet.user_id, app=FLOOR_GAME))
    held = hold(desk, wallet, 100)
    say(engine, refunded(of, app=FLOOR_GAME))
    ask(desk, CaptureHold(FLOOR_GAME, held))
    give(desk, wallet, 10)
    ask(desk, ReverseSpend(FLOOR_GAME, spend(desk, wallet, 10)))
    query = """
        select transfer.kind, event.type from ledger.transfer join journal.event on event.id = event_id
         where user_id = %(user)s order by transfer.id"""
    rows = transact(engine, lambda connection: connection.exec_driver_sql(query, {"user": wallet.user_id}).all())
    assert [tuple(row) for row in rows] == [
        ("spend", "spend.posted"),
        ("write_off", "hold.ended"),
        ("grant", "grant.posted"),
        ("spend", "spend.posted"),
        ("spend_reversal", "spend.reversed"),
    ]
