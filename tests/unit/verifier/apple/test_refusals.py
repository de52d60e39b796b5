"""What the Server API answers instead of what it was asked for: a row for each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from appstoreserverlibrary.api_client import APIError
from hypothesis import given
from hypothesis import strategies as st

from verifier.apple.refusals import (
    CODES,
    ServerApiError,
    ServerApiMisconfigured,
    ServerApiNotFound,
    ServerApiRejected,
    ServerApiUnavailable,
    read_refusal,
)

ROWS: dict[int, type[ServerApiError]] = {
    4000000: ServerApiRejected,
    4000002: ServerApiMisconfigured,
    4000005: ServerApiRejected,
    4000006: ServerApiNotFound,
    4000008: ServerApiNotFound,
    4000012: ServerApiRejected,
    4000013: ServerApiRejected,
    4000014: ServerApiRejected,
    4000015: ServerApiRejected,
    4000016: ServerApiRejected,
    4000017: ServerApiRejected,
    4000018: ServerApiRejected,
    4000019: ServerApiRejected,
    4000020: ServerApiRejected,
    4000021: ServerApiRejected,
    4000022: ServerApiRejected,
    4000023: ServerApiRejected,
    4000024: ServerApiRejected,
    4000026: ServerApiRejected,
    4000030: ServerApiRejected,
    4000031: ServerApiRejected,
    4040001: ServerApiNotFound,
    4040002: ServerApiUnavailable,
    4040003: ServerApiMisconfigured,
    4040004: ServerApiUnavailable,
    4040005: ServerApiNotFound,
    4040006: ServerApiUnavailable,
    4040007: ServerApiMisconfigured,
    4040008: ServerApiNotFound,
    4040010: ServerApiNotFound,
    4290000: ServerApiUnavailable,
    5000000: ServerApiUnavailable,
    5000001: ServerApiUnavailable,
}


def refusal(status: int, body: Any = None, *, retry_after_s: float | None = None) -> ServerApiError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_refusal(status, raw, retry_after_s=retry_after_s)


@pytest.mark.parametrize(("code", "kind"), ROWS.items())
def test_each_code_has_its_meaning(code: int, kind: type[ServerApiError]) -> None:
    error = refusal(code // 10_000, {"errorCode": code, "errorMessage": "Apple's words."}, retry_after_s=7)
    assert type(error) is kind
    assert (error.reason, error.code, error.retry_after_s) == ("Apple's words.", code, 7)


def test_every_code_of_the_table_is_tested() -> None:
    assert ROWS.keys() == CODES.keys()


def test_every_code_that_apple_calls_retryable_is_asked_again() -> None:
    retryable = [code for code in APIError if "RETRYABLE" in code.name]
    assert len(retryable) == 4
    assert all(ROWS[code] is ServerApiUnavailable for code in retryable)


def test_every_code_of_the_table_is_one_of_apples() -> None:
    assert CODES.keys() <= {int(code) for code in APIError}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ServerApiUnavailable),
        (307, ServerApiUnavailable),
        (400, ServerApiMisconfigured),
        (401, ServerApiMisconfigured),
        (403, ServerApiMisconfigured),
        (404, ServerApiMisconfigured),
        (408, ServerApiUnavailable),
        (425, ServerApiUnavailable),
        (429, ServerApiUnavailable),
        (500, ServerApiUnavailable),
        (502, ServerApiUnavailable),
        (503, ServerApiUnavailable),
        (504, ServerApiUnavailable),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"4040010"', {}, {"errorCode": 9990000}, {"errorCode": "4"}])
def test_without_a_code_that_we_know_the_status_counts_and_never_says_that_there_is_no_such_transaction(
    status: int, kind: type[ServerApiError], body: Any
) -> None:
    assert type(refusal(status, body)) is kind


def test_a_code_without_a_message_counts() -> None:
    error = refusal(404, {"errorCode": 4040010})
    assert isinstance(error, ServerApiNotFound)
    assert error.reason == "it answered HTTP 404"


def test_a_401_names_what_may_be_wrong_whatever_it_says() -> None:
    for body in (b"Unauthenticated\n\nRequest ID: X", {"errorCode": 4040010, "errorMessage": "?"}):
        error = refusal(401, body)
        assert isinstance(error, ServerApiMisconfigured)
        assert error.code == 401
        assert "issuer id" in error.reason


@given(st.integers(300, 599), st.binary())
def test_no_bytes_raise_anything_or_say_that_there_is_no_such_transaction(status: int, body: bytes) -> None:
    error = refusal(status, body)
    assert not isinstance(error, ServerApiNotFound)
    assert str(status) in error.sentence
