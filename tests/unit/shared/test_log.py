"""What a line of the log has in it, and what it never has."""

from __future__ import annotations

import base64
import json
import subprocess
import sys

import jwt
import pytest
from psycopg2 import errors
from pydantic import BaseModel, ValidationError
from requests import ConnectionError as NoConnection
from sqlalchemy.exc import DataError

from shared import trail
from shared.log import BLOT, FRAMES_MAX, LENGTH_MAX, add_trail, blot_out, blotted, sentence_of, traceback_of
from shared.trail import Place, SpanId

TOKEN = jwt.encode({"sub": "alice", "aud": "game"}, "a key that is long enough for the algorithm", algorithm="HS256")
RECEIPT = base64.b64encode(b"\x30\x82\x0f\xa0" + bytes(range(256)) * 8).decode()
PLACE = Place("4bf92f3577b34da6a3ce929d0e0e4736", SpanId("00f067aa0ba902b7"))


class TestBlots:
    @pytest.mark.parametrize(
        ("secret", "around"),
        [
            (TOKEN, "{}"),
            (TOKEN, "ValueError: {} is no token"),
            (TOKEN.rpartition(".")[0], "'{}'"),
            (TOKEN.split(".")[1], '{{"payload": "{}"}}'),
            (RECEIPT, "receipt={}, user=alice"),
            (RECEIPT[700:900], "{}"),
            ("whsec_ZXhhbXBsZS1vbmx5LXdlYmhvb2stc2VjcmV0LSEh", "({})"),
            ("sk_live_0123456789", "Authorization: Bearer {}"),
            ("YWxpY2U6c2VjcmV0", "authorization: basic {}"),
            ("purser:hunter2", "postgresql://{}@db:5432/purser"),
            (":hunter2", "Error connecting to redis://{}@127.0.0.1:6379/0"),
        ],
    )
    def test_what_looks_like_a_secret_is_not_in_the_line(self, secret: str, around: str) -> None:
        text = blotted(around.format(secret))
        assert BLOT in text
        assert secret not in text
        for start in range(0, len(secret) - 24, 8):
            assert secret[start : start + 24] not in text

    @pytest.mark.parametrize(
        "text",
        [
            "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
            "pur_" + "a" * 26,
            PLACE.trace_id,
            "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179",
            "redis://127.0.0.1:6379/0",
            "https://example.com/a/b?c=d",
            "/srv/purser/lib/python3.11/site-packages/sqlalchemy/engine/default.py",
            "2026-11-22T12:00:00.000Z MIDI basic needs, bearer of news",
            "purchase.verified",
        ],
    )
    def test_ids_addresses_and_words_stay(self, text: str) -> None:
        assert blotted(text) == text

    def test_no_text_is_without_an_end(self) -> None:
        assert len(blotted("word " * LENGTH_MAX)) == LENGTH_MAX

    def test_numbers_and_lists_stay_as_they_are(self) -> None:
        line = {"event": TOKEN, "attempts": 3, "trace_ids": ["a"], "ok": True}
        assert blot_out(None, "info", dict(line)) == line | {"event": BLOT}


class TestExceptions:
    def test_the_causes_come_first_and_each_is_told_with_its_frames(self) -> None:
        text = traceback_of(_raised())
        first, second = text.index("KeyError: 'inner'"), text.index("ValueError: outer")
        assert first < second
        assert text.count("Traceback (most recent call last):") == 2
        assert text.count("test_log.py") >= 2

    def test_an_exception_that_is_its_own_cause_comes_to_an_end(self) -> None:
        error = ValueError("round")
        error.__cause__ = other = ValueError("about")
        other.__cause__ = error
        assert traceback_of(error).count("ValueError") == 2

    def test_a_recursion_is_cut(self) -> None:
        def deeper(left: int) -> None:
            if left == 0:
                raise ValueError("deep")
            deeper(left - 1)

        with pytest.raises(ValueError, match="deep") as caught:
            deeper(500)
        assert traceback_of(caught.value).count("in deeper") <= FRAMES_MAX

    def test_what_the_database_quotes_is_not_told_but_its_code_is(self) -> None:
        orig = errors.NumericValueOutOfRange(f"value {RECEIPT} is out of range")
        assert sentence_of(DataError(f"select {RECEIPT}", {}, orig)) == "sqlalchemy.exc.DataError"
        assert RECEIPT[:30] not in sentence_of(orig)

    def test_what_a_model_or_a_client_quotes_is_not_told(self) -> None:
        class Model(BaseModel):
            amount: int

        password = "-".join(["hunter", "2"])  # nor is it in the line of the source
        with pytest.raises(ValidationError) as caught:
            Model.model_validate({"amount": password})
        assert password not in traceback_of(caught.value)
        assert sentence_of(NoConnection(f"https://hooks.example/{password}")) == "requests.exceptions.ConnectionError"

    def test_a_secret_in_a_message_is_blotted_out(self) -> None:
        assert sentence_of(ValueError(f"not {TOKEN}")) == f"ValueError: not {BLOT}"


class TestTrail:
    def test_a_line_has_the_trace_of_its_thread(self) -> None:
        with trail.at(PLACE):
            assert add_trail(None, "info", {"event": "x"}) == {"event": "x", "trace_id": PLACE.trace_id}

    def test_what_the_line_says_itself_counts(self) -> None:
        with trail.at(PLACE):
            assert add_trail(None, "info", {"event": "x", "trace_id": "own"})["trace_id"] == "own"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (f"raise ValueError('{TOKEN}')", "crashed"),
        ("import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", "a thread crashed"),
        ("import warnings; warnings.warn('old')", "UserWarning: old"),
        ("import logging; logging.getLogger('them').error('no: %s', 'really', exc_info=ValueError('x'))", "no: really"),
        ("class A:\n  def __del__(self): raise ValueError\na = A(); del a", "an error was ignored"),
    ],
)
def test_whatever_happens_to_a_process_it_writes_json_lines_and_nothing_else(program: str, said: str) -> None:
    before = "from shared.log import configure_logging; configure_logging(service='test', level='info')\n"
    ended = subprocess.run(
        [sys.executable, "-c", before + program], capture_output=True, text=True, timeout=60, check=False
    )
    (line,) = [json.loads(each) for each in ended.stderr.splitlines()]
    assert said in line["event"]
    assert line["service"] == "test"
    assert TOKEN not in ended.stderr
    assert ended.stdout == ""


def test_a_line_that_cannot_be_put_together_is_left_out_rather_than_shown_otherwise() -> None:
    program = (
        "from shared.log import configure_logging; configure_logging(service='test', level='info')\n"
        "import logging; logging.getLogger('them').error('%d', 'no number')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def _raised() -> ValueError:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        return error
