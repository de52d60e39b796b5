"""The certificate authority: what it says of itself, and that it is made once."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

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
    assert modes == {"authority.pem": 0o600, "responder.pem": 0o600, "root.pem": 0o644}
    assert root_file(tmp_path).read_bytes() == authority.root_pem


def test_no_key_is_kept_that_could_certify_anything(tmp_path: Path) -> None:
    authority = load_or_create(tmp_path, now=START)
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    keys = [load_pem_private_key(each, password=None).public_key() for each in kept if b"BEGIN PRIVATE KEY" in each]
    assert sum(each.count(b"BEGIN PRIVATE KEY") for each in kept) == len(keys) == 2
    assert authority.responder is not None
    assert {_of_ca(authority, key) for key in keys} == {False}
    assert not _is_ca(authority.responder.for_leaf) | _is_ca(authority.responder.for_intermediate)


def _of_ca(authority: Authority, key: object) -> bool:
    return key in (authority.root.public_key(), authority.intermediate.public_key())


def _is_ca(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_root_file_that_is_not_this_authoritys_is_put_right(tmp_path: Path) -> None:
    authority = load_or_create(tmp_path, now=START)
    root_file(tmp_path).write_bytes(create(now=START).root_pem)
    load_or_create(tmp_path, now=START)
    assert root_file(tmp_path).read_bytes() == authority.root_pem


def test_the_leaf_and_the_intermediate_name_where_their_revocation_is_asked_for(tmp_path: Path) -> None:
    authority = load_or_create(tmp_path, now=START, ocsp_url="http://store.example/ocsp")
    assert authority.ocsp_url == "http://store.example/ocsp"
    access = authority.intermediate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [one.access_location.value for one in access] == ["http://store.example/ocsp"]
    assert not _has(authority.root, x509.AuthorityInformationAccess.oid)


def test_an_address_that_changes_leaves_the_certificates_as_they_are(tmp_path: Path) -> None:
    first = load_or_create(tmp_path, now=START, ocsp_url="http://store.example/ocsp")
    second = load_or_create(tmp_path, now=START, ocsp_url="http://other.example/ocsp")
    assert second.chain == first.chain
    assert second.ocsp_url == "http://store.example/ocsp"


def test_an_authority_from_before_there_was_a_responder_is_used_as_it_is(tmp_path: Path) -> None:
    before = load_or_create(tmp_path, now=START)
    (tmp_path / "simulator" / "responder.pem").unlink()
    after = load_or_create(tmp_path, now=START, ocsp_url="http://store.example/ocsp")
    assert (after.chain, after.responder, after.ocsp_url) == (before.chain, None, None)


def test_a_responder_of_another_authority_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path / "a", now=START)
    load_or_create(tmp_path / "b", now=START)
    a, b = (tmp_path / name / "simulator" / "responder.pem" for name in "ab")
    a.write_bytes(b.read_bytes())
    with pytest.raises(AuthorityInvalid, match=r"responder\.pem"):
        load_or_create(tmp_path / "a", now=START)


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
    with pytest.raises(AuthorityInvalid, match="not the first"):
        load_or_create(tmp_path / "a", now=START)
