"""`purser timeline` by whatever an operator has in hand: a purchase's id, a transaction's, a user's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import cli
from shared.events import Payload, PurchaseCompleted, PurchaseRejected, StoreTransaction, TransactionSubmitted
from shared.ids import PurchaseId, TransactionId, purchase_id
from shared.money import Amount, CurrencyId
from tests.support.bus import GAME, NOW, Bus, bus_in

EXAMPLES = Path(__file__).parents[3] / "deploy/examples"
TRANSACTION = TransactionId("2000000277760217")
OTHER = TransactionId("2000000277760218")

Say = Callable[..., Any]


def bought_by(user_id: str, transaction_id: str = TRANSACTION) -> PurchaseId:
    return purchase_id(app=GAME, store="apple", transaction_id=transaction_id, user_id=user_id)


def submitted(transaction_id: TransactionId = TRANSACTION) -> TransactionSubmitted:
    return TransactionSubmitted(store="apple", transaction_id=transaction_id, signed_transaction="a.b.c")


def completed(user_id: str, transaction_id: TransactionId = TRANSACTION) -> PurchaseCompleted:
    transaction = StoreTransaction(
        store="apple",
        environment="production",
        transaction_id=transaction_id,
        original_transaction_id=transaction_id,
        product_id="com.example.game.gems100",
        product_type="consumable",
        quantity=1,
        purchased_at=NOW,
        signed_at=NOW,
    )
    return PurchaseCompleted(
        purchase_id=bought_by(user_id, transaction_id),
        transaction=transaction,
        granted=[Amount(CurrencyId("gems"), 100)],
    )


def refused(user_id: str) -> PurchaseRejected:
    return PurchaseRejected(
        purchase_id=bought_by(user_id),
        store="apple",
        transaction_id=TRANSACTION,
        code="claimed_by_another_user",
        detail="somebody else has bought it",
    )


@pytest.fixture
def bus(database: str) -> Iterator[Bus]:
    with bus_in(database) as running:
        yield running


@pytest.fixture
def timeline(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs the command; what it prints, as text or read from its JSON."""
    monkeypatch.setenv("PURSER_DATABASE_URL", database)
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PURSER_APPS_FILE", str(EXAMPLES / "apps.toml"))

    def run(*arguments: str, code: int = 0) -> Any:
        assert cli.run(["timeline", *arguments]) == code
        printed = capsys.readouterr().out
        return json.loads(printed) if "--json" in arguments and printed else printed

    return run


def record(bus: Bus, user_id: str, *payloads: Payload, subject: str | None = None) -> None:
    """What was recorded of a user's purchase, and handled by everybody."""
    ids = bus.record(*(bus.draft(each, subject=subject or bought_by(user_id), user_id=user_id) for each in payloads))
    bus.execute("delete from journal.delivery where event_id = any(%(ids)s)", ids=ids)


def test_a_purchase_says_why_it_is_as_it_is_above_its_events(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    about, why, blank, *table = timeline(bought_by("alice")).splitlines()
    assert about == f"{bought_by('alice')}, of alice, transaction {TRANSACTION}, com.example.game.gems100, production"
    assert (why, blank) == ("completed: 100 gems granted", "")
    assert [line.split()[1] for line in table[1:]] == ["transaction.submitted", "purchase.completed"]


def test_for_programs_a_purchase_is_the_list_of_its_events(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    events = timeline(bought_by("alice"), "--json")
    assert [event["type"] for event in events] == ["transaction.submitted", "purchase.completed"]


def test_a_transaction_that_one_purchase_is_about_leads_to_it(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    record(bus, "bob", submitted(OTHER), subject=bought_by("bob", OTHER))
    assert timeline(TRANSACTION) == timeline(bought_by("alice"))


def test_a_transaction_that_no_journal_of_this_month_holds_is_found_by_what_the_store_confirmed(
    bus: Bus, timeline: Say
) -> None:
    record(bus, "alice", completed("alice"))  # its submission is in a partition that was taken away
    bus.execute(
        "insert into verifier.store_transaction (app, store, environment, transaction_id, user_id, purchase_id)"
        " values ('game', 'apple', 'production', %(transaction)s, 'alice', %(purchase)s)",
        transaction=TRANSACTION,
        purchase=bought_by("alice"),
    )
    assert "completed: 100 gems granted" in timeline(TRANSACTION)


def test_a_transaction_that_two_have_claimed_shows_both_with_their_reasons(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    record(bus, "bob", submitted(), refused("bob"))
    shown = {one["user_id"]: one["why"] for one in timeline(TRANSACTION, "--json")}
    assert shown == {
        "alice": "completed: 100 gems granted",
        "bob": "rejected, claimed_by_another_user: somebody else has bought it",
    }


def test_a_user_shows_each_purchase_with_its_reason_the_newest_first(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    bus.record(bus.draft(submitted(OTHER), subject=bought_by("alice", OTHER), user_id="alice"))
    first, second = timeline("alice", "--json")
    assert (first["transaction_id"], first["status"]) == (OTHER, "accepted")
    assert first["why"] == "transaction.submitted waits for verifier"
    assert (second["transaction_id"], second["why"]) == (TRANSACTION, "completed: 100 gems granted")
    header, *rows = timeline("alice").splitlines()
    assert header.split() == ["created", "at", "purchase", "id", "transaction", "id", "product", "id", "status", "why"]
    assert [row.split()[2] for row in rows[:2]] == [OTHER, TRANSACTION]
    assert rows[-1].startswith("2 of alice; ")


def test_a_user_with_one_purchase_is_shown_that_one_and_why(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    (shown,) = timeline("alice", "--json")
    assert (shown["purchase_id"], shown["status"]) == (bought_by("alice"), "completed")


def test_a_users_id_that_would_work_the_terminal_is_escaped(bus: Bus, timeline: Say) -> None:
    record(bus, "\x1b[2Jalice", submitted(), completed("\x1b[2Jalice"))
    assert "\x1b" not in timeline(bought_by("\x1b[2Jalice"))


def test_what_nobody_has_heard_of_is_said_to_be_unknown(bus: Bus, timeline: Say) -> None:
    assert timeline("nobody", code=1) == ""


def test_another_apps_purchases_are_left_out_when_an_app_is_named(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    assert timeline("alice", "--app", "game", "--json")
    timeline("alice", "--app", "quiz", code=1)
