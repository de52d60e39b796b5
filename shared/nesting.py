"""How deep JSON goes, found out before it is read: what strangers nest costs a reader its stack, level by level.

Nothing here recurses, and nothing is slower than one walk over the text for each level that is allowed.
"""

from __future__ import annotations

import re
from typing import Final

DEPTH_MAX: Final = 32
"""Levels. The deepest that anybody honest sends, a notification's payload, has three."""

# Each match ends at the quote that closes its string, or at the end of the text: no part of it is looked at twice.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_ALL_BUT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")


def is_too_deep(text: bytes, *, depth_max: int = DEPTH_MAX) -> bool:
    """Whether JSON has more levels of arrays and objects than that; what is no JSON may be either."""
    if text.count(b"{") + text.count(b"[") <= depth_max:  # nearly always
        return False
    brackets = _STRING.sub(b"", text).translate(_BRACKETS, _ALL_BUT_BRACKETS)
    if b"[" * (depth_max + 1) in brackets:  # what is sent most by those who send such a thing
        return True
    for _ in range(depth_max):
        peeled = brackets.replace(b"[]", b"")  # the innermost level
        if len(peeled) == len(brackets):
            break
        brackets = peeled
    return bool(brackets)
