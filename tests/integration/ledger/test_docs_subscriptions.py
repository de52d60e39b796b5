"""docs/subscriptions.md is true: each example is lived through on a real ledger, and what it answers is what the page
and the contract show.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Connection, Engine

from gateway.api.documents import ENTITLEMENT_EXAMPLES, SUBSCRIPTION_EXAMPLES
from ledger.app import build_api
from ledger.handlers.entitlements import end_entitlements
from ledger.handlers.subscriptions import lapse_subscriptions
from ledger.settings import LedgerApiSettings
from ledger.tasks import postings
from shared.apps import load_apps
from shared.catalog import load_catalog
from shared.clock import ManualClock
from shared.database import connect_engine, transact
from shared.events import Event, Offer, Period, Renewal, Revoked, StoreTransaction, SubscriptionChanged
from shared.ids import TransactionId, subscription_id
from tests.support.ledger import ALICE, GAME, event_of, refunded, verified
from tests.support.ledger_api import headers
from tests.support.ledger_tables import tables_on
from tests.support.seeded import seeded_ids

ROOT: Final = Path(__file__).parents[3]
EXAMPLES_DIR: Final = ROOT / "deploy" / "examples"
PAGE: Final = (ROOT / "docs" / "subscriptions.md").read_text(encoding="utf-8")
PREFIX: Final = "com.example.game."
TOKEN: Final = "a-service-token-of-the-test"
PRICES_MILLI: Final = {"vip.monthly": 9_990, "vip.yearly": 79_990}
TYPES: Final = {"season": "non_renewing", "adfree": "non_consumable"}
FREE_WEEK: Final = Offer(type="introductory", discount_type="free_trial", period="P1W")

Table = list[list[str]]
"""Rows of cells, the header first."""


# ---- the page ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """A heading of the third level: what happens, when it is asked, and what is shown. Each has a ledger of its own."""

    title: str
    steps: Sequence[str]
    asked: datetime
    answer: Any
    tables: Sequence[Table]


def read_examples(page: str) -> list[Example]:
    """The examples of the page; prose under such a heading is none."""
    sections = re.split(r"^#{1,3} ", page, flags=re.MULTILINE)[1:]
    return [_example(section) for section in sections if re.search(r"^1\. ", section, flags=re.MULTILINE)]


def _example(section: str) -> Example:
    title, _, text = section.partition("\n")
    (asked,) = re.findall(r"[Oo]n (\d{4}-\d\d-\d\d):$", text, flags=re.MULTILINE)
    answers = re.findall(r"^```json\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return Example(
        title=title,
        steps=re.findall(r"^\d+\. (.+)$", text, flags=re.MULTILINE),
        asked=noon(asked),
        answer=json.loads(answers[0]) if answers else None,
        tables=[_table(block) for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)]
        if not answers
        else [],
    )


def _table(block: str) -> Table:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().split("\n")]
    return [rows[0], *rows[2:]]


def noon(date: str) -> datetime:
    return datetime.fromisoformat(f"{date}T12:00:00+00:00").astimezone(UTC)


EXAMPLES: Final = read_examples(PAGE)
STATES: Final = [
    example for example in EXAMPLES if example.title in {e.summary for e in SUBSCRIPTION_EXAMPLES.values()}
]
TABLES: Final = [example for example in EXAMPLES if example.tables]
ACTIVE: Final = STATES[0].answer


def test_the_page_has_an_example_of_each_state_that_the_contract_has_one_of() -> None:
    assert [example.title for example in STATES] == [example.summary for example in SUBSCRIPTION_EXAMPLES.values()]
    assert all(example.answer for example in STATES)


def test_no_example_of_the_page_shows_nothing() -> None:
    assert [example.title for example in EXAMPLES if not (example.answer or example.tables)] == []
    assert len(TABLES) > 7


# ---- the ledger --------------------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """The ledger as one example meets it: the store speaks to its worker, everybody else to its API."""

    engine: Engine
    client: FlaskClient
    clock: ManualClock
    current: StoreTransaction | None = None
    renewal: Renewal | None = None
    known: dict[str, StoreTransaction] = field(default_factory=dict)
    _seconds: Iterator[int] = field(default_factory=itertools.count)

    # -- steps

    def live(self, example: Example) -> None:
        """All that happens, and then what time alone does until it is asked."""
        for step in example.steps:
            date, _, what = step.partition(": ")
            self._move_to(noon(date))
            self._do(what)
        self._move_to(example.asked)
        transact(self.engine, self._pass_time)

    def _move_to(self, moment: datetime) -> None:
        assert moment >= self.clock.now()
        self.clock.advance((moment - self.clock.now()).total_seconds())

    def _do(self, what: str) -> None:
        for pattern, act in self._acts().items():
            if (match := re.fullmatch(pattern, what)) is not None:
                act(*match.groups())
                return
        raise AssertionError(f"no such step is known: {what}")

    def _acts(self) -> Mapping[str, Callable[..., None]]:
        product, transaction = r"`(\S+)`", r"transaction (\d+)"
        return {
            rf"Alice buys {product}, {transaction}\.": self._buy,
            rf"Alice begins a free week of {product}, {transaction}\.": self._try,
            rf"A family member shares {product} with Alice, {transaction}\.": self._share,
            rf"It is renewed, {transaction}\.": self._renew,
            rf"Alice upgrades to {product}, {transaction}\.": self._upgrade,
            rf"Alice chooses {product} from the next renewal on\.": self._choose,
            r"The renewal is turned off\.": partial(self._say, auto_renew=False),
            r"A price of ([\d.]+) is announced, and Alice has not agreed\.": self._announce,
            r"The renewal cannot be paid; grace until (\S+)\.": self._fail,
            r"The renewal cannot be paid\.": self._fail,
            r"It expires: Alice had cancelled\.": partial(self._say, expiration_reason="customer_cancelled"),
            rf"The App Store refunds (?:(\d+) % of )?{transaction}\.": self._refund,
            r"Transaction (\d+) is shared no more\.": self._unshare,
        }

    def _buy(self, product: str, number: str) -> None:
        if product in TYPES:
            self._tell(verified(self._sold(product, number, original=number), user=ALICE))
        else:
            self._begin(product, number, original=number)

    def _try(self, product: str, number: str) -> None:
        week = Period(self.clock.now() + timedelta(weeks=1), offer=FREE_WEEK, price_milli=0, currency="USD")
        self._begin(product, number, original=number, period=week)

    def _share(self, product: str, number: str) -> None:
        period = Period(after(self.clock.now(), product))
        self._begin(product, number, original=number, period=period, family_shared=True)

    def _renew(self, number: str) -> None:
        current = self._current()
        self._begin(current.product_id.removeprefix(PREFIX), number, original=current.original_transaction_id)

    def _upgrade(self, product: str, number: str) -> None:
        self._begin(product, number, original=self._current().original_transaction_id)

    def _choose(self, product: str) -> None:
        self._say(product_id=PREFIX + product, price_milli=PRICES_MILLI[product])

    def _announce(self, price: str) -> None:
        self._say(price_milli=round(float(price) * 1000), price_increase="pending")

    def _fail(self, grace_until: str | None = None) -> None:
        self._say(in_billing_retry=True, grace_period_expires_at=None if grace_until is None else noon(grace_until))

    def _refund(self, percent: str | None, number: str) -> None:
        """Who is given the money back for what runs is not renewed either."""
        milli = int(percent or 100) * 1000
        is_current = number == self._current().transaction_id
        self._take_back(number, Revoked(self._now(), milli, self.clock.now()), renews=not is_current)
        of = replace(self.known[number], signed_at=self._now())
        event = refunded(of, milli=milli)
        self._tell(replace(event, payload=replace(event.payload, revoked_at=self.clock.now())))

    def _unshare(self, number: str) -> None:
        self._take_back(number, Revoked(self._now(), 100_000, self.clock.now(), "family_sharing_ended"), renews=True)

    # -- what the store says

    def _begin(self, product: str, number: str, *, original: str, **about: Any) -> None:
        """A period begins, and is its user's purchase."""
        sold = self._sold(product, number, original=original, **about)
        assert sold.period is not None
        self.current = sold
        if not sold.family_shared:
            self.renewal = Renewal(
                signed_at=self._now(),
                auto_renew=True,
                product_id=sold.product_id,
                renews_at=sold.period.expires_at,
                price_milli=PRICES_MILLI[product],
                currency="USD",
            )
        self._state(sold)
        self._tell(verified(sold, user=ALICE))

    def _sold(self, product: str, number: str, *, original: str, **about: Any) -> StoreTransaction:
        if number in self.known:
            return self.known[number]
        now, renews = self.clock.now(), product in PRICES_MILLI
        paid = Period(after(now, product), price_milli=PRICES_MILLI[product], currency="USD") if renews else None
        period = about.pop("period", paid)
        self.known[number] = StoreTransaction(
            store="apple",
            environment="production",
            transaction_id=TransactionId(number),
            original_transaction_id=TransactionId(original),
            product_id=PREFIX + product,
            product_type="auto_renewable" if renews else TYPES[product],  # type: ignore[arg-type]
            quantity=1,
            purchased_at=now,
            signed_at=self._now(),
            charge_id=TransactionId(f"{original}/{number}") if renews else None,
            period=None if period is None else replace(period, group="21500001"),
            **about,
        )
        return self.known[number]

    def _say(self, **changes: Any) -> None:
        """Something else about the next renewal."""
        assert self.renewal is not None
        self.renewal = replace(self.renewal, signed_at=self._now(), **changes)
        self._state(replace(self._current(), signed_at=self._now()))

    def _take_back(self, number: str, revoked: Revoked, *, renews: bool) -> None:
        if self.renewal is not None and not renews:
            self.renewal = replace(self.renewal, signed_at=self._now(), auto_renew=False)
        self._state(replace(self.known[number], signed_at=self._now()), revoked)

    def _state(self, of: StoreTransaction, revoked: Revoked | None = None) -> None:
        id = subscription_id(
            app=GAME, store="apple", environment="production", original_transaction_id=of.original_transaction_id
        )
        self._tell(event_of(GAME, id, ALICE, SubscriptionChanged(id, of, revoked, self.renewal)))

    def _tell(self, event: Event[Any]) -> None:
        handling = postings(
            tables_on=tables_on,
            catalog=load_catalog(EXAMPLES_DIR / "catalog.toml"),
            apps=load_apps(EXAMPLES_DIR / "apps.toml"),
            ids=seeded_ids(next(self._seconds), clock=self.clock),
            clock=self.clock,
        )[event.type]
        handled = transact(self.engine, lambda connection: handling.apply(connection, [event]))
        assert handled.parked == {}

    def _pass_time(self, connection: Connection) -> None:
        """What the scheduler does."""
        tables, now, trace = tables_on(connection), self.clock.now(), seeded_ids(1).trace_id
        due = tables.subscriptions.due(now=now, limit=10)
        lapse_subscriptions(due, subscriptions=tables.subscriptions, new_trace=trace, now=now)
        holders = tables.entitlements.due(now=now, limit=10)
        end_entitlements(holders, entitlements=tables.entitlements, new_trace=trace, now=now)

    def _now(self) -> datetime:
        """Each statement is signed later than the one before."""
        return self.clock.now() + timedelta(seconds=next(self._seconds))

    def _current(self) -> StoreTransaction:
        assert self.current is not None
        return self.current

    # -- answers

    def get(self, what: str) -> Any:
        response = self.client.get(f"/v1/users/alice/{what}", headers=headers(token=TOKEN, app=GAME))
        assert response.status_code == 200, response.text
        return response.json

    def table(self, heading: str) -> Table:
        """What a table of the page has to say."""
        match heading:
            case "entry":
                entries = reversed(self.get("wallet/entries")["entries"])
                return [[each["kind"], f"{each['amount']:+d}", str(each["balance_after"])] for each in entries]
            case "entitlement":
                found = self.get("entitlements")["entitlements"]
                return [[each["id"], str(each["active"]).lower(), day(each["until"])] for each in found]
            case "subscription":
                found = self.get("subscriptions")["subscriptions"]
                return [[each["status"], each["product_id"], day(each["access_until"])] for each in found]
            case _:
                raise AssertionError(f"no such table is known: {heading}")


def after(start: datetime, product: str) -> datetime:
    """When a period that begins then ends, by the calendar."""
    if product == "vip.yearly":
        return start.replace(year=start.year + 1)
    return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)


def day(moment: str | None) -> str:
    """The date alone; every time of the page is noon."""
    return "" if moment is None else moment.removesuffix("T12:00:00.000Z")


# ---- the page on the ledger --------------------------------------------------------------------------------------


@pytest.fixture
def ledger(database: str) -> Iterator[Ledger]:
    engine = connect_engine(database, role="purser_ledger", pool_size=2, application_name="test-docs")
    clock = ManualClock(noon("2026-08-01"))
    settings = LedgerApiSettings(
        database_url=SecretStr(database),
        service_token=SecretStr(TOKEN),
        apps_file=EXAMPLES_DIR / "apps.toml",
        catalog_file=EXAMPLES_DIR / "catalog.toml",
    )
    yield Ledger(engine, build_api(settings, ids=seeded_ids(2, clock=clock), clock=clock).test_client(), clock)
    engine.dispose()


@pytest.mark.parametrize("example", STATES, ids=lambda example: example.title)
def test_the_answer_is_what_the_page_and_the_contract_show(example: Example, ledger: Ledger) -> None:
    ledger.live(example)
    answer = ledger.get("subscriptions")
    (contract,) = (each.value for each in SUBSCRIPTION_EXAMPLES.values() if each.summary == example.title)
    assert answer == contract
    if example is STATES[0]:
        assert answer == example.answer
    else:
        assert answer["subscriptions"] == [merged(ACTIVE["subscriptions"][0], example.answer)]


def merged(document: Any, changes: Any) -> Any:
    """The document with the members that are different."""
    if not (isinstance(document, dict) and isinstance(changes, dict)):
        return changes
    assert set(changes) <= set(document)
    return {name: merged(value, changes[name]) if name in changes else value for name, value in document.items()}


def test_the_entitlements_are_what_the_page_and_the_contract_show(ledger: Ledger) -> None:
    (contract,) = ENTITLEMENT_EXAMPLES.values()
    (example,) = (each for each in EXAMPLES if each.title == contract.summary)
    ledger.live(example)
    assert ledger.get("entitlements") == example.answer == contract.value


@pytest.mark.parametrize("example", TABLES, ids=lambda example: example.title)
def test_the_tables_are_what_the_ledger_says(example: Example, ledger: Ledger) -> None:
    ledger.live(example)
    for (heading, *_), *rows in example.tables:
        assert rows == ledger.table(heading), heading
