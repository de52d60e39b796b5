"""SECURITY.md promises nothing that no test shows: every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def defined() -> set[str]:
    """The names of all tests."""
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"^ *def (test_\w+)\(", source, flags=re.MULTILINE)}


def test_every_test_that_the_threat_model_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40
    assert sorted(named - defined()) == []


def test_every_row_of_the_threat_model_names_a_test() -> None:
    tables = re.findall(r"^\| they try .*?(?=\n\n)", PAGE, flags=re.MULTILINE | re.DOTALL)
    rows = [row for table in tables for row in table.splitlines()[2:]]
    assert len(rows) > 30
    assert [row for row in rows if "`test_" not in row.rpartition("|")[0].rpartition("|")[2]] == []
