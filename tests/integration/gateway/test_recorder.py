"""Group commit: many at once are few transactions, and each still gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, event

from gateway.store.recorder import GroupRecorder, Recording
from shared.database import DatabaseUnavailable, connect_engine
from shared.events import Draft, TransactionSubmitted
from shared.ids import AppId, TransactionId, UserId, system_ids
from tests.support.stack import wait_until

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ids = system_ids()


@pytest.fixture
def engine(module_database: str) -> Iterator[Engine]:
    engine = connect_engine(
        module_database, role="purser_gateway", pool_size=10, application_name="test", autocommit=True
    )
    yield engine
    engine.dispose()


def recording(subject: str, *, proof: str = "a.b.c") -> Recording:
    draft = Draft(
        payload=TransactionSubmitted("apple", TransactionId("1"), proof),
        app=AppId("game"),
        subject=subject,
        user_id=UserId("alice"),
        occurred_at=NOW,
        trace_id=ids.trace_id(),
    )
    return Recording(draft, proof.encode(), reopen=("transaction.submitted",), repeat=())


def fresh() -> str:
    return f"pur_{ids.uuid()}"


def count(engine: Engine, subject: str) -> int:
    with engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "select count(*) from journal.event where subject = %(subject)s", {"subject": subject}
            ).scalar_one()
        )


def test_one_alone_is_recorded_at_once(engine: Engine) -> None:
    recorder, subject = GroupRecorder(engine=engine, ids=ids), fresh()
    assert recorder.record(recording(subject)) is True
    assert recorder.record(recording(subject)) is False
    assert count(engine, subject) == 1


def test_those_who_come_while_one_is_recorded_share_the_next_transaction(engine: Engine) -> None:
    recorder = GroupRecorder(engine=engine, ids=ids)
    statements: list[str] = []
    first_is_in, go_on = threading.Event(), threading.Event()

    @event.listens_for(engine, "before_cursor_execute")
    def hold_the_first(*arguments: object) -> None:
        statements.append(str(arguments[2]))
        if len(statements) == 1:
            first_is_in.set()
            assert go_on.wait(10)

    subjects = [fresh() for _ in range(9)]
    with ThreadPoolExecutor(9) as pool:
        futures = [pool.submit(recorder.record, recording(subjects[0]))]
        assert first_is_in.wait(10)
        futures += [pool.submit(recorder.record, recording(subject)) for subject in subjects[1:]]
        wait_until(lambda: recorder.waiting() == 8, what="eight who wait")
        go_on.set()
        assert [future.result(10) for future in futures] == [True] * 9
    assert len(statements) == 2
    assert [count(engine, subject) for subject in subjects] == [1] * 9


def test_of_fifty_at_once_with_one_subject_one_is_recorded(engine: Engine) -> None:
    recorder, subject = GroupRecorder(engine=engine, ids=ids), fresh()
    with ThreadPoolExecutor(50) as pool:
        recorded = list(pool.map(lambda _: recorder.record(recording(subject)), range(50)))
    assert recorded.count(True) == 1
    assert count(engine, subject) == 1


def test_one_that_cannot_be_recorded_does_not_harm_those_it_came_with(engine: Engine) -> None:
    recorder = GroupRecorder(engine=engine, ids=ids)
    good = [fresh() for _ in range(10)]
    with ThreadPoolExecutor(11) as pool:
        futures = [pool.submit(recorder.record, recording(subject)) for subject in good]
        bad = pool.submit(recorder.record, recording(fresh(), proof="nul \x00 is no text of PostgreSQL's"))
        assert [future.result(20) for future in futures] == [True] * 10
        with pytest.raises(Exception, match=r"NUL|0x00|null|\\u0000"):
            bad.result(20)
    assert [count(engine, subject) for subject in good] == [1] * 10


def test_when_the_database_is_away_everybody_hears_it_and_the_next_ones_are_served(engine: Engine) -> None:
    recorder = GroupRecorder(engine=engine, ids=ids)
    away = connect_engine(
        "postgresql://nobody@127.0.0.1:1/none", role=None, pool_size=2, application_name="test", autocommit=True
    )
    recorder._engine = away
    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(recorder.record, recording(fresh())) for _ in range(10)]
        for future in futures:
            with pytest.raises(DatabaseUnavailable):
                future.result(20)
    recorder._engine = engine
    assert recorder.record(recording(fresh())) is True
