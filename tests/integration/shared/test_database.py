"""PostgreSQL with a limit on everything: what is away is said to be away, soon; what is wrong is said to be wrong."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError

from shared import database as under_test
from shared.clock import SystemClock
from shared.database import DatabaseUnavailable, array_literal, connect_engine, transact

SECRET = "marker-of-a-receipt"
EngineOf = Callable[..., Engine]


@pytest.fixture
def engine_of(module_database: str) -> Iterator[EngineOf]:
    engines: list[Engine] = []

    def made(**options: Any) -> Engine:
        options = {"role": None, "pool_size": 1, "application_name": "test-database"} | options
        engines.append(connect_engine(module_database, **options))
        return engines[-1]

    yield made
    for engine in engines:
        engine.dispose()
    made()  # the time-out is the process's: as it was for the tests that follow


def ask(engine: Engine, sql: str) -> Any:
    """The first value of a statement's answer; None where it has none."""

    def run(connection: Connection) -> Any:
        result = connection.exec_driver_sql(sql)
        return result.scalar() if result.returns_rows else None

    return transact(engine, run)


class TestConnecting:
    def test_a_connection_acts_as_its_role_with_limits_in_utc(self, engine_of: EngineOf) -> None:
        engine = engine_of(role="purser_ledger", timeout_s=7)
        said = {name: ask(engine, f"show {name}") for name in ("role", "statement_timeout", "lock_timeout", "timezone")}
        assert said == {"role": "purser_ledger", "statement_timeout": "7s", "lock_timeout": "7s", "timezone": "UTC"}
        assert ask(engine, "show idle_in_transaction_session_timeout") == "1min"

    def test_a_commit_waits_for_the_log_even_where_the_server_would_not(self, engine_of: EngineOf) -> None:
        # The servers of the tests are volatile: their own default is off.
        assert ask(engine_of(), "show synchronous_commit") == "on"

    def test_nothing_is_connected_before_it_is_used(self) -> None:
        connect_engine("postgresql://a:b@127.0.0.1:1/c", role=None, pool_size=1, application_name="test").dispose()

    def test_an_autocommitting_engine_keeps_each_statement_for_itself(self, engine_of: EngineOf) -> None:
        engine, other = engine_of(autocommit=True), engine_of()
        ask(other, "create table autocommitted (id int)")

        def write_then_fail(connection: Connection) -> None:
            connection.exec_driver_sql("insert into autocommitted values (1)")
            raise ValueError("too late")

        with pytest.raises(ValueError, match="too late"):
            transact(engine, write_then_fail)
        assert ask(other, "select count(*) from autocommitted") == 1


class TestTransacting:
    def test_an_error_rolls_everything_back(self, engine_of: EngineOf) -> None:
        engine = engine_of()
        ask(engine, "create table transacted (id int)")

        def write_then_fail(connection: Connection) -> None:
            connection.exec_driver_sql("insert into transacted values (1)")
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            transact(engine, write_then_fail)
        assert ask(engine, "select count(*) from transacted") == 0

    def test_a_statement_that_is_wrong_is_not_taken_for_a_database_that_is_away(self, engine_of: EngineOf) -> None:
        with pytest.raises(ProgrammingError):
            ask(engine_of(), "select from no_such_table")

    def test_a_statement_that_takes_too_long_is_cancelled(self, engine_of: EngineOf) -> None:
        with pytest.raises(DBAPIError) as cancelled:
            ask(engine_of(timeout_s=1), "select pg_sleep(30)")
        assert cancelled.value.orig is not None
        assert getattr(cancelled.value.orig, "pgcode", None) == "57014"

    def test_an_error_does_not_repeat_the_parameters(self, engine_of: EngineOf) -> None:
        with pytest.raises(DBAPIError) as failed:
            transact(engine_of(), lambda c: c.exec_driver_sql("select %(a)s, 1 / 0", {"a": SECRET}))
        assert SECRET not in str(failed.value)

    def test_a_connection_that_died_in_the_pool_is_replaced_unnoticed(self, engine_of: EngineOf) -> None:
        engine, other = engine_of(), engine_of()
        ask(other, f"select pg_terminate_backend({ask(engine, 'select pg_backend_pid()')}, 5000)")
        assert ask(engine, "select 1") == 1

    def test_a_connection_that_dies_again_and_again_is_a_database_that_is_away(self, engine_of: EngineOf) -> None:
        engine, other = engine_of(), engine_of()
        tries: list[int] = []

        def die(connection: Connection) -> None:
            tries.append(connection.exec_driver_sql("select pg_backend_pid()").scalar_one())
            ask(other, f"select pg_terminate_backend({tries[-1]}, 5000)")
            connection.exec_driver_sql("select 1")

        with pytest.raises(DatabaseUnavailable):
            transact(engine, die)
        assert len(tries) == 2

    def test_a_server_that_has_become_a_standby_is_away_and_its_connection_is_not_used_again(
        self, engine_of: EngineOf
    ) -> None:
        engine = engine_of()
        before = ask(engine, "select pg_backend_pid()")

        def write(connection: Connection) -> None:
            connection.exec_driver_sql("set transaction read only")  # as all of a standby's are
            connection.exec_driver_sql("create table written (id int)")

        with pytest.raises(DatabaseUnavailable):
            transact(engine, write)
        assert ask(engine, "select pg_backend_pid()") != before

    @pytest.mark.parametrize("code", ["deadlock_detected", "serialization_failure", "lock_not_available"])
    def test_a_statement_that_others_were_in_the_way_of_is_told_from_a_wrong_one(
        self, engine_of: EngineOf, code: str
    ) -> None:
        with pytest.raises(DBAPIError) as failed:
            ask(engine_of(), f"do $$ begin raise exception using errcode = '{code}'; end $$")
        assert under_test.is_busy(failed.value)
        assert not under_test.is_unavailable(failed.value)

    def test_a_server_that_cannot_be_reached_is_away(self) -> None:
        nowhere = connect_engine("postgresql://a:b@127.0.0.1:1/c", role=None, pool_size=1, application_name="test")
        with pytest.raises(DatabaseUnavailable):
            ask(nowhere, "select 1")

    def test_a_pool_with_no_connection_left_is_a_database_that_is_away(
        self, engine_of: EngineOf, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(under_test, "POOL_TIMEOUT_S", 0.05)
        engine = engine_of()
        with engine.connect(), pytest.raises(DatabaseUnavailable):
            ask(engine, "select 1")

    def test_a_server_that_does_not_answer_is_given_up_within_the_limit_and_not_tried_twice(
        self, engine_of: EngineOf
    ) -> None:
        engine = engine_of(timeout_s=1)
        clock = SystemClock()
        with frozen(ask(engine, "select pg_backend_pid()")):
            began = clock.monotonic()
            with pytest.raises(DatabaseUnavailable):
                ask(engine, "select 1")
            assert clock.monotonic() - began < 2 * (1 + under_test.SILENCE_S)
        assert ask(engine, "select 1") == 1


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def connection(module_database: str) -> Iterator[Connection]:
    engine = connect_engine(module_database, role=None, pool_size=1, application_name="test")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


class TestArrayLiterals:
    @settings(deadline=None)
    @given(values=st.lists(st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
    def test_any_texts_come_back_as_they_went_in(self, connection: Connection, values: list[str | None]) -> None:
        read = connection.exec_driver_sql("select %(values)s::text[]", {"values": array_literal(values)}).scalar_one()
        assert read == values

    @pytest.mark.parametrize(
        ("type_", "values"),
        [
            ("uuid", [UUID(int=1), None]),
            ("int", [1, None, -3]),
            ("timestamptz", [datetime(2026, 11, 22, 12, 0, 0, 123_456, tzinfo=UTC), None]),
            ("text", ["NULL", "null", "", " ", '"', "\\", "{}", "a,b", "%s"]),
        ],
    )
    def test_other_types_do_too(self, connection: Connection, type_: str, values: list[Any]) -> None:
        parameters = {"values": array_literal(values)}
        assert connection.exec_driver_sql(f"select %(values)s::{type_}[]", parameters).scalar_one() == values
