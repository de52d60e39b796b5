"""Whole statements of the App Store, inner signatures and all: our road held against Apple's library, input by input.

The bare signatures have a table of their own (`tests/unit/shared/test_jws.py`). Here everything is well signed unless a
row says otherwise, and what counts is what it says, and where it stands.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

import pytest
from appstoreserverlibrary.models.Environment import Environment as AppleEnvironment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier, VerificationException
from cattrs.errors import BaseValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.apps import AppleApp
from shared.clock import to_unix_ms
from shared.events import Environment, RejectionCode
from shared.jws import JwsError, JwsVerifier, TrustAnchors
from tests.support.apple_pki import Chain, malleated, raw_signature, segment, with_signature
from verifier.domain import (
    AppleNotification,
    AppleRenewalInfo,
    AppleTransaction,
    Rejected,
    check_app,
    check_inner,
    read_notification,
    read_renewal_info,
    read_transaction,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SIGNED_MS = to_unix_ms(NOW - timedelta(minutes=1))
BUNDLE = "com.example.game"
APP_ID = 1234567890
APP = AppleApp(bundle_id=BUNDLE, app_apple_id=APP_ID)
APPLE_ENVIRONMENTS: Mapping[Environment, AppleEnvironment] = {
    "production": AppleEnvironment.PRODUCTION,
    "sandbox": AppleEnvironment.SANDBOX,
}

Claims = dict[str, Any]


@cache
def good() -> Chain:
    return Chain()


@cache
def foreign() -> Chain:
    """As good as ours, under another root."""
    return Chain()


# ---- what the App Store says; a change to `...` takes a claim out --------------------------------------------------


def changed(claims: Claims, changes: Claims) -> Claims:
    return {name: value for name, value in {**claims, **changes}.items() if value is not ...}


def transaction(**changes: Any) -> Claims:
    claims = {
        "transactionId": "2000000277760217",
        "originalTransactionId": "2000000277760217",
        "bundleId": BUNDLE,
        "productId": "com.example.game.gems100",
        "purchaseDate": SIGNED_MS - 1000,
        "originalPurchaseDate": SIGNED_MS - 1000,
        "quantity": 1,
        "type": "Consumable",
        "inAppOwnershipType": "PURCHASED",
        "signedDate": SIGNED_MS,
        "environment": "Production",
        "transactionReason": "PURCHASE",
        "storefront": "USA",
        "price": 990,
        "currency": "USD",
    }
    return changed(claims, changes)


def renewal_info(**changes: Any) -> Claims:
    claims = {
        "originalTransactionId": "2000000277760217",
        "productId": "com.example.game.vip.monthly",
        "autoRenewProductId": "com.example.game.vip.monthly",
        "autoRenewStatus": 1,
        "signedDate": SIGNED_MS,
        "environment": "Production",
    }
    return changed(claims, changes)


def app_transaction(**changes: Any) -> Claims:
    claims = {
        "receiptType": "Production",
        "appAppleId": APP_ID,
        "bundleId": BUNDLE,
        "applicationVersion": "1",
        "receiptCreationDate": SIGNED_MS,
        "originalPurchaseDate": SIGNED_MS,
    }
    return changed(claims, changes)


def retention_request(**changes: Any) -> Claims:
    """Of Apple's Retention Messaging API: signed likewise, and nobody here asked for it."""
    claims = {
        "originalTransactionId": "2000000277760217",
        "appAppleId": APP_ID,
        "productId": "com.example.game.vip.monthly",
        "userLocale": "en_US",
        "requestIdentifier": "4fd1f8e4-6e8c-4d3a-9a3f-0d3d0c2c8f10",
        "signedDate": SIGNED_MS,
        "environment": "Production",
    }
    return changed(claims, changes)


def data(**changes: Any) -> Claims:
    claims = {
        "appAppleId": APP_ID,
        "bundleId": BUNDLE,
        "bundleVersion": "1",
        "environment": "Production",
        "signedTransactionInfo": Inner(transaction()),
    }
    return changed(claims, changes)


def notification(notification_type: Any = "ONE_TIME_CHARGE", **changes: Any) -> Claims:
    claims = {
        "notificationType": notification_type,
        "notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20",
        "version": "2.0",
        "signedDate": SIGNED_MS,
        "data": data(),
    }
    return changed(claims, changes)


def subscription(renewal: Any, transaction_changes: Claims | None = None) -> Claims:
    """A renewal with both of its inner parts."""
    renewed = transaction(type="Auto-Renewable Subscription", expiresDate=ENDS_MS, **(transaction_changes or {}))
    return notification("DID_RENEW", data=data(signedTransactionInfo=Inner(renewed), signedRenewalInfo=renewal))


@dataclass(frozen=True, slots=True)
class Inner:
    """An inner JWS that is still to be signed; `change` is what happens to it then."""

    claims: Claims
    chain: Callable[[], Chain] = good
    change: Callable[[str], str] = str


def sign(claims: Claims | bytes) -> str:
    return good().sign(claims if isinstance(claims, bytes) else _signed_inside(claims))


def _signed_inside(claims: Claims) -> Claims:
    return {name: _signed_value(value) for name, value in claims.items()}


def _signed_value(value: Any) -> Any:
    match value:
        case Inner(claims, chain, change):
            return change(chain().sign(_signed_inside(claims)))
        case dict():
            return _signed_inside(value)
    return value


# ---- the two roads -------------------------------------------------------------------------------------------------

What = Literal["notification", "transaction", "renewal info"]
Read = AppleNotification | AppleTransaction | AppleRenewalInfo
Verdict = RejectionCode | Literal["JwsMalformed", "JwsUntrusted"] | None


@cache
def our_verifier() -> JwsVerifier:
    return JwsVerifier(anchors=TrustAnchors.of(files=[good().root.der]))


def read(what: What, token: str) -> Read | Rejected:
    """Our road. Raises JwsError."""
    claims = our_verifier().verify(token, now=NOW).claims
    match what:
        case "notification":
            return read_whole_notification(claims)
        case "transaction":
            found = read_transaction(claims)
            return found if isinstance(found, Rejected) else check_app(found, app=APP) or found
        case "renewal info":
            return read_renewal_info(claims)


def read_whole_notification(claims: Mapping[str, Any]) -> AppleNotification | Rejected:
    found = read_notification(claims)
    if isinstance(found, Rejected):
        return found
    if (refused := check_app(found, app=APP)) is not None:
        return refused
    part = None if found.signed_transaction is None else read("transaction", found.signed_transaction)
    renewal = None if found.signed_renewal_info is None else read("renewal info", found.signed_renewal_info)
    for inner in (part, renewal):
        if isinstance(inner, Rejected):
            return inner
    assert part is None or isinstance(part, AppleTransaction)
    assert renewal is None or isinstance(renewal, AppleRenewalInfo)
    return check_inner(found, part, renewal) or found


def ours(what: What, token: str) -> tuple[Verdict, Iterable[AppleEnvironment]]:
    """What we say, and in which environments Apple's library is to be asked: where we took it, or else everywhere."""
    try:
        found = read(what, token)
    except JwsError as error:
        return type(error).__name__, APPLE_ENVIRONMENTS.values()  # type: ignore[return-value]
    if isinstance(found, Rejected):
        return found.code, APPLE_ENVIRONMENTS.values()
    assert found.environment is not None
    return None, [APPLE_ENVIRONMENTS[found.environment]]


@cache
def apples_verifier(environment: AppleEnvironment) -> SignedDataVerifier:
    return SignedDataVerifier([good().root.der], False, environment, BUNDLE, APP_ID)


def apple_takes(what: What, token: str, environment: AppleEnvironment) -> bool:
    """A parser that breaks off (BaseValidationError) has not taken it either."""
    try:
        apple_reads(what, token, environment)
    except (VerificationException, BaseValidationError):
        return False
    return True


def apple_reads(what: What, token: str, environment: AppleEnvironment) -> None:
    verifier = apples_verifier(environment)
    match what:
        case "notification":
            _apple_reads_whole_notification(verifier, token)
        case "transaction":
            verifier.verify_and_decode_signed_transaction(token)
        case "renewal info":
            verifier.verify_and_decode_renewal_info(token)


def _apple_reads_whole_notification(verifier: SignedDataVerifier, token: str) -> None:
    """As Apple says how: the inner parts have to be verified separately."""
    inside = verifier.verify_and_decode_notification(token).data
    if inside is not None and inside.signedTransactionInfo is not None:
        verifier.verify_and_decode_signed_transaction(inside.signedTransactionInfo)
    if inside is not None and inside.signedRenewalInfo is not None:
        verifier.verify_and_decode_renewal_info(inside.signedRenewalInfo)


# ---- the table -----------------------------------------------------------------------------------------------------

TYPED = "Apple documents the type, and sends it; what has another is none of Apple's"
NOT_ITS_KIND = "a thing of another kind is refused for being one, not for a field that happens to be missing"
NO_TYPE = "what has no type is no notification"
NOTHING_TO_KEY = "without it there is nothing to be keyed by, and a repeat could not be told"
NOTHING_TO_GRANT = "without it nothing can be granted"
UTF_8 = "RFC 8259, 8.1: JSON is UTF-8, without a mark"
ONLY_THE_NUMBER = "Apple's library makes a number of it; Apple sends one"


@dataclass(frozen=True, slots=True)
class Case:
    """An input, and what we say to it (None: taken). `stricter` is why we refuse what Apple's library takes."""

    what: What
    name: str
    ours: Verdict
    claims: Callable[[], Claims | bytes]
    stricter: str | None = None


def told(name: str, ours: Verdict, claims: Claims | Callable[[], bytes], *, stricter: str | None = None) -> Case:
    return Case("notification", name, ours, claims if callable(claims) else lambda: claims, stricter)


def bought(name: str, ours: Verdict, *, stricter: str | None = None, **changes: Any) -> Case:
    return Case("transaction", name, ours, lambda: transaction(**changes), stricter)


def renews(name: str, ours: Verdict, *, stricter: str | None = None, **changes: Any) -> Case:
    return Case("renewal info", name, ours, lambda: renewal_info(**changes), stricter)


def instead(what: What, name: str, ours: Verdict, claims: Claims, *, stricter: str | None = None) -> Case:
    """Another thing where `what` is expected."""
    return Case(what, name, ours, lambda: claims, stricter)


def carries(name: str, ours: Verdict, part: Any, *, stricter: str | None = None) -> Case:
    """A notification of a purchase with this for its transaction."""
    return told(name, ours, notification(data=data(signedTransactionInfo=part)), stricter=stricter)


def in_data(name: str, ours: Verdict, *, stricter: str | None = None, **changes: Any) -> Case:
    return told(name, ours, notification(data=data(**changes)), stricter=stricter)


def twice(first: str, second: str) -> Callable[[], bytes]:
    """A notification's data with two bundle ids."""

    def payload() -> bytes:
        test = notification("TEST", data=data(signedTransactionInfo=..., bundleId=first))
        return json.dumps(test).replace(f'"{first}"', f'"{first}", "bundleId": "{second}"').encode()

    return payload


def encoded(encoding: str) -> Callable[[], bytes]:
    test = notification("TEST", data=data(signedTransactionInfo=...))
    return lambda: json.dumps(test).encode(encoding)


def tampered(token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{segment(transaction(quantity=10))}.{signature}"


def unsigned(token: str) -> str:
    return f"{segment(good().header(alg='none'))}.{token.split('.')[1]}."


def signature_of_another(token: str) -> str:
    return with_signature(token, raw_signature(good().sign(transaction(quantity=10))))


TEXT_OR_LIST: tuple[Any, ...] = ("text", [])
SUBSCRIBER = Inner(renewal_info())
SUMMARY = {"appAppleId": APP_ID, "bundleId": BUNDLE, "environment": "Production", "succeededCount": 5}
TOKEN = {"externalPurchaseId": "b2158121", "tokenCreationDate": 1, "appAppleId": APP_ID, "bundleId": BUNDLE}
APP_DATA = {"appAppleId": APP_ID, "bundleId": BUNDLE, "environment": "Production"}
DEVICE: Claims = {"deviceVerification": "x", "deviceVerificationNonce": "48c8b92d-ce0d-4229-bedf-e61b4f9cfc92"}
ENDS_MS = SIGNED_MS + 30 * 24 * 3600 * 1000
ORDER: Claims = {"webOrderLineItemId": "2000000099", "subscriptionGroupIdentifier": "21000000"}
REVOKED: Claims = {"revocationDate": SIGNED_MS, "revocationReason": 1}

CASES = (
    # notifications, benign
    told("a purchase", None, notification()),
    told("a purchase in the sandbox, which knows no app id", None, notification(
        data=data(appAppleId=..., environment="Sandbox",
                  signedTransactionInfo=Inner(transaction(environment="Sandbox"))))),
    told("a refund", None, notification("REFUND", data=data(signedTransactionInfo=Inner(transaction(**REVOKED))))),
    told("a renewal with its renewal info", None, subscription(SUBSCRIBER)),
    told("a renewal info for another product of the subscription", None,
         subscription(Inner(renewal_info(productId="com.example.game.vip.yearly")))),
    told("a request for consumption data", None,
         notification("CONSUMPTION_REQUEST", data=data(consumptionRequestReason="LEGAL"))),
    told("a test, without a transaction", None, notification("TEST", data=data(signedTransactionInfo=...))),
    told("a renewal info without a transaction", None,
         notification("METADATA_UPDATE", data=data(signedTransactionInfo=..., signedRenewalInfo=SUBSCRIBER))),
    told("a summary", None, notification("RENEWAL_EXTENSION", subtype="SUMMARY", data=..., summary=SUMMARY)),
    told("a summary beside data that is null", None, notification("RENEWAL_EXTENSION", data=None, summary=SUMMARY)),
    told("an external purchase", None, notification("EXTERNAL_PURCHASE_TOKEN", data=..., externalPurchaseToken=TOKEN)),
    told("an external purchase in the sandbox", None, notification(
        "EXTERNAL_PURCHASE_TOKEN", data=...,
        externalPurchaseToken={"externalPurchaseId": "SANDBOX_1", "bundleId": BUNDLE})),
    told("an external purchase that names an environment besides", None, notification(
        "EXTERNAL_PURCHASE_TOKEN", data=..., externalPurchaseToken={**TOKEN, "environment": "Xcode"})),
    told("a consent that was withdrawn", None, notification("RESCIND_CONSENT", data=..., appData=APP_DATA)),
    told("a type of the future", None, notification("FUTURE_TYPE")),
    told("a subtype of the future", None, notification("EXPIRED", subtype="FUTURE_SUBTYPE")),
    told("an empty subtype", None, notification("DID_RENEW", subtype="")),
    told("fields of the future", None, notification(future={"deep": [1, None]}, data=data(future=10**30))),
    told("no version", None, notification(version=...)),
    told("no date", None, notification(signedDate=...)),
    told("a date that is a float", None, notification(signedDate=SIGNED_MS + 0.7297)),
    told("a status of the future", None, notification("DID_RENEW", data=data(status=9))),
    told("summary of another app beside data: the first counts", None,
         notification(summary={**SUMMARY, "bundleId": "com.example.other"})),
    told("a bundle id twice, the last of them ours", None, twice("com.example.other", BUNDLE)),
    in_data("another app's id in the sandbox", None, appAppleId=1, environment="Sandbox",
            signedTransactionInfo=Inner(transaction(environment="Sandbox"))),
    carries("an inner signature in its other form (s -> n - s)", None, Inner(transaction(), change=malleated)),
    carries("a transaction signed earlier than its notification", None,
            Inner(transaction(signedDate=SIGNED_MS - 86_400_000))),
    carries("a transaction of another product than any catalogue has", None, Inner(transaction(productId="x"))),

    # notifications: which app
    in_data("no app id in production", "wrong_app", appAppleId=...),
    in_data("an app id that is null", "wrong_app", appAppleId=None),
    in_data("another app's id", "wrong_app", appAppleId=APP_ID + 1),
    in_data("an app id beyond all numbers", "receipt_malformed", appAppleId=10**30),
    in_data("an app id that is true", "receipt_malformed", appAppleId=True),
    in_data("an app id in text", "receipt_malformed", appAppleId=str(APP_ID), stricter=ONLY_THE_NUMBER),
    in_data("an app id that is a float", "receipt_malformed", appAppleId=float(APP_ID), stricter=ONLY_THE_NUMBER),
    in_data("an app id with a fraction", "receipt_malformed", appAppleId=APP_ID + 0.5, stricter=ONLY_THE_NUMBER),
    in_data("an app id in a list", "receipt_malformed", appAppleId=[APP_ID]),
    in_data("another bundle", "wrong_app", bundleId="com.example.other"),
    in_data("no bundle", "wrong_app", bundleId=...),
    in_data("a bundle that is null", "wrong_app", bundleId=None),
    in_data("a bundle in capitals", "wrong_app", bundleId=BUNDLE.upper()),
    in_data("a bundle with a line feed", "wrong_app", bundleId=BUNDLE + "\n"),
    in_data("a bundle in a list", "receipt_malformed", bundleId=[BUNDLE]),
    in_data("a bundle with a letter that looks alike", "wrong_app", bundleId=BUNDLE.replace("a", "а")),
    told("a bundle id twice, the first of them ours", "wrong_app", twice(BUNDLE, "com.example.other")),
    told("nothing that says which app", "wrong_app", notification("TEST", data=...)),
    told("everything that says which app is null", "wrong_app",
         notification("TEST", data=None, summary=None, externalPurchaseToken=None, appData=None)),
    told("data empty", "wrong_app", notification("TEST", data={})),
    told("data empty, and a summary that is ours", "wrong_app", notification("TEST", data={}, summary=SUMMARY)),
    told("data of another app, and a summary that is ours", "wrong_app",
         notification("TEST", data=data(bundleId="com.example.other"), summary=SUMMARY)),
    told("data a list", "receipt_malformed", notification("TEST", data=[data(signedTransactionInfo=...)])),
    told("data an empty list, and a summary that is ours", "receipt_malformed",
         notification("TEST", data=[], summary=SUMMARY)),
    told("data text", "receipt_malformed", notification("TEST", data="data")),
    told("data a number", "receipt_malformed", notification("TEST", data=5)),
    *(told(f"data ours and {name} {said!r}", "receipt_malformed", notification("TEST", **{name: said}))
      for name in ("summary", "externalPurchaseToken", "appData") for said in (5, True)),
    *(told(f"data ours and {name} {said!r}", "receipt_malformed", notification("TEST", **{name: said}), stricter=TYPED)
      for name in ("summary", "externalPurchaseToken", "appData") for said in TEXT_OR_LIST),
    told("a subtype that is a number", "receipt_malformed", notification("DID_RENEW", subtype=5), stricter=TYPED),
    in_data("a status that is text", "receipt_malformed", status="active"),
    in_data("a status that is a number in text", "receipt_malformed", status="1", stricter=TYPED),
    in_data("an app id that is no number, in the sandbox", "receipt_malformed", appAppleId="x", environment="Sandbox",
            signedTransactionInfo=Inner(transaction(environment="Sandbox"))),
    told("data false", "receipt_malformed", notification("TEST", data=False)),
    told("a summary of another app", "wrong_app",
         notification(data=..., summary={**SUMMARY, "bundleId": "com.example.other"})),
    told("an external purchase of another app", "wrong_app",
         notification(data=..., externalPurchaseToken={**TOKEN, "appAppleId": 1})),
    told("a consent of another app", "wrong_app", notification(data=..., appData={**APP_DATA, "appAppleId": 1})),

    # notifications: which environment
    *(in_data(f"the environment {environment!r}", "wrong_environment", environment=environment)
      for environment in ("Xcode", "LocalTesting", "Staging", "production", "", None)),
    *(in_data(f"the environment {environment!r}", "receipt_malformed", environment=environment)
      for environment in (["Production"], 1)),
    in_data("no environment", "wrong_environment", environment=...),
    in_data("Xcode, and what only an external purchase has", "wrong_environment",
            environment="Xcode", externalPurchaseId="b2158121"),
    told("Xcode in a summary", "wrong_environment",
         notification("RENEWAL_EXTENSION", data=..., summary={**SUMMARY, "environment": "Xcode"})),
    told("an external purchase without an id", "wrong_environment",
         notification("EXTERNAL_PURCHASE_TOKEN", data=..., externalPurchaseToken=changed(
             TOKEN, {"externalPurchaseId": ...})),
         stricter="its environment is in its id: Apple's library says production to none"),

    # notifications: what they are
    *(told(f"the type {said!r}", "receipt_malformed", notification(said), stricter=NO_TYPE)
      for said in (..., None, "", 5, ["REFUND"], "REFUND\n", "A" * 129)),
    *(told(f"the id {said!r}", "receipt_malformed", notification(notificationUUID=said), stricter=NOTHING_TO_KEY)
      for said in (..., None, "", 5)),
    told("a transaction's id besides", "receipt_malformed", notification(transactionId="1"), stricter=NOT_ITS_KIND),
    told("a renewal's status besides", "receipt_malformed", notification(autoRenewStatus=1), stricter=NOT_ITS_KIND),
    instead("notification", "a transaction", "receipt_malformed", transaction()),
    instead("notification", "a transaction that has data", "receipt_malformed",
            transaction(data=data(signedTransactionInfo=...)), stricter=NOT_ITS_KIND),
    instead("notification", "a renewal info", "receipt_malformed", renewal_info()),
    instead("notification", "an app transaction", "receipt_malformed", app_transaction()),
    instead("notification", "a retention request", "receipt_malformed", retention_request()),
    told("UTF-16", "JwsMalformed", encoded("utf-16"), stricter=UTF_8),
    told("a byte order mark", "JwsMalformed", encoded("utf-8-sig"), stricter=UTF_8),
    told("half a character", "JwsMalformed", notification("TEST", note="\ud800"),
         stricter="RFC 8259, 8.2: it is no text, and PostgreSQL does not take it"),

    # notifications: what they carry
    told("a purchase without a transaction", "receipt_malformed",
         notification(data=data(signedTransactionInfo=...)), stricter=NOTHING_TO_GRANT),
    told("a refund without a transaction", "receipt_malformed",
         notification("REFUND", data=data(signedTransactionInfo=None)), stricter="nobody knows what to take back"),
    told("a purchase in a summary", "receipt_malformed", notification(data=..., summary=SUMMARY),
         stricter=NOTHING_TO_GRANT),
    carries("another app's transaction", "wrong_app", Inner(transaction(bundleId="com.example.other"))),
    carries("a transaction of no app", "receipt_malformed", Inner(transaction(bundleId=...))),
    carries("the sandbox's transaction in production", "wrong_environment", Inner(transaction(environment="Sandbox"))),
    carries("a transaction of Xcode", "wrong_environment", Inner(transaction(environment="Xcode"))),
    in_data("production's transaction in the sandbox", "wrong_environment", environment="Sandbox"),
    carries("a transaction under a foreign root", "JwsUntrusted", Inner(transaction(), chain=foreign)),
    carries("a transaction that was changed", "JwsUntrusted", Inner(transaction(), change=tampered)),
    carries("a transaction that is not signed", "JwsUntrusted", Inner(transaction(), change=unsigned)),
    carries("a transaction under another's signature", "JwsUntrusted",
            Inner(transaction(), change=signature_of_another)),
    carries("a transaction that is empty text", "JwsMalformed", ""),
    carries("a transaction that is no token", "JwsMalformed", "a.b.c"),
    carries("a transaction that is a number", "receipt_malformed", 5),
    carries("a transaction that is not signed at all", "receipt_malformed", transaction()),
    carries("transactions in a list", "receipt_malformed", ["a.b.c"]),
    told("a recorded notification whose transaction is a number", "receipt_malformed",
         notification("DID_RENEW", data=data(signedTransactionInfo=5))),
    carries("a notification in a notification", "receipt_malformed", Inner(notification("TEST", bundleId=BUNDLE))),
    carries("a renewal info for its transaction", "receipt_malformed", SUBSCRIBER),
    carries("a renewal info with a bundle for its transaction", "receipt_malformed",
            Inner(renewal_info(bundleId=BUNDLE)), stricter=NOT_ITS_KIND),
    carries("an app transaction for its transaction", "receipt_malformed", Inner(app_transaction())),
    carries("an app transaction with an environment for its transaction", "receipt_malformed",
            Inner(app_transaction(environment="Production")), stricter=NOT_ITS_KIND),
    told("a transaction for its renewal info", "receipt_malformed", subscription(Inner(transaction())),
         stricter=NOT_ITS_KIND),
    told("a notification for its renewal info", "receipt_malformed",
         subscription(Inner(notification("TEST", environment="Production", data=...))), stricter=NOT_ITS_KIND),
    told("an app transaction for its renewal info", "receipt_malformed",
         subscription(Inner(app_transaction(environment="Production"))), stricter=NOT_ITS_KIND),
    told("transaction and renewal info in each other's place", "receipt_malformed", notification(
        "DID_RENEW", data=data(signedTransactionInfo=SUBSCRIBER, signedRenewalInfo=Inner(transaction())))),
    told("the renewal info of another subscription", "receipt_malformed",
         subscription(Inner(renewal_info(originalTransactionId="2000000277769999"))),
         stricter="a renewal info names no app: only its subscription ties it to the transaction beside it"),
    told("a renewal info of the sandbox in production", "wrong_environment",
         subscription(Inner(renewal_info(environment="Sandbox")))),
    told("a renewal info under a foreign root", "JwsUntrusted", subscription(Inner(renewal_info(), chain=foreign))),
    told("a renewal info that is a number", "receipt_malformed", subscription(5)),
    told("a renewal info that is empty text", "JwsMalformed", subscription("")),

    # transactions, benign
    bought("a transaction", None),
    bought("a transaction of the sandbox", None, environment="Sandbox"),
    bought("a transaction that was refunded", None, **REVOKED, revocationType="REFUND_FULL"),
    bought("a transaction that was refunded in part", None, **REVOKED, revocationPercentage=33333),
    bought("a transaction of a family", None, inAppOwnershipType="FAMILY_SHARED"),
    bought("a transaction from a device", None, **DEVICE),
    bought("dates that are floats", None, purchaseDate=SIGNED_MS + 0.5, signedDate=SIGNED_MS + 0.7297),
    bought("reasons, kinds of owners and fields of the future", None, **REVOKED | {"revocationReason": 7},
           inAppOwnershipType="LENT", future=[None]),
    bought("no original transaction", None, originalTransactionId=...),
    bought("an account token that is no UUID", None, appAccountToken="alice"),
    *(bought(f"a {kind}", None, type=kind) for kind in ("Non-Consumable", "Non-Renewing Subscription")),
    bought("a subscription", None, type="Auto-Renewable Subscription", expiresDate=ENDS_MS, **ORDER),
    bought("a subscription under an offer of the future", None, type="Auto-Renewable Subscription",
           expiresDate=ENDS_MS, offerType=9, offerDiscountType="FUTURE", offerPeriod="P1W", offerIdentifier="é"),

    # transactions, hostile
    bought("of another app", "wrong_app", bundleId="com.example.other"),
    bought("of another app and of Xcode", "wrong_environment", bundleId="com.example.other", environment="Xcode"),
    bought("of no app", "receipt_malformed", bundleId=...),
    *(bought(f"of the environment {environment!r}", "wrong_environment", environment=environment)
      for environment in ("Xcode", "LocalTesting", "Staging", "production", "")),
    *(bought(f"of the environment {environment!r}", "receipt_malformed", environment=environment)
      for environment in (..., None, 1, ["Production"])),
    *(bought(f"with the id {said!r}", "receipt_malformed", transactionId=said, stricter=NOTHING_TO_KEY)
      for said in (..., None, "", 2000000277760217, "1\n", "1\0", "1" * 129, ["1"])),
    *(bought(f"with the product {said!r}", "receipt_malformed", productId=said, stricter=NOTHING_TO_GRANT)
      for said in (..., None, "", 5, {"id": "x"})),
    bought("of a type of the future", "receipt_malformed", type="Lottery", stricter=NOTHING_TO_GRANT),
    bought("of no type", "receipt_malformed", type=..., stricter=NOTHING_TO_GRANT),
    *(bought(f"with the quantity {said!r}", "receipt_malformed", quantity=said, stricter=TYPED)
      for said in ("2", 1.5, True, 2**31, 10**30, None)),
    bought("with the quantity 'many'", "receipt_malformed", quantity="many"),
    bought("with a quantity in a list", "receipt_malformed", quantity=[1]),
    *(bought(f"bought at {said!r}", "receipt_malformed", purchaseDate=said, stricter=TYPED)
      for said in (..., None, str(SIGNED_MS), -1, 10**30, True)),
    bought("bought at 'noon'", "receipt_malformed", purchaseDate="noon"),
    bought("of a subscription that does not say when it ends", "receipt_malformed", type="Auto-Renewable Subscription",
           stricter="Apple always says; taken for a purchase for ever, it would be one"),
    *(bought(f"with the {name} that is a number", "receipt_malformed", **{name: 5}, stricter=TYPED)
      for name in ("webOrderLineItemId", "subscriptionGroupIdentifier", "currency", "offerIdentifier", "offerPeriod")),
    bought("without a date of signing", "receipt_malformed", signedDate=...,
           stricter="the newest statement of a transaction counts: one without a date is none"),
    bought("taken back at 'noon'", "receipt_malformed", revocationDate="noon"),
    bought("taken back at '5'", "receipt_malformed", revocationDate="5", stricter=TYPED),
    *(bought(f"taken back by {said!r} thousandths of a percent", "receipt_malformed", **REVOKED,
             revocationPercentage=said, stricter="it is a share, up to 100,000") for said in (100_001, -1)),
    *(instead("transaction", f"with the {name} 'x'", "receipt_malformed", transaction(**{name: "x"}))
      for name in ("originalPurchaseDate", "expiresDate", "price", "offerType")),
    *(instead("transaction", f"with the {name} 5", "receipt_malformed", transaction(**{name: 5}))
      for name in ("advancedCommerceInfo", "commitmentInfo")),
    bought("with an account token that is a number", "receipt_malformed", appAccountToken=5, stricter=TYPED),
    bought("that is a notification too", "receipt_malformed", notificationType="REFUND", stricter=NOT_ITS_KIND),
    bought("that is a renewal info too", "receipt_malformed", autoRenewStatus=1, stricter=NOT_ITS_KIND),
    bought("that is an app transaction too", "receipt_malformed", receiptType="Production", stricter=NOT_ITS_KIND),
    instead("transaction", "a notification", "receipt_malformed", notification("TEST")),
    instead("transaction", "a notification with bundle and environment", "receipt_malformed",
            notification("TEST", bundleId=BUNDLE, environment="Production"), stricter=NOT_ITS_KIND),
    instead("transaction", "a renewal info", "receipt_malformed", renewal_info()),
    instead("transaction", "an app transaction", "receipt_malformed", app_transaction()),
    instead("transaction", "an app transaction with an environment", "receipt_malformed",
            app_transaction(environment="Production"), stricter=NOT_ITS_KIND),
    instead("transaction", "a retention request", "receipt_malformed", retention_request()),
    instead("transaction", "nothing", "receipt_malformed", {}),

    # renewal infos
    renews("a renewal info", None),
    renews("a renewal info of the sandbox", None, environment="Sandbox"),
    renews("a renewal info from a device", None, **DEVICE),
    renews("numbers of the future", None, autoRenewStatus=7, expirationIntent=99, offerType=12),
    renews("fields of the future", None, future={"x": 1}, commitmentInfo=None),
    *(renews(f"of the environment {environment!r}", "wrong_environment", environment=environment)
      for environment in ("Xcode", "LocalTesting", "Staging", "")),
    renews("of no environment", "receipt_malformed", environment=...),
    renews("of no subscription", "receipt_malformed", originalTransactionId=...,
           stricter="only its subscription ties it to anything of ours"),
    renews("of a subscription in numbers", "receipt_malformed", originalTransactionId=1, stricter=TYPED),
    renews("of no product", "receipt_malformed", productId=..., stricter=TYPED),
    renews("without a status", "receipt_malformed", autoRenewStatus=..., stricter=NOT_ITS_KIND),
    renews("without a date", "receipt_malformed", signedDate=...,
           stricter="the newest statement counts: one without a date is none"),
    *(renews(f"with the status {said!r}", "receipt_malformed", autoRenewStatus=said, stricter=TYPED)
      for said in ("1", True, 2**31)),
    renews("renewed at '5'", "receipt_malformed", renewalDate="5", stricter=TYPED),
    renews("renewed at 'noon'", "receipt_malformed", renewalDate="noon"),
    renews("in retry by number", "receipt_malformed", isInBillingRetryPeriod=1, stricter=TYPED),
    renews("for a price beyond all money", "receipt_malformed", renewalPrice=2**63, stricter=TYPED),
    *(instead("renewal info", f"with the {name} 5", "receipt_malformed", renewal_info(**{name: 5}))
      for name in ("eligibleWinBackOfferIds", "advancedCommerceInfo", "commitmentInfo")),
    renews("that is a transaction too", "receipt_malformed", transactionId="1", stricter=NOT_ITS_KIND),
    instead("renewal info", "a transaction", "receipt_malformed", transaction(), stricter=NOT_ITS_KIND),
    instead("renewal info", "a notification with an environment", "receipt_malformed",
            notification("TEST", environment="Production"), stricter=NOT_ITS_KIND),
    instead("renewal info", "a notification", "receipt_malformed", notification("TEST")),
    instead("renewal info", "an app transaction", "receipt_malformed", app_transaction()),
    instead("renewal info", "an app transaction with an environment", "receipt_malformed",
            app_transaction(environment="Production"), stricter=NOT_ITS_KIND),
    instead("renewal info", "a retention request", "receipt_malformed", retention_request(), stricter=NOT_ITS_KIND),
    instead("renewal info", "nothing but an environment", "receipt_malformed", {"environment": "Production"},
            stricter=NOT_ITS_KIND),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.what}: {case.name}")
def test_we_take_what_apples_library_takes_and_refuse_more_only_for_a_stated_reason(case: Case) -> None:
    """A difference that is not listed fails, and so does a listed one that is gone; to take more is never allowed."""
    token = sign(case.claims())
    verdict, environments = ours(case.what, token)
    assert verdict == case.ours
    taken = any(apple_takes(case.what, token, environment) for environment in environments)
    assert taken is (case.ours is None or case.stricter is not None)


UNREAD: tuple[tuple[What, Claims], ...] = (
    ("notification", notification("RENEWAL_EXTENSION", data=..., summary={**SUMMARY, "succeededCount": "x"})),
    ("notification", notification("RENEWAL_EXTENSION", data=..., summary={**SUMMARY, "storefrontCountryCodes": 5})),
    ("notification", notification(
        "EXTERNAL_PURCHASE_TOKEN", data=..., externalPurchaseToken={**TOKEN, "tokenCreationDate": "x"})),
    ("transaction", transaction(commitmentInfo={"billingPeriodNumber": "x"})),
    ("transaction", transaction(advancedCommerceInfo={"items": 5})),
    ("renewal info", renewal_info(commitmentInfo={"commitmentRenewalPrice": "x"})),
    ("renewal info", renewal_info(advancedCommerceInfo={"items": 5})),
)  # fmt: skip
"""Where Apple's library has no verdict, because its parser breaks off, over what nobody here reads and nothing follows
from: we take it, rather than to refuse a purchase for it."""


@pytest.mark.parametrize(("what", "claims"), UNREAD, ids=str)
def test_what_nobody_reads_may_be_anything_and_apples_library_has_no_verdict_on_it(what: What, claims: Claims) -> None:
    token = sign(claims)
    assert ours(what, token) == (None, [AppleEnvironment.PRODUCTION])
    with pytest.raises(BaseValidationError):
        apple_reads(what, token, AppleEnvironment.PRODUCTION)


def test_the_table_has_each_input_once() -> None:
    assert [name for name, times in Counter((case.what, case.name) for case in CASES).items() if times > 1] == []


# ---- anything else -------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
TELLING = st.sampled_from(
    [BUNDLE, APP_ID, str(APP_ID), "Production", "Sandbox", "Xcode", "SANDBOX_1", SIGNED_MS, "REFUND", "TEST", 1, ...]
)
"""Values that mean something somewhere, wherever they are put; `...` takes the claim out."""


def changes_of(*names: str) -> st.SearchStrategy[Claims]:
    return st.dictionaries(st.sampled_from(names), JSON | TELLING, max_size=2)


PARTS: Mapping[str, tuple[str, ...]] = {
    "outer": ("notificationType", "notificationUUID", "subtype", "signedDate", "summary", "transactionId", "appData"),
    "body": ("bundleId", "appAppleId", "environment", "externalPurchaseId", "status", "signedRenewalInfo"),
    "transaction": ("bundleId", "environment", "transactionId", "signedDate", "autoRenewStatus", "quantity"),
    "renewal info": ("originalTransactionId", "environment", "transactionId", "autoRenewStatus", "renewalDate"),
}


@given(
    changes=st.lists(
        st.sampled_from(sorted(PARTS)).flatmap(
            lambda part: st.tuples(st.just(part), st.sampled_from(PARTS[part]), JSON | TELLING)
        ),
        max_size=2,
    ),
    carrier=st.sampled_from(["data", "summary", "externalPurchaseToken", "appData"]),
)
@settings(max_examples=200, deadline=None)
def test_no_notification_is_taken_that_apples_library_refuses(
    changes: list[tuple[str, str, Any]], carrier: str
) -> None:
    """With transaction and renewal info inside: at most two claims of any part are others, or are gone."""
    of = {part: {name: value for where, name, value in changes if where == part} for part in PARTS}
    inside = {
        "signedTransactionInfo": Inner(transaction(**of["transaction"])),
        "signedRenewalInfo": Inner(renewal_info(**of["renewal info"])),
    }
    body = data(**{"externalPurchaseId": "1", **inside, **of["body"]})
    never_laxer("notification", notification("DID_RENEW", **{"data": ..., carrier: body, **of["outer"]}))


@given(
    changes=changes_of(
        *transaction(), *REVOKED, "appAccountToken", "autoRenewStatus", "notificationType", "receiptType"
    )
)
@settings(max_examples=200, deadline=None)
def test_no_transaction_is_taken_that_apples_library_refuses(changes: Claims) -> None:
    never_laxer("transaction", transaction(**changes))


@given(changes=changes_of(*renewal_info(), "renewalDate", "offerType", "transactionId", "bundleId", "receiptType"))
@settings(max_examples=200, deadline=None)
def test_no_renewal_info_is_taken_that_apples_library_refuses(changes: Claims) -> None:
    never_laxer("renewal info", renewal_info(**changes))


def never_laxer(what: What, claims: Claims) -> None:
    token = sign(claims)
    verdict, environments = ours(what, token)
    if verdict is None:
        assert all(apple_takes(what, token, environment) for environment in environments)
