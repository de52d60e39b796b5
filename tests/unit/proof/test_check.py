"""The reckoning finds whatever is off, by its name; and nothing where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from deploy.settings import PROJECT
from shared.catalog import load_catalog
from tests.proof.check import Harm, check
from tests.proof.evidence import Booked, Books, Evidence, Standing, Told, Unhandled
from tests.proof.model import Model, Refusal, Sale, Spent, Subscribed

CATALOG = load_catalog(PROJECT / "deploy/examples/catalog.toml")
GEMS_100, GEMS_550 = "com.example.game.gems100", "com.example.game.gems550"
VIP = "com.example.game.vip.monthly"

ALICE, BOB, CAROL, DAVE = "alice", "bob", "carol", "dave"
WHOLE, PARTIAL, WANTED_BY_TWO, PERIOD = (("production", number) for number in ("1", "2", "3", "4"))


def sold(key: tuple[str, str], product_id: str, claims: dict[str, str | None], **fields: int) -> Sale:
    return Sale("production", key[1], product_id, 1, claims, **fields)


def model() -> Model:
    """Alice has bought 100 gems and spent 30 of them, Bob 550 of which 40 % are refunded; of Carol and Dave one has
    what both want; Alice has a subscription; and Bob has named an id that nobody knows."""
    return Model(
        sales=[
            sold(WHOLE, GEMS_100, {ALICE: "pur_1"}),
            sold(PARTIAL, GEMS_550, {BOB: "pur_2"}, refunded_percent=40),
            sold(WANTED_BY_TWO, GEMS_100, {CAROL: "pur_3c", DAVE: "pur_3d"}),
            sold(PERIOD, VIP, {ALICE: None}),
        ],
        refusals=[Refusal("pur_5", BOB, "transaction_not_found")],
        spends=[Spent("spend-1", ALICE, 30, made=True), Spent("spend-2", BOB, 9_999, made=False)],
        subscriptions=[Subscribed("4", ALICE, "4", auto_renew=True)],
    )


def booked(owner: str, *, refunds: int = 0, **moved: int) -> Booked:
    return Booked(owner, "granted", moved, grants=1, refunds=refunds)


def shown(status: str, granted: int = 0, refunded: int = 0, code: str | None = None) -> dict[str, Any]:
    """A purchase of gems, as the gateway shows it."""
    return {
        "status": status,
        "granted": [{"currency": "gems", "amount": granted}] if granted else [],
        "refunded": [{"currency": "gems", "amount": refunded}] if refunded else [],
        "rejection": {"code": code} if code else None,
    }


def event(number: int, kind: str, **data: Any) -> dict[str, Any]:
    return {"id": f"event-{number}", "type": kind, "data": data}


FEED = [
    event(1, "purchase.completed", id="pur_1"),
    event(2, "wallet.credited", environment="production", user_id=ALICE, version=1),
    event(3, "wallet.debited", environment="production", user_id=ALICE, version=2),
    event(4, "purchase.completed", id="pur_3c"),
]


def told(of: Mapping[str, Any], *, genuine: bool = True) -> Told:
    return Told(of["id"], genuine, {name: value for name, value in of.items() if name != "id"})


def evidence() -> Evidence:
    """What is found when all is as the model has it."""
    return Evidence(
        books=Books(
            transactions={
                WHOLE: booked(ALICE, gems=100),
                PARTIAL: booked(BOB, refunds=1, gems=330, coins=30),
                WANTED_BY_TWO: booked(CAROL, gems=100),
                PERIOD: booked(ALICE, gems=300),
            },
            wallets={
                ("production", ALICE, "gems"): 370,
                ("production", BOB, "gems"): 330,
                ("production", BOB, "coins"): 30,
                ("production", CAROL, "gems"): 100,
            },
            spent={"spend-1": (1, 30)},
        ),
        purchases={
            "pur_1": shown("completed", 100),
            "pur_2": {
                **shown("partially_refunded"),
                "granted": [{"currency": "gems", "amount": 550}, {"currency": "coins", "amount": 50}],
                "refunded": [{"currency": "gems", "amount": 220}, {"currency": "coins", "amount": 20}],
            },
            "pur_3c": shown("completed", 100),
            "pur_3d": shown("rejected", code="claimed_by_another_user"),
            "pur_5": shown("rejected", code="transaction_not_found"),
        },
        subscriptions={"4": Standing(ALICE, "active", "4", auto_renew=True)},
        unhandled=[],
        unsent={},
        outward=frozenset(each["id"] for each in FEED),
        places=[1, 2, 3, 4],
        feed=FEED,
        told=[told(each) for each in [*FEED, FEED[0]]],  # once more than needed is no fault
        store_heard={"200": 7, "503": 2, "none": 1},
        wrong_answers=[],
        audit={"clean": True, "problems": 0, "findings": []},
    )


def test_nothing_is_found_where_nothing_is_off() -> None:
    assert check(model(), evidence(), CATALOG) == []


def test_what_is_refunded_wholly_may_have_been_refused_as_that() -> None:
    refunded = sold(WHOLE, GEMS_100, {ALICE: "pur_1"}, refunded_percent=100)
    found = with_books(evidence(), transactions={}, wallets={}, spent={})
    found = replace(found, purchases={"pur_1": shown("rejected", code="already_refunded")})
    assert check(Model(sales=[refunded]), found, CATALOG) == []


def with_books(found: Evidence, **changes: Any) -> Evidence:
    return replace(found, books=replace(found.books, **changes))


def with_transaction(key: tuple[str, str], **changes: Any) -> Evidence:
    found = evidence()
    transactions = {**found.books.transactions}
    transactions[key] = replace(transactions[key], **changes)
    return with_books(found, transactions=transactions)


def without_transaction(key: tuple[str, str]) -> Evidence:
    found = evidence()
    return with_books(found, transactions={each: one for each, one in found.books.transactions.items() if each != key})


def with_purchase(purchase_id: str, seen: Mapping[str, Any]) -> Evidence:
    found = evidence()
    return replace(found, purchases={**found.purchases, purchase_id: seen})


def with_wallet(user: str, gems: int) -> Evidence:
    found = evidence()
    return with_books(found, wallets={**found.books.wallets, ("production", user, "gems"): gems})


def with_feed(*feed: dict[str, Any]) -> Evidence:
    found = evidence()
    return replace(
        found,
        feed=feed,
        outward=frozenset(each["id"] for each in feed),
        told=[told(each) for each in feed],
        places=list(range(1, len(feed) + 1)),
    )


def unhandled(state: str) -> Evidence:
    return replace(evidence(), unhandled=[Unhandled("ledger", "purchase.verified", state, 1, 1, None, 1)])


OFF: dict[str, tuple[Callable[[], Evidence], Harm]] = {
    "a grant is missing": (lambda: without_transaction(WHOLE), "lost"),
    "a grant is smaller than it should be": (lambda: with_transaction(WHOLE, moved={"gems": 99}), "lost"),
    "a grant is larger than it should be": (lambda: with_transaction(WHOLE, moved={"gems": 200}), "doubled"),
    "a grant was made twice": (lambda: with_transaction(WHOLE, grants=2), "doubled"),
    "a refund took twice": (lambda: with_transaction(PARTIAL, refunds=2), "doubled"),
    "a refund took nothing": (lambda: with_transaction(PARTIAL, moved={"gems": 550, "coins": 50}), "doubled"),
    "a grant went to somebody else": (lambda: with_transaction(WHOLE, owner=BOB), "wrong"),
    "a transaction cannot be granted": (lambda: with_transaction(WHOLE, state="parked"), "parked"),
    "somebody has what nobody bought": (
        lambda: with_books(evidence(), transactions={**evidence().books.transactions, ("sandbox", "9"): booked(BOB)}),
        "wrong",
    ),
    "a wallet holds too much": (lambda: with_wallet(ALICE, 371), "wrong"),
    "a wallet holds what nobody bought": (lambda: with_wallet("stranger", 1), "wrong"),
    "a spend was made twice": (lambda: with_books(evidence(), spent={"spend-1": (2, 60)}), "doubled"),
    "a spend that was answered is not made": (lambda: with_books(evidence(), spent={}), "lost"),
    "a spend that was refused is made": (
        lambda: with_books(evidence(), spent={"spend-1": (1, 30), "spend-2": (1, 9_999)}),
        "wrong",
    ),
    "a purchase is never decided": (lambda: with_purchase("pur_1", shown("verifying")), "lost"),
    "a purchase is parked": (lambda: with_purchase("pur_1", shown("parked")), "parked"),
    "a purchase is refused": (lambda: with_purchase("pur_1", shown("rejected", code="wrong_app")), "wrong"),
    "a purchase shows another amount": (lambda: with_purchase("pur_1", shown("completed", 101)), "wrong"),
    "a refund is not shown": (lambda: with_purchase("pur_2", shown("completed", 550)), "wrong"),
    "both have what only one can have": (lambda: with_purchase("pur_3d", shown("completed", 100)), "wrong"),
    "what nobody may have is had": (lambda: with_purchase("pur_5", shown("completed", 100)), "wrong"),
    "a subscription is unknown": (lambda: replace(evidence(), subscriptions={}), "lost"),
    "a subscription stands otherwise": (
        lambda: replace(evidence(), subscriptions={"4": Standing(ALICE, "expired", "4", auto_renew=True)}),
        "wrong",
    ),
    "an event is not handled": (lambda: unhandled("handed"), "lost"),
    "an event is parked": (lambda: unhandled("parked"), "parked"),
    "an event is dead": (lambda: unhandled("dead"), "parked"),
    "a webhook waits": (lambda: replace(evidence(), unsent={"waiting": 1}), "untold"),
    "a webhook never arrived": (lambda: replace(evidence(), told=[told(each) for each in FEED[1:]]), "untold"),
    "a webhook is not signed": (
        lambda: replace(evidence(), told=[*evidence().told, told(FEED[0], genuine=False)]),
        "wrong",
    ),
    "a webhook says something else": (
        lambda: replace(evidence(), told=[*evidence().told, Told("event-1", True, {"type": "wallet.credited"})]),
        "wrong",
    ),
    "a webhook tells of nothing": (
        lambda: replace(evidence(), told=[*evidence().told, told(event(9, "wallet.credited"))]),
        "wrong",
    ),
    "an event is not in the feed": (lambda: replace(evidence(), outward=evidence().outward | {"event-9"}), "untold"),
    "the feed has a gap": (lambda: replace(evidence(), places=[1, 2, 4, 5]), "wrong"),
    "the feed has an event twice": (lambda: with_feed(*FEED, FEED[0]), "doubled"),
    "a purchase is told as completed twice": (
        lambda: with_feed(*FEED, event(5, "purchase.completed", id="pur_1")),
        "doubled",
    ),
    "a purchase is told to nobody": (lambda: with_feed(*FEED[1:]), "untold"),
    "a wallet's change is told to nobody": (lambda: with_feed(FEED[0], FEED[2], FEED[3]), "untold"),
    "the books do not balance": (
        lambda: replace(evidence(), audit={"clean": False, "problems": 2, "findings": ["transfer-sum"]}),
        "audit",
    ),
    "the store was answered what may not be": (lambda: replace(evidence(), store_heard={"500": 1}), "answers"),
    "a client was answered what may not be": (lambda: replace(evidence(), wrong_answers=["500"]), "answers"),
}


@pytest.mark.parametrize("what", OFF)
def test_it_is_reported_that(what: str) -> None:
    spoilt, harm = OFF[what]
    assert harm in {finding.harm for finding in check(model(), spoilt(), CATALOG)}


def test_what_was_noticed_on_the_way_is_reported() -> None:
    noticed = model()
    noticed.complain("two ids for one claim")
    assert [finding.sentence for finding in check(noticed, evidence(), CATALOG)] == ["two ids for one claim"]
