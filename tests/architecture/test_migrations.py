"""A migration beside a release that runs: it adds, and takes nothing away that the release before still uses."""

from __future__ import annotations

import re

import pytest

from deploy.migrate import ROOT, SCHEMAS

TAKES_AWAY = re.compile(
    r"\b(drop\s+(table|column|view|function|schema|constraint)|rename\s+(to|column)|alter\s+column\s+\w+\s+type"
    r"|set\s+not\s+null)\b",
    re.IGNORECASE,
)
BEFORE_THE_FIRST_RELEASE = {
    "ledger/migrations/0002_lots_and_commands.py",
    "notifier/migrations/0002_sending.py",
}
"""What these change nobody has run yet beside an older release."""

MIGRATIONS = sorted(str(path.relative_to(ROOT)) for folder in SCHEMAS.values() for path in folder.glob("*.py"))


@pytest.mark.parametrize("migration", [one for one in MIGRATIONS if one not in BEFORE_THE_FIRST_RELEASE])
def test_a_migration_takes_nothing_away_that_the_release_before_uses(migration: str) -> None:
    """What is no longer used, the release after next removes (deploy/runbook.md, "Upgrade without downtime")."""
    code = "\n".join(line.partition("--")[0] for line in (ROOT / migration).read_text(encoding="utf-8").splitlines())
    assert TAKES_AWAY.findall(code) == []
