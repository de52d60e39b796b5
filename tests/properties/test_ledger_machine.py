"""The ledger against the model: whatever is done to it, in whatever order, the books are the model's after each step.

One example is one transaction of the database, rolled back at its end. `pytest tests/properties
--hypothesis-profile=full` looks at more of them, and longer ones.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, Engine

from ledger.domain.books import WalletKey
from ledger.domain.commands import (
    Answer,
    CaptureHold,
    Command,
    Grant,
    HoldDone,
    IdempotencyKey,
    Outcome,
    PlaceHold,
    Refused,
    ReleaseHold,
    Request,
    ReverseSpend,
    Spend,
    SpendDone,
)
from shared.events import Environment, Event
from shared.ids import AppId, UserId, parse_public_id
from shared.money import CurrencyId
from tests.support.ledger import COINS, FLOOR_GAME, GAME, GEMS, NOW, faults
from tests.support.ledger_driver import Driver
from tests.support.ledger_facts import PLACES, USERS, Fact, event_of, facts, tell
from tests.support.ledger_model import ALL_OF_IT, LedgerModel, Place, Refusal
from tests.support.ledger_state import state_of
from tests.support.seeded import seeded_ids

NUMBERS = st.integers(1, 4)
AMOUNTS = st.sampled_from((1, 7, 50, 100, 551)) | st.integers(1, 700)
WALLETS = st.sampled_from([WalletKey(*place, user) for place in PLACES for user in USERS])
PHASES = tuple(phase for phase in Phase if phase is not Phase.explain)  # explaining costs minutes
NEWER = 100
"""A moment after those of all facts that come in no order."""
NONE = UUID(int=0)
CURRENCIES = st.sampled_from((GEMS, GEMS, COINS))


class LedgerMachine(RuleBasedStateMachine):
    """The real ledger and the model, side by side."""

    engine: ClassVar[Engine]

    def __init__(self) -> None:
        super().__init__()
        self.connection: Connection = self.engine.connect()
        self.driver = Driver(self.connection, ids=seeded_ids(1))
        self.model = LedgerModel({GAME: "negative", FLOOR_GAME: "floor"})
        self.now = NOW
        self.facts = facts(numbers=NUMBERS)
        self.wallets = WALLETS
        self.statements: dict[object, Fact] = {}
        self.told: list[tuple[Event[Any], Fact]] = []
        self.answered: list[tuple[Command, str]] = []

    def teardown(self) -> None:
        self.connection.rollback()
        self.connection.close()

    # ---- what a store says ------------------------------------------------------------------------------------

    @initialize(place=st.sampled_from(PLACES[:2]))
    def most_happens_in_one_place(self, place: tuple[AppId, Environment]) -> None:
        """So that much of it meets: the others see to it that nothing gets there from here."""
        self.facts = facts(numbers=NUMBERS, places=(place, place, place, *PLACES))
        self.wallets = st.sampled_from([WalletKey(*there, user) for there in (place, place, *PLACES) for user in USERS])

    @rule(data=st.data())
    def facts_come(self, data: st.DataObject) -> None:
        """Of every kind, about purchases that are known, unknown, refunded already, or another environment's."""
        batch = data.draw(st.lists(self.facts, min_size=1, max_size=6), label="facts")
        stated = [self.statements.setdefault(fact.statement, fact) for fact in batch]
        self._tell([(event_of(fact), fact) for fact in stated])

    @precondition(lambda self: self._granted())
    @rule(data=st.data(), milli=st.sampled_from((ALL_OF_IT, ALL_OF_IT, 50_000, 33_333, 1, 0)))
    def purchases_are_refunded_or_their_refunds_reversed(self, data: st.DataObject, milli: int) -> None:
        """By the newest statement that there is; several at once, so that a wallet comes to have several debts."""
        some = st.lists(st.sampled_from(self._granted()), min_size=1, max_size=4, unique=True)
        newest = [self._newest(name, milli) for name in data.draw(some, label="purchases")]
        self._tell([(event_of(fact), fact) for fact in newest])

    def _newest(self, name: tuple[Place, str], milli: int) -> Fact:
        (app, environment), number = name
        moment = NEWER + len(self.statements)
        fact = Fact(app, environment, int(number), "refunded" if milli else "reversed", milli or ALL_OF_IT, moment)  # type: ignore[arg-type]
        self.statements[fact.statement] = fact
        return fact

    def _granted(self) -> list[tuple[Place, str]]:
        return [name for name, purchase in self.model.purchases.items() if purchase.lots]

    @precondition(lambda self: self.told)
    @rule(data=st.data(), as_new_events=st.booleans())
    def facts_come_again(self, data: st.DataObject, as_new_events: bool) -> None:
        again = data.draw(st.lists(st.sampled_from(self.told), min_size=1, max_size=4), label="again")
        self._tell([(event_of(fact), fact) if as_new_events else (event, fact) for event, fact in again])

    def _tell(self, batch: list[tuple[Event[Any], Fact]]) -> None:
        self.told += batch
        handled = self.driver.apply([event for event, _ in batch], now=self.now)
        assert not handled.parked
        tell(self.model, [fact for _, fact in batch])

    # ---- what is asked for --------------------------------------------------------------------------------------

    @rule(data=st.data(), count=st.integers(1, 3))
    def commands_come(self, data: st.DataObject, count: int) -> None:
        """New ones and those about what was spent or set aside before, several at once."""
        requests = [data.draw(self._requests(), label="request") for _ in range(count)]
        commands = [
            Command(request, "server:backend", "0" * 32, IdempotencyKey("call", f"key-{number}", b"body"))
            for number, request in enumerate(requests, start=len(self.answered))
        ]
        self._execute(commands)

    @precondition(lambda self: self._spendable())
    @rule(data=st.data(), expires_in_s=st.none() | st.integers(1, 5000))
    def all_that_a_user_has_is_spent_or_set_aside(self, data: st.DataObject, expires_in_s: int | None) -> None:
        """What is refunded then is owed, or written off."""
        rich, _, _ = data.draw(st.sampled_from(self._spendable()), label="who")
        requests: list[Request] = [
            PlaceHold(wallet, currency, available, expires_in_s) if expires_in_s else Spend(wallet, currency, available)
            for wallet, currency, available in self._spendable()
            if wallet == rich
        ]
        self._execute([Command(request, "server:backend", "0" * 32) for request in requests])

    @precondition(lambda self: self.model.spends or self.model.holds)
    @rule(data=st.data())
    def what_was_asked_before_is_followed_up(self, data: st.DataObject) -> None:
        request = data.draw(st.one_of(*self._follow_ups()), label="request")
        self._execute([Command(request, "server:backend", "0" * 32)])

    def _requests(self) -> st.SearchStrategy[Request]:
        return st.one_of(*self._new_ones(), *self._follow_ups())

    def _new_ones(self) -> list[st.SearchStrategy[Request]]:
        """About any wallet, or about one in which there is something, which may be asked for to the last unit."""
        kinds: list[st.SearchStrategy[Request]] = [
            st.builds(Grant, self.wallets, CURRENCIES, AMOUNTS, st.just("a lost level")),
            st.builds(Spend, self.wallets, CURRENCIES, AMOUNTS),
        ]
        if spendable := self._spendable():
            kinds += [st.sampled_from(spendable).flatmap(lambda found: _spend_or_hold(*found))] * 2
        return kinds

    def _spendable(self) -> list[tuple[WalletKey, CurrencyId, int]]:
        """Where something is available, and how much."""
        return [
            (WalletKey(*place, UserId(user)), CurrencyId(currency), account.available)  # type: ignore[arg-type]
            for (place, user, currency), account in self.model.accounts.items()
            if account.available
        ]

    def _follow_ups(self) -> list[st.SearchStrategy[Request]]:
        """About what was spent, and what was set aside; what is over already is asked for too."""
        kinds: list[st.SearchStrategy[Request]] = []
        if spends := self.model.spends:
            kinds.append(st.sampled_from(list(spends)).flatmap(self._reverse))
        if holds := self.model.holds:
            still_open = [name for name, hold in holds.items() if hold.state == "open"]
            kinds.append(st.sampled_from(still_open or list(holds)).flatmap(self._capture))
            kinds.append(st.sampled_from(list(holds)).map(lambda name: ReleaseHold(self._app_of_hold(name), name)))
        return kinds

    def _reverse(self, name: UUID) -> st.SearchStrategy[Request]:
        spend = self.model.spends[name]
        app = AppId(spend.account_name[0][0])
        return st.builds(ReverseSpend, st.just(app), st.just(name), st.none() | _part_of(spend.amount - spend.reversed))

    def _capture(self, name: UUID) -> st.SearchStrategy[Request]:
        app, amounts = self._app_of_hold(name), _part_of(self.model.holds[name].amount)
        return st.builds(CaptureHold, st.just(app), st.just(name), st.none() | amounts)

    def _app_of_hold(self, name: UUID) -> AppId:
        return AppId(self.model.holds[name].account_name[0][0])

    @precondition(lambda self: self.answered)
    @rule(data=st.data(), change=st.sampled_from(("nothing", "the body", "the app")))
    def a_key_comes_again(self, data: st.DataObject, change: str) -> None:
        """The first answer, word for word; or the refusal of another body, or of another app's things."""
        command, document = data.draw(st.sampled_from(self.answered), label="again")
        assert command.key is not None
        if change == "the body":
            command = replace(command, key=replace(command.key, body_sha256=b"other"))
        elif change == "the app" and isinstance(command.request, ReverseSpend | CaptureHold | ReleaseHold):
            other = FLOOR_GAME if command.request.app == GAME else GAME
            command = replace(command, request=replace(command.request, app=other))
        (answer,) = self.driver.execute([command], now=self.now)
        if change == "the body":
            assert self._refusal(answer) == "idempotency-key-reused"
        elif change == "the app" and answer.document != document:
            assert self._refusal(answer) == "not-found"
        else:
            assert (answer.document, answer.replayed) == (document, True)

    def _refusal(self, answer: Answer) -> str | None:
        outcome = self.driver.outcome(answer)
        return outcome.code if isinstance(outcome, Refused) else None

    def _execute(self, commands: list[Command]) -> None:
        answers = self.driver.execute(commands, now=self.now)
        for command, answer in zip(commands, answers, strict=True):
            assert not answer.replayed
            self._mirror(command.request, self.driver.outcome(answer))
            if command.key is not None:
                self.answered.append((command, answer.document))

    def _mirror(self, request: Request, outcome: Outcome) -> None:
        """Asks the model for the same, which has to come to the same."""
        refusal = self._ask_model(request, outcome)
        if isinstance(outcome, Refused):
            assert refusal == Refusal(outcome.code, outcome.members)
            return
        assert refusal is None
        place, user = (self._app_of(request), outcome.environment), outcome.user_id
        account, funds = self.model.account(place, user, outcome.currency), outcome.wallet.funds
        assert (funds.balance, funds.available) == (account.balance, account.available)
        assert (funds.held, funds.debt) == (account.held, account.owed)
        assert outcome.wallet.version == self.model.entries_of(place, user)

    def _app_of(self, request: Request) -> AppId:
        return request.wallet.app if isinstance(request, Spend | PlaceHold | Grant) else request.app

    def _ask_model(self, request: Request, outcome: Outcome) -> Refusal | None:
        match request:
            case Spend():
                return self.model.spend(_name(outcome), *_account(request), request.amount)
            case Grant():
                self.model.grant(*_account(request), request.amount)
                return None
            case PlaceHold():
                ends = self.now + timedelta(seconds=request.expires_in_s)
                return self.model.hold(_name(outcome), *_account(request), request.amount, expires_at=ends)
            case ReverseSpend():
                return self.model.reverse_spend(request.spend, request.amount)
            case CaptureHold():
                return self.model.capture(request.hold, request.amount, spend=_name_of_spend(outcome), now=self.now)
            case ReleaseHold():
                return self.model.release(request.hold, now=self.now)

    @rule(seconds=st.integers(1, 3000), is_seen_to=st.booleans())
    def time_passes(self, seconds: int, is_seen_to: bool) -> None:
        """Holds whose time is over are free again, when somebody comes by to see to it."""
        self.now += timedelta(seconds=seconds)
        if is_seen_to:
            while self.driver.expire(now=self.now):
                pass
            self.model.expire(self.now)

    # ---- what holds after every step ----------------------------------------------------------------------------

    @invariant()
    def the_books_are_those_of_the_model(self) -> None:
        assert state_of(self.connection) == self.model.state()

    @invariant()
    def the_books_are_sound(self) -> None:
        assert faults(self.connection) == []


def _spend_or_hold(wallet: WalletKey, currency: CurrencyId, available: int) -> st.SearchStrategy[Request]:
    account = st.just(wallet), st.just(currency), _part_of(available)
    return st.one_of(st.builds(Spend, *account), st.builds(PlaceHold, *account, st.integers(1, 5000)))


def _part_of(whole: int) -> st.SearchStrategy[int]:
    """All of it, a part of it, or one too much."""
    return st.sampled_from([max(1, whole), max(1, whole), max(1, whole // 2), max(1, whole - 1), whole + 1])


def _account(request: Spend | PlaceHold | Grant) -> tuple[Place, UserId, CurrencyId]:
    wallet = request.wallet
    return (wallet.app, wallet.environment), wallet.user_id, request.currency


def _name(outcome: Outcome) -> UUID:
    """What the ledger calls it; NONE for what was refused."""
    match outcome:
        case SpendDone():
            return parse_public_id(outcome.id, prefix="spd") or NONE
        case HoldDone():
            return parse_public_id(outcome.id, prefix="hld") or NONE
    return NONE


def _name_of_spend(outcome: Outcome) -> UUID:
    """What the ledger calls the spend that a hold has become."""
    if not isinstance(outcome, HoldDone) or outcome.spend_id is None:
        return NONE
    return parse_public_id(outcome.spend_id, prefix="spd") or NONE


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_books_are_the_models_after_every_step(engine: Engine) -> None:
    """In no run of random facts, requests, repetitions and waits does the ledger differ from the model."""
    bounds = settings(deadline=None, stateful_step_count=50, suppress_health_check=list(HealthCheck), phases=PHASES)
    LedgerMachine.engine = engine
    run_state_machine_as_test(LedgerMachine, settings=bounds)
