"""Telling apart what the App Store signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import attr
import pytest
from appstoreserverlibrary.models.AppTransaction import AppTransaction
from appstoreserverlibrary.models.DecodedRealtimeRequestBody import DecodedRealtimeRequestBody
from appstoreserverlibrary.models.JWSRenewalInfoDecodedPayload import JWSRenewalInfoDecodedPayload
from appstoreserverlibrary.models.JWSTransactionDecodedPayload import JWSTransactionDecodedPayload
from appstoreserverlibrary.models.ResponseBodyV2DecodedPayload import ResponseBodyV2DecodedPayload
from hypothesis import given
from hypothesis import strategies as st

from verifier.domain import Kind, kind_of
from verifier.domain.kinds import KINDS, mistaken

CLAIMS: Mapping[Kind, dict[str, Any]] = {
    "notification": {
        "notificationType": "REFUND",
        "notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20",
        "signedDate": 1767225601500,
        "data": {"bundleId": "com.example.game", "environment": "Production"},
    },
    "transaction": {
        "transactionId": "2000000277760217",
        "originalTransactionId": "2000000277760217",
        "bundleId": "com.example.game",
        "productId": "com.example.game.gems100",
        "purchaseDate": 1767225600000,
        "type": "Consumable",
        "signedDate": 1767225601500,
        "environment": "Production",
    },
    "renewal_info": {
        "originalTransactionId": "2000000277760217",
        "productId": "com.example.game.vip.monthly",
        "autoRenewProductId": "com.example.game.vip.yearly",
        "autoRenewStatus": 0,
        "signedDate": 1767225601500,
        "environment": "Production",
    },
    "app_transaction": {
        "receiptType": "Production",
        "appAppleId": 1234567890,
        "bundleId": "com.example.game",
        "applicationVersion": "1",
        "receiptCreationDate": 1767225601500,
        "originalPurchaseDate": 1767225600000,
    },
}

APPLES_CLASSES: Mapping[Kind, type] = {
    "notification": ResponseBodyV2DecodedPayload,
    "transaction": JWSTransactionDecodedPayload,
    "renewal_info": JWSRenewalInfoDecodedPayload,
    "app_transaction": AppTransaction,
}


def fields_of(apples: type) -> set[str]:
    return {field.name for field in attr.fields(apples) if not field.name.startswith("raw")}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_by_its_claims(kind: Kind) -> None:
    assert kind_of(CLAIMS[kind]) == kind
    assert mistaken(CLAIMS[kind], expected=kind) is None


def test_every_kind_has_its_marks() -> None:
    assert set(KINDS) == set(get_args(Kind))


@pytest.mark.parametrize("kind", KINDS)
def test_what_only_one_kind_has_is_in_no_other_of_apples_classes_and_what_it_always_has_is_in_its_own(
    kind: Kind,
) -> None:
    """A field that Apple adds to another kind under one of these names fails here, with the next version."""
    marks = KINDS[kind]
    others = {other: fields_of(apples) for other, apples in APPLES_CLASSES.items() if other != kind}
    others |= {"a retention request": fields_of(DecodedRealtimeRequestBody)}  # type: ignore[dict-item]
    assert {name: where for name in marks.only for where, names in others.items() if name in names} == {}
    assert {*marks.only, *marks.always} <= fields_of(APPLES_CLASSES[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_with_all_of_its_fields_is_still_that_kind(kind: Kind) -> None:
    assert kind_of(dict.fromkeys(fields_of(APPLES_CLASSES[kind]), "x")) == kind


@pytest.mark.parametrize(("kind", "other"), [(kind, other) for kind in KINDS for other in KINDS if kind != other])
def test_each_other_kind_is_refused_by_its_name(kind: Kind, other: Kind) -> None:
    assert mistaken(CLAIMS[other], expected=kind) == f"this is {KINDS[other].noun}, not {KINDS[kind].noun}"


@pytest.mark.parametrize(
    ("kind", "other", "name"),
    [(kind, other, name) for kind in KINDS for other in KINDS if kind != other for name in KINDS[other].only],
)
def test_a_kind_with_a_mark_of_another_is_none(kind: Kind, other: Kind, name: str) -> None:
    both = {**CLAIMS[kind], name: "x"}
    assert kind_of(both) is None
    assert mistaken(both, expected=kind) == f"this is not {KINDS[kind].noun}: it has what only another kind has"


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KINDS[kind].always])
@pytest.mark.parametrize("value", [..., None], ids=["absent", "null"])
def test_a_kind_without_what_it_always_has_is_none(kind: Kind, name: str, value: object) -> None:
    less = {key: said for key, said in {**CLAIMS[kind], name: value}.items() if said is not ...}
    assert kind_of(less) is None
    assert mistaken(less, expected=kind) == f"this is not {KINDS[kind].noun}: it has no {name}"


def test_a_mark_of_another_kind_that_is_null_is_as_good_as_absent() -> None:
    assert kind_of({**CLAIMS["transaction"], "notificationType": None, "autoRenewStatus": None}) == "transaction"


def test_what_a_device_adds_to_what_it_was_signed_does_not_change_its_kind() -> None:
    device = {"deviceVerification": "x", "deviceVerificationNonce": "y", "appTransactionId": "z"}
    assert [kind_of({**CLAIMS[kind], **device}) for kind in KINDS] == list(KINDS)


@pytest.mark.parametrize(
    "claims",
    [{}, {"environment": "Sandbox", "signedDate": 1}, dict.fromkeys(fields_of(DecodedRealtimeRequestBody), "x")],
    ids=["nothing", "environment and date", "a retention request"],
)
def test_what_is_none_of_them_is_none(claims: dict[str, Any]) -> None:
    assert kind_of(claims) is None


NAMES = sorted({name for apples in APPLES_CLASSES.values() for name in fields_of(apples)})


@given(st.dictionaries(st.sampled_from(NAMES), st.none() | st.integers() | st.text(max_size=3)))
def test_whatever_the_claims_it_is_one_kind_at_the_most(claims: dict[str, Any]) -> None:
    taken = [kind for kind in KINDS if mistaken(claims, expected=kind) is None]
    assert taken == [kind for kind in [kind_of(claims)] if kind is not None]
