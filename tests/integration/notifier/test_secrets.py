"""What an endpoint's URL and its secret hold is nobody else's business: neither logs nor records tell it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from notifier import sending
from notifier.handlers import sending as handlers_sending
from tests.support.notifier import CREDITED, SECRET, Notifier, apps_with, endpoint
from tests.support.receiver import Receiver, Reply

HIDDEN = "hidden-in-the-url"
RECORDS = ("select * from notifier.delivery", "select * from notifier.attempt", "select * from journal.event")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that is logged, at whatever level, by whomever."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    ours = structlog.wrap_logger(
        structlog.WriteLogger(text),
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
    )
    for module in (sending, handlers_sending):  # as they are, and not by configuration: a logger that was used keeps it
        monkeypatch.setattr(module, "log", ours)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=500, body=b"no"),
        Reply(status=302, headers={"Location": "/elsewhere"}),
        Reply(status=200, headers={"no header\r\nX": "x"}),
        Reply(behaviour="close"),
        Reply(behaviour="hang"),
        Reply(status=410),
    ],
    ids=["refused", "redirected", "garbled", "closed", "hung", "gone"],
)
def test_whatever_an_endpoint_answers_no_secret_is_told(
    reply: Reply, notifier: Notifier, receiver: Receiver, written: io.StringIO
) -> None:
    notifier.apps = apps_with(endpoint(f"{receiver.url}?token={HIDDEN}"))
    receiver.reply_usually(reply)
    (told,) = notifier.tell(CREDITED)
    with notifier.sending():
        notifier.attempted(told, 1)
    recorded = json.dumps([notifier.rows(sql) for sql in RECORDS], default=str)
    assert str(told) in recorded
    assert len(receiver.received) == 1
    for secret in (HIDDEN, SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in recorded
        assert secret not in written.getvalue()


def test_an_endpoint_that_cannot_be_reached_is_logged_without_its_url(notifier: Notifier, written: io.StringIO) -> None:
    notifier.apps = apps_with(endpoint(f"http://10.0.0.1/{HIDDEN}"))
    (told,) = notifier.tell(CREDITED)
    with notifier.sending():
        delivery = notifier.attempted(told, 1)
    assert delivery["last_error"] == "refused: 10.0.0.1 is at a private address"
    assert "refused: 10.0.0.1 is at a private address" in written.getvalue()
    assert HIDDEN not in written.getvalue()
