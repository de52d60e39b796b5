"""The App Store Server API, called over HTTP by Apple's own client, which also judges what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
from appstoreserverlibrary.api_client import APIException, AppStoreServerAPIClient, GetTransactionHistoryVersion
from appstoreserverlibrary.models.Environment import Environment as AppleEnvironment
from appstoreserverlibrary.models.InAppOwnershipType import InAppOwnershipType
from appstoreserverlibrary.models.NotificationHistoryRequest import NotificationHistoryRequest
from appstoreserverlibrary.models.NotificationHistoryResponseItem import NotificationHistoryResponseItem
from appstoreserverlibrary.models.NotificationTypeV2 import NotificationTypeV2
from appstoreserverlibrary.models.SendAttemptResult import SendAttemptResult
from appstoreserverlibrary.models.Status import Status
from appstoreserverlibrary.models.TransactionHistoryRequest import Order, ProductType, TransactionHistoryRequest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.apps import parse_apps
from shared.clock import SystemClock, to_unix_ms
from shared.events import Environment
from shared.ids import TransactionId
from simulator.app import Simulator, build, serve
from simulator.telling import Statement
from tests.support.notification_receiver import Receiver, receiver
from tests.support.served import served
from tests.support.shop import (
    ADFREE,
    APP_APPLE_ID,
    BUNDLE_ID,
    GEMS,
    MONTHLY,
    SEASON,
    apples_verifier,
    claims,
    example_catalog,
)
from tests.support.stack import wait_until

CLOCK = SystemClock()
ISSUER, KEY_ID = "57246542-96fe-1a63-e053-0824d011072a", "GAME000000"
EVERYTHING = TransactionHistoryRequest()
V2 = GetTransactionHistoryVersion.V2
Change = Callable[[dict[str, Any], dict[str, Any]], None]


@dataclass(frozen=True)
class Api:
    """The simulator, where it is, and the key of `game`."""

    simulator: Simulator
    url: str
    key: bytes
    hook: Receiver

    def client(self, environment: Environment = "production", **changes: Any) -> AppStoreServerAPIClient:
        """Apple's client, with the right credentials unless `changes` say otherwise."""
        given = {"signing_key": self.key, "key_id": KEY_ID, "issuer_id": ISSUER, "bundle_id": BUNDLE_ID} | changes
        client = AppStoreServerAPIClient(**given, environment=AppleEnvironment(environment.title()))
        client._base_url = self.url + ("/sandbox" if environment == "sandbox" else "")
        return client

    def buy(self, **wanted: Any) -> Statement:
        sold: dict[str, Any] = {"product_id": GEMS, "notify": False} | wanted
        return self.simulator.store.buy(**sold)

    def faults(self, **faults: Any) -> None:
        assert requests.put(f"{self.url}/_sim/faults", json=faults, timeout=5).ok

    def get(self, path: str, **query: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token()}"}
        return requests.get(self.url + path, params=query, headers=headers, timeout=5)

    def token(self, change: Change = lambda _claims, _header: None) -> str:
        now_s = int(CLOCK.now().timestamp())
        payload = {"iss": ISSUER, "iat": now_s, "exp": now_s + 300, "aud": "appstoreconnect-v1", "bid": BUNDLE_ID}
        header = {"kid": KEY_ID}
        change(payload, header)
        return jwt.encode(payload, self.key, algorithm="ES256", headers=header)


def new_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(name="api")
def an_api(tmp_path: Path) -> Iterator[Api]:
    key = new_key()
    (tmp_path / "game.p8").write_bytes(key)
    (tmp_path / "quiz.p8").write_bytes(new_key())
    apps = parse_apps(
        "".join(
            f'[[apps]]\nid = "{name}"\nname = "-"\n[apps.apple]\nbundle_id = "com.example.{name}"\n'
            f'app_apple_id = {APP_APPLE_ID}\nissuer_id = "{ISSUER}"\nkey_id = "{name.upper()}000000"\n'
            f'private_key_file = "{name}.p8"\n'
            for name in ("game", "quiz")
        ),
        directory=tmp_path,
    )
    with receiver() as hook:
        simulator = build(
            data_dir=tmp_path,
            apps=apps,
            catalog=example_catalog(),
            webhook_url=hook.url,
            retry_compression=3_600_000,
        )
        with served(serve(simulator)) as url:
            yield Api(simulator, url, key, hook)
        simulator.close()


def error_of(call: Callable[[], object]) -> tuple[int, int | None]:
    """The HTTP status and Apple's error code that a call failed with."""
    with pytest.raises(APIException) as failed:
        call()
    return failed.value.http_status_code, failed.value.raw_api_error


def ids(signed: list[str] | None) -> list[str]:
    assert signed is not None
    return [claims(each)["transactionId"] for each in signed]


# ---- transactions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", ["production", "sandbox"])
def test_a_transaction_is_answered_signed_as_it_is_now(api: Api, environment: Environment) -> None:
    bought = api.buy(environment=environment, quantity=3).transaction
    api.simulator.store.refund(bought.transaction_id, percent=50, notify=False)
    signed = api.client(environment).get_transaction_info(bought.transaction_id).signedTransactionInfo
    assert signed is not None
    apple = apples_verifier(api.simulator.authority.root_der, environment)
    answered = apple.verify_and_decode_signed_transaction(signed)
    assert (answered.transactionId, answered.quantity) == (bought.transaction_id, 3)
    assert answered.revocationPercentage == 50_000


def test_a_transaction_of_another_environment_or_app_or_of_nobody_is_not_found(api: Api) -> None:
    sandbox = api.buy(environment="sandbox").transaction.transaction_id
    foreign = api.buy(product_id="hint", app="quiz").transaction.transaction_id
    client = api.client()
    for unknown in (sandbox, foreign, "123"):
        assert error_of(partial(client.get_transaction_info, unknown)) == (404, 4040010)
        assert error_of(partial(client.get_refund_history, unknown, None)) == (404, 4040010)
        assert error_of(partial(client.get_all_subscription_statuses, unknown)) == (404, 4040010)
    assert ids([api.client("sandbox").get_transaction_info(sandbox).signedTransactionInfo or ""]) == [sandbox]


@pytest.mark.parametrize("malformed", ["abc", "12a", "1" * 21, "٣"])
def test_what_is_no_transaction_id_is_refused_as_such(api: Api, malformed: str) -> None:
    assert error_of(lambda: api.client().get_transaction_info(malformed)) == (400, 4000006)


def test_an_error_has_apples_body_and_exactly_apples_content_type(api: Api) -> None:
    answer = api.get("/inApps/v1/transactions/1")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == {"errorCode": 4040010, "errorMessage": "Transaction id not found."}


# ---- history ----------------------------------------------------------------------------------------------------


def test_the_history_is_all_of_the_customers_transactions_twenty_a_page(api: Api) -> None:
    bought = [api.buy(customer="ann").transaction.transaction_id for _ in range(40)]
    api.simulator.store.finish(bought[0])
    api.buy(customer="ben")
    pages: list[list[str]] = []
    revision, more = None, True
    while more:
        page = api.client().get_transaction_history(bought[7], revision, EVERYTHING, V2)
        assert (page.bundleId, page.appAppleId, page.environment) == (
            BUNDLE_ID,
            APP_APPLE_ID,
            AppleEnvironment.PRODUCTION,
        )
        pages.append(ids(page.signedTransactions))
        revision, more = page.revision, bool(page.hasMore)
    assert [len(page) for page in pages] == [20, 20]
    assert [number for page in pages for number in page] == bought


def test_who_has_read_everything_reads_on_when_something_changed(api: Api) -> None:
    first, second = (api.buy(customer="ann").transaction.transaction_id for _ in range(2))
    read = api.client().get_transaction_history(first, None, EVERYTHING, V2)
    nothing = api.client().get_transaction_history(first, read.revision, EVERYTHING, V2)
    assert (nothing.signedTransactions, nothing.revision, nothing.hasMore) == ([], read.revision, False)
    api.simulator.store.refund(first, notify=False)
    changed = api.client().get_transaction_history(second, read.revision, EVERYTHING, V2)
    assert ids(changed.signedTransactions) == [first]


def test_the_history_is_sorted_by_the_last_change_and_the_other_way_round_on_demand(api: Api) -> None:
    first, second, third = (api.buy(customer="ann").transaction.transaction_id for _ in range(3))
    api.simulator.store.refund(first, notify=False)
    in_order = api.client().get_transaction_history(first, None, EVERYTHING, V2)
    newest_first = TransactionHistoryRequest(sort=Order.DESCENDING)
    backwards = api.client().get_transaction_history(first, None, newest_first, V2)
    assert ids(in_order.signedTransactions) == [second, third, first]
    assert ids(backwards.signedTransactions) == [first, third, second]


def test_backwards_the_pages_go_on_too(api: Api) -> None:
    bought = [api.buy(customer="ann").transaction.transaction_id for _ in range(21)]
    newest_first = TransactionHistoryRequest(sort=Order.DESCENDING)
    first = api.client().get_transaction_history(bought[0], None, newest_first, V2)
    second = api.client().get_transaction_history(bought[0], first.revision, newest_first, V2)
    assert ids(first.signedTransactions) + ids(second.signedTransactions) == bought[::-1]


def test_each_filter_leaves_only_what_it_names(api: Api) -> None:
    by = {
        "gems": api.buy(customer="ann").transaction,
        "adfree": api.buy(customer="ann", product_id=ADFREE, family_shared=True).transaction,
        "vip": api.buy(customer="ann", product_id=MONTHLY).transaction,
        "season": api.buy(customer="ann", product_id=SEASON).transaction,
    }
    api.simulator.store.refund(by["gems"].transaction_id, notify=False)

    def found(**wanted: Any) -> set[str]:
        request = TransactionHistoryRequest(**wanted)
        page = api.client().get_transaction_history(by["vip"].transaction_id, None, request, V2)
        names = {each.transaction_id: name for name, each in by.items()}
        return {names[TransactionId(number)] for number in ids(page.signedTransactions)}

    at_ms = to_unix_ms(by["vip"].purchased_at)
    assert found(startDate=at_ms) >= {"vip", "season"}
    assert found(startDate=at_ms + 600_000) == set()
    assert found(endDate=to_unix_ms(by["gems"].purchased_at)) == set()
    assert found(endDate=at_ms + 600_000) == set(by)
    assert found(productIds=[ADFREE, SEASON]) == {"adfree", "season"}
    assert found(productTypes=[ProductType.AUTO_RENEWABLE, ProductType.CONSUMABLE]) == {"vip", "gems"}
    assert found(productTypes=[ProductType.NON_RENEWABLE]) == {"season"}
    assert found(subscriptionGroupIdentifiers=["vip"]) == {"vip"}
    assert found(inAppOwnershipType=InAppOwnershipType.FAMILY_SHARED) == {"adfree"}
    assert found(revoked=True) == {"gems"}
    assert found(revoked=False) == {"adfree", "vip", "season"}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"revision": "x"}, 4000005),
        ({"startDate": "today"}, 4000015),
        ({"endDate": "-1"}, 4000016),
        ({"startDate": "2", "endDate": "2"}, 4000013),
        ({"startDate": "9" * 15}, 4000015),
        ({"sort": "ASC"}, 4000021),
        ({"productType": "CONSUMABLES"}, 4000022),
        ({"inAppOwnershipType": "MINE"}, 4000026),
        ({"revoked": "perhaps"}, 4000030),
    ],
)
def test_a_bad_parameter_of_the_history_has_its_own_code(api: Api, query: dict[str, str], code: int) -> None:
    answer = api.get(f"/inApps/v2/history/{api.buy().transaction.transaction_id}", **query)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, code)


def test_the_sandbox_does_not_say_the_apps_number(api: Api) -> None:
    number = api.buy(environment="sandbox").transaction.transaction_id
    page = api.client("sandbox").get_transaction_history(number, None, EVERYTHING, V2)
    assert (page.environment, page.appAppleId) == (AppleEnvironment.SANDBOX, None)


def test_the_refund_history_is_the_refunds_in_their_order_and_nothing_else(api: Api) -> None:
    bought = [api.buy(customer="ann").transaction.transaction_id for _ in range(23)]
    assert api.client().get_refund_history(bought[0], None).signedTransactions == []
    shared = api.buy(customer="ann", product_id=ADFREE, family_shared=True).transaction
    api.simulator.store.revoke(shared.transaction_id, notify=False)
    for number in bought[::-1]:
        api.simulator.store.refund(number, notify=False)
    api.simulator.store.reverse_refund(bought[5], notify=False)
    first = api.client().get_refund_history(bought[0], None)
    second = api.client().get_refund_history(bought[0], first.revision)
    assert (first.hasMore, second.hasMore) == (True, False)
    expected = [number for number in bought[::-1] if number != bought[5]]
    refunded = [claims(each) for each in (first.signedTransactions or []) + (second.signedTransactions or [])]
    assert sorted(each["transactionId"] for each in refunded) == sorted(expected)
    assert [each["revocationDate"] for each in refunded] == sorted(each["revocationDate"] for each in refunded)


# ---- subscriptions ----------------------------------------------------------------------------------------------


def test_a_subscription_is_answered_with_its_newest_transaction_and_its_renewal(api: Api) -> None:
    first = api.buy(customer="ann", product_id=MONTHLY).transaction
    api.simulator.store.refund(first.transaction_id, notify=False)
    revoked = api.client().get_all_subscription_statuses(first.transaction_id)
    again = api.buy(customer="ann", product_id=MONTHLY).transaction
    active = api.client().get_all_subscription_statuses(first.transaction_id)
    assert (active.bundleId, active.appAppleId) == (BUNDLE_ID, APP_APPLE_ID)
    for answer, status, newest in ((revoked, Status.REVOKED, first), (active, Status.ACTIVE, again)):
        assert answer.data is not None
        (group,) = answer.data
        assert group.subscriptionGroupIdentifier == "vip"
        assert group.lastTransactions is not None
        (last,) = group.lastTransactions
        assert (last.status, last.originalTransactionId) == (status, first.transaction_id)
        assert claims(last.signedTransactionInfo or "")["transactionId"] == newest.transaction_id
        apple = apples_verifier(api.simulator.authority.root_der)
        renewal = apple.verify_and_decode_renewal_info(last.signedRenewalInfo or "")
        assert renewal.originalTransactionId == first.transaction_id


def test_only_subscriptions_of_the_wanted_status_are_answered(api: Api) -> None:
    number = api.buy(customer="ann", product_id=MONTHLY).transaction.transaction_id
    api.buy(customer="ann")
    wanted = {status: api.client().get_all_subscription_statuses(number, [status]).data for status in Status}
    assert [status for status, groups in wanted.items() if groups] == [Status.ACTIVE]
    assert api.get(f"/inApps/v1/subscriptions/{number}", status="9").json()["errorCode"] == 4000031


# ---- notifications ----------------------------------------------------------------------------------------------


def history_request(**wanted: Any) -> NotificationHistoryRequest:
    """The last hour, and what else is wanted."""
    now = CLOCK.now()
    hour = {"startDate": to_unix_ms(now - timedelta(hours=1)), "endDate": to_unix_ms(now + timedelta(hours=1))}
    return NotificationHistoryRequest(**hour | wanted)


def wait_for_delivery(api: Api, count: int) -> None:
    sender = api.simulator.sender
    wait_until(lambda: sum(each.settled for each in sender.newest(limit=200, after=None, transaction_id=None)) == count)


def test_the_notification_history_is_what_was_sent_oldest_first_twenty_a_page(api: Api) -> None:
    sold = [api.buy(notify=True).notification_id for _ in range(40)]
    api.buy(environment="sandbox", notify=True)
    api.buy(product_id="hint", app="quiz", notify=True)
    wait_for_delivery(api, 42)
    pages: list[list[NotificationHistoryResponseItem]] = []
    token = None
    for _ in range(2):
        page = api.client().get_notification_history(token, history_request())
        pages.append(page.notificationHistory or [])
        token = page.paginationToken
    assert [len(each) for each in pages] == [20, 20]
    assert (page.hasMore, page.paginationToken) == (False, None)
    payloads = [claims(each.signedPayload or "") for each in chain.from_iterable(pages)]
    assert [payload["notificationUUID"] for payload in payloads] == [str(each) for each in sold]
    (attempt,) = pages[0][0].sendAttempts or []
    assert attempt.sendAttemptResult is SendAttemptResult.SUCCESS


def test_the_notification_history_can_be_narrowed(api: Api) -> None:
    sold = [api.buy(customer="ann", notify=True).transaction.transaction_id for _ in range(2)]
    api.buy(customer="ben", notify=True)
    api.simulator.store.refund(sold[0])
    wait_for_delivery(api, 4)

    def found(**wanted: Any) -> list[str]:
        page = api.client().get_notification_history(None, history_request(**wanted))
        payloads = [claims(each.signedPayload or "") for each in page.notificationHistory or []]
        return [payload["notificationType"] for payload in payloads]

    assert found(transactionId=sold[1]) == ["ONE_TIME_CHARGE", "ONE_TIME_CHARGE", "REFUND"]
    assert found(notificationType=NotificationTypeV2.REFUND) == ["REFUND"]
    assert found(onlyFailures=True) == []
    assert found(endDate=to_unix_ms(CLOCK.now() - timedelta(minutes=1))) == []


def test_what_did_not_arrive_is_among_the_failures_with_what_came_of_each_attempt(api: Api) -> None:
    api.faults(notifications={"drop": 1})
    lost = api.buy(notify=True).notification_id
    api.faults()
    api.buy(notify=True)
    wait_for_delivery(api, 2)
    page = api.client().get_notification_history(None, history_request(onlyFailures=True))
    (failure,) = page.notificationHistory or []
    assert claims(failure.signedPayload or "")["notificationUUID"] == str(lost)
    (attempt,) = failure.sendAttempts or []
    assert attempt.sendAttemptResult is SendAttemptResult.NO_RESPONSE


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"startDate": None}, 4000015),
        ({"endDate": None}, 4000016),
        ({"startDate": "yesterday"}, 4000015),
        ({"endDate": True}, 4000016),
        ({"startDate": 2, "endDate": 1}, 4000013),
        ({"startDate": 1}, 4000012),
        ({"notificationType": "refund"}, 4000018),
        ({"notificationSubtype": "INITIAL_BUY"}, 4000018),
        ({"notificationType": "REFUND", "transactionId": "1"}, 4000019),
        ({"transactionId": "x"}, 4000006),
        ({"transactionId": "1"}, 4040010),
    ],
)
def test_a_bad_notification_history_request_has_its_own_code(api: Api, body: dict[str, Any], code: int) -> None:
    now_ms = to_unix_ms(CLOCK.now())
    answer = requests.post(
        f"{api.url}/inApps/v1/notifications/history",
        json={"startDate": now_ms - 1000, "endDate": now_ms} | body,
        headers={"Authorization": f"Bearer {api.token()}"},
        timeout=5,
    )
    assert (answer.status_code, answer.json()["errorCode"]) == (code // 10_000, code)


def test_a_bad_pagination_token_is_invalid_and_a_forgotten_one_expired(api: Api) -> None:
    history = api.client().get_notification_history
    assert error_of(lambda: history("x", history_request())) == (400, 4000014)
    forgotten = "00000000-0000-4000-8000-000000000000"
    assert error_of(lambda: history(forgotten, history_request())) == (400, 4000017)


def test_a_body_that_is_not_json_is_a_bad_request(api: Api) -> None:
    url, headers = f"{api.url}/inApps/v1/notifications/history", {"Authorization": f"Bearer {api.token()}"}
    for body in (b"", b"[]", b"{"):
        assert requests.post(url, data=body, headers=headers, timeout=5).json()["errorCode"] == 4000000


@pytest.mark.parametrize("environment", ["production", "sandbox"])
def test_a_test_notification_really_goes_out_and_its_status_can_be_asked_for(
    api: Api, environment: Environment
) -> None:
    token = api.client(environment).request_test_notification().testNotificationToken
    assert token is not None
    (payload,) = api.hook.wait_for_posts(1)
    wait_for_delivery(api, 1)
    status = api.client(environment).get_test_notification_status(token)
    assert [each.sendAttemptResult for each in status.sendAttempts or []] == [SendAttemptResult.SUCCESS]
    apple = apples_verifier(api.simulator.authority.root_der, environment)
    told = apple.verify_and_decode_notification(status.signedPayload or "")
    assert told.notificationType is NotificationTypeV2.TEST
    assert told.notificationUUID == payload["notificationUUID"]
    assert "signedTransactionInfo" not in payload["data"]


def test_the_status_of_a_test_is_nobody_elses_and_not_there_before_its_first_attempt(api: Api) -> None:
    api.faults(notifications={"delay_ms": 60_000})
    waiting = api.client().request_test_notification().testNotificationToken or ""
    assert error_of(lambda: api.client().get_test_notification_status(waiting)) == (404, 4040008)
    assert error_of(lambda: api.client().get_test_notification_status("x")) == (400, 4000020)
    api.faults()
    sent = api.client().request_test_notification().testNotificationToken or ""
    wait_for_delivery(api, 1)
    assert error_of(lambda: api.client("sandbox").get_test_notification_status(sent)) == (404, 4040008)


# ---- who may call -----------------------------------------------------------------------------------------------


def _set(name: str, value: object) -> Change:
    return lambda payload, _header: payload.__setitem__(name, value)


NOW_S = int(CLOCK.now().timestamp())
BAD_TOKENS: dict[str, Change] = {
    "of another issuer": _set("iss", "somebody"),
    "for another audience": _set("aud", "appstoreconnect-v2"),
    "of another app": _set("bid", "com.example.quiz"),
    "of no app": _set("bid", "com.example.nobody"),
    "with a list for a bundle id": _set("bid", [BUNDLE_ID]),
    "without a bundle id": lambda payload, _header: payload.pop("bid"),
    "without an end": lambda payload, _header: payload.pop("exp"),
    "that has expired": _set("exp", NOW_S - 1),
    "that lives too long": _set("exp", NOW_S + 7200),
    "that lived too long already": lambda payload, _header: payload.update(iat=NOW_S - 3600, exp=NOW_S + 600),
    "from the future": lambda payload, _header: payload.update(iat=NOW_S + 1800, exp=NOW_S + 2400),
    "of another key id": lambda _payload, header: header.update(kid="QUIZ000000"),
    "without a key id": lambda _payload, header: header.pop("kid"),
}


@pytest.mark.parametrize("wrong", BAD_TOKENS)
def test_a_bad_token_is_401_without_anything_that_a_program_could_read(api: Api, wrong: str) -> None:
    number = api.buy().transaction.transaction_id
    token = api.token(BAD_TOKENS[wrong])
    url = f"{api.url}/inApps/v1/transactions/{number}"
    answer = requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=5)
    assert (answer.status_code, answer.headers["Content-Type"]) == (401, "text/plain")
    assert api.get(f"/inApps/v1/transactions/{number}").status_code == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer x", "Bearer a.b.c", "Basic eDp5"])
def test_without_a_token_nobody_is_let_in(api: Api, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    url = f"{api.url}/inApps/v1/transactions/{api.buy().transaction.transaction_id}"
    assert requests.get(url, headers=headers, timeout=5).status_code == 401


def test_a_token_signed_with_another_key_is_refused(api: Api) -> None:
    number = api.buy().transaction.transaction_id
    assert error_of(lambda: api.client(signing_key=new_key()).get_transaction_info(number)) == (401, None)


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(api: Api) -> None:
    claims_ = {"iss": ISSUER, "exp": NOW_S + 600, "aud": "appstoreconnect-v1", "bid": BUNDLE_ID}
    token = jwt.encode(claims_, "s" * 32, algorithm="HS256", headers={"kid": KEY_ID})
    url = f"{api.url}/inApps/v1/transactions/{api.buy().transaction.transaction_id}"
    assert requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=5).status_code == 401


# ---- what goes wrong on command ---------------------------------------------------------------------------------


def test_each_call_fails_as_it_was_told_to_and_then_all_is_well(api: Api) -> None:
    number = api.buy().transaction.transaction_id
    api.faults(api={"statuses": [5000001, 5000001, 500, 401, "http_503"]})
    info = api.client().get_transaction_info
    failures = [error_of(lambda: info(number)) for _ in range(5)]
    assert failures == [(500, 5000001), (500, 5000001), (500, None), (401, None), (503, None)]
    assert ids([info(number).signedTransactionInfo or ""]) == [number]


def test_an_error_that_lasts_may_say_when_to_come_back_in_absolute_milliseconds(api: Api) -> None:
    api.faults(api={"error_code": 4290000, "retry_after_ms": 60_000})
    before_ms = to_unix_ms(CLOCK.now())
    answer = api.get("/inApps/v1/transactions/1")
    assert (answer.status_code, answer.json()["errorCode"]) == (429, 4290000)
    assert 0 <= int(answer.headers["Retry-After"]) - before_ms - 60_000 < 5_000
    assert "Retry-After" in api.get("/inApps/v1/transactions/1").headers


def test_an_answer_is_cut_by_a_connection_that_breaks(api: Api) -> None:
    api.faults(api={"statuses": ["cut", "not_json"]})
    path = f"/inApps/v1/transactions/{api.buy().transaction.transaction_id}"
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError)):
        api.get(path)
    assert api.get(path).text.startswith("<html>")
    assert api.get(path).ok


def test_an_answer_that_hangs_comes_after_the_caller_has_left(api: Api) -> None:
    api.faults(api={"statuses": ["timeout"], "hang_ms": 1_000})
    url = f"{api.url}/inApps/v1/transactions/1"
    # With a token: a refusal would be logged when it has come to it, in the middle of a later test's output.
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(url, headers={"Authorization": f"Bearer {api.token()}"}, timeout=0.2)
    assert api.get("/inApps/v1/transactions/1").status_code == 404


def test_a_limited_rate_refuses_one_call_too_many_and_says_when_to_come_back(api: Api) -> None:
    path = f"/inApps/v1/transactions/{api.buy().transaction.transaction_id}"
    api.faults(api={"rate_per_s": 0.01})
    first, second = api.get(path), api.get(path)
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json() == {"errorCode": 4290000, "errorMessage": "Rate limit exceeded."}
    assert 60_000 < int(second.headers["Retry-After"]) - to_unix_ms(CLOCK.now()) < 100_000


def test_apples_limits_are_one_for_each_call_and_a_tenth_in_the_sandbox(api: Api) -> None:
    """One test notification a second; so the sandbox, after one, takes the next only some nine seconds later."""
    number = api.buy(environment="sandbox").transaction.transaction_id
    api.faults(api={"limit_rates": True})
    assert api.client("sandbox").request_test_notification().testNotificationToken
    assert error_of(api.client("sandbox").request_test_notification) == (429, 4290000)
    url, headers = f"{api.url}/sandbox/inApps/v1/notifications/test", {"Authorization": f"Bearer {api.token()}"}
    come_back = requests.post(url, headers=headers, timeout=5).headers["Retry-After"]
    assert 2_000 < int(come_back) - to_unix_ms(CLOCK.now()) < 10_000
    assert ids([api.client("sandbox").get_transaction_info(number).signedTransactionInfo or ""]) == [number]
