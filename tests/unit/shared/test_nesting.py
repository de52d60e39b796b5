"""How deep JSON goes: told without reading it, whatever else stands in it."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from time import process_time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.jws import JwsMalformed, peek_claims
from shared.nesting import DEPTH_MAX, is_too_deep

MEBIBYTE = 1024 * 1024


def depth(value: Any) -> int:
    """The levels of a value, the plain way."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text('[]{}"\\ab', max_size=6)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=3), inner, max_size=3),
)


@example(value=[[], [[]]], depth_max=2)
@example(value=[[], [[]]], depth_max=3)
@given(value=VALUES, depth_max=st.integers(0, 6))
def test_it_is_too_deep_exactly_when_it_has_more_levels(value: Any, depth_max: int) -> None:
    for text in (msgspec.json.encode(value), msgspec.json.format(msgspec.json.encode(value))):
        assert is_too_deep(text, depth_max=depth_max) == (depth(value) > depth_max)


@pytest.mark.parametrize(("opened", "closed", "levels"), [(b"[", b"]", 1), (b'{"a":', b"}", 1), (b'[{"a":', b"}]", 2)])
def test_the_limit_itself_is_allowed_and_more_is_not(opened: bytes, closed: bytes, levels: int) -> None:
    times = DEPTH_MAX // levels
    assert not is_too_deep(opened * times + b"1" + closed * times)
    assert is_too_deep(opened * (times + 1) + b"1" + closed * (times + 1))


def test_brackets_within_texts_are_no_levels() -> None:
    assert not is_too_deep(msgspec.json.encode({"receipt": "[" * 10_000 + '\\"' + "{" * 10_000}))


def test_many_shallow_ones_are_not_deep() -> None:
    assert not is_too_deep(msgspec.json.encode([[{}] for _ in range(100_000)]))


@pytest.mark.parametrize(
    "text",
    [
        b"[" * MEBIBYTE,
        b"[" * (MEBIBYTE // 2) + b"]" * (MEBIBYTE // 2),
        b"[[]" * (MEBIBYTE // 3),
        b"[" * 40 + b'"' * MEBIBYTE,
        b"[" * 40 + b'"\\"' * (MEBIBYTE // 3) + b"\\",
        b"[" * 40 + b'"' + b"\\" * MEBIBYTE,
        b"[" * 40 + b'"' + b'\\"' * (MEBIBYTE // 2),
    ],
    ids=["opened", "whole", "half shut", "quotes", "escaped quotes", "backslashes", "never ends"],
)
def test_what_is_made_to_be_slow_takes_no_longer_for_its_length_than_reading_does(text: bytes) -> None:
    began_s = process_time()
    is_too_deep(text)
    assert process_time() - began_s < 2  # some tens of milliseconds; by squares it would be minutes


@pytest.mark.parametrize(("levels", "read"), [(DEPTH_MAX, True), (DEPTH_MAX + 1, False)])
def test_a_token_is_read_to_that_depth_and_no_further(levels: int, read: bool) -> None:
    payload = b'{"a":' * levels + b"1" + b"}" * levels
    token = f"e30.{urlsafe_b64encode(payload).rstrip(b'=').decode()}.AA"
    if read:
        assert "a" in peek_claims(token)
        return
    with pytest.raises(JwsMalformed, match="levels"):
        peek_claims(token)
