"""The certificate authority: what it says of itself, and that it is made once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from simulator.certificates import (
    INTERMEDIATE_MARKER,
    ISSUER_NAME,
    LEAF_MARKER,
    Authority,
    AuthorityInvalid,
    create,
    load_or_create,
    root_file,
)
from tests.support.shop import START


def test_every_certificate_names_the_simulator(authority: Authority) -> None:
    assert all(ISSUER_NAME in certificate.subject.rfc4514_string() for certificate in authority.chain)


def test_only_the_leaf_and_the_intermediate_carry_their_marker(authority: Authority) -> None:
    marked = {
        oid: [certificate for certificate in authority.chain if _has(certificate, oid)]
        for oid in (LEAF_MARKER, INTERMEDIATE_MARKER)
    }
    assert marked == {LEAF_MARKER: [authority.leaf], INTERMEDIATE_MARKER: [authority.intermediate]}


def _has(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bool:
    return any(extension.oid == oid for extension in certificate.extensions)


def test_the_curves_are_apples(authority: Authority) -> None:
    keys = [certificate.public_key() for certificate in authority.chain]
    assert [key.curve.name for key in keys if isinstance(key, ec.EllipticCurvePublicKey)] == [
        "secp256r1",
        "secp384r1",
        "secp384r1",
    ]


def test_the_leaf_cannot_issue_and_the_intermediate_only_leaves(authority: Authority) -> None:
    constraints = [c.extensions.get_extension_for_class(x509.BasicConstraints).value for c in authority.chain]
    assert [(each.ca, each.path_length) for each in constraints] == [(False, None), (True, 0), (True, 1)]


def test_a_second_start_uses_the_same_certificates_and_key(tmp_path: Path) -> None:
    first = load_or_create(tmp_path, now=START)
    second = load_or_create(tmp_path, now=START)
    assert first.chain == second.chain
    assert first.key.private_numbers() == second.key.private_numbers()


def test_starts_at_the_same_moment_make_one_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: load_or_create(tmp_path, now=START), range(8)))
    assert len({authority.root_pem for authority in made}) == 1


def test_only_the_owner_can_read_the_key_and_everybody_the_root(tmp_path: Path) -> None:
    authority = load_or_create(tmp_path, now=START)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "simulator").glob("*.pem")}
    assert modes == {"authority.pem": 0o600, "root.pem": 0o644}
    assert root_file(tmp_path).read_bytes() == authority.root_pem


def test_no_key_but_the_leafs_is_kept(tmp_path: Path) -> None:
    load_or_create(tmp_path, now=START)
    assert sum(path.read_bytes().count(b"BEGIN PRIVATE KEY") for path in tmp_path.rglob("*") if path.is_file()) == 1


def test_a_root_file_that_is_not_this_authoritys_is_put_right(tmp_path: Path) -> None:
    authority = load_or_create(tmp_path, now=START)
    root_file(tmp_path).write_bytes(create(now=START).root_pem)
    load_or_create(tmp_path, now=START)
    assert root_file(tmp_path).read_bytes() == authority.root_pem


@pytest.mark.parametrize("damage", [lambda pem: pem[:100], lambda pem: pem[: len(pem) // 2], lambda _pem: b""])
def test_a_damaged_file_is_refused_by_name_and_left_alone(tmp_path: Path, damage: object) -> None:
    load_or_create(tmp_path, now=START)
    kept = tmp_path / "simulator" / "authority.pem"
    assert callable(damage)
    kept.write_bytes(damage(kept.read_bytes()))
    before = kept.read_bytes()
    with pytest.raises(AuthorityInvalid, match=r"authority\.pem"):
        load_or_create(tmp_path, now=START)
    assert kept.read_bytes() == before


def test_a_key_that_is_not_the_leafs_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path / "a", now=START)
    load_or_create(tmp_path / "b", now=START)
    a, b = (tmp_path / name / "simulator" / "authority.pem" for name in "ab")
    end = b"-----END PRIVATE KEY-----\n"
    a.write_bytes(b.read_bytes().split(end)[0] + end + a.read_bytes().split(end)[1])
    with pytest.raises(AuthorityInvalid, match="not the leaf"):
        load_or_create(tmp_path / "a", now=START)
