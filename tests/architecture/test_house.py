"""The house as it is built: every event has its class and handlers, every queue its worker, every room its files."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from deploy.cli import purser
from deploy.processes import PROCESSES
from ledger import tasks as ledger_tasks
from notifier import tasks as notifier_tasks
from shared import events
from shared.bus.routes import (
    CONSUMERS,
    LEDGER,
    NOTIFIER,
    SUBSCRIPTIONS,
    VERIFIER,
    VERIFIER_LOOKUPS,
    VERIFIER_STORE,
    ConsumerName,
    types_for,
)
from verifier import tasks as verifier_tasks

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("gateway", "verifier", "ledger", "notifier")

HANDLERS: Mapping[ConsumerName, Callable[..., Mapping[str, Any]]] = {
    VERIFIER: verifier_tasks.local_checks,
    VERIFIER_LOOKUPS: verifier_tasks.lookups,
    VERIFIER_STORE: verifier_tasks.receipt_checks,
    LEDGER: ledger_tasks.postings,
    NOTIFIER: notifier_tasks.queueing,
}


def handled_by(consumer: ConsumerName) -> set[str]:
    """The types that a consumer's handlers are registered for. Building the table calls none of what it is given."""
    build = HANDLERS[consumer]
    return set(build(**dict.fromkeys(inspect.signature(build).parameters)))


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_every_consumer_handles_exactly_what_it_subscribes_to(consumer: ConsumerName) -> None:
    assert handled_by(consumer) == set(types_for(consumer))


def test_every_consumer_has_a_process_of_its_name() -> None:
    assert set(CONSUMERS) <= set(PROCESSES)


def test_every_process_is_a_service_of_the_compose_file() -> None:
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    services = set(re.findall(r"^  ([a-z-]+):$", compose, flags=re.MULTILINE))
    assert set(PROCESSES) | {"postgres", "redis", "migrate"} <= services


def test_every_payload_class_is_registered_and_every_subscription_is_to_one() -> None:
    classes = {each for each in vars(events).values() if isinstance(each, type) and issubclass(each, events.Payload)}
    assert {each for each in classes if each is not events.Payload} == set(events.PAYLOADS.values())
    assert set(SUBSCRIPTIONS) <= {name for name, _ in events.PAYLOADS}
    assert set(events.OUTWARD) <= {name for name, consumers in SUBSCRIPTIONS.items() if NOTIFIER in consumers}


def test_every_event_is_in_the_architectures_table() -> None:
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert [name for name, _ in events.PAYLOADS if f"`{name}`" not in architecture] == []


PAGES = sorted(
    str(path.relative_to(ROOT)) for folder in (ROOT, ROOT / "docs", ROOT / "deploy") for path in folder.glob("*.md")
)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made of them where it is read."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    here = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", here.read_text(encoding="utf-8"))
    for path, anchor in links:
        there = (here.parent / path).resolve() if path else here
        assert there.exists(), path
        assert not anchor or anchor in anchors(there), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    rooms = "|".join((*SERVICES, "shared", "simulator", "deploy", "docs", "tests"))
    named = set(re.findall(rf"[`(]((?:{rooms})/[\w./-]+)[`)]", text))
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def called(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words call, and what is left of them: its arguments and options."""
    command: click.Command = purser
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"there is no {words[0]!r} in {command.name}"
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_exists_with_its_options(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for words in re.findall(r"(?:`|^|\$ )purser((?: [\w./:<>=-]+)+)", text, flags=re.MULTILINE):
        command, rest = called(words.split())
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
        assert {word.partition("=")[0] for word in rest if word.startswith("--")} <= known, f"purser{words}"


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_has_the_same_rooms(service: str) -> None:
    rooms = {path.stem for path in (ROOT / service).iterdir()}
    assert {"__init__", "app", "domain", "handlers", "settings", "store"} <= rooms
    assert rooms & {"api", "tasks"}
    docstring = (ROOT / service / "__init__.py").read_text(encoding="utf-8")
    for said in ("consumes", "emits", "owns"):
        assert said in docstring, f"{service}/__init__.py does not say what it {said}"


def test_no_file_has_outgrown_its_room() -> None:
    grown = {
        str(path.relative_to(ROOT)): lines
        for folder in (*SERVICES, "shared", "simulator", "deploy")
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert grown == {}
