"""`purser timeline` by whatever an operator has in hand: a purchase's id, a transaction's, a user's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from deploy import cli
from deploy.claims import AHEAD, FIRST_PIECE, claims_of
from shared.clock import ManualClock, SystemClock
from shared.database import transact
from shared.events import (
    AccountTokenIssued,
    Payload,
    PurchaseCompleted,
    PurchaseRejected,
    StoreTransaction,
    TransactionSubmitted,
)
from shared.ids import AppId, PurchaseId, TransactionId, purchase_id, refund_request_id
from shared.money import Amount, CurrencyId
from tests.support.bus import GAME, NOW, Bus, bus_in
from tests.support.seeded import seeded_ids

EXAMPLES = Path(__file__).parents[3] / "deploy/examples"
TRANSACTION = TransactionId("2000000277760217")
TOKEN = AccountTokenIssued(token=UUID(int=1))
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


@pytest.mark.parametrize("wanted", [bought_by("alice"), TRANSACTION])
def test_for_programs_a_purchase_is_its_reason_and_its_events(bus: Bus, timeline: Say, wanted: str) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    shown = timeline(wanted, "--json")
    assert list(shown) == ["purchases", "purchases_total", "events"]
    assert [one["why"] for one in shown["purchases"]] == ["completed: 100 gems granted"]
    assert [event["type"] for event in shown["events"]] == ["transaction.submitted", "purchase.completed"]


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
    shown = {one["user_id"]: one["why"] for one in timeline(TRANSACTION, "--json")["purchases"]}
    assert shown == {
        "alice": "completed: 100 gems granted",
        "bob": "rejected, claimed_by_another_user: somebody else has bought it",
    }


def test_a_user_shows_each_purchase_with_its_reason_the_newest_first(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    bus.record(bus.draft(submitted(OTHER), subject=bought_by("alice", OTHER), user_id="alice"))
    first, second = timeline("alice", "--json")["purchases"]
    assert (first["transaction_id"], first["status"]) == (OTHER, "accepted")
    assert first["why"] == "transaction.submitted waits for verifier"
    assert (second["transaction_id"], second["why"]) == (TRANSACTION, "completed: 100 gems granted")
    header, *rows = timeline("alice").splitlines()
    assert header.split() == ["created", "at", "purchase", "id", "transaction", "id", "product", "id", "status", "why"]
    assert [row.split()[2] for row in rows[:2]] == [OTHER, TRANSACTION]
    assert rows[-1].startswith("alice: 2 purchases; ")


def test_a_user_with_one_purchase_is_shown_that_one_and_why(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    (shown,) = timeline("alice", "--json")["purchases"]
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


def test_of_a_users_many_purchases_the_newest_are_shown_and_how_many_there_are(bus: Bus, timeline: Say) -> None:
    ids = [str(TransactionId(f"20000002777602{number}")) for number in range(10, 13)]
    for each in ids:
        bus.record(bus.draft(submitted(TransactionId(each)), subject=bought_by("alice", each), user_id="alice"))
    shown = timeline("alice", "--limit", "2", "--json")
    assert [one["transaction_id"] for one in shown["purchases"]] == [ids[2], ids[1]]
    assert shown["purchases_total"] == 3
    last = timeline("alice", "--limit", "2").splitlines()[-1]
    assert last.startswith("alice: the newest 2 of 3 purchases (--limit shows more); ")
    assert timeline("alice").splitlines()[-1].startswith("alice: 3 purchases; ")


def test_a_user_who_has_bought_nothing_is_shown_what_else_there_is(bus: Bus, timeline: Say) -> None:
    bus.record(*(bus.draft(TOKEN, subject=f"acc_{number}", user_id="alice") for number in range(3)))
    shown = timeline("alice", "--json")
    assert (shown["purchases"], shown["purchases_total"]) == ([], 0)
    assert [event["subject"] for event in shown["events"]] == ["acc_0", "acc_1", "acc_2"]
    said, _blank, header, *_rows = timeline("alice", "--limit", "2").splitlines()
    assert said == "no purchase of alice; the events of the newest 2 of 3 things (--limit shows more):"
    assert "subject" in header


def test_a_request_for_a_refund_leads_to_its_purchase(bus: Bus, timeline: Say) -> None:
    record(bus, "alice", submitted(), completed("alice"))
    request = bus.ids.uuid()
    bus.execute(
        "insert into ledger.refund_request (id, app, store, environment, transaction_id, purchase_id, user_id,"
        " spent_percentage_milli, expires_at, created_at, updated_at) values (%(id)s, 'game', 'apple', 'production',"
        " %(transaction)s, %(purchase)s, 'alice', 0, now(), now(), now())",
        id=request,
        transaction=TRANSACTION,
        purchase=bought_by("alice"),
    )
    assert timeline(refund_request_id(request)) == timeline(bought_by("alice"))
    assert timeline(refund_request_id(bus.ids.uuid()), code=1) == ""


@pytest.mark.parametrize("user", ["sub_alice", "pur_alice", "pur_" + "a" * 26, "rfr_alice"])
def test_a_user_whose_id_looks_like_another_things_is_found(bus: Bus, timeline: Say, user: str) -> None:
    record(bus, user, submitted(), completed(user))
    assert [one["user_id"] for one in timeline(user, "--json")["purchases"]] == [user]


def test_an_app_that_was_taken_out_of_the_apps_file_has_its_timelines_still(bus: Bus, timeline: Say) -> None:
    former = replace(bus.draft(submitted(), subject=bought_by("alice"), user_id="alice"), app=AppId("former"))
    bus.record(former)
    assert [one["app"] for one in timeline("alice", "--json")["purchases"]] == ["former"]
    assert "transaction.submitted" in timeline(bought_by("alice"))


def test_claims_are_searched_in_all_of_the_days_and_only_in_them(bus: Bus, timeline: Say) -> None:
    long_ago = ManualClock(SystemClock().now() - timedelta(days=29, hours=23))
    journal_of_then = replace(bus, ids=seeded_ids(1, clock=long_ago))
    record(journal_of_then, "alice", submitted(), completed("alice"))
    assert timeline(TRANSACTION) == timeline(bought_by("alice"))
    timeline(TRANSACTION, "--days", "29", code=1)


def test_claims_are_not_searched_for_what_is_found_without(
    bus: Bus, timeline: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.whereabouts.claims_of", None)
    record(bus, "alice", submitted(), completed("alice"))
    timeline("alice")
    timeline(bought_by("alice"))


def test_a_search_whose_time_is_over_says_how_far_it_came_and_shows_what_it_found(
    bus: Bus, timeline: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    timeline(TRANSACTION, "--wait", "0", code=1)
    assert cli.run(["timeline", TRANSACTION, "--wait", "0"]) == 1
    assert re.search(r"nothing is known of '\d+'; claims .* were searched back to 20.* only", capsys.readouterr().err)
    record(bus, "alice", completed("alice"))
    bus.execute(
        "insert into verifier.store_transaction (app, store, environment, transaction_id, user_id, purchase_id)"
        " values ('game', 'apple', 'production', %(transaction)s, 'alice', %(purchase)s)",
        transaction=TRANSACTION,
        purchase=bought_by("alice"),
    )
    assert cli.run(["timeline", TRANSACTION, "--wait", "0"]) == 0
    printed = capsys.readouterr()
    assert "completed: 100 gems granted" in printed.out
    assert printed.err.startswith("claims that no store has confirmed were searched back to ")


def test_a_piece_of_the_search_that_takes_too_long_ends_it(bus: Bus) -> None:
    """The time-out of its statement is the time that is left."""
    clock, asked = ManualClock(SystemClock().now()), list[str]()

    def run(work: Callable[[Connection], Any]) -> Any:
        def slowed(connection: Connection) -> Any:
            if len(asked) == 3:
                connection.exec_driver_sql("set local statement_timeout = '1ms'")
                connection.exec_driver_sql("select pg_sleep(20)")
            asked.append("a piece")
            return work(connection)

        return transact(bus.engine, slowed)

    claims = claims_of(run, TRANSACTION, apps=[GAME], days=30, within_s=10, clock=clock)
    assert claims.since == clock.now() + AHEAD - 7 * FIRST_PIECE  # 1 + 2 + 4
