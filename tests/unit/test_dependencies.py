"""The audit of dependencies: what is not known is never taken for well."""

from __future__ import annotations

import json

import pytest

from tests.dependencies import UNKNOWN, VULNERABLE, Report, javascript_report, python_report, verdict

WELL = {"name": "flask", "version": "3.1.1", "vulns": []}
BAD = {"name": "jinja2", "version": "3.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"], "description": "…"}]}
SKIPPED = {"name": "kombu", "skip_reason": "Dependency not found on PyPI and could not be audited: kombu (5.7)"}


def python(*dependencies: object) -> Report:
    return python_report(json.dumps({"dependencies": dependencies, "fixes": []}))


def test_what_is_vulnerable_is_named_with_what_mends_it() -> None:
    report = python(WELL, BAD)
    assert (report.audited, report.vulnerable) == (2, ["jinja2 3.0: PYSEC-1, mended in 3.1"])
    assert verdict([report], unknown_passes=True) == VULNERABLE


def test_what_could_not_be_asked_about_is_not_known_though_pip_audit_ends_well() -> None:
    report = python(WELL, SKIPPED)
    assert (report.audited, len(report.unknown)) == (1, 1)
    assert verdict([report], unknown_passes=False) == UNKNOWN
    assert verdict([report], unknown_passes=True) == 0


def test_npm_that_has_no_answer_is_not_known() -> None:
    report = javascript_report('{"message": "405 Method Not Allowed", "error": {"summary": ""}}')
    assert (report.vulnerable, report.unknown) == ([], ["405 Method Not Allowed"])


def test_npm_names_what_is_vulnerable() -> None:
    said = {"vulnerabilities": {"left-pad": {"severity": "high"}}, "metadata": {"dependencies": {"total": 3}}}
    report = javascript_report(json.dumps(said))
    assert (report.audited, report.vulnerable) == (3, ["left-pad: high"])


@pytest.mark.parametrize("unknown_passes", [True, False])
def test_all_that_is_known_to_be_well_passes(unknown_passes: bool) -> None:
    nothing = javascript_report('{"vulnerabilities": {}, "metadata": {"dependencies": {"total": 3}}}')
    assert verdict([python(WELL), nothing], unknown_passes=unknown_passes) == 0
