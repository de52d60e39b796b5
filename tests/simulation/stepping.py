"""A run: of all that can happen next something does, until nothing can any more; and the story of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random  # noqa: TID251 - a run's own, from its seed
from typing import Final
from uuid import UUID

import msgspec

from gateway.domain.purchases import Proof as GatewayProof
from gateway.domain.purchases import receipt_proof, transaction_proof
from gateway.handlers import account_token, receive_notification, submit_purchase
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
from notifier.domain.deliveries import Delivery
from shared.apps import Apps
from shared.bus.courier import BrokerUnavailable
from shared.bus.routes import NOTIFIER
from shared.catalog import Catalog
from shared.clock import ManualClock
from shared.database import DatabaseUnavailable
from shared.events import TransactionIdSubmitted
from shared.ids import AppId, Ids, UserId, parse_public_id
from shared.jws import JwsVerifier
from shared.money import CurrencyId
from tests.simulation.apple import Signer, SimulatedAppStore, receipt_for
from tests.simulation.bus import Letter, SimulatedBus, named
from tests.simulation.database import START, Crash, SimulatedDatabase
from tests.simulation.luck import Luck
from tests.simulation.plan import (
    Commanded,
    Declined,
    Input,
    Notified,
    PeriodPosted,
    PeriodTold,
    Plan,
    Posted,
    ReceiptPosted,
    TokenAsked,
    Weather,
    token_of,
)
from tests.simulation.processes import Outside, Processes, SimulatedPoster, SimulatedWaker

GAME: Final = AppId("game")
GEMS: Final = CurrencyId("gems")
STEPS_MAX: Final = 2_000
"""A run that is at no rest after so many steps never will be; most take a hundred."""
STALL_S: Final = 70.0
"""Longer than every lease but those that were doubled."""
REST_S: Final = 90.0
"""All that time alone changes is told by so long after (ledger.app.TOLD_AFTER, and some)."""

LOOKS_AGAIN_S: Final = 0.3
"""What is due and was not found is looked for again: the courier rests between two hand-overs, and sweeps seldom."""
OVERDUE_MAX: Final = timedelta(minutes=5)
"""So long, with nothing else to do, nobody is late."""
AHEAD_MAX: Final = timedelta(days=100)
"""Nothing is put off for longer."""
FAR: Final = datetime.max.replace(tzinfo=UTC)

Step = Callable[[], None]


class Restless(AssertionError):
    """It goes on and on, or something that is due never happens."""


@dataclass(frozen=True, slots=True)
class World:
    """What all runs of an operating system's process have in common."""

    database: SimulatedDatabase
    signer: Signer
    signatures: JwsVerifier
    apps: Mapping[str, Apps]
    """By what they do about debts."""
    catalog: Catalog


@dataclass(slots=True)
class Told:
    """What was seen from outside: what was accepted, and what was answered."""

    accepted: list[Input] = field(default_factory=list)
    answers: dict[int, Answer] = field(default_factory=dict)
    """The first to each command, by its key."""
    contradicted: list[int] = field(default_factory=list)
    """The commands that were answered in two ways."""
    hurried: set[int] = field(default_factory=set)
    """The sales that were claimed before the verifier knew whose their account token is."""


class Simulation:
    """One run. The database is in one already (SimulatedDatabase.run)."""

    def __init__(self, seed: str, plan: Plan, weather: Weather, *, world: World, clock: ManualClock) -> None:
        self.plan = plan
        self.clock = clock
        self.world = world
        self.told = Told()
        self.story: list[str] = []
        self.steps = 0
        self._luck = luck = Luck(seed, weather)
        self.apps = world.apps[plan.debt]
        self._ids = ids = Ids(clock, Random(f"{seed}/ids"))
        self.store = store = SimulatedAppStore(plan, signer=world.signer, catalog=world.catalog, clock=clock, luck=luck)
        self.poster = SimulatedPoster(luck=luck, clock=clock)
        self._bus = bus = SimulatedBus(luck=luck, clock=clock, tell=partial(self._tell, "broker"))
        self._looks = {"courier", "webhooks"}
        """Who may find something when it looks."""
        self.processes = Processes(
            Outside(world.database, store, world.signatures, bus, luck, clock, ids, self.apps, world.catalog),
            waker=SimulatedWaker(partial(self._looks.add, "courier")),
        )
        self._waiting = list(plan.inputs)
        self._is_scheduled = bool(plan.subscriptions) or any(isinstance(each, Commanded) for each in plan.inputs)
        self._ends_at = START + timedelta(days=40 if plan.subscriptions and luck.number(3) == 0 else 1)

    def run(self, *, watch: Callable[[Simulation], list[str]], every: int) -> list[str]:
        """Until all is at rest, or `watch`, which looks every so many steps, finds something wrong: what it is.

        Raises Restless, and whatever no service should raise.
        """
        while True:
            self._live_a_moment()
            if self.steps % every == 0 and (wrong := watch(self)):
                return wrong
            possible = self._possible()
            if possible:
                self._luck.weighted(possible)()
            elif not self._wait():
                return []

    def send(self, given: Input) -> None:
        """Something more arrives, now."""
        self._waiting.append(given)

    def digest(self) -> str:
        """The same for two runs that tell the same story."""
        return hashlib.sha256("\n".join(self.story).encode()).hexdigest()[:16]

    def note(self, what: str) -> None:
        """Adds to the story."""
        self._tell("end", what)

    # ---- what can happen next -------------------------------------------------------------------------------------

    def _live_a_moment(self) -> None:
        """Time passes; and what may happen at any time may happen."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Restless(f"it is not at rest after {STEPS_MAX} steps")
        self.clock.advance(round(self._luck.between(0.001, 0.12), 6))
        if self._luck.strikes("stalls"):
            self.clock.advance(STALL_S)
            self._looks |= {"courier", "webhooks"}
            self._tell("time", f"everything stands still for {STALL_S:g} s")
        if self._luck.strikes("killed"):
            name = self._luck.choice(self.processes.names)
            self.processes.restart(name)
            self._tell(name, "is killed, and starts again")
        if self._luck.strikes("broker_wiped"):
            self._tell("broker", f"is wiped, with {self._bus.wipe()} messages")
        if self.told.accepted and self._luck.strikes("repeated"):
            self._waiting.append(self._luck.choice(self.told.accepted))

    def _possible(self) -> list[tuple[float, Step]]:
        now_s = self._elapsed_s()
        possible: list[tuple[float, Step]] = []
        if arrived := [given for given in self._waiting if given.at_s <= now_s]:
            possible.append((3.0, partial(self._arrives, self._luck.choice(arrived))))
        if letters := self._bus.arrived():
            possible.append((min(6.0, 2.0 * len(letters)), partial(self._handle, self._luck.choice(letters))))
        if "courier" in self._looks:
            possible.append((0.3, self._hand_over))
        if deliveries := self.processes.webhooks.in_turn():
            possible.append((1.0, partial(self._send, deliveries)))
        if "webhooks" in self._looks and (not letters or self._luck.number(8) == 0):
            possible.append((0.3, self._take_webhooks))
        if possible and self._is_scheduled:
            possible.append((0.02, self._do_jobs))
        return possible

    def _wait(self) -> bool:
        """Until something can happen again; False: nothing will, ever."""
        due = self._due()
        if not due:
            return False
        now, moment = self.clock.now(), min(due.values())
        if not now - OVERDUE_MAX <= moment <= now + AHEAD_MAX:
            when = "overdue" if moment < now else "far ahead"
            raise Restless(f"what {min(due, key=lambda who: due[who])} is to do is {when}")
        self.clock.advance(max((moment - now).total_seconds(), LOOKS_AGAIN_S if moment <= now else 0.0))
        self._looks |= {who for who in ("courier", "webhooks") if due.get(who, FAR) <= self.clock.now()}
        if moment > now:
            self._tell("time", "passes")
        for number, said in self.store.let_due_happen():
            self._waiting.append(PeriodTold(self._elapsed_s() + self._luck.between(0, 20), number, said))
            self._tell("App Store", f"something happens to subscription {number}: word {said}")
        if due.get("ledger-scheduler", FAR) <= self.clock.now():
            self._do_jobs()
        return True

    def _due(self) -> dict[str, datetime]:
        """When something will happen by itself, by who does it. What time alone changes far ahead is left out."""
        courier, webhooks, scheduler = self.world.database.look(_DUE)[0]
        latest = max(self._ends_at, self.clock.now() + timedelta(seconds=REST_S))
        moments = {
            "courier": courier,
            "webhooks": webhooks,
            "broker": self._bus.next_arrival(),
            "senders": min((START + timedelta(seconds=given.at_s) for given in self._waiting), default=None),
            "ledger-scheduler": scheduler if scheduler and scheduler <= latest else None,
            "App Store": ahead if (ahead := self.store.next_due()) and ahead <= latest else None,
        }
        return {who: moment for who, moment in moments.items() if moment is not None}

    def _elapsed_s(self) -> float:
        return (self.clock.now() - START).total_seconds()

    # ---- steps ----------------------------------------------------------------------------------------------------

    def _attempt(self, process: str, what: str, act: Step) -> bool:
        """Has a process do something, unless it is cut off; whether it came to its end."""
        cut = self._luck.cut()
        try:
            with self.world.database.cut(cut):
                act()
        except Crash as crash:
            self.processes.restart(process)
            self._tell(process, f"{what} — dies: {crash}")
            return False
        except DatabaseUnavailable:
            self._tell(process, f"{what} — the database is away")
            return False
        self._tell(process, what if cut is None else f"{what} ({cut})")
        return True

    def _arrives(self, given: Input) -> None:
        """Somebody sends something, and again until it is answered."""
        process = "ledger-api" if isinstance(given, Commanded) else "gateway"
        done = self._attempt(process, str(given), partial(self._accept, given))
        if done and given not in self.told.accepted:
            self.told.accepted.append(given)
        if done and not self._luck.strikes("unanswered"):
            self._waiting.remove(given)

    def _hand_over(self) -> None:
        def hand_over() -> None:
            with suppress(BrokerUnavailable):
                self.processes.courier.hand_over()

        self._looks.discard("courier")
        self._attempt("courier", "hands over", hand_over)

    def _handle(self, letter: Letter) -> None:
        queue = letter.message.queue
        done = self._attempt(queue, named(letter.message), partial(self.processes.workers[queue].handle, letter))
        if queue == NOTIFIER:
            self._looks.add("webhooks")
        comes_again = self._luck.strikes("unacknowledged") if done else not self._luck.strikes("lost")
        if not comes_again and letter in self._bus.letters:
            self._bus.letters.remove(letter)

    def _take_webhooks(self) -> None:
        self._looks.discard("webhooks")
        self._attempt("webhooks", "takes what is due", self.processes.webhooks.take)

    def _send(self, deliveries: Sequence[Delivery]) -> None:
        chosen = self._luck.some(deliveries)
        what = ", ".join(f"{each.event.type} to {each.key.endpoint_id}" for each in chosen)
        self._attempt("webhooks", f"sends {what}", partial(self.processes.webhooks.send, chosen, self.poster))

    def _do_jobs(self) -> None:
        for job in list(self.processes.jobs):
            self._attempt("ledger-scheduler", job.name, partial(job.work, lambda: False))
        self._looks.add("courier")

    # ---- what arrives ---------------------------------------------------------------------------------------------

    def _accept(self, given: Input) -> None:
        match given:
            case Commanded():
                self._command(given)
            case TokenAsked():
                self._ask_for_token(given.user)
            case Posted() | PeriodPosted() | ReceiptPosted():
                self._post(given)
            case Notified():
                self._notify(self.store.notification(given.sale, change=given.change, again=given.again))
            case Declined():
                self._notify(self.store.declined(given.sale))
            case PeriodTold():
                self._notify(self.store.period_notification(given.subscription, given.said, again=given.again))

    def _post(self, given: Posted | PeriodPosted | ReceiptPosted) -> None:
        if isinstance(given, Posted):
            self._look_whether_hurried(given)
        submit_purchase(
            self._proof(given),
            app=GAME,
            user_id=given.user,
            journal=self.processes.journal,
            trace_id=self._ids.trace_id(),
            now=self.clock.now(),
        )

    def _proof(self, given: Posted | PeriodPosted | ReceiptPosted) -> GatewayProof:
        match given:
            case PeriodPosted():
                signed, _ = self.store.period(given.subscription, given.said)
                return transaction_proof(store="apple", signed_transaction=signed, transaction_id=None)
            case ReceiptPosted():
                newest = self.store.newest_period(given.subscription)
                receipt = receipt_for(given)
                return receipt_proof(store="apple", transaction_id=newest, receipt=receipt, vouched=False)
        transaction_id = self.store.transaction_id(given.sale)
        match given.proof:
            case "signed":
                signed = self.store.transaction(given.sale, knows=given.knows)
                return transaction_proof(store="apple", signed_transaction=signed, transaction_id=None)
            case "receipt":
                receipt = receipt_for(given)
                return receipt_proof(store="apple", transaction_id=transaction_id, receipt=receipt, vouched=False)
            case _:
                return TransactionIdSubmitted("apple", transaction_id, vouched=given.proof == "vouched")

    def _look_whether_hurried(self, given: Posted) -> None:
        """Whether somebody else than its buyer claims it before the verifier knows the buyer's account token."""
        sale = next(each for each in self.plan.sales if each.number == given.sale)
        if sale.with_token and given.user != sale.buyer:
            known = self.world.database.look(
                "select from verifier.account_token where token = %(token)s", token=str(token_of(sale.buyer))
            )
            if not known:
                self.told.hurried.add(sale.number)

    def _notify(self, signed_payload: str) -> None:
        receive_notification(
            signed_payload,
            apps=self.apps,
            signatures=self.world.signatures,
            journal=self.processes.journal,
            trace_id=self._ids.trace_id(),
            now=self.clock.now(),
        )

    def _ask_for_token(self, user: UserId) -> None:
        given = account_token(
            user,
            app=GAME,
            new_token=token_of(user),
            journal=self.processes.journal,
            trace_id=self._ids.trace_id(),
            now=self.clock.now(),
        )
        assert given == token_of(user), "a user has two account tokens"

    def _command(self, given: Commanded) -> None:
        request = self._request(given)
        if request is None:
            return
        key = IdempotencyKey(given.asked, str(given.key), hashlib.sha256(repr(request).encode()).digest())
        answer = self.processes.ledger.execute(Command(request, "server:backend", self._ids.trace_id(), key))
        first = self.told.answers.setdefault(given.key, answer)
        if (first.status, first.document) != (answer.status, answer.document):
            self.told.contradicted.append(given.key)

    def _request(self, given: Commanded) -> Request | None:
        """None: what it goes on from was refused, or is not known yet."""
        wallet = WalletKey(GAME, "production", given.user)
        match given.asked:
            case "spend":
                return Spend(wallet, GEMS, given.amount)
            case "grant":
                return Grant(wallet, GEMS, given.amount, "a lost level")
            case "hold":
                return PlaceHold(wallet, GEMS, given.amount, given.lasts_s)
        of = self._made_by(given.of)
        if of is None:
            return None
        match given.asked:
            case "capture":
                return CaptureHold(GAME, of, given.amount)
            case "release":
                return ReleaseHold(GAME, of)
            case _:
                return ReverseSpend(GAME, of, given.amount)

    def _made_by(self, key: int) -> UUID | None:
        """The spend or hold that a command has made."""
        answer = self.told.answers.get(key)
        if answer is None or answer.status >= 400:
            return None
        made: str = msgspec.json.decode(answer.document)["id"]
        return parse_public_id(made, prefix="spd") or parse_public_id(made, prefix="hld")

    # ---- the story ------------------------------------------------------------------------------------------------

    def _tell(self, who: str, what: str) -> None:
        self.story.append(f"{self._elapsed_s():14.3f}  {who:<17} {what}")


# What comes due, and what time alone changes: told some seconds after its time.
_DUE: Final = """
select (select min(due_at) from journal.delivery where due_at < 'infinity'),
       (select min(due_at) from notifier.delivery where state = 'waiting'),
       least((select min(expires_at) from ledger.hold where state = 'open'),
             (select min(due_at) + interval '20 s' from ledger.subscription),
             (select min(until) + interval '20 s' from ledger.entitlement where active and until < 'infinity'))
"""
