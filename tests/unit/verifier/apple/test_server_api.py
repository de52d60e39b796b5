"""The Server API's client against a real HTTP server that answers as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from appstoreserverlibrary.models.SendAttemptResult import SendAttemptResult
from appstoreserverlibrary.models.Status import Status

from shared.apps import App, AppleApp
from shared.clock import ManualClock, SystemClock, to_unix_ms
from shared.ids import AppId
from tests.support.scripted_store import (
    IN_A_HEADER,
    Reply,
    ScriptedStore,
    cut,
    dripping,
    hang_up,
    says,
    serving,
    silent,
)
from tests.support.server_api_key import BUNDLE_ID, new_signing_key
from verifier.apple import server_api
from verifier.apple.keys import SigningKey
from verifier.apple.pace import Pace
from verifier.apple.refusals import (
    ServerApiMisconfigured,
    ServerApiNotFound,
    ServerApiRejected,
    ServerApiUnavailable,
)
from verifier.apple.server_api import ServerApi
from verifier.apple.transport import ANSWER_BYTES_MAX, Transport, store_session

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id=BUNDLE_ID))
OTHER = App(id=AppId("other"), name="Other", apple=AppleApp(bundle_id="com.example.other"))
ONE = "/inApps/v1/transactions/1"
HISTORY = "/inApps/v2/history/1"
FOUND: dict[str, Any] = {"signedTransactionInfo": "a.b.c"}


class Asking:
    """The client of one app with a key, its clock (waiting moves it), and the store that it asks."""

    def __init__(self, url: str, transport: Transport, store: ScriptedStore, key: SigningKey) -> None:
        self.clock = ManualClock(NOW)
        self.store = store
        self.api = ServerApi(
            keys={GAME.id: key},
            transport=transport,
            production_url=url,
            sandbox_url=f"{url}/sandbox",
            pace=Pace(share=1, clock=self.clock, wait=self.clock.advance),
            clock=self.clock,
        )

    def transaction(self, transaction_id: str = "1") -> str:
        return self.api.transaction(transaction_id, app=GAME, environment="production")

    def history(self) -> list[str]:
        return list(self.api.history("1", app=GAME, environment="production"))


@contextmanager
def asking_of(store: ScriptedStore, *, read_timeout_s: float = 20) -> Iterator[Asking]:
    with serving(store) as url, store_session(connections=4) as session:
        transport = Transport(session=session, connect_timeout_s=5, read_timeout_s=read_timeout_s)
        yield Asking(url, transport, store, new_signing_key())


@pytest.fixture
def asking() -> Iterator[Asking]:
    with asking_of(ScriptedStore()) as asking:
        yield asking


def refused(code: int, **headers: str) -> Reply:
    return says({"errorCode": code, "errorMessage": "Apple's words."}, status=code // 10_000, **headers)


def test_a_transaction_is_what_the_store_signed(asking: Asking) -> None:
    asking.store.tell(ONE, says(FOUND))
    assert asking.transaction() == "a.b.c"
    (asked,) = asking.store.asked
    assert asked.method == "GET"
    assert asked.headers["Authorization"].startswith("Bearer ey")
    assert asked.headers["Accept"] == "application/json"


def test_the_sandbox_has_an_address_of_its_own(asking: Asking) -> None:
    asking.store.tell("/sandbox" + ONE, says(FOUND))
    assert asking.api.transaction("1", app=GAME, environment="sandbox") == "a.b.c"


def test_questions_of_both_environments_and_of_all_threads_carry_the_same_token(asking: Asking) -> None:
    asking.store.tell(ONE, *[says(FOUND)] * 20)
    asking.store.tell("/sandbox" + ONE, says(FOUND))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: asking.transaction(), range(20))) == ["a.b.c"] * 20
    asking.api.transaction("1", app=GAME, environment="sandbox")
    assert len({asked.headers["Authorization"] for asked in asking.store.asked}) == 1


def test_a_question_whose_token_is_not_taken_any_more_is_asked_again_with_a_new_one(asking: Asking) -> None:
    asking.store.tell(ONE, says(FOUND), says(b"Unauthenticated", status=401), says(FOUND))
    asking.transaction()
    asking.clock.advance(60)
    assert asking.transaction() == "a.b.c"
    first, second, third = [asked.headers["Authorization"] for asked in asking.store.asked]
    assert first == second != third


def test_a_key_that_is_not_taken_is_asked_with_no_more_than_it_has_to_be(asking: Asking) -> None:
    asking.store.tell(ONE, *[says(b"Unauthenticated", status=401)] * 3, says(FOUND))
    with pytest.raises(ServerApiMisconfigured):
        asking.transaction()
    asking.store.asked.clear()
    asking.clock.advance(60)
    with pytest.raises(ServerApiMisconfigured):
        asking.transaction()
    assert len(asking.store.asked) == 1, "its token was signed just now"


def test_an_app_without_a_key_is_told_what_is_missing_and_nobody_is_asked(asking: Asking) -> None:
    with pytest.raises(ServerApiMisconfigured, match=r"'other'.*issuer_id, key_id and private_key_file"):
        asking.api.transaction("1", app=OTHER, environment="production")
    assert asking.store.asked == []


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "../x", "a%2fb", "a?b", "a#b", "a b", "a\n", "é", "١", "a\\b", "a;b", "x" * 65]
)
def test_what_cannot_be_an_id_is_not_found_and_never_part_of_an_address(asking: Asking, value: str) -> None:
    api = asking.api
    questions: list[Callable[..., Any]] = [
        api.transaction,
        api.history,
        api.refunds,
        api.statuses,
        api.test_notification,
    ]
    for ask in questions:
        with pytest.raises(ServerApiNotFound):
            ask(value, app=GAME, environment="production")
    assert asking.store.asked == []


@pytest.mark.parametrize("value", ["2000000123456789", "GPA.3345-1234", "a_b", "...", "x" * 64])
def test_what_may_be_an_id_is_asked_about_as_it_is(asking: Asking, value: str) -> None:
    asking.store.tell(f"/inApps/v1/transactions/{value}", says(FOUND))
    assert asking.transaction(value) == "a.b.c"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (4040010, ServerApiNotFound),
        (4000000, ServerApiRejected),
        (4000002, ServerApiMisconfigured),
        (5000001, ServerApiUnavailable),
    ],
)
def test_a_refusal_is_told_by_its_kind_with_apples_words(asking: Asking, code: int, kind: type[Exception]) -> None:
    asking.store.tell(ONE, refused(code))
    with pytest.raises(kind, match="Apple's words"):
        asking.transaction()


@pytest.mark.parametrize(
    "reply",
    [
        cut(FOUND),
        hang_up,
        says(b""),
        says(b"<html>"),
        says([]),
        says("a.b.c"),
        says({}),
        says({"signedTransactionInfo": None}),
        says(b"[" * 100_000),
        says(b'{"signedTransactionInfo": "\xff"}'),
        says(b"x" * (ANSWER_BYTES_MAX + 1)),
        says(FOUND, status=302, Location="/elsewhere"),
        says(FOUND, status=503),
    ],
)
def test_what_is_no_answer_is_a_store_that_is_away(asking: Asking, reply: Reply) -> None:
    asking.store.tell(ONE, reply)
    with pytest.raises(ServerApiUnavailable):
        asking.transaction()
    assert asking.store.paths() == [ONE]


@pytest.mark.parametrize("body", [[], "x", 5, {"signedTransactions": 5}, {"appAppleId": "x"}, {}])
def test_a_page_of_another_shape_is_a_store_that_is_away(asking: Asking, body: Any) -> None:
    asking.store.tell(HISTORY, says(body))
    with pytest.raises(ServerApiUnavailable):
        asking.history()


def test_a_value_that_apple_added_since_is_no_trouble(asking: Asking) -> None:
    page = {"signedTransactions": ["a.b.c"], "environment": "Moon", "hasMore": False, "added": {"since": 1}}
    asking.store.tell(HISTORY, says(page))
    assert asking.history() == ["a.b.c"]


@pytest.mark.parametrize(
    "kind", [silent, lambda store: dripping(store, first=IN_A_HEADER, drop=b"x", every_s=0.04)], ids=["silent", "drip"]
)
def test_a_store_that_does_not_come_to_an_end_is_left_in_time(kind: Callable[[ScriptedStore], Reply]) -> None:
    store = ScriptedStore()
    store.tell(ONE, kind(store))
    clock = SystemClock()
    with asking_of(store, read_timeout_s=0.4) as asking:
        started_s = clock.monotonic()
        with pytest.raises(ServerApiUnavailable):
            asking.transaction()
        assert clock.monotonic() - started_s < 5


def test_a_429_closes_its_endpoint_until_the_moment_that_apple_names(asking: Asking) -> None:
    """Apple: `Retry-After` is absolute UNIX milliseconds."""
    moment_ms = to_unix_ms(NOW + timedelta(seconds=40))
    asking.store.tell(ONE, refused(4290000, Retry_After=str(moment_ms)), says(FOUND))
    with pytest.raises(ServerApiUnavailable) as told:
        asking.transaction()
    assert (told.value.code, told.value.retry_after_s) == (4290000, 40)
    asking.clock.advance(30)
    with pytest.raises(ServerApiUnavailable, match="as often as Apple allows") as kept:
        asking.transaction()
    assert kept.value.retry_after_s == 10
    assert len(asking.store.asked) == 1
    asking.clock.advance(10)
    assert asking.transaction() == "a.b.c"


def test_a_429_closes_no_other_endpoint(asking: Asking) -> None:
    asking.store.tell(ONE, refused(4290000))
    asking.store.tell(HISTORY, says({"signedTransactions": [], "hasMore": False}))
    with pytest.raises(ServerApiUnavailable):
        asking.transaction()
    assert asking.history() == []


@pytest.mark.parametrize("reply", [refused(4290000), says(b"slow down", status=429)])
def test_a_429_that_names_no_moment_closes_its_endpoint_for_a_while(asking: Asking, reply: Reply) -> None:
    asking.store.tell(ONE, reply, says(FOUND))
    for _ in range(2):
        with pytest.raises(ServerApiUnavailable):
            asking.transaction()
    asking.clock.advance(server_api.RATE_LIMITED_S)
    assert asking.transaction() == "a.b.c"


def test_another_trouble_closes_nothing(asking: Asking) -> None:
    asking.store.tell(ONE, refused(5000000, Retry_After="60"), says(FOUND))
    with pytest.raises(ServerApiUnavailable) as told:
        asking.transaction()
    assert told.value.retry_after_s == 60
    assert asking.transaction() == "a.b.c"


def test_more_than_apple_allows_is_not_asked(asking: Asking) -> None:
    asking.store.tell("/inApps/v1/notifications/test", *[says({"testNotificationToken": "t"})] * 3)
    asking.clock.advance(1)
    started_s = asking.clock.monotonic()
    for _ in range(3):
        asking.api.request_test_notification(app=GAME, environment="production")
    assert asking.clock.monotonic() - started_s == pytest.approx(2, abs=1e-3)


def test_history_goes_from_page_to_page_by_version_2(asking: Asking) -> None:
    asking.store.tell(
        HISTORY,
        says({"signedTransactions": ["1", "2"], "revision": "r1", "hasMore": True}),
        says({"signedTransactions": [], "revision": "r2", "hasMore": True}),
        says({"signedTransactions": ["3"], "revision": "r3", "hasMore": False}),
    )
    assert asking.history() == ["1", "2", "3"]
    assert [asked.query.get("revision") for asked in asking.store.asked] == [None, ["r1"], ["r2"]]


def test_a_page_is_asked_for_when_it_is_wanted(asking: Asking) -> None:
    asking.store.tell(HISTORY, says({"signedTransactions": ["1"], "revision": "r1", "hasMore": True}))
    assert next(asking.api.history("1", app=GAME, environment="production")) == "1"
    assert len(asking.store.asked) == 1


def test_refunds_go_from_page_to_page(asking: Asking) -> None:
    asking.store.tell(
        "/inApps/v2/refund/lookup/1",
        says({"signedTransactions": ["1"], "revision": "r1", "hasMore": True}),
        says({"signedTransactions": ["2"], "revision": "r2", "hasMore": False}),
    )
    assert list(asking.api.refunds("1", app=GAME, environment="production")) == ["1", "2"]
    assert asking.store.asked[1].query == {"revision": ["r1"]}


@pytest.mark.parametrize("revision", ["r1", None])
def test_pages_that_lead_nowhere_are_not_followed(asking: Asking, revision: str | None) -> None:
    asking.store.tell(HISTORY, *[says({"signedTransactions": ["1"], "revision": revision, "hasMore": True})] * 3)
    with pytest.raises(ServerApiUnavailable, match="does not say where"):
        asking.history()
    assert len(asking.store.asked) <= 2


def test_pages_beyond_the_bound_are_refused_and_not_left_out_in_silence(
    asking: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_api, "PAGES_MAX", 3)
    pages = [says({"signedTransactions": [str(n)], "revision": f"r{n}", "hasMore": True}) for n in range(3)]
    asking.store.tell(HISTORY, *pages)
    seen: list[str] = []
    with pytest.raises(ServerApiRejected, match="more than 3 pages"):
        seen.extend(asking.api.history("1", app=GAME, environment="production"))
    assert len(asking.store.asked) == 3


def test_an_answer_without_statuses_is_not_one_that_there_are_none(asking: Asking) -> None:
    asking.store.tell("/inApps/v1/subscriptions/1", says({}))
    with pytest.raises(ServerApiUnavailable):
        asking.api.statuses("1", app=GAME, environment="production")


def test_statuses_are_by_subscription(asking: Asking) -> None:
    last = {"status": 4, "originalTransactionId": "1", "signedTransactionInfo": "t", "signedRenewalInfo": "r"}
    group = {"subscriptionGroupIdentifier": "g", "lastTransactions": [last]}
    asking.store.tell("/inApps/v1/subscriptions/1", says({"data": [group], "bundleId": BUNDLE_ID}))
    answer = asking.api.statuses("1", app=GAME, environment="production")
    assert answer.data is not None
    (item,) = answer.data[0].lastTransactions or []
    assert (item.status, item.signedRenewalInfo) == (Status.BILLING_GRACE_PERIOD, "r")


def test_notifications_are_asked_for_by_time_and_go_from_page_to_page(asking: Asking) -> None:
    attempt = {"attemptDate": 1, "sendAttemptResult": "TIMED_OUT"}
    first = {"signedPayload": "n1", "sendAttempts": [attempt]}
    asking.store.tell(
        "/inApps/v1/notifications/history",
        says({"notificationHistory": [first], "paginationToken": "p1", "hasMore": True}),
        says({"notificationHistory": [{"signedPayload": "n2"}], "hasMore": False}),
    )
    since = NOW - timedelta(days=1)
    items = list(
        asking.api.notifications(app=GAME, environment="production", since=since, until=NOW, only_failures=True)
    )
    assert [item.signedPayload for item in items] == ["n1", "n2"]
    assert [one.sendAttemptResult for one in items[0].sendAttempts or ()] == [SendAttemptResult.TIMED_OUT]
    question = {"startDate": to_unix_ms(since), "endDate": to_unix_ms(NOW), "onlyFailures": True}
    assert [(asked.method, asked.body) for asked in asking.store.asked] == [("POST", question)] * 2
    assert [asked.query for asked in asking.store.asked] == [{}, {"paginationToken": ["p1"]}]


def test_all_notifications_are_asked_for_unless_only_failures_are_wanted(asking: Asking) -> None:
    asking.store.tell("/inApps/v1/notifications/history", says({"notificationHistory": [], "hasMore": False}))
    assert not list(asking.api.notifications(app=GAME, environment="production", since=NOW, until=NOW))
    assert "onlyFailures" not in asking.store.asked[0].body


def test_a_test_notification_is_requested_and_followed(asking: Asking) -> None:
    token = "ce3af791-365e-4c60-841b-1674b43c1609_1656709421000"
    asking.store.tell("/inApps/v1/notifications/test", says({"testNotificationToken": token}))
    asking.store.tell(f"/inApps/v1/notifications/test/{token}", refused(4040008), says({"signedPayload": "n"}))
    given = asking.api.request_test_notification(app=GAME, environment="production")
    assert given == token
    with pytest.raises(ServerApiNotFound):
        asking.api.test_notification(given, app=GAME, environment="production")
    assert asking.api.test_notification(given, app=GAME, environment="production").signedPayload == "n"
    assert [asked.method for asked in asking.store.asked] == ["POST", "GET", "GET"]
