"""The doctor reads the configuration as the processes do, says everything that is wrong with it, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.doctor.apps import check_apps
from deploy.doctor.configuration import READ_BY, read_configuration
from deploy.doctor.findings import Finding
from deploy.processes import PROCESSES
from deploy.settings import PROJECT
from shared.clock import SystemClock
from shared.settings import EXAMPLE_SECRETS

PASSWORD = "correct-horse-battery"
COMPLETE = {
    "PURSER_DATABASE_URL": f"postgresql://purser:{PASSWORD}@127.0.0.1:1/purser",
    "PURSER_BROKER_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0",
    "PURSER_SERVICE_TOKEN": "a-service-token-of-this-test",
    "PURSER_FLOWER_PASSWORD": "a-password-of-this-test",
    "PURSER_APPS_FILE": str(PROJECT / "deploy/examples/apps.toml"),
    "PURSER_CATALOG_FILE": str(PROJECT / "deploy/examples/catalog.toml"),
}


@pytest.fixture(autouse=True)
def _only_what_is_set_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*COMPLETE, "PURSER_PRODUCTION", "PURSER_GATEWAY_PORT"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in COMPLETE.items():
        monkeypatch.setenv(name, value)


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def test_the_settings_of_every_process_are_looked_at() -> None:
    assert list(READ_BY) == list(PROCESSES)


@pytest.mark.usefixtures("complete")
def test_a_complete_configuration_is_well_and_all_of_it_is_read() -> None:
    known, findings = read_configuration(PROCESSES)
    assert {finding.outcome for finding in findings} == {"ok"}
    assert known.database_url == COMPLETE["PURSER_DATABASE_URL"]
    assert known.broker_url == COMPLETE["PURSER_BROKER_URL"]
    assert known.apps is not None
    assert known.catalog is not None
    assert known.store is not None


@pytest.mark.usefixtures("complete")
def test_a_variable_that_is_missing_is_named_once_with_the_processes_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PURSER_SERVICE_TOKEN")
    _, findings = read_configuration(PROCESSES)
    wrong, well = of(findings, "settings")
    assert wrong.outcome == "failed"
    assert wrong.found.startswith("PURSER_SERVICE_TOKEN: ")
    assert wrong.remedy == "set it for ledger-api, notifier-api, gateway"
    assert "verifier-store" in well.found
    assert "gateway" not in well.found


@pytest.mark.usefixtures("complete")
def test_what_only_flower_lacks_warns_because_an_installation_may_do_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PURSER_FLOWER_PASSWORD")
    _, findings = read_configuration(PROCESSES)
    missing, _well = of(findings, "settings")
    assert (missing.outcome, missing.remedy) == ("warning", "set it for flower")


@pytest.mark.usefixtures("complete")
def test_a_container_is_asked_for_the_variables_of_its_own_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PURSER_SERVICE_TOKEN")
    known, findings = read_configuration(["verifier-store"])
    assert [finding.outcome for finding in of(findings, "settings")] == ["ok"]
    assert (known.ledger_url, known.notifier_url) == (None, None)


@pytest.mark.usefixtures("complete")
def test_a_value_that_cannot_be_read_is_one_finding_and_the_rest_is_still_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PURSER_GATEWAY_PORT", "eighty")
    known, findings = read_configuration(PROCESSES)
    assert known.stack is None
    assert known.apps is not None
    assert any(finding.found.startswith("PURSER_GATEWAY_PORT: ") for finding in of(findings, "settings"))


@pytest.mark.usefixtures("complete")
def test_production_refuses_an_examples_secret_within_a_url_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    monkeypatch.setenv("PURSER_DATABASE_URL", "postgresql://purser:example-only-password-change-me@postgres/purser")
    known, findings = read_configuration(PROCESSES)
    assert known.production
    assert any(finding.found.startswith("PURSER_DATABASE_URL holds an example's secret") for finding in findings)


@pytest.mark.usefixtures("complete")
def test_files_that_cannot_be_used_are_findings_that_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "apps.toml"
    broken.write_text("[[apps]]\nid = 'game'\n")
    monkeypatch.setenv("PURSER_APPS_FILE", str(broken))
    monkeypatch.setenv("PURSER_CATALOG_FILE", str(tmp_path / "none.toml"))
    known, findings = read_configuration(PROCESSES)
    assert (known.apps, known.catalog) == (None, None)
    (apps,), (catalog,) = of(findings, "apps file"), of(findings, "catalogue")
    assert apps.outcome == catalog.outcome == "failed"
    assert str(broken) in apps.found
    assert "none.toml" in catalog.found


@pytest.mark.usefixtures("complete")
def test_no_secret_of_the_settings_or_of_the_apps_file_is_ever_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In production, where each of the examples' secrets is complained about."""
    monkeypatch.setenv("PURSER_PRODUCTION", "1")
    known, findings = read_configuration(PROCESSES)
    assert known.apps is not None
    findings += check_apps(known.apps, catalog=known.catalog, production=True, clock=SystemClock())
    said = str(findings)
    assert "is the example's" in said
    own = {PASSWORD, COMPLETE["PURSER_SERVICE_TOKEN"], COMPLETE["PURSER_FLOWER_PASSWORD"]}
    assert not [secret for secret in EXAMPLE_SECRETS | own if secret in said]
