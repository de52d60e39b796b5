"""What nobody thought of: tokens, chains and payloads that are damaged at random, or made up."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from shared.jws import JwsUntrusted, TrustAnchorInvalid
from tests.support.apple_pki import INTERMEDIATE, LEAF, ROOT, Certificate, Chain, certify, segment, sign
from tests.support.jws import CLAIMS, NOW, anchored, apple_takes, good, pinned, signed, verdict


@cache
def one_token() -> str:
    return signed()


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_a_token_in_which_a_character_is_another_is_never_taken(data: st.DataObject) -> None:
    token = one_token()
    position = data.draw(st.integers(0, len(token) - 1))
    replacement = data.draw(st.characters() | st.sampled_from("AZaz09-_.=+/"))
    mutated = token[:position] + replacement + token[position + 1 :]
    if mutated != token:
        assert verdict(anchored(good()), mutated) is not None


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_token_from_which_a_piece_is_missing_or_repeated_is_never_taken(data: st.DataObject) -> None:
    token = one_token()
    start = data.draw(st.integers(0, len(token) - 1))
    end = data.draw(st.integers(start + 1, len(token)))
    piece = token[start:end]
    mutated = token[:start] + piece * data.draw(st.sampled_from([0, 2, 3])) + token[end:]
    assert verdict(anchored(good()), mutated) is not None


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(which=st.integers(0, 1), position=st.integers(0, 2000), bits=st.integers(1, 255))
@settings(max_examples=400, deadline=None)
def test_a_chain_in_which_a_byte_is_another_is_never_taken(which: int, position: int, bits: int) -> None:
    """Signed with the leaf's key over the damaged certificates, so that nothing but the chain can refuse it."""
    certificates = [good().leaf.der, good().intermediate.der, good().root.der]
    certificates[which] = with_byte(certificates[which], position, bits)
    token = good().sign(CLAIMS, x5c=[base64.b64encode(each).decode() for each in certificates])
    assert verdict(anchored(good()), token) is not None
    assert verdict(pinned(good()), token) is not None


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_segment_in_which_a_byte_is_another_is_never_taken(data: st.DataObject) -> None:
    """Of header, payload or signature, encoded anew: whatever base64 would catch is not there to be caught."""
    segments = [from_segment(each) for each in one_token().split(".")]
    which = data.draw(st.integers(0, 2))
    position, bits = data.draw(st.integers(0, len(segments[which]) - 1)), data.draw(st.integers(1, 255))
    segments[which] = with_byte(segments[which], position, bits)
    assert verdict(anchored(good()), ".".join(map(segment, segments))) is not None


def from_segment(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def with_byte(content: bytes, position: int, bits: int) -> bytes:
    changed = bytearray(content)
    changed[position % len(changed)] ^= bits
    return bytes(changed)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@given(which=st.sampled_from(["leaf", "intermediate"]), position=st.integers(0, 2000), bits=st.integers(1, 255))
@settings(max_examples=400, deadline=None)
def test_a_certificate_in_which_a_byte_is_another_but_which_its_issuer_signed_is_not_taken_where_apple_refuses_it(
    which: str, position: int, bits: int
) -> None:
    """Nothing but the rules for certificates stands between us and these, and ours are Apple's at the least."""
    leaf, intermediate = good().leaf, good().intermediate
    changed, issuer = (leaf, intermediate) if which == "leaf" else (intermediate, good().root)
    der = certify(with_byte(changed.certificate.tbs_certificate_bytes, position, bits), issuer=issuer)
    texts = [base64.b64encode(der if each is changed else each.der).decode() for each in (leaf, intermediate)]
    token = good().sign(CLAIMS, x5c=[*texts, good().root.text])
    if verdict(anchored(good()), token) is None:
        assert apple_takes(good(), token)


@st.composite
def recipes(draw: st.DrawFn, recipe: Certificate) -> Certificate:
    """The recipe with up to two of its lines changed."""
    changes: dict[str, st.SearchStrategy[Any]] = {
        "key": st.sampled_from(["p256", "k256", "p384"]),
        "ca": st.sampled_from([True, False, None]),
        "ca_critical": st.booleans(),
        "path_length": st.sampled_from([None, 0, 1]),
        "key_usage": st.sampled_from(["sign_certificates", "sign_data", "sign_both", "neither", None]),
        "marker": st.sampled_from([LEAF.marker, INTERMEDIATE.marker, None]),
        "subject_key_identifier": st.booleans(),
        "authority_key_identifier": st.sampled_from(["right", "wrong", "right key, wrong serial", None]),
        "not_before": st.sampled_from([NOW - timedelta(days=1), NOW + timedelta(days=1)]),
        "not_after": st.sampled_from([NOW - timedelta(days=1), NOW + timedelta(days=1)]),
        "unknown_critical": st.booleans(),
        "name": st.sampled_from(["", "Another"]),
    }
    names = draw(st.lists(st.sampled_from(sorted(changes)), max_size=2, unique=True))
    changed = replace(recipe, **{name: draw(changes[name]) for name in names})
    return changed if changed.ca else replace(changed, path_length=None)  # no other has a path length


@given(root=recipes(ROOT), intermediate=recipes(INTERMEDIATE), leaf=recipes(LEAF))
@settings(max_examples=300, deadline=None)
def test_a_chain_that_is_put_together_at_random_is_not_taken_where_apple_refuses_it(
    root: Certificate, intermediate: Certificate, leaf: Certificate
) -> None:
    try:
        chain = Chain(root, intermediate, leaf)
    except ValueError:
        reject()  # ends before it begins
    token = chain.sign(CLAIMS)
    if is_taken(chain, token):
        assert apple_takes(chain, token)


def is_taken(chain: Chain, token: str) -> bool:
    try:
        return verdict(anchored(chain), token) is None
    except TrustAnchorInvalid:
        return False


@given(position=st.integers(0, 2000), bits=st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_a_pinned_root_in_which_a_byte_is_another_is_never_taken(position: int, bits: int) -> None:
    damaged = with_byte(good().root.der, position, bits)
    token = good().sign(CLAIMS, x5c=[*good().x5c[:2], base64.b64encode(damaged).decode()])
    assert verdict(pinned(good()), token) is JwsUntrusted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    header=st.dictionaries(st.sampled_from(["alg", "x5c", "kid", "crit", "typ", "b64"]), JSON),
    payload=st.dictionaries(st.sampled_from(["signedDate", "exp", "nbf", "iat", "sub", "jti", "aud"]), JSON),
)
@settings(max_examples=300, deadline=None)
def test_no_header_and_no_payload_brings_anything_but_the_named_errors(
    header: dict[str, Any], payload: dict[str, Any]
) -> None:
    """Once with the header as it comes, once with a good one, so that the payload is reached."""
    verdict(anchored(good()), sign(good().leaf.key, header, payload))
    verdict(anchored(good()), good().sign(payload))


@given(st.text() | st.lists(st.binary(max_size=60), max_size=4).map(lambda parts: ".".join(map(segment, parts))))
@settings(max_examples=300, deadline=None)
def test_no_text_at_all_brings_anything_but_the_named_errors(text: str) -> None:
    assert verdict(anchored(good()), text) is not None
