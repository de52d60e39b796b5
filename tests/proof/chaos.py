"""The faults of a plan, step by step, while stories are performed; and how long it takes to recover from each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random  # noqa: TID251 - seeded, and the seed is said
from typing import Any, Final

from shared.clock import SystemClock
from tests.proof.clients import Clients, NeverAnswered
from tests.proof.faults import Injected, Step, inject
from tests.proof.load import Load
from tests.proof.model import Model, Sale
from tests.proof.stories import GEMS_100
from tests.proof.world import World
from tests.support.system import client

BEFORE_S: Final = 3.0
"""Until a fault comes, stories flow; no longer is waited for them than so."""
BETWEEN_S: Final = 0.4
"""From one fault of a step to the next."""
LOOK_EVERY_S: Final = 0.03
PROBES: Final = {
    "signed": ("signed_transaction",),
    "receipt": ("transaction_id", "receipt"),
    "id": ("transaction_id",),
}
"""By each road that a purchase may take one: what of it the app posts."""
PROBE_GEMS: Final = 100


@dataclass(frozen=True, slots=True)
class Befallen:
    """A step that is past. `recovered_s`: from its end until the probes had come all the way; None: they did not.
    `awaited` is what came last, or never."""

    step: Step
    recovered_s: float | None
    awaited: str

    def __str__(self) -> str:
        return " + ".join(str(fault) for fault in self.step)


class Chaos:
    """What befalls a world."""

    def __init__(
        self,
        world: World,
        *,
        load: Load,
        clients: Clients,
        model: Model,
        seed: int,
        recovery_within_s: float,
        tell: Callable[[Befallen], None],
    ) -> None:
        self._world, self._load, self._clients, self._model, self._tell = world, load, clients, model, tell
        self._recovery_within_s = recovery_within_s
        self._random = Random(f"{seed}/workers")
        self._clock = SystemClock()
        self._pause = threading.Event()
        self.befallen: list[Befallen] = []

    def run(self, steps: Sequence[Step], *, stories: int) -> None:
        """All steps, with so many stories for each of them: a third before it, a third during it, a third after it."""
        for step in steps:
            self._befall(step, stories)
            self._tell(self.befallen[-1])

    def _befall(self, step: Step, stories: int) -> None:
        third = max(1, stories // 3)
        self._let_flow(third)
        with ExitStack() as undoing:
            injected = [self._inject(fault, undoing) for fault in step]
            self._load.let(third)
            self._hold(injected)
        ended_s = self._clock.monotonic()
        self._load.let(max(0, stories - 2 * third))
        awaited: list[str] = []
        recovered = self._recovers(injected, awaited)
        recovered_s = self._clock.monotonic() - ended_s if recovered else None
        self.befallen.append(Befallen(step, recovered_s, awaited[-1]))

    def _let_flow(self, stories: int) -> None:
        """Some of them are done, and others under way, when this returns."""
        wanted = self._load.done + stories // 4
        self._load.let(stories)
        self._until(lambda: self._load.done >= wanted, within_s=BEFORE_S)

    def _inject(self, fault: Any, undoing: ExitStack) -> tuple[float, Injected]:
        done = inject(self._world, fault, self._random)
        undoing.callback(done.end)
        began_s = self._clock.monotonic()
        self._pause.wait(BETWEEN_S)
        return began_s, done

    def _hold(self, injected: Sequence[tuple[float, Injected]]) -> None:
        """Each for as long as it lasts."""
        until_s = max(began_s + one.fault.lasts_s for began_s, one in injected)
        self._until(lambda: False, within_s=until_s - self._clock.monotonic())

    def _recovers(self, injected: Sequence[tuple[float, Injected]], awaited: list[str]) -> bool:
        """A probe of each kind is credited and told, and all processes run. `awaited` hears what there is not yet."""
        number = len(self.befallen)
        awaited.append("a probe being accepted")
        try:
            users = [self._probe(f"probe-{number}-{proof}", proof) for proof in PROBES]
        except NeverAnswered:
            return False

        def recovered() -> bool:
            missing = next(self._missing(users, injected), None)
            if missing is not None:
                awaited.append(missing)
            return missing is None

        return self._until(recovered, within_s=self._recovery_within_s)

    def _missing(self, users: Sequence[str], injected: Sequence[tuple[float, Injected]]) -> Iterator[str]:
        for user in users:
            if not self._world.backend.knows_of_a_credit(user):
                yield f"the webhook of {user}"
        for user in users:
            wallet = self._clients.ask("GET", "/v1/users/me/wallet", headers=client(user)).json()
            if wallet["balances"]["gems"]["balance"] != PROBE_GEMS:
                yield f"the wallet of {user}"
        for _, one in injected:
            if not one.is_over():
                yield f"{one.fault.target} being started again"
        for status in self._world.statuses():
            if status.state != "ready":
                yield f"{status.name} being ready"

    def _probe(self, user: str, proof: str) -> str:
        """A purchase that is followed all the way."""
        answer = self._clients.ask("GET", "/v1/users/me/account-token", headers=client(user))
        token = answer.json()["app_account_token"]
        buying = {"product_id": GEMS_100, "notify": False, "app_account_token": token}
        bought = self._clients.tell_store("/_sim/purchases", buying)
        body = {"store": "apple", **{name: bought[name] for name in PROBES[proof]}}
        sale = Sale("production", bought["transaction_id"], GEMS_100, 1, claims={user: None})
        self._model.keep(sale)
        answer = self._clients.ask("POST", "/v1/purchases", headers=client(user), body=body, wanted=(200, 202))
        sale.claims[user] = answer.json()["id"]
        self._model.count("probes")
        return user

    def _until(self, condition: Callable[[], bool], *, within_s: float) -> bool:
        deadline = self._clock.monotonic() + within_s
        while not condition():
            if self._clock.monotonic() >= deadline:
                return False
            self._pause.wait(LOOK_EVERY_S)
        return True
