"""Whatever comes first, and whoever comes at once: one owner who may have it, one grant, and the same record."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from shared.apps import Apps
from shared.events import Draft, PurchaseRejected, RefundReceived, RefundReversed
from tests.support.app_store import AppStore, refunded
from tests.support.verifying import (
    NOW,
    TOKEN,
    Desk,
    found,
    ids,
    named,
    notified,
    posted,
    receipt,
    said,
    subject_of,
    token_issued,
    valid,
)

ROADS = ("posted", "posted again", "charged", "refunded", "token")


@pytest.fixture
def desk(connection: Connection, store: AppStore, apps: Apps) -> Desk:
    return Desk(connection, store, apps)


@pytest.mark.parametrize("order", list(itertools.permutations(ROADS)), ids="-".join)
def test_any_order_of_the_same_facts_ends_in_the_same_record(
    desk: Desk, store: AppStore, connection: Connection, order: tuple[str, ...]
) -> None:
    """The owner, the refund and the newest statement do not depend on what came first."""
    token = uuid5(TOKEN, "-".join(order))
    claims = store.transaction(appAccountToken=str(token))
    facts = {
        "posted": posted(store, "alice", claims),
        "posted again": posted(store, "alice", claims | {"signedDate": claims["signedDate"] + 5}),
        "charged": notified(store, "ONE_TIME_CHARGE", claims),
        "refunded": notified(store, "REFUND", refunded(claims)),
        "token": token_issued("alice", token),
    }
    drafts = [draft for name in order for draft in desk.handle(facts[name])]
    verified, refunds = said(drafts).count("purchase.verified"), said(drafts).count("refund.received")
    assert refunds == 1
    assert verified == (0 if _refund_came_first(order) else 1)
    row = connection.exec_driver_sql(
        "select user_id, refunded_milli, signed_at from verifier.store_transaction where transaction_id = %(id)s",
        {"id": claims["transactionId"]},
    ).one()
    assert row[1] == 100_000
    assert row[0] == ("alice" if verified else None)


def _refund_came_first(order: tuple[str, ...]) -> bool:
    """Nobody had claimed it when it was refunded: no post, and no charge whose token was known."""
    before = order[: order.index("refunded")]
    claimed_by_token = "charged" in before and "token" in before
    return not ("posted" in before or "posted again" in before or claimed_by_token)


# ---- two users and one transaction, by every road ----------------------------------------------------------------

ALICE, BOB = "alice", "bob"
WHOLE = 100_000


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about the one transaction that arrives. `who` claims it, or is told; `milli` of it are taken back by
    a statement that was signed `signed_s` after the purchase."""

    road: str
    who: str = ALICE
    milli: int = 0
    signed_s: int = 0

    @property
    def is_proof(self) -> bool:
        """The user brought the store's word of it, or the app's own backend speaks for him."""
        return self.road in {"signed", "in a receipt", "named by the backend"}

    @property
    def shows_token(self) -> bool:
        """A receipt does not show the account token of a consumable; of a declined refund nothing is kept."""
        return self.road not in {"in a receipt", "token", "declined"}

    @property
    def is_about_refunds(self) -> bool:
        return self.road in {"refunded", "reversed"}


def newest(facts: Iterable[Fact]) -> Fact:
    """Of all that says how far it is refunded, that which was signed last."""
    words = (fact for fact in facts if fact.is_about_refunds)
    return max(words, key=lambda fact: fact.signed_s, default=Fact("charged"))


BY_USERS = ("signed", "in a receipt", "not in its receipt", "named", "named by the backend")
REFUNDS = (
    Fact("refunded", milli=30_000, signed_s=10),
    Fact("refunded", milli=60_000, signed_s=20),
    Fact("reversed", signed_s=30),
    Fact("refunded", milli=WHOLE, signed_s=40),
)
FACTS = (
    *(Fact(road, who) for road in BY_USERS for who in (ALICE, BOB)),
    Fact("charged"),
    *REFUNDS,
    Fact("reversed", signed_s=50),
    Fact("declined", signed_s=60),
    Fact("token"),
)


@dataclass
class Court:
    """One transaction, to which facts happen; after each of them what must always hold is checked."""

    connection: Connection
    store: AppStore
    apps: Apps
    token: UUID
    bought_for_alice: bool
    happened: list[Fact] = field(default_factory=list)
    verified: list[Draft] = field(default_factory=list)
    refunds: list[tuple[datetime, int]] = field(default_factory=list)
    owner: str | None = None

    def __post_init__(self) -> None:
        token = str(self.token) if self.bought_for_alice else None
        self.claims = self.store.transaction(appAccountToken=token)
        self.desk = Desk(self.connection, self.store, self.apps)
        self.id: str = self.claims["transactionId"]

    def happens(self, fact: Fact) -> None:
        holder_is_known = self.holder_is_known()
        drafts = self._arrives(fact)
        self.happened.append(fact)
        self.verified += [draft for draft in drafts if draft.payload.TYPE == "purchase.verified"]
        self.refunds += [told for draft in drafts if (told := _told_of_refunds(draft)) is not None]
        before, self.owner = self.owner, self.record()["user_id"]
        assert before in (None, self.owner), "the first owner is the owner, for good"
        if before is None and self.owner is not None:
            self._may_have_it(self.owner, holder_is_known=holder_is_known)
        self._is_granted_once()
        self._is_refunded_as_told()
        for draft in drafts:
            rejected = isinstance(draft.payload, PurchaseRejected)
            assert not (rejected and draft.subject == self._purchase_of_owner()), "the owner is not told of a refusal"

    def record(self) -> dict[str, Any]:
        row = self.connection.exec_driver_sql(
            "select user_id, account_token, signed_at, revoked_signed_at, refunded_milli, statement"
            " from verifier.store_transaction where transaction_id = %(id)s",
            {"id": self.id},
        ).mappings()
        return dict(row.one_or_none() or {"user_id": None, "revoked_signed_at": None, "refunded_milli": 0})

    def holder_is_known(self) -> bool:
        """That it was bought for alice: its token is known, and whose that is."""
        seen = any(fact.shows_token for fact in self.happened)
        return self.bought_for_alice and seen and Fact("token") in self.happened

    def _arrives(self, fact: Fact) -> list[Draft]:
        match fact.road:
            case "signed":
                return self.desk.handle(posted(self.store, fact.who, self.claims))
            case "charged":
                return self.desk.handle(notified(self.store, "ONE_TIME_CHARGE", self.claims))
            case "refunded":
                taken = refunded(self.claims, after_s=fact.signed_s, revocationPercentage=fact.milli)
                return self.desk.handle(notified(self.store, "REFUND", taken))
            case "reversed" | "declined":
                stated = self.claims | {"signedDate": self.claims["signedDate"] + fact.signed_s * 1000}
                return self.desk.handle(notified(self.store, f"REFUND_{fact.road.upper()}", stated))
            case "token":
                return self.desk.handle(token_issued(ALICE, self.token))
            case "in a receipt" | "not in its receipt":
                shown = self.claims | {"signedDate": self.claims["signedDate"] + 5, "appAccountToken": None}
                held = valid(shown) if fact.road == "in a receipt" else valid()
                return self.desk.settle(receipt(fact.who, self.id), held, looked_up=found(self.store, self.claims))
        claim = named(fact.who, self.id, vouched=fact.road == "named by the backend")
        return self.desk.look_up(claim, found(self.store, self.claims))

    def _may_have_it(self, owner: str, *, holder_is_known: bool) -> None:
        proved = any(fact.is_proof and fact.who == owner for fact in self.happened)
        assert proved or (owner == ALICE and self.holder_is_known()), "whoever only knows its id is a stranger"
        assert owner == ALICE or not holder_is_known, "it was bought for somebody else"
        assert newest(self.happened).milli < WHOLE, "nothing is granted that is taken back"

    def _is_granted_once(self) -> None:
        granted = [(draft.user_id, draft.subject) for draft in self.verified]
        assert granted == ([] if self.owner is None else [(self.owner, self._purchase_of_owner())])

    def _is_refunded_as_told(self) -> None:
        """The record is what the newest word says; and who hears what is told, and keeps the newest, knows the same."""
        counts, record = newest(self.happened), self.record()
        signed_at = NOW + timedelta(seconds=counts.signed_s) if counts.is_about_refunds else None
        assert (record["refunded_milli"], record["revoked_signed_at"]) == (counts.milli, signed_at)
        assert max(self.refunds, default=(None, 0))[1] == counts.milli
        dates, told = [date for date, _ in self.refunds], [milli for _, milli in self.refunds]
        assert dates == sorted(set(dates)), "what is older than what was told is not told"
        assert all(one != following for one, following in itertools.pairwise(told)), "nothing is told twice"

    def _purchase_of_owner(self) -> str | None:
        return None if self.owner is None else subject_of(self.owner, self.id)

    def ends(self) -> None:
        """What must hold once all has happened: who may have it has it, unless it is taken back."""
        if newest(self.happened).milli == WHOLE:
            return
        proved = {fact.who for fact in self.happened if fact.is_proof}
        charged_to_alice = self.holder_is_known() and Fact("charged") in self.happened
        if ALICE in proved or charged_to_alice:
            assert self.owner is not None
        if proved == {BOB} and not self.holder_is_known():
            assert self.owner == BOB


def _told_of_refunds(draft: Draft) -> tuple[datetime, int] | None:
    """When the store signed it, and how far it is refunded by that."""
    match draft.payload:
        case RefundReceived(transaction=transaction, percentage_milli=milli):
            return transaction.signed_at, milli
        case RefundReversed(transaction=transaction):
            return transaction.signed_at, 0
    return None


examples = settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@examples
@given(happens=st.lists(st.sampled_from(FACTS), min_size=1, max_size=8), bought_for_alice=st.booleans())
def test_one_owner_who_is_no_stranger_and_one_grant_whatever_happens_in_whatever_order(
    engine: Engine, store: AppStore, apps_with_key: Apps, happens: list[Fact], bought_for_alice: bool
) -> None:
    note(f"bought for alice: {bought_for_alice}; {happens}")
    with engine.connect() as connection:
        court = Court(connection, store, apps_with_key, ids.uuid(), bought_for_alice)
        for fact in happens:
            court.happens(fact)
        court.ends()
        connection.rollback()


def _in_words(order: tuple[Fact, ...]) -> str:
    return "-".join(f"{fact.road} {fact.milli}" for fact in order)


@pytest.mark.parametrize(
    "order",
    list(itertools.permutations(REFUNDS)),
    ids=_in_words,
)
def test_refunds_and_their_reversal_in_any_order_and_twice_each_end_in_the_newest(
    connection: Connection, store: AppStore, apps: Apps, order: tuple[Fact, ...]
) -> None:
    """Each comes twice in a row, and once more when all have come."""
    court = Court(connection, store, apps, ids.uuid(), bought_for_alice=False)
    for fact in (Fact("signed"), *(fact for fact in order for _ in range(2)), *order):
        court.happens(fact)
    assert court.record()["refunded_milli"] == WHOLE


REVERSED = (Fact("signed"), Fact("refunded", milli=WHOLE, signed_s=40), Fact("reversed", signed_s=50))


@pytest.mark.parametrize("order", list(itertools.permutations(REVERSED)), ids=_in_words)
def test_who_claims_what_the_store_took_back_and_gave_again_has_it_in_any_order(
    connection: Connection, store: AppStore, apps: Apps, order: tuple[Fact, ...]
) -> None:
    """Nobody has to claim it once more."""
    court = Court(connection, store, apps, ids.uuid(), bought_for_alice=False)
    for fact in (*order, Fact("signed", BOB)):
        court.happens(fact)
    assert court.owner == ALICE


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_account_token_is_that_of_the_newest_statement_that_has_one(
    desk: Desk, store: AppStore, connection: Connection, order: tuple[int, ...]
) -> None:
    """Apple lets an app change it, and a receipt does not show it."""
    first, second = uuid5(TOKEN, f"first {order}"), uuid5(TOKEN, f"second {order}")
    claims = store.transaction()
    statements = [
        claims | {"signedDate": claims["signedDate"] + number} | ({"appAccountToken": str(token)} if token else {})
        for number, token in enumerate([first, second, None])
    ]
    for number in order:
        desk.handle(notified(store, "ONE_TIME_CHARGE", statements[number]))
    row = connection.exec_driver_sql(
        "select account_token from verifier.store_transaction where transaction_id = %(id)s",
        {"id": claims["transactionId"]},
    ).one()
    assert row == (second,)


@examples
@given(data=st.data(), bought_for_alice=st.booleans(), with_bob=st.booleans())
def test_the_same_facts_in_another_order_end_in_the_same_record(
    engine: Engine, store: AppStore, apps_with_key: Apps, data: st.DataObject, bought_for_alice: bool, with_bob: bool
) -> None:
    """The first of two who may have it gets it, and what is taken back goes to nobody who had not got it before; apart
    from these the owner is the same too. (Of a refund declined nothing is on record.)"""
    possible = [fact for fact in FACTS if with_bob or fact.who != BOB]
    happens = data.draw(st.lists(st.sampled_from(possible), min_size=2, max_size=6))
    orders = happens, data.draw(st.permutations(happens))
    note(f"bought for alice: {bought_for_alice}; {orders}")
    compare_owner = not with_bob and newest(happens).milli < WHOLE
    ends = []
    for order in orders:
        with engine.connect() as connection:
            court = Court(connection, store, apps_with_key, ids.uuid(), bought_for_alice)
            for fact in order:
                court.happens(fact)
            ends.append(_comparable(court, owner=compare_owner))
            connection.rollback()
    assert ends[0] == ends[1]


def _comparable(court: Court, *, owner: bool) -> dict[str, Any]:
    """The record, without what differs between two transactions, and with its owner if that is not to differ."""
    record = court.record()
    if (statement := record.get("statement")) is not None:
        record["statement"] = statement | {"transaction_id": "", "original_transaction_id": ""}
    record["account_token"] = record.get("account_token") is not None
    record["user_id"] = record["user_id"] if owner else None
    return record
