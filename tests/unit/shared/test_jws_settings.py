"""How the App Store's signatures are checked is the operator's to say, in production within limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.clock import to_unix_ms
from shared.jws import JwsUntrusted
from shared.settings import TrustSettings, read
from shared.trust import jws_verifier, trust_anchors
from simulator.certificates import create
from tests.support.apple_pki import LEAF, Certificate, Chain
from tests.support.jws import CLAIMS, NOW, claims, good, signed, verdict


@pytest.fixture(autouse=True)
def _our_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PURSER_APPLE_ROOT_SHA256", good().root_sha256)


def expired(*, days_ago: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token of a chain that has expired since, and whose root is pinned."""
    chain = Chain(leaf_recipe=replace(LEAF, not_after=NOW - timedelta(days=days_ago)))
    monkeypatch.setenv("PURSER_APPLE_ROOT_SHA256", chain.root_sha256)
    return chain.sign(claims(signedDate=to_unix_ms(NOW - timedelta(days=days_ago + 1))))


@pytest.mark.parametrize(
    ("days", "days_ago", "taken"),
    [(None, 59, True), (None, 60, False), ("7", 6, True), ("7", 7, False), ("0", 0, False)],
)
def test_an_expired_chain_vouches_for_its_past_for_as_many_days_as_are_set(
    monkeypatch: pytest.MonkeyPatch, days: str | None, days_ago: int, taken: bool
) -> None:
    token = expired(days_ago=days_ago, monkeypatch=monkeypatch)
    if days is not None:
        monkeypatch.setenv("PURSER_APPLE_EXPIRED_CHAIN_DAYS", days)
    said = verdict(jws_verifier(read(TrustSettings), production=False), token)
    assert said is (None if taken else JwsUntrusted)


@pytest.mark.parametrize(("kept_s", "chains"), [(None, 1), ("0", 0)])
def test_a_chain_is_kept_for_as_long_as_is_set(
    monkeypatch: pytest.MonkeyPatch, kept_s: str | None, chains: int
) -> None:
    if kept_s is not None:
        monkeypatch.setenv("PURSER_APPLE_CHAIN_KEPT_S", kept_s)
    verifier = jws_verifier(read(TrustSettings), production=False)
    verifier.verify(signed(), now=NOW)
    assert verifier.cached_chains() == chains


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PURSER_APPLE_EXPIRED_CHAIN_DAYS", "-1"),
        ("PURSER_APPLE_EXPIRED_CHAIN_DAYS", "nan"),
        ("PURSER_APPLE_EXPIRED_CHAIN_DAYS", "inf"),
        ("PURSER_APPLE_CHAIN_KEPT_S", "-1"),
        ("PURSER_APPLE_CHAIN_KEPT_S", "86401"),
        ("PURSER_APPLE_OCSP", "perhaps"),
    ],
)
def test_a_value_of_no_sense_ends_the_process_and_its_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        read(TrustSettings)
    assert f"purser: {variable}: " in capsys.readouterr().err


def test_revocation_is_not_asked_about_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not read(TrustSettings).apple_ocsp
    monkeypatch.setenv("PURSER_APPLE_OCSP", "1")
    assert read(TrustSettings).apple_ocsp


def test_in_production_a_simulators_root_is_refused_as_a_file_at_once_and_as_a_pin_with_the_first_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulators = Chain(*(replace(each, name=f"Purser Simulator {each.name}") for each in recipes_of(good())))
    monkeypatch.setenv("PURSER_APPLE_ROOT_SHA256", simulators.root_sha256)
    token = simulators.sign(CLAIMS)
    assert verdict(jws_verifier(read(TrustSettings), production=False), token) is None
    assert verdict(jws_verifier(read(TrustSettings), production=True), token) is JwsUntrusted
    root_file = tmp_path / "root.pem"
    root_file.write_bytes(simulators.root.pem)
    monkeypatch.setenv("PURSER_APPLE_ROOT_FILES", str(root_file))
    with pytest.raises(SystemExit):
        trust_anchors(read(TrustSettings), production=True)
    assert "PURSER_APPLE_ROOT_FILES names a simulator's root" in capsys.readouterr().err


def recipes_of(chain: Chain) -> tuple[Certificate, Certificate, Certificate]:
    return chain.root_recipe, chain.intermediate_recipe, chain.leaf_recipe


def test_the_simulators_own_root_is_known_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root_file = tmp_path / "root.pem"
    root_file.write_bytes(create(now=NOW).root_pem)
    monkeypatch.setenv("PURSER_APPLE_ROOT_FILES", str(root_file))
    assert trust_anchors(read(TrustSettings), production=False).name_simulator()
    with pytest.raises(SystemExit):
        jws_verifier(read(TrustSettings), production=True)


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("PURSER_APPLE_ROOT_SHA256", "00", "not a SHA-256 digest"),
        ("PURSER_APPLE_ROOT_FILES", "/there/is/none.pem", "No such file"),
    ],
)
def test_an_anchor_that_cannot_be_used_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        trust_anchors(read(TrustSettings), production=False)
    said = capsys.readouterr().err
    assert variable in said
    assert complaint in said
