"""The receivers of docs/webhooks.md hear the real notifier: processes of their own, at the end of a bad road."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standardwebhooks import Webhook

from shared.clock import SystemClock
from shared.events import OUTWARD, outward_document
from tests.support.backends import LANGUAGES, Backend, BadRoad, Fate, backend
from tests.support.notifier import Notifier, apps_with, endpoint, ids_of, notifying
from tests.support.outward import EVENTS, PAYLOADS
from tests.support.system import at_once

OLD, NEW = "whsec_" + "QUJD" * 8, "whsec_" + "REVG" * 8
STRANGE = "whsec_" + "R0hJ" * 8
CREDIT = msgspec.json.encode(outward_document(EVENTS["wallet.credited"]))


@pytest.fixture(params=LANGUAGES)
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with backend(request.param, tmp_path, secret=NEW) as running:
        yield running


# ---- the real notifier -------------------------------------------------------------------------------------------


def test_each_event_takes_effect_once_and_in_its_order_however_often_and_late_it_comes(
    database: str, receiver: Backend
) -> None:
    """Each answer is lost once; the first of alice's two words on her wallet and on all else comes after the second."""
    late: set[str] = set()

    def fate(event_id: str, through: int) -> Fate:
        if event_id in late:
            return "lost on the way there"
        return "lost on the way back" if through == 0 else "arrives"

    road = BadRoad(receiver, fate)
    with notifying(database, apps_with(endpoint(road.url, secret=NEW))) as notifier:
        told = dict(zip([payload.TYPE for payload in PAYLOADS], ids_of(notifier.tell(*PAYLOADS)), strict=True))
        assert set(told) == set(OUTWARD)
        overtaken = {told[each] for each in ("purchase.completed", "purchase.refunded", "wallet.credited")}
        late |= overtaken
        with notifier.sending():
            _as_time_goes_by(notifier, lambda: _delivered(notifier) == len(told) - len(overtaken), step_s=2)
            assert set(road.turned_back) == overtaken
            receiver.kill()
            receiver.start()
            late.clear()
            _as_time_goes_by(notifier, lambda: _delivered(notifier) == len(told), step_s=1800)
    road.close()
    assert set(road.through) == set(told.values())
    assert min(road.through.values()) >= 2
    assert receiver.effects() == dict.fromkeys(set(told.values()) - overtaken, 1)
    newest = ("entitlement.changed", "purchase.refund_reversed", "purchase.rejected", "refund_request.updated")
    assert _sorted(receiver.newest()) == _sorted(
        [_data(each) for each in (*newest, "subscription.updated", "wallet.debited")]
    )


def test_a_rotated_secret_is_one_moment_at_no_receiver(database: str, tmp_path: Path) -> None:
    """While both sign, who knows only the old one accepts what comes, and so does who knows only the new one."""
    with ExitStack() as running:
        receivers = [
            running.enter_context(backend(language, tmp_path, secret=secret))
            for language in LANGUAGES
            for secret in (OLD, NEW)
        ]
        endpoints = [endpoint(each.url, id=each.directory.name, secret=NEW, previous_secret=OLD) for each in receivers]
        notifier = running.enter_context(notifying(database, apps_with(*endpoints)))
        (event_id,) = ids_of(notifier.tell(PAYLOADS[0]))
        with notifier.sending():
            for each in receivers:
                notifier.settled("delivered", 1, endpoint_id=each.directory.name)
        assert [each.effects() for each in receivers] == [{event_id: 1}] * 4


def test_what_another_secret_signed_is_refused(database: str, receiver: Backend) -> None:
    with notifying(database, apps_with(endpoint(receiver.url, secret=STRANGE))) as notifier:
        (event_id,) = notifier.tell(PAYLOADS[0])
        with notifier.sending():
            assert notifier.attempted(event_id, 1)["last_status"] == 401
    assert receiver.effects() == {}
    assert receiver.newest() == []


# ---- whoever else posts ------------------------------------------------------------------------------------------


def signed(body: bytes = CREDIT, *, at: datetime | None = None, event_id: str = "evt") -> dict[str, str]:
    """The headers of a message that is signed with the right secret, by the standard's own library."""
    at = at or SystemClock().now()
    signature = Webhook(NEW).sign(msg_id=event_id, timestamp=at, data=body.decode())
    return {"webhook-id": event_id, "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def test_what_is_not_signed_as_it_came_is_refused(receiver: Backend) -> None:
    now = SystemClock().now()
    good = signed()
    refused: list[tuple[bytes, Mapping[str, str]]] = [
        (CREDIT.replace(b"100", b"999"), good),
        (CREDIT + b" ", good),
        (CREDIT, good | {"webhook-id": "evt_2"}),
        (CREDIT, good | {"webhook-timestamp": str(int(now.timestamp()) + 1)}),
        (CREDIT, good | {"webhook-signature": "v1,AAAA"}),
        (CREDIT, good | {"webhook-signature": "nonsense"}),
        (CREDIT, good | {"webhook-signature": ""}),
        (CREDIT, good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v1a,")}),
        (CREDIT, {}),
        (CREDIT, signed(at=now - timedelta(minutes=6))),
        (CREDIT, signed(at=now + timedelta(minutes=6))),
        (b"\xff\xfe", good),
        (b"", good),
    ]
    assert [receiver.post(body, headers) for body, headers in refused] == [401] * len(refused)
    assert receiver.post(b"x" * 70_000, good) in {404, 413}
    assert receiver.effects() == {}
    assert receiver.post(CREDIT, good) == 204
    assert receiver.effects() == {"evt": 1}


def test_a_message_that_comes_many_times_at_once_takes_effect_once(receiver: Backend) -> None:
    headers = signed()
    statuses = at_once(lambda _: receiver.post(CREDIT, headers), [None] * 24, threads=12)
    assert statuses == [204] * 24
    assert receiver.effects() == {"evt": 1}


def test_in_whatever_order_the_versions_come_the_newest_is_what_is_known(receiver: Backend) -> None:
    for version in (2, 1, 11, 10, 3):
        body = msgspec.json.encode({"type": "wallet.credited", "data": _data("wallet.credited") | {"version": version}})
        assert receiver.post(body, signed(body, event_id=f"evt_{version}")) == 204
    assert [each["version"] for each in receiver.newest()] == [11]
    assert receiver.effects() == {"evt_2": 1, "evt_11": 1}


def test_wallets_are_told_apart_by_currency_user_and_environment_and_purchases_by_their_ids(receiver: Backend) -> None:
    """A purchase that is rejected before its environment is known is the same one when it is completed after all."""
    credit, rejected = _data("wallet.credited"), _data("purchase.rejected")
    said = [
        credit | {"version": 9},
        *(credit | other for other in ({"currency": "coins"}, {"user_id": "bob"}, {"environment": "sandbox"})),
        rejected,
        _data("purchase.completed") | {"id": rejected["id"]},
    ]
    for number, data in enumerate(said):
        body = msgspec.json.encode({"type": "told.now", "data": data})
        assert receiver.post(body, signed(body, event_id=f"evt_{number}")) == 204
    assert _sorted(receiver.newest()) == _sorted([*said[:4], said[5]])


def test_what_the_receiver_does_not_know_is_taken(receiver: Backend) -> None:
    """A type of a later release, and the message of `purser webhooks test`."""
    for event_type, data in (("webhook.test", {"endpoint_id": "backend"}), ("something.new", {"id": "new_1"})):
        body = msgspec.json.encode({"type": event_type, "timestamp": "2026-11-22T12:00:00.000Z", "data": data})
        assert receiver.post(body, signed(body, event_id=event_type)) == 204


def _as_time_goes_by(notifier: Notifier, condition: Callable[[], bool], *, step_s: float) -> None:
    """Moves the notifier's clock on, until it is so: what is to be tried again later is tried again at once."""

    def later() -> bool:
        notifier.clock.advance(step_s)
        return condition()

    notifier.wait(later, what="all told", within_s=60)


def _delivered(notifier: Notifier) -> int:
    return notifier.states()["backend", "delivered"]


def _data(event_type: str) -> Any:
    return json.loads(msgspec.json.encode(outward_document(EVENTS[event_type])))["data"]


def _sorted(values: list[Any]) -> list[Any]:
    return sorted(values, key=json.dumps)
