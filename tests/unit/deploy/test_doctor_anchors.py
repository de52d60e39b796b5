"""What the doctor says of the trust anchors: whose they are, and until when they hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.doctor.anchors import check_anchors
from deploy.doctor.findings import Finding
from shared.settings import TrustSettings
from simulator.certificates import create

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def check(*, pins: str | None = None, files: str = "", production: bool = False, now: datetime = NOW) -> list[Finding]:
    values = {"apple_root_files": files} | ({} if pins is None else {"apple_root_sha256": pins})
    return check_anchors(TrustSettings(**values), production=production, now=now)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root") / "root.pem"
    path.write_bytes(create(now=NOW).root_pem)
    return path


def test_the_default_is_apples_root_by_name_with_its_end() -> None:
    (pinned,) = check()
    assert pinned.outcome == "ok"
    assert "Apple Root CA - G3" in pinned.found
    assert "2039-04-30" in pinned.found


def test_an_unknown_pin_warns_because_what_it_stands_for_cannot_be_told() -> None:
    (pinned,) = check(pins="ab" * 32)
    assert pinned.outcome == "warning"


@pytest.mark.parametrize("pins", ["abcd", "not hexadecimal", ""])
def test_a_pin_that_is_no_sha256_fails_and_so_does_no_anchor_at_all(pins: str) -> None:
    (bad,) = check(pins=pins)
    assert bad.outcome == "failed"


def test_the_simulators_root_is_well_on_a_laptop_and_fails_in_production(root: Path) -> None:
    assert [finding.outcome for finding in check(files=str(root))] == ["ok", "ok"]
    assert [finding.outcome for finding in check(files=str(root), production=True)] == ["ok", "failed"]


@pytest.mark.parametrize(("years", "outcome"), [(18.9, "ok"), (19.1, "warning"), (21, "failed")])
def test_a_root_warns_for_its_last_year_and_fails_afterwards(years: float, outcome: str, root: Path) -> None:
    _, read = check(files=str(root), now=NOW + timedelta(days=years * 365))
    assert read.outcome == outcome


def test_a_root_file_that_is_missing_or_no_certificate_fails(tmp_path: Path) -> None:
    (missing,) = check(files=str(tmp_path / "none.pem"))
    assert missing.outcome == "failed"
    assert "none.pem" in missing.found
    (tmp_path / "text.pem").write_text("hello")
    (garbage,) = check(files=str(tmp_path / "text.pem"))
    assert garbage.outcome == "failed"
