"""Receivers that fail in every way there is, beside some that do not: nothing is lost, and nobody waits for them.

The clock is moved, the schedule is the real one; receivers, PostgreSQL, the consumer and the sender are real too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from deploy.ports import free_port
from notifier.app import webhook_poster
from notifier.desk import Desk
from notifier.settings import PostingSettings
from shared.apps import EndpointId
from shared.clock import SystemClock
from shared.events import WebhookDelivered, WebhookEndpointDisabled, WebhookExhausted
from shared.ids import AppId, EventId
from tests.support.notifier import SECRET, Notifier, apps_with, credited, endpoint, ids_of, notifying
from tests.support.receiver import Receiver, Reply, receiving

GAME = AppId("game")
HANG_S = 6.0
"""What a call that hangs takes."""
UNDISTURBED_S = HANG_S / 2
"""At most so long from recorded to received, for 99 of 100, on a busy machine: not even one call that hangs was waited
for."""
HOUR_S = 3600.0
LOAD = 200
PROMPT = ("prompt", "prompter")
TROUBLE = {
    "failing": Reply(status=500, body=b"database is on fire"),
    "hanging": Reply(behaviour="hang"),
    "closing": Reply(behaviour="close"),
    "halfway": Reply(behaviour="break off"),
    "trickling": Reply(behaviour="trickle"),
    "gone": Reply(status=410),
    "busy": Reply(status=429, headers={"Retry-After": "7200"}),
}
"""How each of them answers until it is mended. Beside them is one, `dead`, where nobody listens."""
DEAD = "dead"
TROUBLED = (*TROUBLE, DEAD)


@dataclass
class Town:
    """Receivers by the ids of their endpoints, a port for the one that is dead, and what each was told so far."""

    notifier: Notifier
    receivers: dict[str, Receiver]
    dead_port: int
    told: list[EventId]

    def configure(self, *names: str) -> None:
        """Whoever starts from now on tells these."""
        urls = {name: each.url for name, each in self.receivers.items()}
        urls |= {DEAD: f"http://127.0.0.1:{self.dead_port}/hooks"}
        self.notifier.apps = apps_with(*(endpoint(urls[name], id=name) for name in names))

    def load(self, count: int) -> dict[EventId, float]:
        """So many events, one after the other, and when each was about to be recorded."""
        recorded: dict[EventId, float] = {}
        for _ in range(count):
            at_s = SystemClock().monotonic()
            (event_id,) = self.notifier.tell(credited(len(self.told) + 1))
            recorded[event_id] = at_s
            self.told.append(event_id)
        return recorded

    def delays_s(self, recorded: dict[EventId, float], name: str) -> list[float]:
        """How long each event took to be received."""
        arrived = {each.id: each.at_s for each in reversed(self.receivers[name].received)}
        return sorted(arrived[str(event_id)] - at_s for event_id, at_s in recorded.items())

    def all_received(self, recorded: dict[EventId, float]) -> None:
        """Waits until those that are prompt have heard of it all."""
        wanted = set(ids_of([*recorded]))
        for name in PROMPT:
            heard = partial(_has_heard, self.receivers[name], wanted)
            self.notifier.wait(heard, what=f"{name} having heard of {len(wanted)}", within_s=30)

    def left(self, *names: str) -> int:
        """How many deliveries to these wait."""
        states = self.notifier.states()
        return sum(states[name, "waiting"] for name in names)


@pytest.fixture
def town(database: str) -> Iterator[Town]:
    with contextlib.ExitStack() as stack:
        receivers = {name: stack.enter_context(receiving(SECRET)) for name in (*PROMPT, *TROUBLE)}
        notifier = stack.enter_context(notifying(database, apps_with()))
        dead_port = free_port(bind="127.0.0.1", ids=notifier.ids)
        yield Town(notifier, receivers, dead_port, [])


def p99(delays_s: Sequence[float]) -> float:
    return delays_s[int(len(delays_s) * 0.99)]


@pytest.mark.timeout(180)
def test_a_day_of_every_kind_of_trouble_loses_nothing_and_disturbs_nobody(
    town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    notifier = town.notifier
    town.configure(*PROMPT)
    with notifier.sending(call_within_s=HANG_S):
        alone = town.load(LOAD)
        town.all_received(alone)

    for name, reply in TROUBLE.items():
        town.receivers[name].reply_usually(reply)
    town.configure(*PROMPT, *TROUBLED)
    before = len(town.told)
    with notifier.sending(call_within_s=HANG_S):
        beside = town.load(LOAD)
        town.all_received(beside)
        _compare(town, alone, beside, capsys)
        assert town.left(*TROUBLED) == LOAD * len(TROUBLED)
        for _ in range(24):
            attempts = _attempts(notifier, DEAD)
            notifier.clock.advance(HOUR_S)
            town.all_received(town.load(1))
            notifier.wait(partial(_is_tried_again, notifier, DEAD, attempts), what="another try of the dead one")

        told = town.told[before:]
        assert notifier.events(WebhookExhausted) == []
        assert town.left(*TROUBLED) == len(told) * len(TROUBLED)
        for name in TROUBLE:
            town.receivers[name].reply_usually(Reply())
        _enable(notifier, "gone")
        with receiving(SECRET, port=town.dead_port) as risen:
            town.receivers[DEAD] = risen
            for _ in range(40):
                if not town.left(*TROUBLED):
                    break
                notifier.pass_time(HOUR_S)

    assert notifier.states() == {
        **{(name, "delivered"): len(town.told) for name in PROMPT},
        **{(name, "delivered"): len(told) for name in TROUBLED},
    }
    for name in (*PROMPT, *TROUBLED):
        _heard_all(town.receivers[name], town.told if name in PROMPT else told)
    assert len(notifier.events(WebhookDelivered)) == len(town.told) * len(PROMPT) + len(told) * len(TROUBLED)
    assert [each.payload.endpoint_id for each in notifier.events(WebhookEndpointDisabled)] == ["gone"]


def _compare(
    town: Town, alone: dict[EventId, float], beside: dict[EventId, float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are prompt are told as soon beside the others as without them; says how soon."""
    for name in PROMPT:
        without, with_them = town.delays_s(alone, name), town.delays_s(beside, name)
        with capsys.disabled():
            print(
                f"\n  {name}: recorded to received, p50/p99 of {LOAD}:"
                f" alone {without[LOAD // 2] * 1e3:.0f}/{p99(without) * 1e3:.0f} ms,"
                f" beside {len(TROUBLED)} in trouble {with_them[LOAD // 2] * 1e3:.0f}/{p99(with_them) * 1e3:.0f} ms"
            )
        assert p99(with_them) < UNDISTURBED_S


def _attempts(notifier: Notifier, name: str) -> int:
    (row,) = notifier.rows("select count(*) as size from notifier.attempt where endpoint_id = %(name)s", name=name)
    return int(row["size"])


def _is_tried_again(notifier: Notifier, name: str, attempts: int) -> bool:
    return _attempts(notifier, name) > attempts


def _has_heard(receiver: Receiver, wanted: set[str]) -> bool:
    return wanted <= {each.id for each in receiver.received}


def _heard_all(receiver: Receiver, told: Sequence[EventId]) -> None:
    """Every event at least once, always as the same bytes, and genuine."""
    received = receiver.received
    assert {each.id for each in received} == set(ids_of(told))
    assert len({(each.id, each.raw) for each in received}) == len(told)
    assert all(each.genuine for each in received)


def _enable(notifier: Notifier, name: str) -> None:
    poster = webhook_poster(PostingSettings(), clock=SystemClock())
    with contextlib.closing(
        Desk(engine=notifier.engine, apps=notifier.apps, poster=poster, clock=notifier.clock, ids=notifier.ids)
    ) as desk:
        desk.enable(GAME, EndpointId(name), actor="operator")


@pytest.mark.timeout(120)
class TestFiveDays:
    """An endpoint that takes nothing for five days."""

    @pytest.fixture
    def given_up(self, notifier: Notifier, receiver: Receiver) -> list[EventId]:
        """What it was to be told, every six hours, until it was disabled and a day longer."""
        receiver.reply_usually(Reply(status=500))
        told = notifier.tell(credited())
        with notifier.sending():
            notifier.attempted(told[0], 1)
            for version in range(2, 21):
                attempts = _attempts(notifier, "backend")
                notifier.clock.advance(6 * HOUR_S)
                told += notifier.tell(credited(version))
                notifier.wait(partial(_is_tried_again, notifier, "backend", attempts), what="another attempt")
            assert notifier.events(WebhookEndpointDisabled) == [], "after less than five days"
            notifier.clock.advance(6 * HOUR_S)
            notifier.wait(lambda: bool(notifier.events(WebhookEndpointDisabled)), what="its being disabled")
            for version in range(21, 25):
                notifier.clock.advance(6 * HOUR_S)
                told += notifier.tell(credited(version))
        return told

    def test_is_disabled_and_that_is_told_once(
        self, notifier: Notifier, receiver: Receiver, given_up: list[EventId]
    ) -> None:
        (disabled,) = notifier.events(WebhookEndpointDisabled)
        assert disabled.payload.reason.startswith("it has taken nothing since ")
        assert (disabled.payload.actor, disabled.causation_id in given_up) == ("notifier", True)
        assert notifier.states() == {("backend", "waiting"): len(given_up)}
        assert len(receiver.received) == _attempts(notifier, "backend")

    def test_is_told_all_that_waits_when_it_is_enabled(
        self, notifier: Notifier, receiver: Receiver, given_up: list[EventId]
    ) -> None:
        receiver.reply_usually(Reply())
        with notifier.sending():
            _enable(notifier, "backend")
            notifier.settled("delivered", len(given_up))
        _heard_all(receiver, given_up)

    def test_has_another_chance_that_lasts_with_another_url(
        self, notifier: Notifier, other_receiver: Receiver, given_up: list[EventId]
    ) -> None:
        notifier.apps = apps_with(endpoint(other_receiver.url))
        other_receiver.reply_next(Reply(status=500), Reply(status=500))
        with notifier.sending():
            notifier.wait(lambda: len(other_receiver.received) >= 2, what="two attempts")
            for _ in range(30):
                if notifier.states()["backend", "delivered"] == len(given_up):
                    break
                notifier.pass_time(HOUR_S)
        assert notifier.states() == {("backend", "delivered"): len(given_up)}
        assert len(notifier.events(WebhookEndpointDisabled)) == 1
