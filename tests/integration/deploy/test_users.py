"""`purser users` on a database in which everything has happened to two users: what is exported, what is erased, and
what happens to those who are erased later, or meanwhile.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from deploy import cli
from deploy.users import erasing
from deploy.users.erasing import Erased, UserUnderWay, erase_user
from deploy.users.exporting import export_user
from deploy.users.holdings import held
from ledger.app import audit_books
from notifier.domain.deliveries import Answer
from notifier.domain.endpoints import configured_endpoints
from notifier.handlers.sending import Attempted, settle
from notifier.store.deliveries import Deliveries
from shared.apps import load_apps
from shared.bus import journal
from shared.bus.routes import LEDGER, VERIFIER
from shared.database import transact
from shared.events import PROOF_REMOVED, Draft, PurchaseVerified, UnreadEvent, UserErased
from shared.ids import EventId, PurchaseId, UserId, erasure_subject, is_pseudonym
from tests.support.app_store import refunded
from tests.support.house import EXAMPLES, GAME, House, house_in
from tests.support.ledger import somebody_waits
from tests.support.notifier import notifying
from tests.support.receiver import Receiver, Reply, receiving
from tests.support.stack import Servers, wait_until
from tests.support.system import WEBHOOK_SECRET

ALICE: Final = "alice@example.com"
BOB: Final = "bob@example.com"
NOBODY: Final = "nobody@example.com"
SCHEMAS: Final = ("journal", "verifier", "ledger", "notifier")
MONEY: Final = ("entry", "account", "lot", "portion", "reservation")
"""Tables of the ledger that say nothing of who a wallet's user is."""

_copies = itertools.count(1)


@dataclass
class Life:
    """What one user has done, and what names them: their id, their token, their purchases; and what they sent, or the
    store said of them."""

    user: str
    token: UUID
    bought: dict[str, Any]
    purchase: PurchaseId
    period: dict[str, Any]
    promised: dict[str, Any]
    names: set[str] = field(default_factory=set)
    proofs: set[str] = field(default_factory=set)


def live(house: House, user: str) -> Life:
    """One of everything that can happen to a user."""
    token = house.account_token(user)
    bought = house.store.transaction(appAccountToken=str(token), productId="com.example.game.gems550")
    with a_month_ago(house):
        period = house.store.period(appAccountToken=str(token))
    promised = house.store.transaction()
    life = Life(user, token, bought, house.submit(user, bought), period, promised)
    receipt = base64.b64encode(f"receipt of {user}".encode()).decode()
    claimed = house.submit_receipt(user, receipt, house.store.transaction())
    returned = house.store.transaction(appAccountToken=str(token))
    house.submit(user, returned)
    told = [house.notify("ONE_TIME_CHARGE", bought), house.notify("REFUND", refunded(returned))]
    subscribed = house.submit(user, life.period)
    renewal = house.store.sign(house.store.renewal(life.period))
    told.append(house.notify("DID_CHANGE_RENEWAL_STATUS", life.period, signedRenewalInfo=renewal))
    forever = house.submit(user, house.store.transaction(productId="com.example.game.adfree", type="Non-Consumable"))
    house.spend(user, 20, reference=f"order of {user}", item=f"a card for {user}")
    house.spend(user, 5, reference="1", item="sword")
    house.hold(user, 10, reference=f"auction of {user}")
    house.grant(user, 7, reason=f"{user} wrote to us")
    house.ask_for_refund(user, life.purchase, reason=f"I, {user}, did not mean to")
    early = house.store.transaction(appAccountToken=str(token))
    told.append(house.notify("REFUND", refunded(early)))  # of what nobody has claimed
    told.append(house.notify("REFUND", refunded(promised)))
    too_late = house.submit(user, promised)
    life.names |= {user, str(token), life.purchase, claimed, subscribed, forever, too_late}
    life.proofs |= {receipt, *told}
    return life


@contextlib.contextmanager
def a_month_ago(house: House) -> Iterator[None]:
    """The store signs as of then."""
    house.store.now -= timedelta(days=31)
    yield
    house.store.now += timedelta(days=31)


@pytest.fixture(scope="module")
def apps_file(tmp_path_factory: pytest.TempPathFactory, backend: Receiver) -> Path:
    """The example's app, with our backend to be told."""
    directory = tmp_path_factory.mktemp("apps")
    (directory / "AuthKey_EXAMPLE.p8").write_bytes((EXAMPLES / "AuthKey_EXAMPLE.p8").read_bytes())
    file = directory / "apps.toml"
    example = (EXAMPLES / "apps.toml").read_text(encoding="utf-8")
    file.write_text(example.replace("http://127.0.0.1:8091/hooks", backend.url), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def backend() -> Iterator[Receiver]:
    """The app's, which is told of everything."""
    with receiving(WEBHOOK_SECRET) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def lived(servers: Servers, apps_file: Path, backend: Receiver) -> tuple[str, Life]:
    """A database in which Alice has lived, and Bob; the backend was told of all of it, and said to whom. Its name."""
    url = servers.migrated_database()
    with house_in(url, apps=load_apps(apps_file)) as house:
        alice = live(house, ALICE)
        tell_webhooks(house, backend, answer=f"thank you for {ALICE}")
        live(house, BOB)
        house.submit(BOB, alice.bought)  # which he may not have
        tell_webhooks(house, backend, answer=f"thank you for {BOB}")
    return url.rpartition("/")[2], alice


@pytest.fixture
def database(servers: Servers, lived: tuple[str, Life]) -> str:
    """A copy of it, for one test."""
    name, _ = lived
    return servers.postgres.create_database(f"{name}_{next(_copies)}", template=name)


@pytest.fixture
def house(database: str, apps_file: Path) -> Iterator[House]:
    with house_in(database, apps=load_apps(apps_file)) as running:
        yield running


@pytest.fixture
def alice(lived: tuple[str, Life]) -> Life:
    _, alice = lived
    return alice


def tell_webhooks(house: House, backend: Receiver, *, answer: str) -> None:
    """Until the backend was told of everything, and answered so."""
    backend.reply_usually(Reply(body=answer.encode()))
    url = house.owner.url.set(drivername="postgresql").render_as_string(hide_password=False)
    waiting = "select count(*) as size from notifier.delivery where state = 'waiting'"
    with notifying(url, house.apps) as notifier, notifier.sending():
        notifier.wait(lambda: notifier.rows(waiting)[0]["size"] == 0, what="all webhooks being told", within_s=60)


def erase(house: House, user: str = ALICE, *, patience_s: float = 10.0) -> Erased:
    erased = erase_user(
        house.owner,
        app=GAME,
        user_id=UserId(user),
        actor="dora",
        ids=house.ids,
        clock=house.clock,
        patience_s=patience_s,
    )
    assert erased is not None
    return erased


def dump(house: House) -> dict[str, list[str]]:
    """Every row of every table, as text; partitions by their parent."""
    tables = house.rows(
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p') and not c.relispartition order by 1",
        schemas=list(SCHEMAS),
    )
    return {
        table: sorted(text for (text,) in house.rows(f"select to_jsonb(t)::text from {table} t"))  # noqa: S608
        for (table,) in tables
    }


def unsealed(text: str) -> str:
    """A row with what its signed texts say: a token in a JWS is nowhere to be found as it is."""
    return text + "".join(
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode("utf-8", "replace")
        for word in text.split('"')
        for part in word.split(".")[:2]
        if word.startswith("ey") and word.count(".") == 2
    )


def audit_is_clean(house: House) -> bool:
    report = audit_books(
        lambda work: transact(house.owner, work), clock=house.clock, since=None, observe=lambda *_: None
    )
    return report.clean


class TestErasing:
    def test_nothing_that_names_the_user_is_left_anywhere(self, house: House, alice: Life) -> None:
        wanted = alice.names | alice.proofs
        rows = [unsealed(row) for rows in dump(house).values() for row in rows]
        assert [name for name in wanted if not any(name in row for row in rows)] == []
        erase(house)
        found = [(table, row) for table, rows in dump(house).items() for row in rows if names(alice, row)]
        assert [each for each in found if f'"user_id": "{BOB}"' not in each[1]] == []
        # what Bob sent in Alice's stead is his: her token is in it, as the store signed it
        assert {table for table, _ in found} == {"journal.event"}
        assert not any(name in row for _, row in found for name in wanted)

    def test_the_books_are_sound_before_and_after_and_hold_the_same(self, house: House, alice: Life) -> None:
        assert audit_is_clean(house)
        before, balance = dump(house), house.balance(ALICE)
        erased = erase(house)
        after = dump(house)
        assert audit_is_clean(house)
        assert all(before[f"ledger.{table}"] == after[f"ledger.{table}"] for table in MONEY)
        assert house.balance(erased.pseudonym) == balance > 0
        assert house.balance(ALICE) == 0
        personal = {"purchase_id", "reference", "reason", "actor"}
        assert rest_of(before["ledger.transfer"], personal) == rest_of(after["ledger.transfer"], personal)
        assert rest_of(before["ledger.spend"], {"item"}) == rest_of(after["ledger.spend"], {"item"})
        assert len(before["journal.event"]) + 1 == len(after["journal.event"])

    def test_everybody_elses_rows_are_the_same_to_the_letter(self, house: House, alice: Life) -> None:
        before = dump(house)
        erase(house)
        after = dump(house)
        bobs = {table: [row for row in rows if BOB in row] for table, rows in before.items()}
        assert sum(map(len, bobs.values())) > 50
        for table, rows in bobs.items():
            assert set(rows) <= set(after[table]), table

    def test_what_was_bought_stays_unless_it_names_the_user(self, house: House, alice: Life) -> None:
        erased = erase(house)
        rows = house.rows(
            "select payload ->> 'item', payload ->> 'reference', payload ->> 'actor', payload ->> 'amount'"
            "  from journal.event where type = 'spend.posted' and user_id = %(user)s order by id",
            user=erased.pseudonym,
        )
        actor = f"client:{erased.pseudonym}"
        assert [tuple(row) for row in rows] == [(None, None, actor, "20"), ("sword", None, actor, "5")]

    def test_every_event_is_still_read_and_the_feed_keeps_its_places(self, house: House, alice: Life) -> None:
        places = "select position, event_id from journal.outward order by position"
        before = house.rows(places)
        erased = erase(house)
        assert house.rows(places) == before

        def read(connection: Connection) -> list[Any]:
            ids = connection.exec_driver_sql("select id from journal.event").scalars().all()
            return list(journal.load(connection, ids))

        events = transact(house.owner, read)
        told = [
            event for event in events if event.user_id == erased.pseudonym and isinstance(event.payload, UserErased)
        ]
        assert len(told) == 1
        assert {event.user_id for event in events} == {None, BOB, erased.pseudonym}

    def test_a_second_time_there_is_nothing_and_nothing_is_recorded(self, house: House, alice: Life) -> None:
        erase(house)
        before = dump(house)
        again = erase_user(house.owner, app=GAME, user_id=UserId(ALICE), actor="dora", ids=house.ids, clock=house.clock)
        assert again is None
        assert dump(house) == before

    def test_that_somebody_was_erased_is_recorded_and_by_whom_but_not_who(self, house: House, alice: Life) -> None:
        erased = erase(house)
        assert is_pseudonym(erased.pseudonym)
        subject = erasure_subject(app=GAME, user_id=erased.pseudonym)
        (event,) = transact(
            house.owner,
            lambda connection: journal.timeline(connection, journal.heads(connection, app=GAME, subjects=[subject])),
        )
        assert not isinstance(event, UnreadEvent)
        assert isinstance(event.payload, UserErased)
        assert (event.payload.actor, event.user_id) == ("dora", erased.pseudonym)
        assert event.payload.rows == erased.rows

    def test_what_was_recorded_long_ago_and_just_now_is_erased_alike(
        self, house: House, alice: Life, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(erasing, "HISTORY", timedelta(0))
        erase(house)
        found = [(table, row) for table, rows in dump(house).items() for row in rows if names(alice, row)]
        assert [each for each in found if f'"user_id": "{BOB}"' not in each[1]] == []
        assert audit_is_clean(house)


class TestAfterwards:
    def test_a_refund_is_taken_from_the_pseudonyms_wallet(self, house: House, alice: Life) -> None:
        erased = erase(house)
        before = house.balance(erased.pseudonym)
        house.notify("REFUND", refunded(alice.bought))
        assert house.undelivered() == []
        assert house.balance(erased.pseudonym) == before - 550
        assert audit_is_clean(house)

    def test_what_only_a_refund_kept_from_them_is_the_pseudonyms_once_that_is_reversed(
        self, house: House, alice: Life
    ) -> None:
        erased = erase(house)
        before = house.balance(erased.pseudonym)
        house.notify("REFUND_REVERSED", alice.promised | {"signedDate": alice.promised["signedDate"] + 90_000})
        assert house.undelivered() == []
        assert house.balance(erased.pseudonym) == before + 100
        assert audit_is_clean(house)

    def test_renewals_are_the_pseudonyms_and_their_account_token_is_not_kept_again(
        self, house: House, alice: Life
    ) -> None:
        erased = erase(house)
        before = house.balance(erased.pseudonym)
        with a_month_ago(house):
            renewed = house.store.period(2, of=alice.period)
        house.notify("DID_RENEW", renewed, signedRenewalInfo=house.store.sign(house.store.renewal(renewed)))
        assert house.undelivered() == []
        assert house.balance(erased.pseudonym) == before + 300
        (row,) = house.rows(
            "select user_id, account_token from verifier.store_transaction where transaction_id = %(id)s",
            id=renewed["transactionId"],
        )
        assert tuple(row) == (erased.pseudonym, None)
        assert audit_is_clean(house)

    def test_who_comes_back_begins_anew_and_cannot_claim_what_was_theirs(self, house: House, alice: Life) -> None:
        erase(house)
        assert house.account_token(ALICE) != alice.token
        again = house.submit(ALICE, alice.bought)
        assert again == alice.purchase  # the id is a digest of the user's
        (rejected,) = house.rows(
            "select user_id, payload ->> 'code' from journal.event where subject = %(subject)s"
            " and type = 'purchase.rejected'",
            subject=again,
        )
        assert tuple(rejected) == (ALICE, "claimed_by_another_user")
        house.submit(ALICE, house.store.transaction())
        assert house.balance(ALICE) == 100
        assert audit_is_clean(house)


class TestMeanwhile:
    def test_what_is_still_to_be_looked_at_is_not_erased_and_nothing_is_changed(
        self, house: House, alice: Life
    ) -> None:
        house.submit(ALICE, house.store.transaction(), settled=False)
        before = dump(house)
        with pytest.raises(UserUnderWay, match="1 of what the user sent"):
            erase(house, patience_s=0)
        assert dump(house) == before
        house.settle()
        erase(house)

    def test_a_notification_about_what_they_bought_is_waited_for_likewise(self, house: House, alice: Life) -> None:
        house.notify("REFUND", refunded(alice.bought), settled=False)
        with pytest.raises(UserUnderWay):
            erase(house, patience_s=0)

    def test_what_is_stuck_is_not_waited_for_and_does_not_come_back(self, house: House, alice: Life) -> None:
        purchase = house.submit(ALICE, house.store.transaction(), settled=False)
        house.rows("update journal.delivery set state = 'parked', due_at = 'infinity', error = %(said)s", said=ALICE)
        erased = erase(house)
        assert not [row for rows in dump(house).values() for row in rows if purchase in row or ALICE in row]
        house.rows("update journal.delivery set state = 'waiting', due_at = clock_timestamp()")
        house.settle()
        (stuck,) = house.undelivered()
        assert (stuck.consumer, stuck.state) == ("verifier", "parked")
        assert "its proof is not kept any more" in stuck.error
        assert house.rows(
            "select payload ->> 'signed_transaction' from journal.event where user_id = %(user)s"
            " and type = 'transaction.submitted' order by id desc limit 1",
            user=erased.pseudonym,
        ) == [(PROOF_REMOVED,)]

    def test_what_went_wrong_with_events_of_others_stays_though_it_says_the_same_word(
        self, house: House, alice: Life
    ) -> None:
        for user in (ALICE, BOB):
            house.submit(user, house.store.transaction(), settled=False)
        house.rows(
            "with another as (insert into journal.event"
            "     (id, type, version, app, subject, user_id, payload, trace_id, occurred_at)"
            " select gen_random_uuid(), type, version, 'another', subject, user_id, payload, trace_id, occurred_at"
            "   from journal.event where user_id = %(alice)s and type = 'transaction.submitted'"
            "  order by id desc limit 1 returning id)"
            " insert into journal.delivery (consumer, event_id, type)"
            " select 'verifier', id, 'transaction.submitted' from another",
            alice=ALICE,
        )
        house.rows("update journal.delivery set state = 'parked', due_at = 'infinity', error = %(said)s", said=ALICE)
        erased = erase(house)
        assert sorted(
            house.rows(
                "select e.app, e.user_id, d.error from journal.delivery d join journal.event e on e.id = d.event_id"
            )
        ) == [("another", ALICE, ALICE), ("game", BOB, ALICE), ("game", erased.pseudonym, "erased")]
        assert erased.rows["journal.delivery"] == 1

    def test_what_was_verified_and_not_posted_is_posted_to_the_pseudonym(self, house: House, alice: Life) -> None:
        before = house.balance(ALICE)
        house.submit(ALICE, house.store.transaction(), settled=False)
        ((submitted,),) = house.rows("select event_id from journal.delivery")
        house.runtime(VERIFIER).handle("transaction.submitted", [submitted])
        erased = erase(house)
        house.settle()
        assert house.undelivered() == []
        assert house.balance(erased.pseudonym) == before + 100
        assert house.balance(ALICE) == 0
        assert audit_is_clean(house)

    def test_who_is_handling_something_of_theirs_is_waited_for(self, house: House, alice: Life) -> None:
        house.submit(ALICE, house.store.transaction(), settled=False)
        ((submitted,),) = house.rows("select event_id from journal.delivery")
        house.runtime(VERIFIER).handle("transaction.submitted", [submitted])
        ((verified,),) = house.rows("select event_id from journal.delivery")
        handling, waits = paused(house, verified)
        with ThreadPoolExecutor(2) as pool:
            handled = pool.submit(handling)
            assert waits.begun.wait(10)
            erasing_done = pool.submit(erase, house)
            wait_until(lambda: waited_for(house) or erasing_done.done(), what="the erasing waiting")
            assert not erasing_done.done()
            waits.go_on.set()
            handled.result(20)
            erased = erasing_done.result(30)
        house.settle()
        assert not [row for rows in dump(house).values() for row in rows if f'"{ALICE}"' in row]
        assert house.balance(erased.pseudonym) > 0
        assert audit_is_clean(house)

    def test_who_holds_the_wallet_and_wants_to_record_goes_first(self, house: House, alice: Life) -> None:
        """Each waits for what the other holds: the erasing steps back, and nobody is hurt."""
        wallet = "select from ledger.wallet where user_id = %(user)s for update"
        with house.engines["purser_ledger"].connect() as connection, ThreadPoolExecutor(1) as pool:
            connection.exec_driver_sql(wallet, {"user": ALICE})
            erasing_done = pool.submit(erase, house)
            wait_until(lambda: waited_for(house), what="the erasing waiting for the wallet")
            draft = Draft(
                payload=UserErased(actor="a test's own words"),
                app=GAME,
                subject="spd_0",
                user_id=UserId(BOB),
                occurred_at=house.clock.now(),
                trace_id="0" * 32,
            )
            journal.append(connection, [draft], ids=house.ids)
            connection.commit()
            erasing_done.result(30)
        assert held_of(house, ALICE) == {}

    def test_a_webhook_that_is_being_posted_is_posted_once_more_under_the_pseudonym(
        self, house: House, alice: Life
    ) -> None:
        house.spend(ALICE, 1)
        (taken,) = transact(house.engines["purser_notifier"], lambda connection: take(house, connection))
        assert taken.event.user_id == ALICE
        erased = erase(house)
        outcome = Answer(at=house.clock.now(), duration_ms=1, status=200, beginning=f"thanks to {ALICE}")
        (endpoint,) = configured_endpoints(house.apps).values()

        def come_back(connection: Connection) -> list[Any]:
            attempted = [Attempted(taken, endpoint, outcome, jitter=1.0)]
            drafts = settle(attempted, deliveries=Deliveries(connection), now=house.clock.now())
            journal.append(connection, drafts, ids=house.ids)
            return list(drafts)

        assert transact(house.engines["purser_notifier"], come_back) == []
        assert not [row for rows in dump(house).values() for row in rows if ALICE in row]
        house.rows("update notifier.delivery set due_at = clock_timestamp() where state = 'waiting'")
        (again,) = transact(house.engines["purser_notifier"], lambda connection: take(house, connection))
        assert (again.event.id, again.event.user_id) == (taken.event.id, erased.pseudonym)


class TestRights:
    @pytest.mark.parametrize(
        "call",
        [
            "journal.erase_history('', '', '', '', null, null)",
            "journal.erase_user('', '', '', '', null, null)",
            "verifier.erase_user('', '', '', '')",
            "ledger.erase_history('', '', '', '', null, null)",
            "ledger.erase_user('', '', '', '', null)",
            "notifier.erase_history('', '', '', null)",
            "notifier.erase_user('', '', '', null)",
        ],
    )
    def test_no_service_may_erase_anybody(self, house: House, call: str) -> None:
        for name, engine in house.engines.items():
            with engine.connect() as connection, pytest.raises(DBAPIError, match="permission denied"):
                connection.exec_driver_sql(f"select {call}")
            assert name.startswith("purser_")

    @pytest.mark.parametrize("table", ["journal.permit", "ledger.permit", "journal.proof_cursor"])
    def test_no_service_may_permit_itself_to(self, house: House, table: str) -> None:
        for engine in house.engines.values():
            with engine.connect() as connection, pytest.raises(DBAPIError, match="permission denied"):
                connection.exec_driver_sql(f"insert into {table} default values")

    @pytest.mark.parametrize(
        "change",
        [
            "update journal.event set payload = jsonb_set(payload, '{amount}', '1000000') where payload ? 'amount'",
            "update journal.event set payload = jsonb_set(payload, '{change,amount}', '1') where payload ? 'change'",
            "update journal.event set payload = payload - 'transaction' where payload ? 'transaction'",
            "update journal.event set type = 'purchase.verified'",
            "update journal.event set app = 'another'",
            "update journal.event set occurred_at = now()",
        ],
    )
    def test_even_who_may_erase_changes_nothing_of_an_event_but_what_is_personal(
        self, house: House, alice: Life, change: str
    ) -> None:
        with house.owner.connect() as connection:
            connection.exec_driver_sql("insert into journal.permit values (pg_current_xact_id(), 'personal')")
            with pytest.raises(DBAPIError, match="nothing of an event but what is personal"):
                connection.exec_driver_sql(change)

    def test_who_may_remove_proofs_changes_no_user(self, house: House, alice: Life) -> None:
        with house.owner.connect() as connection:
            connection.exec_driver_sql("insert into journal.permit values (pg_current_xact_id(), 'proofs')")
            with pytest.raises(DBAPIError, match="nothing of an event but what is personal"):
                connection.exec_driver_sql("update journal.event set user_id = 'mallory'")

    @pytest.mark.parametrize("change", ["created_at = now()", "kind = 'grant'", "environment = 'sandbox'"])
    def test_nor_of_a_transfer(self, house: House, alice: Life, change: str) -> None:
        with house.owner.connect() as connection:
            connection.exec_driver_sql("insert into ledger.permit values (pg_current_xact_id())")
            with pytest.raises(DBAPIError, match="nothing of a transfer but what is personal"):
                connection.exec_driver_sql(f"update ledger.transfer set {change}")  # noqa: S608

    def test_a_permit_is_of_one_transaction_and_is_gone_after_the_erasing(self, house: House, alice: Life) -> None:
        erase(house)
        assert house.rows("select from journal.permit union all select from ledger.permit") == []
        house.rows("insert into journal.permit values (pg_current_xact_id(), 'personal')")
        house.rows("insert into ledger.permit values (pg_current_xact_id())")
        with pytest.raises(DBAPIError, match="append only"):
            house.rows("update journal.event set user_id = 'mallory'")
        with pytest.raises(DBAPIError, match="takes no update"):
            house.rows("update ledger.transfer set reference = 'mine'")


class TestExporting:
    def test_all_that_names_the_user_is_in_it_and_nothing_of_anybody_else(self, house: House, alice: Life) -> None:
        text = exported(house)
        assert [name for name in alice.names if name not in text] == []
        assert BOB not in text
        document = json.loads(text)
        assert document["user_id"] == ALICE
        counts = {name: len(value) for name, value in document.items() if isinstance(value, list)}
        assert [name for name, count in counts.items() if not count] == []
        assert counts["store_transactions"] == held_of(house, ALICE)["verifier.store_transaction"]
        assert counts["notifications"] == 5
        versions = [entry["version"] for entry in document["wallet_entries"]]
        assert versions == list(range(1, max(versions) + 1))
        (wallet,) = document["wallets"]
        balances = {each["currency"]: each["balance"] for each in wallet["accounts"]}
        assert balances["gems"] == house.balance(ALICE)

    def test_proofs_are_in_it_only_if_they_are_asked_for(self, house: House, alice: Life) -> None:
        without, whole = exported(house), exported(house, proofs=True)
        assert not any(proof in without for proof in alice.proofs)
        assert all(proof in whole for proof in alice.proofs)

    def test_there_is_one_of_who_is_not_known_with_nothing_in_it(self, house: House, alice: Life) -> None:
        document = json.loads(exported(house, NOBODY))
        assert [name for name, value in document.items() if isinstance(value, list) and value] == []

    def test_it_is_written_while_it_is_read(self, house: House, alice: Life) -> None:
        """However much there is: its first pieces are out before its last rows were fetched."""
        with house.owner.begin() as connection:
            pieces = pieces_of(connection, ALICE)
            while not next(pieces).startswith(',\n "wallet_entries"'):
                pass
            next(pieces)
            reading = "select count(*) from pg_cursors where statement like '%%ledger.lot%%'"
            assert connection.exec_driver_sql(reading.replace("lot", "entry")).scalar_one() > 0
            assert connection.exec_driver_sql(reading).scalar_one() == 1  # itself
            pieces.close()


class TestGrowth:
    CROWD = 100_000

    @pytest.fixture
    def crowded(self, house: House, alice: Life) -> House:
        """Others have done a lot meanwhile, for a year."""
        house.rows("select journal.ensure_partitions(now() - interval '11 months', 11)")
        house.rows(
            "insert into journal.event (id, type, version, app, subject, user_id, payload, trace_id, occurred_at)"
            " select overlay(journal.uuid_floor(now() - make_interval(mins => number * 5))::text"
            "                placing lpad(to_hex(number), 12, '0') from 25)::uuid,"
            "        'notification.received', 1, 'game', 'ntf_' || number, 'user ' || number %% 1000,"
            "        jsonb_build_object('original_transaction_id', number::text), '', now()"
            "   from generate_series(1, %(size)s) as number",
            size=self.CROWD,
        )
        house.rows(
            "insert into journal.timeline (app, subject, user_id, first_event_id, last_event_id)"
            " select app, subject, user_id, id, id from journal.event where trace_id = ''"
        )
        house.rows(
            "insert into verifier.store_transaction (app, store, environment, transaction_id, user_id, purchase_id)"
            " select 'game', 'apple', 'sandbox', number, 'user ' || number, 'pur_' || number"
            "   from generate_series(1, 20000) as number"
        )
        return house

    @pytest.mark.parametrize("analyzed", [False, True])
    def test_a_user_is_found_by_index_however_many_others_there_are(self, crowded: House, analyzed: bool) -> None:
        if analyzed:
            crowded.rows("analyze journal.event, journal.timeline, verifier.store_transaction")
        erasure = erasing.Erasure(GAME, UserId(ALICE), UserId("erased:1"), "salt", actor="dora", at=crowded.clock.now())
        with crowded.owner.connect() as connection:
            before = reads(connection)
            counted = held(connection, app=GAME, user_id=UserId(ALICE))
            erased = erasing.erase_rows(connection, erasure)
            after = reads(connection)
        assert erased == counted
        read = {table: [now - then for now, then in zip(after[table], before[table], strict=True)] for table in after}
        scanned = {table for table, (scans, _) in read.items() if scans} - WITHOUT_INDEX
        assert scanned == set()
        assert 100 < sum(rows for _, rows in read.values()) < 10_000


class TestCommand:
    @pytest.fixture
    def purser(
        self,
        database: str,
        apps_file: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> Callable[..., str]:
        monkeypatch.setenv("PURSER_DATABASE_URL", database)
        monkeypatch.setenv("PURSER_BROKER_URL", "redis://127.0.0.1:1/0")
        monkeypatch.setenv("PURSER_DATA_DIR", str(tmp_path))
        monkeypatch.setenv("PURSER_APPS_FILE", str(apps_file))

        def run(*arguments: str, code: int = 0) -> str:
            capsys.readouterr()
            assert cli.run(["users", *arguments]) == code
            printed = capsys.readouterr()
            return printed.out + (printed.err if code else "")

        return run

    def test_a_dry_run_says_what_erasing_then_does_and_changes_nothing(
        self, house: House, alice: Life, purser: Callable[..., str]
    ) -> None:
        house.submit(ALICE, house.store.transaction(), settled=False)
        house.rows("update journal.delivery set state = 'parked', due_at = 'infinity', error = %(said)s", said=ALICE)
        before = dump(house)
        said = json.loads(purser("erase", ALICE, "--dry-run", "--json"))
        assert dump(house) == before
        done = json.loads(purser("erase", ALICE, "--yes", "--by", "dora", "--app", "game", "--json"))
        assert done["rows"] == said["rows"]
        expected = {"journal.event", "journal.delivery", "ledger.wallet", "notifier.attempt", "verifier.origin"}
        assert set(done["rows"]) >= expected

    def test_erasures_are_listed_by_pseudonym(self, house: House, alice: Life, purser: Callable[..., str]) -> None:
        assert purser("erasures") == "nobody was erased\n"
        done = json.loads(purser("erase", ALICE, "--yes", "--by", "dora", "--json"))
        (listed,) = json.loads(purser("erasures", "--json"))
        assert (listed["pseudonym"], listed["actor"]) == (done["pseudonym"], "dora")
        assert listed["rows"] == sum(done["rows"].values())
        assert json.loads(purser("erasures", "--app", "quiz", "--json")) == []

    def test_who_is_not_known_and_who_is_a_pseudonym_already_are_said_to_be(
        self, house: House, alice: Life, purser: Callable[..., str]
    ) -> None:
        assert purser("erase", NOBODY, "--yes") == f"nothing is held about {NOBODY}\n"
        pseudonym = json.loads(purser("erase", ALICE, "--yes", "--json"))["pseudonym"]
        assert "is the pseudonym of somebody who was erased" in purser("erase", pseudonym, "--yes", code=1)

    def test_users_of_an_app_that_has_left_the_apps_file_are_exported_and_erased_likewise(
        self,
        house: House,
        alice: Life,
        purser: Callable[..., str],
        apps_file: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "apps.toml").write_text(apps_file.read_text().replace('id = "game"', 'id = "other"'))
        monkeypatch.setenv("PURSER_APPS_FILE", str(tmp_path / "apps.toml"))
        assert "there is no app 'gmae'" in purser("erase", ALICE, "--app", "gmae", "--yes", code=1)
        assert "there is no app 'game'" in purser("erase", NOBODY, "--app", "game", "--yes", code=1)
        assert json.loads(purser("export", ALICE, "--app", "game"))["timelines"]
        assert json.loads(purser("erase", ALICE, "--app", "game", "--yes", "--json"))["pseudonym"]

    def test_an_export_is_a_document(self, house: House, alice: Life, purser: Callable[..., str]) -> None:
        assert json.loads(purser("export", ALICE, "--app", "game"))["app"] == "game"


# ---- what the tests above need -----------------------------------------------------------------------------------


WITHOUT_INDEX: Final = {"ledger.audit", "ledger.permit", "journal.permit"}
"""Which are small."""


def reads(connection: Connection) -> dict[str, tuple[int, int]]:
    """Of each table, how often this session has read it from its beginning, and how many rows it has fetched by
    index."""
    rows = connection.exec_driver_sql(
        "select schemaname || '.' || relname, coalesce(seq_scan, 0), coalesce(idx_tup_fetch, 0)"
        "  from pg_stat_xact_user_tables where schemaname = any(%(schemas)s)",
        {"schemas": list(SCHEMAS)},
    )
    return {table: (scans, fetched) for table, scans, fetched in rows}


def names(life: Life, row: str) -> bool:
    shown = unsealed(row)
    return any(name in shown for name in life.names | life.proofs)


def rest_of(rows: list[str], columns: set[str]) -> list[dict[str, Any]]:
    """Rows without these columns, in the order of their ids."""
    read = [{name: value for name, value in json.loads(row).items() if name not in columns} for row in rows]
    return sorted(read, key=lambda row: str(row["id"]))


def held_of(house: House, user: str) -> dict[str, int]:
    return transact(house.owner, lambda connection: held(connection, app=GAME, user_id=UserId(user)))


def pieces_of(connection: Connection, user: str, *, proofs: bool = False) -> Any:
    return export_user(connection, app=GAME, user_id=UserId(user), exported_at="now", proofs=proofs)


def exported(house: House, user: str = ALICE, *, proofs: bool = False) -> str:
    with house.owner.begin() as connection:
        return "".join(pieces_of(connection, user, proofs=proofs))


def waited_for(house: House) -> bool:
    """Whether somebody waits for a lock. A transaction of its own: within one, the same is seen all the time."""
    return transact(house.owner, somebody_waits)


def take(house: House, connection: Connection) -> list[Any]:
    now = house.clock.now()
    room = {key: (endpoint, 10) for key, endpoint in configured_endpoints(house.apps).items()}
    return Deliveries(connection).take(room, now=now, lost_at=now + timedelta(seconds=60))


@dataclass
class Pause:
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


def paused(house: House, event_id: EventId) -> tuple[Callable[[], None], Pause]:
    """The ledger handling an event, which it has claimed and not committed until it is told to go on."""
    pause = Pause()
    runtime = house.runtime(LEDGER)
    handler: Any = runtime.handlers[PurchaseVerified.TYPE]

    def apply(connection: Connection, events: Any) -> Any:
        handled = handler.apply(connection, events)
        pause.begun.set()
        assert pause.go_on.wait(20)
        return handled

    runtime.handlers = {**runtime.handlers, PurchaseVerified.TYPE: type(handler)(apply)}
    return lambda: runtime.handle(PurchaseVerified.TYPE, [event_id]), pause
