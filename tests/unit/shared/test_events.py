"""Events: every payload comes back as it was written, and what is not known or not right is said to be so."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NewType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import events
from shared.bus.routes import CONSUMERS, SUBSCRIPTIONS, types_for
from shared.events import (
    OUTWARD,
    PAYLOADS,
    WORD_RANK,
    AccountTokenIssued,
    Event,
    EventMalformed,
    EventUnknown,
    Payload,
    PurchaseCompleted,
    ReceiptSubmitted,
    TransactionIdSubmitted,
    decode,
    encode,
    following,
)
from shared.ids import AppId, EventId, UserId
from shared.money import AMOUNT_MAX

TOKEN = AccountTokenIssued(token=UUID("6ba7b810-9dad-41d1-80b4-00c04fd430c8"))
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    str: st.text(),
    int: st.integers(-AMOUNT_MAX, AMOUNT_MAX),
    UUID: st.uuids(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    type(None): st.none(),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may have."""
    if isinstance(hint, NewType):
        return values_of(hint.__supertype__)
    if hint in PLAIN:
        return PLAIN[hint]
    if is_dataclass(hint) and isinstance(hint, type):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{each.name: values_of(hints[each.name]) for each in fields(hint)})
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=3)
    if origin is Mapping:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
    assert origin in {typing.Union, types.UnionType}, hint
    return st.one_of(*map(values_of, arguments))


TRANSACTION = {
    "store": "apple",
    "environment": "production",
    "transaction_id": "1",
    "original_transaction_id": "1",
    "product_id": "gems",
    "product_type": "consumable",
    "quantity": 1,
    "purchased_at": "2026-11-22T12:00:00Z",
    "signed_at": "2026-11-22T12:00:00Z",
}


class TestTheCodec:
    @pytest.mark.parametrize("payload_class", PAYLOADS.values(), ids=lambda each: each.TYPE)
    @given(data=st.data())
    def test_a_payload_comes_back_as_it_was_written(self, payload_class: type[Payload], data: st.DataObject) -> None:
        payload = data.draw(values_of(payload_class))
        assert decode(payload_class.TYPE, payload_class.VERSION, encode(payload)) == payload
        assert decode(payload_class.TYPE, payload_class.VERSION, encode(payload).decode()) == payload

    @pytest.mark.parametrize(
        ("event_type", "version"), [("purchase.invented", 1), (AccountTokenIssued.TYPE, 2), ("", 0)]
    )
    def test_a_name_or_version_that_is_not_known_is_said_to_be_so(self, event_type: str, version: int) -> None:
        with pytest.raises(EventUnknown, match=f"{event_type}.*{version}"):
            decode(event_type, version, "{}")

    @pytest.mark.parametrize(
        "document",
        ["", "{", "[]", "null", "{}", '{"token": null}', '{"token": "x"}', '{"token": 5}', '{"token": ["a"]}'],
    )
    def test_a_payload_that_is_not_what_its_type_says_is_malformed(self, document: str) -> None:
        with pytest.raises(EventMalformed, match=r"account_token\.issued version 1"):
            decode(AccountTokenIssued.TYPE, 1, document)

    @pytest.mark.parametrize("amount", ["1.5", "1e3", '"1"', str(AMOUNT_MAX + 1), "null"])
    def test_an_amount_that_is_no_whole_number_within_bounds_is_malformed(self, amount: str) -> None:
        granted = f'[{{"currency": "gems", "amount": {amount}}}]'
        document = f'{{"purchase_id": "pur_1", "transaction": {json.dumps(TRANSACTION)}, "granted": {granted}}}'
        with pytest.raises(EventMalformed):
            decode(PurchaseCompleted.TYPE, 1, document)

    def test_a_field_that_a_later_release_added_is_ignored(self) -> None:
        document = json.loads(encode(TOKEN)) | {"added_later": [1, 2]}
        assert decode(TOKEN.TYPE, 1, json.dumps(document)) == TOKEN

    @pytest.mark.parametrize("payload_class", [ReceiptSubmitted, TransactionIdSubmitted])
    def test_a_proof_that_says_nothing_of_it_is_vouched_for_by_nobody(
        self, payload_class: type[ReceiptSubmitted | TransactionIdSubmitted]
    ) -> None:
        document = json.dumps({"store": "apple", "transaction_id": "1", "receipt": "AAAA"})
        payload = decode(payload_class.TYPE, 1, document)
        assert isinstance(payload, payload_class)
        assert payload.vouched is False

    def test_a_field_with_a_default_may_be_missing_in_events_of_yesterday(self) -> None:
        document = json.dumps({"purchase_id": "pur_1", "transaction": TRANSACTION})
        payload = decode(PurchaseCompleted.TYPE, 1, document)
        assert isinstance(payload, PurchaseCompleted)
        assert payload.granted == []


class TestTheVocabulary:
    def test_every_payload_class_can_be_read_back(self) -> None:
        defined = [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Payload)]
        assert set(PAYLOADS.values()) == set(defined) - {Payload}

    def test_every_name_is_lower_case_dotted_and_in_the_past_tense(self) -> None:
        for payload_class in PAYLOADS.values():
            thing, _, verb = payload_class.TYPE.partition(".")
            assert thing.replace("_", "").isalpha()
            assert verb.endswith("ed")

    def test_every_payload_is_a_frozen_value(self) -> None:
        for payload_class in PAYLOADS.values():
            assert payload_class.__dataclass_params__.frozen  # type: ignore[attr-defined]
            assert hasattr(payload_class, "__slots__")

    def test_the_ledgers_word_outranks_every_other(self) -> None:
        ledgers = {"purchase.completed", "purchase.parked", "purchase.refunded", "purchase.refund_reversed"}
        others = [rank for event_type, rank in WORD_RANK.items() if event_type not in ledgers]
        assert min(WORD_RANK[event_type] for event_type in ledgers) > max(others)

    def test_a_proof_that_is_rejected_is_outranked_by_one_that_is_found_good(self) -> None:
        assert WORD_RANK["purchase.rejected"] < WORD_RANK["purchase.verified"]

    def test_every_proof_and_its_rejection_are_of_one_rank_so_that_the_newest_counts(self) -> None:
        words = [event_type for event_type in WORD_RANK if event_type.endswith((".submitted", ".rejected"))]
        assert len(words) == 4
        assert {WORD_RANK[event_type] for event_type in words} == {1}

    def test_what_goes_outward_and_what_has_a_rank_exists(self) -> None:
        known = {payload_class.TYPE for payload_class in PAYLOADS.values()}
        assert {*OUTWARD, *WORD_RANK, *SUBSCRIPTIONS} <= known

    def test_every_subscriber_is_a_consumer_and_every_consumer_hears_of_something(self) -> None:
        assert {consumer for consumers in SUBSCRIPTIONS.values() for consumer in consumers} == set(CONSUMERS)
        for consumer in CONSUMERS:
            assert all(consumer in SUBSCRIPTIONS[event_type] for event_type in types_for(consumer))
            assert types_for(consumer)

    def test_a_consumers_messages_fit_into_what_it_may_have_in_flight(self) -> None:
        for consumer in CONSUMERS.values():
            assert 0 < consumer.ids_per_message <= consumer.ids_in_flight
            assert consumer.lease_s > 0

    def test_every_outward_event_reaches_the_notifier(self) -> None:
        assert all("notifier" in SUBSCRIPTIONS[event_type] for event_type in OUTWARD)


class TestWhatFollows:
    CAUSE: Event[Payload] = Event(
        id=EventId(UUID(int=7)),
        app=AppId("game"),
        subject="ntf_1",
        user_id=UserId("alice"),
        payload=TOKEN,
        trace_id="0" * 32,
        causation_id=None,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    NOW = datetime(2026, 1, 2, tzinfo=UTC)

    def test_it_keeps_app_trace_subject_and_user_and_names_its_cause(self) -> None:
        draft = following(self.CAUSE, TOKEN, occurred_at=self.NOW)
        assert (draft.app, draft.trace_id, draft.subject, draft.user_id) == ("game", "0" * 32, "ntf_1", "alice")
        assert (draft.causation_id, draft.occurred_at, draft.payload) == (self.CAUSE.id, self.NOW, TOKEN)

    def test_it_may_be_about_another_subject_and_user(self) -> None:
        draft = following(self.CAUSE, TOKEN, subject="pur_1", user_id=UserId("bob"), occurred_at=self.NOW)
        assert (draft.subject, draft.user_id) == ("pur_1", "bob")

    def test_an_event_is_of_its_payloads_type(self) -> None:
        assert self.CAUSE.type == events.AccountTokenIssued.TYPE
