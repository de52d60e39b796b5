"""Secrets: compared in constant time, and never an example's in production."""

from __future__ import annotations

import ast
import hashlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.settings import EXAMPLE_SECRETS

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("gateway", "ledger", "notifier", "shared", "verifier", "deploy")
TELLING = re.compile(r"token|secret|signature|digest|sha256|password|credential|authorization|hmac", re.IGNORECASE)
COMPARING = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)

ALLOWED = {
    # certificates and their keys are public
    "shared/jws/chain.py": {
        "hashlib.sha256(der).digest() in pins",
        "authority.value.key_identifier != subject.value.digest",
    },
    "verifier/apple/ocsp.py": {"each != sha256"},
    "verifier/domain/ocsp.py": {
        "x509.SubjectKeyIdentifier.from_public_key(candidate.public_key()).digest == response.responder_key_hash"
    },
    "deploy/doctor/anchors.py": {"pin == APPLE_ROOT_CA_G3_SHA256"},
    # what the examples say is public, and is looked for in the operator's own secrets when a process starts
    "shared/settings.py": {"secret in EXAMPLE_SECRETS", "secret in value.get_secret_value()"},
    # ours with ours: whether a token was made anew meanwhile
    "verifier/apple/keys.py": {"self._token == token"},
    # a caller's own body with the one that came with its own key before
    "ledger/handlers/commands.py": {"before.body_sha256 == _digest(command.key)"},
    # whose user's an account token is, which the store has signed by then
    "verifier/handlers/settling.py": {"statement.token in holders"},
    "verifier/handlers/tokens.py": {"event.payload.token != TOKEN_REMOVED"},
    # a constant's name
    "shared/jws/token.py": {"len(raw) != _ES256_SIGNATURE_BYTES"},
}
"""What is called like a secret and is none, or none that a caller could find out piece by piece from the time taken."""


def telling(node: ast.expr) -> bool:
    """Whether a name in it is called like a secret."""
    inner = list(ast.walk(node))
    names = [each.id for each in inner if isinstance(each, ast.Name)]
    names += [each.attr for each in inner if isinstance(each, ast.Attribute)]
    return any(TELLING.search(name) for name in names)


def comparisons(source: str) -> Iterator[str]:
    """What is compared with `==` or `in` and called like a secret; what is compared with a constant is none."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], COMPARING):
            operands = [node.left, *node.comparators]
            constant = any(isinstance(each, ast.Constant | ast.Set | ast.Tuple) for each in operands)
            if not constant and any(map(telling, operands)):
                yield ast.unparse(node)


def test_nothing_that_is_called_like_a_secret_is_compared_so_that_time_tells() -> None:
    sources = {path: path.read_text(encoding="utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    found = {str(path.relative_to(ROOT)): set(comparisons(source)) for path, source in sources.items()}
    assert {path: told for path, told in found.items() if told} == ALLOWED


@pytest.mark.parametrize(
    "source",
    ["given == secret", "settings.service_token != given", "key in self.tokens", "sha256(key).hexdigest() == known"],
)
def test_a_comparison_in_which_a_secret_is_named_would_be_found(source: str) -> None:
    assert list(comparisons(source)) == [source]


@pytest.mark.parametrize("path", ["gateway/api/credentials.py", "shared/callers.py"])
def test_the_keys_of_servers_and_services_are_compared_in_constant_time(path: str) -> None:
    assert "compare_digest(" in (ROOT / path).read_text(encoding="utf-8")


def secrets_in(table: Any) -> Iterator[str]:
    """The values of what is called like a secret, in a TOML document."""
    for name, value in table.items() if isinstance(table, dict) else enumerate(table):
        if isinstance(value, dict | list):
            yield from secrets_in(value)
        elif str(name) in {"key", "secret", "previous_secret", "shared_secret", "sha256"}:
            yield str(value)


def test_every_secret_of_the_example_files_is_refused_in_production() -> None:
    examples = ROOT / "deploy" / "examples"
    written = [
        secret
        for path in examples.glob("*.toml")
        for secret in secrets_in(tomllib.loads(path.read_text(encoding="utf-8")))
    ]
    files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in examples.iterdir() if path.suffix != ".toml"]
    assert len(written) > 3
    assert files
    assert {*written, *files} <= EXAMPLE_SECRETS


@pytest.mark.parametrize("path", sorted(ROOT.glob("docker-compose.yml")) + sorted(ROOT.glob("deploy/compose.*.yml")))
def test_every_secret_that_a_compose_file_falls_back_on_is_refused_in_production(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    defaults = re.findall(r"\$\{PURSER_\w*(?:PASSWORD|TOKEN|SECRET)\w*:-([^}]*)\}", text)
    assert set(defaults) <= EXAMPLE_SECRETS
    assert set(re.findall(r"example-only[\w-]*", text)) <= EXAMPLE_SECRETS


def test_every_secret_that_is_refused_stands_in_an_example() -> None:
    texts = [
        path.read_text(encoding="utf-8") for path in [ROOT / "docker-compose.yml", *ROOT.glob("deploy/examples/*")]
    ]
    files = {hashlib.sha256(text.encode()).hexdigest() for text in texts}
    assert {secret for secret in EXAMPLE_SECRETS if not any(secret in text for text in texts)} <= files
