"""Where everything is, and what our processes are told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.addresses import environment, known_environment, recalled_addresses, recalled_database_url
from deploy.errors import StackInvalid
from deploy.remembered import Remembered, remember
from deploy.settings import GivenStoreSettings, StackSettings, reach_of

REMEMBERED = Remembered(
    postgres_port=20_001,
    redis_port=20_002,
    postgres_password="pg",
    redis_password="rd",
    service_token="token",
    flower_password="flower",
)


def settings(data_dir: Path, **values: object) -> StackSettings:
    return StackSettings(data_dir=data_dir, **values)  # type: ignore[arg-type]


def test_processes_are_told_the_embedded_servers_and_the_simulator(tmp_path: Path) -> None:
    told = environment(settings(tmp_path), REMEMBERED, GivenStoreSettings(), simulator=True)
    assert told["PURSER_DATABASE_URL"] == "postgresql://purser:pg@127.0.0.1:20001/purser"
    assert told["PURSER_BROKER_URL"] == "redis://:rd@127.0.0.1:20002/0"
    assert told["PURSER_APPLE_VERIFY_RECEIPT_URL"] == "http://127.0.0.1:8090/verifyReceipt"
    assert told["PURSER_APPLE_ROOT_FILES"] == str(tmp_path / "simulator" / "root.pem")
    assert told["PURSER_SIMULATOR_WEBHOOK_URL"] == "http://127.0.0.1:8080/webhooks/apple"
    assert told["PURSER_APPLE_API_URL"] == told["PURSER_SIMULATOR_URL"] == "http://127.0.0.1:8090"
    assert told["PURSER_APPLE_API_SANDBOX_URL"] == "http://127.0.0.1:8090/sandbox"
    assert (told["PURSER_LEDGER_URL"], told["PURSER_LEDGER_PORT"]) == ("http://127.0.0.1:8081", "8081")
    assert (told["PURSER_NOTIFIER_URL"], told["PURSER_NOTIFIER_PORT"]) == ("http://127.0.0.1:8082", "8082")


def test_what_is_given_wins_over_what_is_embedded_or_simulated(tmp_path: Path) -> None:
    given = settings(tmp_path, database_url=SecretStr("postgresql://db/x"), service_token=SecretStr("mine"))
    store = GivenStoreSettings(
        apple_verify_receipt_url="http://store/verify",
        apple_root_files="/etc/root.pem",
        notifier_url="http://notifier-api:8082",
    )
    told = environment(given, REMEMBERED, store, simulator=True)
    assert told["PURSER_DATABASE_URL"] == "postgresql://db/x"
    assert told["PURSER_SERVICE_TOKEN"] == "mine"
    assert told["PURSER_NOTIFIER_URL"] == "http://notifier-api:8082"
    assert told["PURSER_APPLE_VERIFY_RECEIPT_URL"] == "http://store/verify"
    assert told["PURSER_APPLE_ROOT_FILES"] == f"/etc/root.pem,{tmp_path}/simulator/root.pem"


def test_without_the_simulator_nothing_points_at_it_nor_trusts_it(tmp_path: Path) -> None:
    told = environment(settings(tmp_path), REMEMBERED, GivenStoreSettings(), simulator=False)
    assert not [name for name in told if name.startswith("PURSER_APPLE_")]


def test_a_process_in_production_is_never_told_of_the_simulator(tmp_path: Path) -> None:
    remember(tmp_path, REMEMBERED)
    (tmp_path / "simulator").mkdir()
    assert "PURSER_APPLE_ROOT_FILES" in known_environment(settings(tmp_path))
    assert "PURSER_APPLE_ROOT_FILES" not in known_environment(settings(tmp_path, production=True))


def test_a_command_finds_the_stack_of_its_data_directory(tmp_path: Path) -> None:
    with pytest.raises(StackInvalid, match="`purser up` makes one"):
        recalled_addresses(settings(tmp_path))
    remember(tmp_path, REMEMBERED)
    assert recalled_addresses(settings(tmp_path)).database_url == "postgresql://purser:pg@127.0.0.1:20001/purser"


def test_a_command_that_needs_the_database_alone_asks_for_no_broker(tmp_path: Path) -> None:
    given = settings(tmp_path, database_url=SecretStr("postgresql://db/x"))
    assert recalled_database_url(given) == "postgresql://db/x"
    with pytest.raises(StackInvalid, match="PURSER_BROKER_URL"):
        recalled_addresses(given)


def test_the_database_is_the_given_one_else_that_of_the_data_directory(tmp_path: Path) -> None:
    with pytest.raises(StackInvalid, match="PURSER_DATABASE_URL is not set"):
        recalled_database_url(settings(tmp_path, broker_url=SecretStr("redis://broker/0")))
    remember(tmp_path, REMEMBERED)
    assert recalled_database_url(settings(tmp_path)) == "postgresql://purser:pg@127.0.0.1:20001/purser"
    given = settings(tmp_path, database_url=SecretStr("postgresql://db/x"))
    assert recalled_database_url(given) == "postgresql://db/x"


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),  # noqa: S104 - nothing is bound here
        ("::", "127.0.0.1"),
        ("::1", "[::1]"),
        ("10.1.2.3", "10.1.2.3"),
    ],
)
def test_what_is_bound_to_every_address_is_reached_on_the_loopback(bind: str, host: str) -> None:
    assert reach_of(bind) == host
