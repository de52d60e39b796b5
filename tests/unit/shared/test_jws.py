"""The App Store's signatures: what comes out, dates, the cache of chains, anchors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.clock import to_unix_ms
from shared.jws import (
    EXPIRED_CHAIN_WINDOW_S,
    FUTURE_SKEW_S_MAX,
    TOKEN_LENGTH_MAX,
    CertificateChain,
    JwsError,
    JwsMalformed,
    JwsUnconfirmed,
    JwsUntrusted,
    JwsVerifier,
    TrustAnchorInvalid,
    TrustAnchors,
    peek_claims,
)
from tests.support.apple_pki import INTERMEDIATE, LEAF, ROOT, Certificate, Chain, issue, segment, with_signature
from tests.support.jws import CLAIMS, NOW, anchored, apple_takes, claims, foreign, good, pinned, signed, verdict

# ---- what comes out ------------------------------------------------------------------------------------------------


def test_the_payload_comes_out_as_it_was_signed() -> None:
    payload = anchored(good()).verify(signed(), now=NOW)
    assert payload.claims == CLAIMS
    assert payload.signed_at == NOW - timedelta(minutes=1)


def test_a_payload_without_a_date_has_none() -> None:
    assert anchored(good()).verify(signed(signedDate=...), now=NOW).signed_at is None


def test_claims_can_be_read_before_the_signature_is_checked() -> None:
    token = Chain().sign(CLAIMS)
    assert peek_claims(with_signature(token, b"")) == CLAIMS


@pytest.mark.parametrize(
    "token", ["", "a.b", "a.b.c.d", f"x.{segment(b'[]')}.x", f"x.{segment(b'[' * 50_000)}.x", "é.é.é"]
)
def test_peeking_at_what_is_no_token_says_so(token: str) -> None:
    with pytest.raises(JwsMalformed):
        peek_claims(token)


@pytest.mark.parametrize(
    "payload", ["e30=", "e30 ", "e30\n", "e3+++0", "++++e30", "e31", "e30A", "e3", "IHt9IG", "IHt9IH"]
)
def test_a_payload_has_one_spelling(payload: str) -> None:
    """`{}` is `e30` and nothing else: no padding, no other alphabet, no bits beyond the last byte."""
    assert peek_claims("x.e30.x") == {}
    with pytest.raises(JwsMalformed):
        peek_claims(f"x.{payload}.x")


def test_a_token_longer_than_the_limit_is_refused_unread() -> None:
    fits = "A" * (TOKEN_LENGTH_MAX - 2) + ".."
    with pytest.raises(JwsMalformed, match="header is not"):
        anchored(good()).verify(fits, now=NOW)
    with pytest.raises(JwsMalformed, match="too long"):
        anchored(good()).verify(fits + ".", now=NOW)


# ---- dates ---------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_behind_by_minutes_is_forgiven_and_no_more() -> None:
    verifier, token = anchored(good()), signed()
    signed_at = NOW - timedelta(minutes=1)
    verifier.verify(token, now=signed_at - timedelta(seconds=FUTURE_SKEW_S_MAX))
    with pytest.raises(JwsUntrusted, match="future"):
        verifier.verify(token, now=signed_at - timedelta(seconds=FUTURE_SKEW_S_MAX + 1))


@pytest.mark.parametrize("expired", ["leaf", "intermediate", "root"])
def test_an_expired_chain_vouches_for_its_past_until_the_window_closes(expired: str) -> None:
    recipes = {"leaf": LEAF, "intermediate": INTERMEDIATE, "root": ROOT}
    chain = Chain(**{f"{expired}_recipe": replace(recipes[expired], not_after=NOW)})
    verifier, token, window = anchored(chain), chain.sign(CLAIMS), timedelta(seconds=EXPIRED_CHAIN_WINDOW_S)
    verifier.verify(token, now=NOW + window - timedelta(seconds=1))
    with pytest.raises(JwsUntrusted, match="too long ago"):
        verifier.verify(token, now=NOW + window)


@pytest.mark.parametrize("late", ["leaf", "intermediate", "root"])
def test_a_chain_vouches_for_nothing_before_all_of_it_was_valid(late: str) -> None:
    recipes = {"leaf": LEAF, "intermediate": INTERMEDIATE, "root": ROOT}
    chain = Chain(**{f"{late}_recipe": replace(recipes[late], not_before=NOW)})
    verifier = anchored(chain)
    verifier.verify(chain.sign(claims(signedDate=to_unix_ms(NOW))), now=NOW)
    with pytest.raises(JwsUntrusted, match="not valid at the time"):
        verifier.verify(chain.sign(claims(signedDate=to_unix_ms(NOW) - 1)), now=NOW)


def test_a_payload_without_a_date_needs_a_chain_that_is_valid_now() -> None:
    chain = Chain(leaf_recipe=replace(LEAF, not_after=NOW))
    verifier, token = anchored(chain), chain.sign(claims(signedDate=...))
    verifier.verify(token, now=NOW - timedelta(seconds=1))
    with pytest.raises(JwsUntrusted, match="not valid at the time"):
        verifier.verify(token, now=NOW)


# ---- the cache -----------------------------------------------------------------------------------------------------


def test_a_chain_that_is_kept_is_still_held_to_its_dates() -> None:
    verifier = anchored(good())
    verifier.verify(signed(), now=NOW)
    assert verifier.cached_chains() == 1
    with pytest.raises(JwsUntrusted, match="not valid at the time"):
        verifier.verify(signed(signedDate=1), now=NOW)


def test_only_headers_that_the_app_store_signed_are_kept() -> None:
    """Else a stranger could fill the cache with copies of Apple's chain under headers of his own."""
    verifier, token = anchored(good()), signed()
    for number in range(3):
        forged = f"{segment(good().header(kid=str(number)))}.{token.partition('.')[2]}"
        assert verdict(verifier, forged) is JwsUntrusted
    assert verifier.cached_chains() == 0


def test_of_more_chains_than_it_may_keep_the_least_recently_used_goes() -> None:
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]), chain_cache_size=2)
    for kid in "abac":
        verifier.verify(good().sign(CLAIMS, kid=kid), now=NOW)
    assert verifier.cached_chains() == 2
    assert [kid for kid in "abc" if is_kept(verifier, good().header(kid=kid))] == ["a", "c"]


def test_a_chain_is_kept_for_its_time_and_no_longer() -> None:
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]), chain_ttl_s=900)
    verifier.verify(signed(), now=NOW)
    assert is_kept(verifier, good().header(), now=NOW + timedelta(seconds=899))
    assert not is_kept(verifier, good().header(), now=NOW + timedelta(seconds=900))


def test_a_chain_is_not_kept_beyond_the_end_of_its_certificates() -> None:
    chain = Chain(leaf_recipe=replace(LEAF, not_after=NOW + timedelta(seconds=10)))
    verifier = anchored(chain)
    verifier.verify(chain.sign(CLAIMS), now=NOW)
    assert is_kept(verifier, chain.header(), now=NOW + timedelta(seconds=9))
    assert not is_kept(verifier, chain.header(), now=NOW + timedelta(seconds=10))


def test_a_chain_that_has_expired_is_not_kept() -> None:
    chain = Chain(leaf_recipe=replace(LEAF, not_after=NOW - timedelta(days=30)))
    verifier = anchored(chain)
    verifier.verify(chain.sign(claims(signedDate=to_unix_ms(NOW - timedelta(days=31)))), now=NOW)
    assert verifier.cached_chains() == 0


def is_kept(verifier: JwsVerifier, header: dict[str, Any], *, now: datetime = NOW) -> bool:
    return verifier._chains.get(segment(header).encode(), now_s=now.timestamp()) is not None


def test_threads_share_a_verifier() -> None:
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]), chain_cache_size=2)
    tokens = [good().sign(claims(quantity=number), kid=str(number % 5)) for number in range(20)] * 10
    with ThreadPoolExecutor(8) as pool:
        quantities = [payload.claims["quantity"] for payload in pool.map(lambda t: verifier.verify(t, now=NOW), tokens)]
    assert quantities == list(range(20)) * 10
    assert verifier.cached_chains() == 2


def test_with_no_time_to_be_kept_a_chain_is_walked_each_time() -> None:
    verifier = JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]), chain_ttl_s=0)
    verifier.verify(signed(), now=NOW)
    assert verifier.cached_chains() == 0


# ---- revocation ----------------------------------------------------------------------------------------------------


class _Revocations:
    """Says what it is told, and keeps what it is asked."""

    def __init__(self, says: Exception | None = None) -> None:
        self.says = says
        self.asked: list[tuple[CertificateChain, datetime]] = []

    def check(self, chain: CertificateChain, *, now: datetime) -> None:
        self.asked.append((chain, now))
        if self.says is not None:
            raise self.says


def asking(revocation: _Revocations, chain: Chain) -> JwsVerifier:
    return JwsVerifier(anchors=TrustAnchors.of(pins=[chain.root_sha256]), revocation=revocation)


def test_revocation_is_asked_about_the_very_chain_for_each_token() -> None:
    revocation = _Revocations()
    verifier = asking(revocation, good())
    for _ in range(2):
        verifier.verify(signed(), now=NOW)
    certificates = CertificateChain(*(each.certificate for each in (good().leaf, good().intermediate, good().root)))
    assert revocation.asked == [(certificates, NOW)] * 2


@pytest.mark.parametrize(
    "token",
    [
        lambda: with_signature(signed(), bytes(64)),
        lambda: foreign().sign(CLAIMS),
        lambda: signed(exp=1),
        lambda: signed(signedDate=to_unix_ms(NOW + timedelta(days=1))),
    ],
)
def test_revocation_is_not_asked_about_a_token_that_is_refused_without(token: Callable[[], str]) -> None:
    revocation = _Revocations()
    assert verdict(asking(revocation, good()), token()) is not None
    assert revocation.asked == []


@pytest.mark.parametrize("says", [JwsUntrusted("revoked"), JwsUnconfirmed("not known", retry_after_s=7)])
def test_what_revocation_says_is_what_the_verifier_says(says: Exception) -> None:
    with pytest.raises(type(says)) as refused:
        asking(_Revocations(says), good()).verify(signed(), now=NOW)
    assert refused.value is says


def test_what_is_unconfirmed_is_not_refused() -> None:
    assert not issubclass(JwsUnconfirmed, JwsError)
    assert JwsUnconfirmed("", retry_after_s=7).retry_after_s == 7


@pytest.mark.parametrize("recipe", [replace(LEAF, not_after=NOW), replace(LEAF, not_before=NOW + timedelta(minutes=1))])
def test_with_revocation_a_chain_has_to_be_valid_now(recipe: Certificate) -> None:
    """Apple's library does not ask when it was signed either, once it asks about revocation."""
    chain = Chain(leaf_recipe=recipe)
    signed_at = max(recipe.not_before, NOW - timedelta(minutes=1))
    token = chain.sign(claims(signedDate=to_unix_ms(signed_at)))
    assert verdict(asking(_Revocations(), chain), token) is JwsUntrusted


# ---- anchors -------------------------------------------------------------------------------------------------------


def test_one_of_several_anchors_is_enough() -> None:
    anchors = TrustAnchors.of(pins=[Chain().root_sha256, good().root_sha256], files=[foreign().root.pem])
    verifier = JwsVerifier(anchors=anchors)
    verifier.verify(signed(), now=NOW)
    verifier.verify(foreign().sign(CLAIMS), now=NOW)


def test_a_renewed_root_of_the_same_name_does_not_hide_the_older_one() -> None:
    anchors = TrustAnchors.of(files=[foreign().root.pem + good().root.pem])
    assert len(anchors.certificates) == 2
    JwsVerifier(anchors=anchors).verify(signed(), now=NOW)


def test_pins_may_be_written_as_operators_write_them() -> None:
    spelt = good().root_sha256.upper()
    colons = ":".join(spelt[index : index + 2] for index in range(0, 64, 2))
    assert TrustAnchors.of(pins=[colons]) == TrustAnchors.of(pins=[good().root_sha256])


@pytest.mark.parametrize(
    ("pins", "files", "complaint"),
    [
        ([], [], "no trust anchor"),
        (["zz"], [], "not hexadecimal"),
        (["00"], [], "not a SHA-256"),
        ([], [b""], "not a root certificate"),
        ([], [b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], "not a PEM certificate"),
        ([], [b"-----BEGIN CERTIFICATE-----"], "not a PEM certificate"),
        ([], [good().leaf.der], "no certificate authority"),
    ],
)
def test_an_anchor_that_cannot_be_one_is_refused_with_its_reason(
    pins: list[str], files: list[bytes], complaint: str
) -> None:
    with pytest.raises(TrustAnchorInvalid, match=complaint):
        TrustAnchors.of(pins=pins, files=files)


def test_a_pin_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(TrustAnchorInvalid, match="32 bytes"):
        TrustAnchors(sha256_pins=frozenset({b"short"}))


@pytest.mark.parametrize(
    "recipe",
    [
        replace(ROOT, ca=False),
        replace(ROOT, ca=None),
        replace(ROOT, path_length=0),
        replace(ROOT, key_usage="neither"),
        replace(ROOT, unknown_critical=True),
    ],
)
def test_a_root_that_may_not_issue_an_intermediate_is_no_anchor_and_a_pin_does_not_make_it_one(
    recipe: Certificate,
) -> None:
    chain = Chain(root_recipe=recipe)
    with pytest.raises(TrustAnchorInvalid, match="not a root certificate"):
        anchored(chain)
    assert verdict(pinned(chain), chain.sign(CLAIMS)) is JwsUntrusted
    assert not apple_takes(chain, chain.sign(CLAIMS))


def test_a_simulators_root_is_known_by_its_name() -> None:
    simulators = issue(replace(ROOT, name="Purser Simulator Root CA"))
    assert TrustAnchors.of(files=[good().root.der, simulators.der]).name_simulator()
    assert not TrustAnchors.of(pins=[good().root_sha256], files=[good().root.der]).name_simulator()


@pytest.mark.parametrize("named", ["root", "intermediate", "leaf"])
def test_where_no_simulators_are_trusted_a_chain_that_names_one_is_refused_though_its_root_is_pinned(
    named: str,
) -> None:
    recipes = {"root": ROOT, "intermediate": INTERMEDIATE, "leaf": LEAF}
    chain = Chain(**{f"{named}_recipe": replace(recipes[named], name="Purser Simulator Authority")})
    for simulators, expected in ((True, None), (False, JwsUntrusted)):
        anchors = TrustAnchors.of(pins=[chain.root_sha256], simulators=simulators)
        assert verdict(JwsVerifier(anchors=anchors), chain.sign(CLAIMS)) is expected


def test_where_no_simulators_are_trusted_the_app_store_still_is() -> None:
    anchors = TrustAnchors.of(pins=[good().root_sha256], simulators=False)
    assert verdict(JwsVerifier(anchors=anchors), signed()) is None
