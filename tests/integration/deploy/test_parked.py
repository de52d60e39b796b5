"""`purser parked` where more is stuck than one page holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from deploy import cli
from deploy.commands import parked
from shared.bus import parking
from shared.bus.routes import VERIFIER
from shared.ids import EventId
from tests.support.bus import Bus, bus_in

STUCK = "state = 'parked', due_at = 'infinity', attempts = 1, error = 'no such product'"


@pytest.fixture
def bus(database: str) -> Iterator[Bus]:
    with bus_in(database) as running:
        yield running


@pytest.fixture(autouse=True)
def _this_database(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_DATABASE_URL", database)
    monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(parked, "PAGE", 2)


def stuck_of(bus: Bus, *, tokens: int, receipts: int = 0) -> list[EventId]:
    """So many that are parked by the verifier, and by the one that asks the store."""
    ids = [*bus.tokens(tokens), *(bus.receipts(receipts) if receipts else ())]
    bus.set(ids, STUCK)
    return ids


def still_stuck(bus: Bus) -> int:
    ((count,),) = bus.execute("select count(*) from journal.delivery where state in ('parked', 'dead')")
    return int(count)


def test_all_is_all_however_many_pages_it_takes(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    stuck_of(bus, tokens=5, receipts=3)
    assert cli.run(["parked", "retry", "--all", "--by", "dora"]) == 0
    assert capsys.readouterr().out == "8 due again\n"
    assert still_stuck(bus) == 0
    ((retried,),) = bus.execute("select count(*) from journal.event where type = 'delivery.retried'")
    assert retried == 8


def test_all_of_one_consumer_leaves_the_others_alone(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    stuck_of(bus, tokens=3, receipts=3)
    assert cli.run(["parked", "retry", "--all", "--consumer", VERIFIER]) == 0
    assert capsys.readouterr().out == "3 due again\n"
    assert still_stuck(bus) == 3


def test_what_is_parked_meanwhile_or_again_is_left_for_the_next_time(
    bus: Bus, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a fault that was not mended would keep it going for ever."""
    stuck_of(bus, tokens=5)
    retry = parking.retry

    def in_vain(connection: Connection, **arguments: Any) -> int:
        moved = retry(connection, **arguments)
        connection.exec_driver_sql(f"update journal.delivery set {STUCK}")  # noqa: S608 - a constant
        stuck_of(bus, tokens=1)
        return moved

    monkeypatch.setattr(parking, "retry", in_vain)
    assert cli.run(["parked", "retry", "--all"]) == 0
    assert capsys.readouterr().out == "5 due again\n"
    assert still_stuck(bus) == 8


def test_a_list_that_is_cut_off_says_how_many_there_are(bus: Bus, capsys: pytest.CaptureFixture[str]) -> None:
    stuck_of(bus, tokens=3, receipts=2)
    assert cli.run(["parked", "list", "--limit", "4", "--json"]) == 1
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)) == 4
    assert printed.err == "4 of 5, the oldest; --limit shows more\n"
    cli.run(["parked", "list", "--limit", "3", "--consumer", VERIFIER])
    assert capsys.readouterr().err == ""
