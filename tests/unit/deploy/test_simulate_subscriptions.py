"""`purser simulate` for subscriptions, against a simulator that is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from deploy.commands.simulate import command
from simulator.api_subscriptions import COMMANDS
from simulator.app import build, serve
from tests.support.notification_receiver import receiver
from tests.support.served import served
from tests.support.shop import MONTHLY, WEEKLY, YEARLY, example_apps, example_catalog


@pytest.fixture(autouse=True)
def a_running_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with receiver() as hook:
        simulator = build(data_dir=tmp_path, apps=example_apps(), catalog=example_catalog(), webhook_url=hook.url)
        with closing(simulator), served(serve(simulator)) as url:
            monkeypatch.setenv("PURSER_SIMULATOR_PORT", str(urlsplit(url).port))
            monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
            monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:9/0")
            yield


def said(*arguments: str) -> str:
    done = CliRunner().invoke(command, list(arguments))
    assert done.exit_code == 0, done.output
    return done.output


def run(*arguments: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(said(*arguments))
    return answer


def subscribed(*options: str) -> str:
    original: str = run("buy", MONTHLY, "--no-notify", *options)["original_transaction_id"]
    return original


def test_every_command_of_the_simulators_has_one_here() -> None:
    assert set(COMMANDS) - {"enter-grace"} <= set(command.commands)


@pytest.mark.parametrize(
    ("commands", "status"),
    [
        ([["renew"]], 1),
        ([["expire"]], 2),
        ([["expire", "--reason", "product-not-for-sale"]], 2),
        ([["fail-billing"]], 3),
        ([["fail-billing", "--at-renewal"]], 1),
        ([["fail-billing", "--grace", "--now"]], 4),
        ([["fail-billing", "--grace"], ["end-grace"]], 3),
        ([["fail-billing"], ["recover"]], 1),
        ([["cancel"], ["resume"]], 1),
        ([["upgrade", YEARLY]], 1),
        ([["downgrade", WEEKLY], ["revert-downgrade"]], 1),
        ([["price-increase", "--accepted"]], 1),
        ([["extend", "3"]], 1),
        ([["redeem-offer", "--discount", "pay_up_front", "--period", "P3M"]], 1),
        ([["expire"], ["resubscribe", "--product-id", YEARLY]], 1),
    ],
)
def test_what_befalls_a_subscription_is_shown(commands: list[list[str]], status: int) -> None:
    original = subscribed()
    for action, *options in commands:
        shown = run(action, original, *options, "--no-notify")
    assert (shown["original_transaction_id"], shown["status"]) == (original, status)


def test_an_offer_is_redeemed_as_it_is_named() -> None:
    options = ["--type", "win_back", "--identifier", "back", "--product-id", YEARLY, "--effect", "downgrade"]
    shown = run("redeem-offer", subscribed(), *options)
    assert (shown["renewal_offer"]["identifier"], shown["auto_renew_product_id"]) == ("back", YEARLY)


def test_all_who_subscribe_to_a_product_are_extended() -> None:
    subscribed()
    assert run("extend-all", MONTHLY, "3")["succeeded"] == 1


def test_a_trial_is_bought_by_a_customer_with_a_name() -> None:
    subscribed("--offer", "free_trial", "--customer", "ann")
    (shown,) = json.loads(said("subscriptions", "--customer", "ann", "--json"))
    assert [period["paid"] for period in shown["periods"]] == [False]


def test_subscriptions_are_listed_on_a_line_each_and_narrowed() -> None:
    active, over = subscribed(), subscribed()
    run("expire", over)
    assert [line.split()[0] for line in said("subscriptions").splitlines()[1:]] == [active, over]
    assert over in said("subscriptions", "--status", "expired")
    assert active not in said("subscriptions", "--status", "expired")
    assert said("subscriptions", "--customer", "nobody") == "there is none\n"


def test_the_clock_is_shown_and_set_in_parts() -> None:
    assert run("clock") == {"month_s": None, "running": False}
    assert run("clock", "--month-s", "60", "--run") == {"month_s": 60.0, "running": True}
    assert run("clock", "--pause") == {"month_s": 60.0, "running": False}
    assert run("clock", "--calendar") == {"month_s": None, "running": False}


def test_a_month_cannot_be_of_the_calendar_and_of_so_many_seconds() -> None:
    done = CliRunner().invoke(command, ["clock", "--month-s", "60", "--calendar"])
    assert done.exit_code != 0
    assert "exclude each other" in done.output


def test_what_makes_no_sense_is_refused_with_a_sentence() -> None:
    done = CliRunner().invoke(command, ["recover", subscribed()])
    assert done.exit_code != 0
    assert "nothing of it is unpaid" in done.output
