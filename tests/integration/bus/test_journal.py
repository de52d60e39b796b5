"""The journal on a real PostgreSQL: what recording an event writes, when it writes nothing, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from shared.bus import journal
from shared.bus.routes import LEDGER, NOTIFIER, VERIFIER
from shared.clock import ManualClock
from shared.database import connect_engine, transact
from shared.events import (
    AccountTokenIssued,
    Draft,
    NotificationReceived,
    Payload,
    PurchaseCompleted,
    PurchaseParked,
    PurchaseRefunded,
    PurchaseRejected,
    PurchaseVerified,
    StoreTransaction,
    TransactionSubmitted,
    WalletChange,
    WalletCredited,
)
from shared.ids import EventId, PurchaseId, TransactionId, UserId, uuid7_moment
from shared.money import Amount, CurrencyId
from tests.support.bus import GAME, NOW, Bus, bus_in
from tests.support.seeded import seeded_ids

PURCHASE = PurchaseId("pur_1")
SUBMITTED = TransactionSubmitted(store="apple", transaction_id=TransactionId("1"), signed_transaction="a.b.c")
REJECTED = PurchaseRejected(
    purchase_id=PURCHASE, store="apple", transaction_id=TransactionId("1"), code="wrong_app", detail="of another app"
)
TRANSACTION = StoreTransaction(
    store="apple",
    environment="production",
    transaction_id=TransactionId("1"),
    original_transaction_id=TransactionId("1"),
    product_id="com.example.game.gems100",
    product_type="consumable",
    quantity=1,
    purchased_at=NOW,
    signed_at=NOW,
)
VERIFIED = PurchaseVerified(purchase_id=PURCHASE, transaction=TRANSACTION)
COMPLETED = PurchaseCompleted(purchase_id=PURCHASE, transaction=TRANSACTION, granted=[Amount(CurrencyId("gems"), 100)])
REFUNDED = PurchaseRefunded(purchase_id=PURCHASE, transaction=TRANSACTION)
CREDITED = WalletCredited(
    change=WalletChange(
        entry_id="ent_1",
        environment="production",
        currency=CurrencyId("gems"),
        amount=100,
        balance_after=100,
        version=1,
        kind="purchase",
    )
)
REOPEN = (REJECTED.TYPE, TransactionSubmitted.TYPE)
REPEAT = (REJECTED.TYPE,)


@pytest.fixture(scope="module")
def bus(module_database: str) -> Iterator[Bus]:
    with bus_in(module_database) as bus:
        yield bus


@pytest.fixture(scope="module")
def gateway(module_database: str) -> Iterator[Engine]:
    """As the gateway sees the database."""
    engine = connect_engine(module_database, role="purser_gateway", pool_size=50, application_name="test-gateway")
    yield engine
    engine.dispose()


@pytest.fixture
def submit(bus: Bus, gateway: Engine) -> Callable[..., EventId | None]:
    """Submits a transaction as the gateway does; None when it is known already."""

    def submitted(subject: str, *, fingerprint: bytes = b"proof", payload: Payload = SUBMITTED) -> EventId | None:
        draft = bus.draft(payload, subject=subject)
        return transact(
            gateway,
            lambda connection: journal.append_once(
                connection, draft, ids=bus.ids, fingerprint=fingerprint, reopen=REOPEN, repeat=REPEAT
            ),
        )

    return submitted


Submit = Callable[..., EventId | None]


@pytest.fixture
def subject(bus: Bus) -> str:
    return f"pur_{bus.ids.uuid()}"


def head(bus: Bus, subject: str) -> journal.Head:
    found = transact(bus.engine, lambda connection: journal.head(connection, app=GAME, subject=subject))
    assert found is not None
    return found


def timeline(bus: Bus, *heads: journal.Head) -> list[EventId]:
    return [event.id for event in transact(bus.engine, lambda connection: journal.timeline(connection, heads))]


class TestAppend:
    def test_an_event_has_one_delivery_per_subscriber_and_a_head_of_its_timeline(self, bus: Bus, subject: str) -> None:
        completed, credited, verified = bus.record(
            *(bus.draft(payload, subject=subject) for payload in (COMPLETED, CREDITED, VERIFIED))
        )
        pending = transact(bus.engine, lambda connection: journal.pending(connection, [completed, credited, verified]))
        assert [
            (each.consumer, each.event_id, each.type, each.state, each.handovers, each.attempts) for each in pending
        ] == [
            (NOTIFIER, completed, "purchase.completed", "waiting", 0, 0),
            (NOTIFIER, credited, "wallet.credited", "waiting", 0, 0),
            (LEDGER, verified, "purchase.verified", "waiting", 0, 0),
        ]
        assert head(bus, subject) == journal.Head(
            app=GAME,
            subject=subject,
            user_id=UserId("alice"),
            first_event_id=completed,
            last_event_id=verified,
            word_event_id=completed,
            word_type="purchase.completed",
        )

    def test_an_event_is_read_back_as_it_was_recorded(self, bus: Bus) -> None:
        draft = replace(bus.draft(COMPLETED), causation_id=bus.ids.event_id())
        (event_id,) = bus.record(draft)
        (event,) = transact(bus.engine, lambda connection: journal.load(connection, [event_id, bus.ids.event_id()]))
        assert (event.id, event.payload, event.app, event.subject) == (event_id, COMPLETED, GAME, draft.subject)
        assert (event.user_id, event.trace_id, event.causation_id) == ("alice", draft.trace_id, draft.causation_id)
        assert event.occurred_at == NOW
        assert event.recorded_at.tzinfo is not None

    def test_it_is_part_of_the_callers_transaction(self, bus: Bus, subject: str) -> None:
        with bus.engine.connect() as connection:
            (event_id,) = journal.append(connection, [bus.draft(VERIFIED, subject=subject)], ids=bus.ids)
            connection.rollback()
        for table, column, value in (
            ("event", "id", event_id),
            ("delivery", "event_id", event_id),
            ("timeline", "subject", subject),
        ):
            rows = bus.execute(f"select from journal.{table} where {column} = %(value)s", value=value)
            assert rows == []

    def test_nothing_to_record_asks_the_database_nothing(self, bus: Bus) -> None:
        with bus.engine.connect() as connection:
            assert journal.append(connection, [], ids=bus.ids) == []
            assert not connection.in_transaction()

    def test_a_type_nobody_subscribes_to_is_recorded_with_no_delivery(self, bus: Bus, subject: str) -> None:
        parked = PurchaseParked(purchase_id=PURCHASE, transaction=TRANSACTION, reason="no such product")
        (event_id,) = bus.record(bus.draft(parked, subject=subject))
        assert transact(bus.engine, lambda connection: journal.pending(connection, [event_id])) == []
        assert head(bus, subject).word_type == "purchase.parked"

    @pytest.mark.parametrize("text", ["", "'; drop table journal.event; --", '{"a",NULL}', "\\", "ÄÖ 💎", "NULL", "%s"])
    def test_any_text_comes_back_as_it_went_in(self, bus: Bus, text: str) -> None:
        payload = NotificationReceived(
            store="apple", notification_id=text, notification_type=text, subtype=None, signed_payload=text
        )
        draft = replace(bus.draft(payload, subject=f"ntf_{text}{bus.ids.uuid()}"), user_id=UserId(text))
        event_ids = bus.record(draft, bus.draft(SUBMITTED, user_id=None))
        first, second = transact(bus.engine, lambda connection: journal.load(connection, event_ids))
        assert (first.payload, first.user_id, first.subject) == (payload, text, draft.subject)
        assert second.user_id is None

    def test_the_user_of_a_timeline_is_the_first_who_was_named(self, bus: Bus, subject: str) -> None:
        bus.record(bus.draft(SUBMITTED, subject=subject, user_id=None))
        bus.record(bus.draft(VERIFIED, subject=subject, user_id="alice"))
        bus.record(bus.draft(VERIFIED, subject=subject, user_id="bob"))
        assert head(bus, subject).user_id == "alice"

    def test_transactions_that_meet_on_the_same_subjects_in_another_order_all_commit(self, bus: Bus) -> None:
        subjects = [f"pur_{bus.ids.uuid()}" for _ in range(20)]

        def record(turn: int) -> None:
            order = subjects if turn % 2 else subjects[::-1]
            bus.record(*(bus.draft(VERIFIED, subject=subject) for subject in order))

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(record, turn) for turn in range(16)]:
                done.result(30)
        counts = bus.execute(
            "select count(*) from journal.event where subject = any(%(subjects)s) group by subject", subjects=subjects
        )
        assert [row[0] for row in counts] == [16] * 20


class TestTheWordThatCounts:
    @pytest.mark.parametrize(
        ("said", "word"),
        [
            ([SUBMITTED], "transaction.submitted"),
            ([SUBMITTED, REJECTED], "purchase.rejected"),
            ([SUBMITTED, REJECTED, SUBMITTED], "transaction.submitted"),
            ([SUBMITTED, VERIFIED, COMPLETED], "purchase.completed"),
            ([SUBMITTED, VERIFIED, COMPLETED, CREDITED], "purchase.completed"),
            ([COMPLETED, VERIFIED], "purchase.completed"),
            ([COMPLETED, REJECTED], "purchase.completed"),
            ([COMPLETED, REFUNDED], "purchase.refunded"),
            ([REFUNDED, COMPLETED], "purchase.completed"),
            ([CREDITED, SUBMITTED], "transaction.submitted"),
        ],
    )
    @pytest.mark.parametrize("at_once", [True, False])
    def test_it_is_the_newest_of_the_highest_rank(
        self, bus: Bus, subject: str, said: Sequence[Payload], word: str, at_once: bool
    ) -> None:
        drafts = [bus.draft(payload, subject=subject) for payload in said]
        event_ids = bus.record(*drafts) if at_once else [bus.record(draft)[0] for draft in drafts]
        newest = max(place for place, payload in enumerate(said) if word == payload.TYPE)
        found = head(bus, subject)
        assert (found.word_type, found.word_event_id) == (word, event_ids[newest])
        assert (found.first_event_id, found.last_event_id) == (event_ids[0], event_ids[-1])

    def test_events_that_say_nothing_of_a_purchase_leave_no_word(self, bus: Bus, subject: str) -> None:
        bus.record(bus.draft(AccountTokenIssued(token=UUID(int=1)), subject=subject))
        found = head(bus, subject)
        assert (found.word_type, found.word_event_id) == (None, None)

    def test_it_stays_when_an_event_says_nothing_of_the_purchase(self, bus: Bus, subject: str) -> None:
        (submitted,) = bus.record(bus.draft(SUBMITTED, subject=subject))
        bus.record(bus.draft(CREDITED, subject=subject))
        assert head(bus, subject).word_event_id == submitted


class TestAppendOnce:
    def test_of_fifty_at_once_one_is_recorded(self, bus: Bus, submit: Submit, subject: str) -> None:
        with ThreadPoolExecutor(50) as pool:
            recorded = [done.result(30) for done in [pool.submit(submit, subject) for _ in range(50)]]
        (event_id,) = [each for each in recorded if each is not None]
        assert timeline(bus, head(bus, subject)) == [event_id]
        assert bus.open(VERIFIER, [each for each in recorded if each]) == {event_id}
        count = bus.execute("select count(*) from journal.event where subject = %(subject)s", subject=subject)
        assert count[0][0] == 1

    def test_another_proof_is_looked_at_while_the_purchase_is_open(self, submit: Submit, subject: str) -> None:
        assert submit(subject, fingerprint=b"one")
        assert submit(subject, fingerprint=b"two")
        assert submit(subject, fingerprint=b"two") is None

    def test_another_proof_is_not_looked_at_once_the_purchase_is_granted(
        self, bus: Bus, submit: Submit, subject: str
    ) -> None:
        submit(subject, fingerprint=b"one")
        bus.record(bus.draft(COMPLETED, subject=subject))
        before = head(bus, subject)
        assert submit(subject, fingerprint=b"two") is None
        assert head(bus, subject) == before

    def test_another_proof_reopens_a_rejected_purchase(self, bus: Bus, submit: Submit, subject: str) -> None:
        submit(subject, fingerprint=b"one")
        bus.record(bus.draft(REJECTED, subject=subject))
        reopened = submit(subject, fingerprint=b"two")
        assert reopened is not None
        assert head(bus, subject).word_event_id == reopened
        assert bus.open(VERIFIER, [reopened]) == {reopened}

    def test_the_same_proof_reopens_a_rejected_purchase_after_a_minute_and_not_before(
        self, bus: Bus, submit: Submit, subject: str
    ) -> None:
        submit(subject)
        bus.record(bus.draft(REJECTED, subject=subject))
        assert submit(subject) is None
        age(bus, subject, seconds=journal.REPEAT_AFTER_S - 5)
        assert submit(subject) is None
        age(bus, subject, seconds=10)
        assert submit(subject) is not None
        assert submit(subject) is None

    def test_the_same_proof_of_an_open_purchase_is_never_a_new_one(
        self, bus: Bus, submit: Submit, subject: str
    ) -> None:
        submit(subject)
        age(bus, subject, seconds=10 * journal.REPEAT_AFTER_S)
        assert submit(subject) is None

    def test_what_followed_keeps_the_fingerprint_of_the_submission(
        self, bus: Bus, submit: Submit, subject: str
    ) -> None:
        submit(subject, fingerprint=b"one")
        bus.record(bus.draft(REJECTED, subject=subject))
        assert submit(subject, fingerprint=b"one") is None

    def test_a_subject_without_a_rule_to_reopen_it_is_recorded_once_for_ever(
        self, bus: Bus, gateway: Engine, subject: str
    ) -> None:
        draft = bus.draft(AccountTokenIssued(token=UUID(int=1)), subject=subject)

        def record(connection: Connection) -> EventId | None:
            return journal.append_once(connection, draft, ids=bus.ids)

        assert transact(gateway, record) is not None
        age(bus, subject, seconds=10 * journal.REPEAT_AFTER_S)
        assert transact(gateway, record) is None

    def test_the_same_subject_in_another_app_is_another_one(self, bus: Bus, gateway: Engine, subject: str) -> None:
        def record(app: str) -> EventId | None:
            draft = replace(bus.draft(SUBMITTED, subject=subject), app=app)  # type: ignore[arg-type]
            return transact(gateway, lambda connection: journal.append_once(connection, draft, ids=bus.ids))

        assert record("game")
        assert record("other")
        assert head(bus, subject).app == "game"


class TestHeadsOfAUser:
    def test_they_are_paged_newest_first_and_only_purchases(self, bus: Bus) -> None:
        user = f"user-{bus.ids.uuid()}"
        subjects = [f"pur_{bus.ids.uuid()}" for _ in range(5)]
        for subject in subjects:
            bus.record(bus.draft(SUBMITTED, subject=subject, user_id=user))
        bus.record(bus.draft(COMPLETED, subject=subjects[0], user_id=user))
        bus.record(bus.draft(AccountTokenIssued(token=UUID(int=1)), subject=f"acc_{bus.ids.uuid()}", user_id=user))
        bus.record(bus.draft(SUBMITTED, subject=f"purx{bus.ids.uuid()}", user_id=user))
        bus.record(bus.draft(SUBMITTED, user_id=f"{user}x"))

        def page(before: UUID | None) -> list[journal.Head]:
            return transact(
                bus.engine,
                lambda connection: journal.heads_of_user(
                    connection, app=GAME, user_id=UserId(user), limit=2, before=before
                ),
            )

        pages: list[list[journal.Head]] = [page(None)]
        while pages[-1]:
            pages.append(page(pages[-1][-1].first_event_id))
        assert [[known.subject for known in each] for each in pages] == [
            [subjects[4], subjects[3]],
            [subjects[2], subjects[1]],
            [subjects[0]],
            [],
        ]

    def test_several_timelines_are_read_at_once_oldest_event_first(self, bus: Bus) -> None:
        subjects = [f"pur_{bus.ids.uuid()}" for _ in range(3)]
        recorded = [bus.record(bus.draft(SUBMITTED, subject=subject))[0] for subject in subjects]
        recorded += [bus.record(bus.draft(COMPLETED, subject=subject))[0] for subject in reversed(subjects)]
        bus.record(bus.draft(SUBMITTED))
        heads = transact(
            bus.engine, lambda connection: journal.heads(connection, app=GAME, subjects=[*subjects, "pur_unknown"])
        )
        assert len(heads) == 3
        assert timeline(bus, *heads) == recorded
        assert timeline(bus) == []


class TestPartitions:
    @pytest.fixture
    def read_partitions(self, bus: Bus) -> Callable[[str], set[str]]:
        """The partitions that a statement's plan reads."""

        def partitions(sql: str) -> set[str]:
            plan = "\n".join(row[0] for row in bus.execute(f"explain {sql}"))
            return set(re.findall(r" on (event_\w+)", plan))

        return partitions

    def test_a_timeline_reads_the_partitions_of_its_own_time_alone(
        self, bus: Bus, read_partitions: Callable[[str], set[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bus.execute("select journal.ensure_partitions('2031-01-15Z', 3)")
        ids = seeded_ids(1, clock=ManualClock(datetime(2031, 2, 10, tzinfo=UTC)))
        subject = f"pur_{bus.ids.uuid()}"
        transact(bus.engine, lambda c: journal.append(c, [bus.draft(SUBMITTED, subject=subject)], ids=ids))
        statements: list[str] = []
        known = head(bus, subject)

        def note(connection: Connection, sql: str, parameters: dict[str, Any]) -> list[Any]:
            statements.append(connection.connection.cursor().mogrify(sql, parameters).decode())
            return []

        with bus.engine.connect() as connection, monkeypatch.context() as patched:
            patched.setattr(Connection, "exec_driver_sql", note)
            journal.timeline(connection, [known])
            journal.load(connection, [known.first_event_id])
        assert len(statements) == 2
        for statement in statements:
            assert read_partitions(statement) == {"event_2031_02"}

    def test_an_events_time_is_in_its_id(self, bus: Bus) -> None:
        (event_id,) = bus.record(bus.draft(SUBMITTED))
        (event,) = transact(bus.engine, lambda connection: journal.load(connection, [event_id]))
        assert abs((uuid7_moment(event_id) - event.recorded_at).total_seconds()) < 10


def age(bus: Bus, subject: str, *, seconds: float) -> None:
    """Makes a timeline's last change older."""
    bus.execute(
        "update journal.timeline set updated_at = updated_at - make_interval(secs => %(seconds)s)"
        " where subject = %(subject)s",
        seconds=seconds,
        subject=subject,
    )


def test_drafts_of_a_batch_keep_their_order_in_their_ids(bus: Bus) -> None:
    drafts: list[Draft] = [bus.draft(SUBMITTED) for _ in range(50)]
    event_ids = bus.record(*drafts)
    assert event_ids == sorted(event_ids)
