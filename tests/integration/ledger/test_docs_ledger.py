"""docs/ledger.md is true: each example is done on a real ledger, and its tables are what the books say then."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine

from ledger.app import create_api
from ledger.handlers.facts import apply_facts
from shared.apps import Apps, parse_apps
from shared.catalog import Catalog, parse_catalog
from shared.clock import SystemClock
from shared.database import transact
from shared.events import Event, RefundDeclined, RefundReversed, StoreTransaction
from shared.ids import AppId, system_ids
from tests.support.ledger import ALICE, faults, refunded, transaction, verified
from tests.support.ledger_api import headers
from tests.support.ledger_tables import tables_on

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
TOKEN: Final = "a-service-token-of-the-test"
PREFIX: Final = "com.example.game."

Table = list[list[str]]
"""Rows of cells, the header first."""


# ---- the page ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Example:
    """A heading of the third level, its numbered steps and its tables. Each has an app, and so books, of its own."""

    number: int
    title: str
    steps: Sequence[str]
    tables: Sequence[Table]

    @property
    def app(self) -> AppId:
        return AppId(f"example-{self.number}")

    @property
    def debt(self) -> str:
        return "floor" if 'debt = "floor"' in self.title else "negative"


def read_examples(page: str) -> list[Example]:
    """The examples of the page."""
    parts = re.split(r"^#+ ", page, flags=re.MULTILINE)
    headings = re.findall(r"^#+ ", page, flags=re.MULTILINE)
    sections = [part for heading, part in zip(headings, parts[1:], strict=True) if heading == "### "]
    return [_example(number, section) for number, section in enumerate(sections, start=1)]


def _example(number: int, section: str) -> Example:
    title, _, text = section.partition("\n")
    steps = re.findall(r"^\d+\. (.+)$", text, flags=re.MULTILINE)
    tables = [_table(block) for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)]
    return Example(number, title, steps, tables)


def _table(block: str) -> Table:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().split("\n")]
    assert set("".join(rows[1])) <= set("-: "), f"the second line of a table is its rule: {rows[1]}"
    return [rows[0], *rows[2:]]


EXAMPLES: Final = read_examples(PAGE)


def test_every_example_has_steps_and_tables() -> None:
    assert len(EXAMPLES) > 15
    assert [example.title for example in EXAMPLES if not (example.steps and example.tables)] == []


def test_every_row_of_transfers_sums_to_zero() -> None:
    rows = [row for example in EXAMPLES for table in example.tables if table[0][0] == "transfer" for row in table[1:]]
    assert [row for row in rows if sum(int(cell or 0) for cell in row[1:])] == []


# ---- the ledger --------------------------------------------------------------------------------------------------


def _apps_text() -> str:
    return "\n".join(
        f"""
[[apps]]
id = "{example.app}"
name = "An example"
[apps.apple]
bundle_id = "com.{example.app}"
[apps.wallet]
debt = "{example.debt}"
[[apps.server_keys]]
id = "backend"
sha256 = "{hashlib.sha256(example.app.encode()).hexdigest()}"
scopes = ["read", "spend", "grant", "admin"]
"""
        for example in EXAMPLES
    )


def _catalog_text() -> str:
    """The example catalogue, its products for each of the apps."""
    text = (ROOT / "deploy" / "examples" / "catalog.toml").read_text(encoding="utf-8")
    start = text.index("[[products]]")
    products = [text[start:].replace('app = "game"', f'app = "{example.app}"') for example in EXAMPLES]
    return text[:start] + "\n".join(products)


@dataclass
class Ledger:
    """The ledger as one example meets it: the store speaks to its worker's use-case, everybody else to its API."""

    app: AppId
    engine: Engine
    client: FlaskClient
    apps: Apps
    catalog: Catalog
    now: datetime = field(default_factory=lambda: SystemClock().now())
    bought: dict[str, StoreTransaction] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # -- steps

    def do(self, step: str) -> None:
        """Does what a step of the page says."""
        for pattern, act in self._acts().items():
            if (match := re.fullmatch(pattern, step)) is not None:
                act(*match.groups())
                return
        raise AssertionError(f"no such step is known: {step}")

    def _acts(self) -> Mapping[str, Callable[..., None]]:
        return {
            r"The store sells Alice (?:(\d+) × )?`(\w+)` \(transaction (\d+)\)\.": self._sell,
            r"The store refunds (?:([\d.]+) % of )?transaction (\d+)\.": self._refund,
            r"The store takes the refund of transaction (\d+) back\.": self._reverse,
            r"The store declines to refund transaction (\d+)\.": self._decline,
            r"`POST (\S+) (\{.*\})` → (\d{3})(?: `([a-z-]+)`)?": self._call,
        }

    def _sell(self, quantity: str | None, product: str, number: str) -> None:
        of = self._transaction(number, product=PREFIX + product, quantity=int(quantity or 1))
        event = verified(of, user=ALICE, app=self.app)
        self.named["purchase"] = event.payload.purchase_id
        self._tell(event)

    def _refund(self, percent: str | None, number: str) -> None:
        self._tell(refunded(self._transaction(number), milli=round(float(percent or 100) * 1000), app=self.app))

    def _reverse(self, number: str) -> None:
        self._tell_of(number, RefundReversed)

    def _decline(self, number: str) -> None:
        self._tell_of(number, RefundDeclined)

    def _tell_of(self, number: str, payload: Any) -> None:
        of = self._transaction(number)
        event: Event[Any] = refunded(of, app=self.app)
        self._tell(replace(event, payload=payload(of)))

    def _transaction(self, number: str, *, product: str = PREFIX + "gems100", quantity: int = 1) -> StoreTransaction:
        """Each statement is signed later than the one before. Numbers mean the same in one example only."""
        known = self.bought.get(number) or replace(
            transaction(number, product=product, quantity=quantity, product_type="consumable"), purchased_at=self.now
        )
        self.bought[number] = replace(known, signed_at=self.now + timedelta(seconds=next(self._numbers)))
        return self.bought[number]

    def _tell(self, event: Event[Any]) -> None:
        transact(self.engine, partial(self._apply, event))

    def _apply(self, event: Event[Any], connection: Connection) -> None:
        handled = apply_facts(
            [event],
            tables=tables_on(connection),
            catalog=self.catalog,
            apps=self.apps,
            new_id=system_ids().event_id,
            now=SystemClock().now(),
        )
        assert handled.parked == {}

    def _call(self, path: str, body: str, status: str, code: str | None) -> None:
        response = self.client.post(path.format(**self.named), json=json.loads(body), headers=self._headers())
        assert response.json is not None
        assert (response.status_code, response.json.get("code")) == (int(status), code), response.text
        if response.status_code < 400:
            self._remember(response.json["id"])

    def _remember(self, thing: str) -> None:
        names = {"spd": "spend", "hld": "hold", "rfr": "request", "grt": "grant"}
        self.named[names[thing[:3]]] = thing
        if thing.startswith("rfr") and thing not in self.requests:
            self.requests.append(thing)

    def _headers(self) -> dict[str, str]:
        return headers("server:backend", token=TOKEN, app=self.app, key=f"key-{next(self._numbers)}")

    # -- tables

    def table(self, heading: str, columns: Sequence[str]) -> Table:
        """What a table of the page has to say."""
        match heading:
            case "transfer":
                return self._transfers(columns)
            case "wallet":
                return [["alice", *self._wallet(columns)]]
            case "lot":
                return [[kind, *map(str, amounts)] for kind, *amounts in self._rows(_LOTS)]
            case "request":
                return [self._request(number, thing) for number, thing in enumerate(self.requests, start=1)]
            case _:
                raise AssertionError(f"no such table is known: {heading}")

    def _transfers(self, columns: Sequence[str]) -> Table:
        accounts = [{"alice": "wallet", "write-off": "write_off"}.get(column, column) for column in columns]
        transfers = list(self._rows(_TRANSFERS))
        balances = {row.kind: int(row.balance) for row in self._rows(_BALANCES)}
        shown = [
            [kind, *(f"{amounts[account]:+d}" if account in amounts else "" for account in accounts)]
            for kind, amounts in transfers
        ]
        assert {account for _, amounts in transfers for account in amounts} <= set(accounts), "a column is missing"
        return [*shown, ["**balance**", *(str(balances.get(account, 0)) for account in accounts)]]

    def _wallet(self, columns: Sequence[str]) -> list[str]:
        document = self._get("/v1/users/alice/wallet")
        return [str(document["balances"]["gems"][column]) for column in columns]

    def _request(self, number: int, thing: str) -> list[str]:
        document = self._get(f"/v1/refund-requests/{thing}")
        return [str(number), document["status"], str(sum(held["amount"] for held in document["held"]))]

    def _get(self, path: str) -> Any:
        response = self.client.get(path, headers=self._headers())
        assert response.status_code == 200, response.text
        return response.json

    def _rows(self, query: str) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.exec_driver_sql(query, {"app": self.app}).all()


_TRANSFERS = """
select transfer.kind, jsonb_object_agg(account.kind, entry.amount)
  from ledger.transfer join ledger.entry on transfer_id = transfer.id join ledger.account on account.id = account_id
 where transfer.app = %(app)s
 group by transfer.id order by transfer.created_at, transfer.id
"""
_BALANCES = """
select kind, sum(balance) as balance from ledger.account where app = %(app)s group by kind
"""
_LOTS = """
select transfer.kind, lot.amount, remaining, lot.held, spent
  from ledger.lot join ledger.account on account.id = account_id
  join ledger.entry on (entry.account_id, entry.account_version) = (lot.account_id, lot.version)
  join ledger.transfer on transfer.id = transfer_id
 where account.app = %(app)s order by lot.version
"""


# ---- the page on the ledger --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_ledger(
    module_database: str, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[AppId], Ledger]]:
    directory = tmp_path_factory.mktemp("docs")
    (directory / "apps.toml").write_text(_apps_text(), encoding="utf-8")
    (directory / "catalog.toml").write_text(_catalog_text(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "DATABASE_URL": module_database,
            "SERVICE_TOKEN": TOKEN,
            "APPS_FILE": str(directory / "apps.toml"),
            "CATALOG_FILE": str(directory / "catalog.toml"),
        }.items():
            patch.setenv(f"PURSER_{name}", value)
        client = create_api().test_client()
        apps, catalog = parse_apps(_apps_text()), parse_catalog(_catalog_text())
        yield lambda app: Ledger(app, engine, client, apps, catalog)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_the_books_of_the_example_are_as_shown(example: Example, make_ledger: Callable[[AppId], Ledger]) -> None:
    ledger = make_ledger(example.app)
    for step in example.steps:
        ledger.do(step)
    for (heading, *columns), *rows in example.tables:
        assert rows == ledger.table(heading, columns), heading
    with ledger.engine.connect() as connection:
        assert faults(connection) == []
