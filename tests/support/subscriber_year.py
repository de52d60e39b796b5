"""A year of many subscriptions on the whole system: what befalls them in the simulated App Store, and how they stand
there and here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import count
from random import Random  # noqa: TID251 - seeded by the caller
from typing import Any, Final, Literal

import requests

from shared.catalog import Catalog
from shared.clock import SystemClock
from shared.ids import AppId
from shared.money import CurrencyId
from tests.support.stack import wait_until
from tests.support.system import REQUEST_TIMEOUT_S, System, at_once

GAME: Final = AppId("game")
MONTHLY, YEARLY = "com.example.game.vip.monthly", "com.example.game.vip.yearly"
MONTHS: Final = 12
COMMANDS_EACH: Final = 8
"""So much befalls a subscription in its year, beside what time brings; what makes no sense then is refused."""
THREADS: Final = 12
APPLE: Final = {"active": 1, "expired": 2, "in_billing_retry": 3, "in_grace_period": 4, "revoked": 5, "refunded": 5}
SOON: Final = timedelta(hours=1)
Road = Literal["signed", "token", "receipt"]

COMMANDS: Final[Mapping[str, int]] = {
    "cancel": 4,
    "resume": 3,
    "upgrade": 2,
    "downgrade": 2,
    "revert-downgrade": 2,
    "fail-billing": 4,
    "recover": 4,
    "price-increase": 1,
    "extend": 1,
    "redeem-offer": 1,
    "resubscribe": 4,
    "refund": 4,
    "reverse-refund": 2,
    "revoke": 1,
}
"""What may befall one, and how often beside the others."""


@dataclass(frozen=True, slots=True)
class Member:
    """A user, the subscription that he has at the App Store, and how his app claims it: soon, or only at the end."""

    user: str
    road: Road
    family: bool
    trial: bool
    claims_late: bool


@dataclass(frozen=True, slots=True)
class Command:
    """Something that befalls one of them, so far into the year; `draw` says the rest."""

    at_s: float
    member: int
    name: str
    draw: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a subscription stands, what its user may use, and what is in his wallet: in Apple's words and here alike."""

    status: int
    product: str
    transaction: str
    expires_at: str
    auto_renew: bool
    renews_as: str | None
    usable_until: str | None
    gems: int


class Year:
    """So many subscriptions in the simulator of a running system, with months of `month_s` seconds."""

    def __init__(self, system: System, catalog: Catalog, *, size: int, month_s: float, seed: int) -> None:
        self._system, self._catalog = system, catalog
        self._month_s = month_s
        random = Random(seed)
        self.members = [_member(number, random) for number in range(size)]
        self._plan = sorted(_plan(random, size, MONTHS * month_s), key=lambda command: command.at_s)
        self._clock = SystemClock()
        self._bought: dict[str, dict[str, Any]] = {}
        self.befell: Counter[str] = Counter()

    # ---- the year -------------------------------------------------------------------------------------------------

    def begins(self) -> None:
        """Everybody buys, and most claim at once what they have bought."""
        self._control("PUT", "/_sim/clock", {"month_s": self._month_s, "running": True})
        at_once(self._buys, self.members, threads=THREADS)

    def passes(self) -> None:
        """What befalls them, at its time."""
        began_s = self._clock.monotonic()
        at_once(lambda command: self._befalls(command, began_s), self._plan, threads=THREADS)
        self._wait_for(began_s, MONTHS * self._month_s)

    def ends(self) -> None:
        """Who has not claimed yet does. Then, as nothing is left to fail soon, nothing happens by itself any more."""
        at_once(self._claims, [one for one in self.members if one.claims_late], threads=THREADS)
        self._control("PUT", "/_sim/clock", {"month_s": None})
        wait_until(lambda: not self._unsettled(), within_s=4 * self._month_s + 30, what="the end of what was unpaid")
        self._control("PUT", "/_sim/clock", {"running": False})

    def _buys(self, member: Member) -> None:
        token = self._token(member) if member.road == "token" else None
        offer = {"offer": "free_trial"} if member.trial else {}
        self._bought[member.user] = self._system.buy(
            MONTHLY,
            notify=True,
            customer=member.user,
            app_account_token=token,
            family_shared=member.family,
            **offer,
        )
        if not member.claims_late:
            self._claims(member)

    def _token(self, member: Member) -> str:
        token: str = self._system.get(f"/v1/users/{member.user}/account-token").json()["app_account_token"]
        return token

    def _claims(self, member: Member) -> None:
        """With what his app was given when it bought; by his account token he need not."""
        bought = self._bought[member.user]
        if member.road == "signed":
            self._system.post_until_accepted(member.user, {"signed_transaction": bought["signed_transaction"]})
        elif member.road == "receipt":
            body = {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
            self._system.post_until_accepted(member.user, body)

    def _befalls(self, command: Command, began_s: float) -> None:
        self._wait_for(began_s, command.at_s)
        member = self.members[command.member]
        path, body = self._call_of(command, self._bought[member.user]["original_transaction_id"])
        response = requests.post(self._system.simulator + path, json=body, timeout=REQUEST_TIMEOUT_S)
        assert response.status_code in (200, 409), (path, body, response.text)
        self.befell["refused" if response.status_code == 409 else command.name] += 1

    def _call_of(self, command: Command, original_id: str) -> tuple[str, dict[str, Any]]:
        if command.name in {"refund", "reverse-refund", "revoke"}:
            return self._taking_back(command, original_id)
        bodies: dict[str, dict[str, Any]] = {
            "upgrade": {"product_id": YEARLY},
            "downgrade": {"product_id": MONTHLY},
            "fail-billing": {"grace": command.draw < 0.5},
            "price-increase": {"accepted": command.draw < 0.7},
            "extend": {"days": 10},
            "redeem-offer": {"discount": "pay_as_you_go"},
        }
        return f"/_sim/subscriptions/{original_id}/{command.name}", bodies.get(command.name, {})

    def _taking_back(self, command: Command, original_id: str) -> tuple[str, dict[str, Any]]:
        """Of one of its periods, whichever."""
        periods = self._control("GET", f"/_sim/subscriptions/{original_id}", {})["periods"]
        period = periods[int(command.draw * len(periods))]["transaction_id"]
        percent = {"percent": 100 if command.draw * 10 % 1 < 0.5 else 40} if command.name == "refund" else {}
        return f"/_sim/transactions/{period}/{command.name}", percent

    def _unsettled(self) -> list[str]:
        """Those of which a try to be paid, or a grace period, ends before anybody could look at both sides."""
        soon = self._clock.now() + SOON
        return [
            truth["original_transaction_id"]
            for truth in self._truths()
            if truth["billing"] != "ok" and _moment(truth["grace_until"] or truth["retry_until"]) < soon
        ]

    def _wait_for(self, began_s: float, at_s: float) -> None:
        wait_until(
            lambda: self._clock.monotonic() >= began_s + at_s, within_s=at_s + 60, what="that moment of the year"
        )

    # ---- what was told of it --------------------------------------------------------------------------------------

    def notifications(self) -> Counter[str]:
        """How many there are in each state."""
        return Counter(each["state"] for each in self._notifications())

    def posts(self) -> int:
        """How often one was posted: a duplicate, and one that failed, more than once."""
        return sum(len(each["attempts"]) for each in self._notifications())

    def _notifications(self) -> Iterator[dict[str, Any]]:
        after: str | None = None
        for _ in count():
            path = f"/_sim/notifications?limit=100{f'&after={after}' if after else ''}"
            page = self._control("GET", path, {})
            yield from page["notifications"]
            if (after := page["next"]) is None:
                return

    # ---- how it stands --------------------------------------------------------------------------------------------

    def differences(self) -> dict[str, str]:
        """Of whom Apple's books and ours differ, and in what: as it stands there, and here."""
        truths = {truth["customer"]: truth for truth in self._truths()}
        there = {one.user: self._there(truths[one.user]) for one in self.members}
        here = dict(zip(there, at_once(self._here, list(there), threads=THREADS), strict=True))
        return {user: _difference(there[user], here[user]) for user in there if there[user] != here[user]}

    def _truths(self) -> Sequence[dict[str, Any]]:
        truths: list[dict[str, Any]] = self._control("GET", "/_sim/subscriptions?limit=1000", {})["subscriptions"]
        return truths

    def _there(self, truth: dict[str, Any]) -> Standing:
        return Standing(
            status=truth["status"],
            product=truth["product_id"],
            transaction=truth["transaction_id"],
            expires_at=truth["expires_at"],
            auto_renew=truth["auto_renew"],
            renews_as=truth["auto_renew_product_id"],
            usable_until=truth["access_until"] if truth["status"] in (1, 4) else None,
            gems=sum(self._gems_of(period) for period in truth["periods"]),
        )

    def _gems_of(self, period: dict[str, Any]) -> int:
        """Of what was paid, less what of it is refunded, rounded in favour of who has it."""
        product = self._catalog.find(app=GAME, product_id=period["product_id"])
        assert product is not None
        whole = product.grants[CurrencyId("gems")] if period["paid"] and not period["family_shared"] else 0
        return whole - whole * int(period["refunded_percent_milli"]) // 100_000

    def _here(self, user: str) -> Standing | None:
        """None: nothing was heard of it."""
        listed = self._system.get(f"/v1/users/{user}/subscriptions").json()["subscriptions"]
        if not listed:
            return None
        (stands,) = listed
        wallet = self._system.get(f"/v1/users/{user}/wallet").json()["balances"]
        usable = {
            each["id"]: each["until"]
            for each in self._system.get(f"/v1/users/{user}/entitlements").json()["entitlements"]
            if each["active"]
        }
        renewal = stands["renewal"] or {"auto_renew": None, "product_id": None}
        return Standing(
            status=APPLE[stands["status"]],
            product=stands["product_id"],
            transaction=stands["transaction_id"],
            expires_at=stands["period"]["expires_at"],
            auto_renew=renewal["auto_renew"],
            renews_as=renewal["product_id"],
            usable_until=usable.get("vip"),
            gems=wallet.get("gems", {}).get("balance", 0),
        )

    def _control(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = requests.request(method, self._system.simulator + path, json=body or None, timeout=REQUEST_TIMEOUT_S)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


def _difference(there: Standing, here: Standing | None) -> str:
    if here is None:
        return f"{there} there, nothing here"
    one, other = asdict(there), asdict(here)
    return ", ".join(f"{name} {one[name]} there, {other[name]} here" for name in one if one[name] != other[name])


def _member(number: int, random: Random) -> Member:
    family = random.random() < 0.1
    roads: tuple[Road, ...] = ("signed", "receipt") if family else ("signed", "token", "receipt")
    return Member(
        user=f"subscriber-{number}",
        road=random.choice(roads),
        family=family,
        trial=not family and random.random() < 0.3,
        claims_late=random.random() < 0.15,
    )


def _plan(random: Random, size: int, year_s: float) -> list[Command]:
    names, weights = list(COMMANDS), list(COMMANDS.values())
    return [
        Command(random.uniform(0, year_s), random.randrange(size), random.choices(names, weights)[0], random.random())
        for _ in range(size * COMMANDS_EACH)
    ]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
