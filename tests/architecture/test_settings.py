"""Every environment variable that is read stands in docs/operating.md once, with its default, and no other does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from shared.settings import IN_FILE, PREFIX, Piece, secrets_of

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("deploy", "gateway", "ledger", "notifier", "shared", "simulator", "verifier")
PAGE = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
COMPOSE = [
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("docker-compose.yml", "deploy/compose.production.yml", "deploy/compose.rabbitmq.yml")
]

FOR_TESTS = {"PURSER_TEST_COMPOSE", "PURSER_TEST_RABBITMQ"}
"""What the tests read, and tests/support/compose.py and rabbitmq.py explain."""


def settings_modules() -> Iterator[str]:
    """Those that define a settings class."""
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        if re.search(r"^class \w+\((?:\w*Settings|Piece)\b", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def pieces() -> Iterator[type[Piece]]:
    """Every settings class."""
    for module in map(import_module, settings_modules()):
        for each in vars(module).values():
            if isinstance(each, type) and issubclass(each, Piece):
                yield each


def shown(default: Any) -> str:
    """A default as the page has it: nothing where there is none."""
    if default in (None, PydanticUndefined, "") or isinstance(default, SecretStr):
        return ""
    if isinstance(default, bool | int | float):
        return f"`{default:g}`"
    return f"`{default}`"


@cache
def read_by_processes() -> Mapping[str, set[str]]:
    """Each variable with its defaults: the same wherever it has one."""
    defaults: dict[str, set[str]] = {}
    for piece in pieces():
        for name, field in piece.model_fields.items():
            defaults.setdefault(f"{PREFIX}{name.upper()}", set()).add(shown(field.default))
        for name in secrets_of(piece):
            defaults.setdefault(f"{PREFIX}{name.upper()}{IN_FILE}", set())
    return {name: (found - {""}) or {""} for name, found in defaults.items()}


def read_by_compose() -> Mapping[str, set[str]]:
    """The variables that only the compose files read, each with its default."""
    found = re.findall(rf"\$\{{({PREFIX}\w+):-([^}}]*)\}}", COMPOSE[0])
    return {name: {f"`{default}`"} for name, default in found if name not in read_by_processes()}


def rows() -> list[tuple[str, str]]:
    """Variable and default of each row of the page's tables."""
    return re.findall(rf"^\| `({PREFIX}\w+)` \| (`[^`]*`)? ?\|", PAGE, flags=re.MULTILINE)


def test_every_variable_that_is_read_has_one_row_and_every_row_is_read() -> None:
    assert Counter(name for name, _ in rows()) == Counter([*read_by_processes(), *read_by_compose()])


@pytest.mark.parametrize(("name", "default"), rows())
def test_the_default_in_its_row_is_the_one_in_force(name: str, default: str) -> None:
    assert {default} == {**read_by_processes(), **read_by_compose()}[name]


def test_no_page_and_no_compose_file_names_a_variable_that_nobody_reads() -> None:
    pages = [path.read_text(encoding="utf-8") for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]]
    named = {name for text in [*pages, *COMPOSE] for name in re.findall(rf"{PREFIX}\w+", text)}
    assert named - set(read_by_processes()) - set(read_by_compose()) - FOR_TESTS == set()
