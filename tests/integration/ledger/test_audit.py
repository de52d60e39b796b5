"""The audit on the real database: it is clean after real postings, and names whatever is then broken by hand."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ProgrammingError

from ledger.domain.audit import FINDINGS_KEPT_MAX, PROMISES, Finding, Newest, Report
from ledger.store.audit import PostgresAudits, Run
from ledger.store.audit_pages import BY_INDEX
from ledger.store.audit_walks import WALKS
from shared.database import connect_engine, transact
from shared.ids import UserId, uuid7_moment
from tests.support.audited import AuditedBooks, audited, post_of_everything, season_pass, today
from tests.support.ledger import NOW, refund_reversed, refunded, verified
from tests.support.ledger_subscriptions import DAY, MONTH, SHOP, changed, period, renewal
from tests.support.stack import Servers


@pytest.fixture(scope="module")
def books(engine: Engine) -> AuditedBooks:
    """Books with one of everything, as the ledger left them."""
    books = AuditedBooks(engine)
    post_of_everything(books)
    return books


@pytest.fixture
def broken(owner: Engine, books: AuditedBooks) -> Iterator[Connection]:
    """A connection that may break the books as nobody else may: no trigger stops it, and it is undone in the end."""
    with owner.connect() as connection:
        connection.exec_driver_sql("set local session_replication_role = replica")
        yield connection
        connection.rollback()


def within(connection: Connection) -> Run:
    """Runs everything in the connection's own transaction."""

    return lambda work: work(connection)


def findings_on(connection: Connection, *, rows: int | None = None) -> list[Finding]:
    """What an audit finds within the connection's own transaction."""

    return list(audited(within(connection), rows=rows).findings)


@pytest.mark.parametrize("rows", [None, 1, 2, 3, 7])
def test_books_that_the_ledger_posted_are_clean_whatever_the_size_of_a_page(
    books: AuditedBooks, rows: int | None
) -> None:
    report = audited(partial(transact, books.engine), rows=rows)
    assert (list(report.findings), report.problems) == ([], 0)
    assert report.clean


@pytest.mark.usefixtures("books")
def test_an_audit_looks_at_every_row(engine: Engine, owner: Engine) -> None:
    tables = {"transfers": "transfer", "entries": "entry", "lots": "lot", "spends": "spend", "holds": "hold"}
    tables |= {"wallets": "wallet", "accounts": "account", "store transactions": "store_transaction"}
    tables |= {"sources of entitlements": "entitlement_source", "entitlements": "entitlement"}
    tables |= {"subscriptions": "subscription"}
    with owner.connect() as connection:
        there = {
            walk: connection.exec_driver_sql(f"select count(*) from ledger.{table}").scalar_one()  # noqa: S608
            for walk, table in tables.items()
        }
    for rows in (None, 1, 3):
        checked = audited(partial(transact, engine), rows=rows).checked
        assert {walk: checked[walk] for walk in tables} == there
        assert min(checked.values()) > 0


def test_a_refund_that_waits_for_a_purchase_nobody_claimed_is_told_and_no_problem(books: AuditedBooks) -> None:
    report = audited(partial(transact, books.engine))
    assert report.refunds_waiting == 1
    (waiting,) = report.waiting
    assert (waiting.transaction_id, waiting.refunded_milli) == ("unclaimed", 50_000)


# ---- each promise, broken ----------------------------------------------------------------------------------------

NAMED = {
    "{alice}": "account.currency = 'gems' and account.environment = 'production' and wallet_id ="
    " (select id from ledger.wallet where user_id = 'alice' and environment = 'production')",
    "{newest}": "(account_id, account_version) = (select id, version from ledger.account where {alice})",
    "{pack}": "store_transaction.transaction_id = 'pack'",
    "{purchase}": "(select id from ledger.transfer where kind = 'purchase' and transaction_id = 'pack')",
    "{refund}": "(select id from ledger.transfer where kind = 'refund' and transaction_id = 'pack' and sequence = 1)",
    "{spend}": "(select id from ledger.spend where reversed > 0)",
    "{held}": "(select id from ledger.hold where state = 'open')",
    "{captured}": "(select id from ledger.hold where state = 'captured' order by id limit 1)",
    "{spent}": "update ledger.lot set spent = (select coalesce(sum(portion.amount - returned), 0) from ledger.portion"
    " where portion.account_id = lot.account_id and lot_version = lot.version and not own)",
    "{sink}": "(select id from ledger.account where kind = 'sink' and app = 'game' limit 1)",
    "{newcomer}": "subscription.original_transaction_id = '20'",
    "{newcomer's}": "source_id = (select told ->> 'id' from ledger.subscription where {newcomer})",
    "{pass}": "source_id = (select purchase_id from ledger.store_transaction where transaction_id = '61')",
}
"""What the statements below name by these."""

FREE_CHECKS = {
    "transfer": ["transfer_has_its_cause"],
    "account": ["account_adds_up"],
    "entry": ["entry_check"],
    "lot": ["lot_check"],
    "subscription": ["subscription_check", "subscription_check1"],
}


def at_another_house(kind: str, house: str) -> str:
    """What makes the oldest transfer of a kind one with such an account of the house."""
    return (
        f"update ledger.entry set account_version = account_version + 1000 * (position + 1), account_id ="  # noqa: S608
        f" (select id from ledger.account where kind = '{house}' and currency = 'gems' order by id limit 1)"
        f" where wallet_id is null and transfer_id ="
        f" (select id from ledger.transfer where kind = '{kind}' order by id limit 1)"
    )


def by_another_event(kind: str, event_type: str) -> str:
    """What makes every transfer of a kind follow from an event of such a type."""
    return (
        "update ledger.transfer set event_id ="  # noqa: S608
        f" (select id from journal.event where type = '{event_type}' and app = transfer.app order by id limit 1)"
        f" where kind = '{kind}'"
    )


def told_otherwise(field: str, value: str, original: str) -> str:
    """What changes a field of what was told of a subscription."""
    return (
        f"update ledger.subscription set told = jsonb_set(told, '{{{field}}}', '{value}')"  # noqa: S608
        f" where original_transaction_id = '{original}'"
    )


def heard_otherwise(field: str, value: str, original: str) -> str:
    """What changes a field of what was heard of a subscription."""
    return (
        f"update ledger.subscription set heard = jsonb_set(heard, '{{{field}}}', '{value}')"  # noqa: S608
        f" where original_transaction_id = '{original}'"
    )


BREAKS: list[tuple[str, str, str]] = [
    # what is broken, with what, and what the audit says was found
    ("transfer-entries", "delete from ledger.entry where transfer_id = {spend} and position = 1", "1"),
    ("transfer-entries", "delete from ledger.entry where transfer_id = {spend}", "0"),
    (
        "transfer-sum",
        "update ledger.entry set amount = amount + 1, balance_after = balance_after + 1"
        " where transfer_id = {spend} and position = 1",
        "1",
    ),
    ("transfer-place", "update ledger.transfer set environment = 'sandbox' where id = {spend}", "game production"),
    ("transfer-event", "update ledger.transfer set event_id = gen_random_uuid() where id = {spend}", "no such event"),
    (
        "transfer-event",
        "delete from journal.event where id in (select event_id from ledger.transfer where kind = 'grant')",
        "no such event",
    ),
    ("transfer-event", by_another_event("purchase", "refund.received"), "refund.received of "),
    ("transfer-event", by_another_event("refund", "purchase.verified"), "purchase.verified of "),
    ("transfer-event", by_another_event("refund_reversal", "purchase.verified"), "purchase.verified of "),
    ("transfer-event", by_another_event("spend", "hold.placed"), "hold.placed of "),
    ("transfer-event", by_another_event("spend_reversal", "spend.posted"), "spend.posted of "),
    ("transfer-event", by_another_event("grant", "purchase.verified"), "purchase.verified of "),
    ("transfer-event", by_another_event("write_off", "refund.received"), "refund.received of "),
    (
        "transfer-event",
        "update journal.event set app = 'floor' where id = (select event_id from ledger.transfer where id = {spend})",
        "spend.posted of floor",
    ),
    (
        "transfer-event",
        "update ledger.transfer set event_id ="
        " (select event_id from ledger.transfer where kind = 'purchase' and transaction_id = 'gone')"
        " where id = {purchase}",
        "purchase.verified of game about pur_",
    ),
    (
        "transfer-event",
        "update journal.event set payload = jsonb_set(payload, '{transaction,environment}', '\"sandbox\"')"
        " where id = (select event_id from ledger.transfer where id = {purchase})",
        "purchase.verified of game about pur_",
    ),
    (
        "transfer-event",
        "update journal.event set payload = jsonb_set(payload, '{transaction,charge_id}', '\"another\"')"
        " where id = (select event_id from ledger.transfer where id = {purchase})",
        "purchase.verified of game about pur_",
    ),
    (
        "transfer-event",
        "update ledger.transfer set event_id = (select event_id from ledger.transfer where id ="
        "  (select id from ledger.spend where reversed = 0 order by id limit 1)) where id = {spend}",
        "spend.posted of game about spd_",
    ),
    (
        "transfer-event",
        "update journal.event set payload = jsonb_set(payload, '{environment}', '\"sandbox\"')"
        " where type = 'hold.ended'",
        "hold.ended of floor about hld_",
    ),
    ("transfer-house", at_another_house("purchase", "write_off"), "wallet, write_off"),
    ("transfer-house", at_another_house("refund", "sink"), "wallet, sink"),
    ("transfer-house", at_another_house("refund", "write_off"), "wallet, write_off"),
    ("transfer-house", at_another_house("refund_reversal", "goodwill"), "wallet, goodwill"),
    ("transfer-house", at_another_house("spend", "issuance"), "wallet, issuance"),
    ("transfer-house", at_another_house("spend_reversal", "goodwill"), "wallet, goodwill"),
    ("transfer-house", at_another_house("grant", "sink"), "wallet, sink"),
    ("transfer-house", at_another_house("write_off", "issuance"), "wallet, issuance"),
    ("transfer-house", "update ledger.entry set account_id = 1000 where transfer_id = {spend} and position = 1", ""),
    ("transfer-cause", "delete from ledger.store_transaction where {pack}", "no such transaction of pur_"),
    (
        "transfer-cause",
        "update ledger.store_transaction set purchase_id = 'pur_x' where {pack}",
        "no such transaction",
    ),
    ("transfer-cause", "delete from ledger.spend where id = {spend}", "no such spend"),
    (
        "transfer-cause",
        "update ledger.transfer set reverses = gen_random_uuid() where kind = 'spend_reversal'",
        "no such spend",
    ),
    (
        "credit-lot",
        "delete from ledger.lot where (account_id, version) in (select account_id, account_version from ledger.entry"
        "  join ledger.transfer on transfer.id = transfer_id where kind = 'grant')",
        "no lot",
    ),
    ("debit-portions", "update ledger.portion set amount = amount + 1 where transfer_id = {spend}", "41"),
    ("debit-portions", "delete from ledger.portion where transfer_id = {spend}", "0"),
    ("debit-portions", "update ledger.portion set settled = settled - 1 where settled > 0", ""),
    (
        "debit-portions",
        "update ledger.portion set transfer_id = {purchase} where transfer_id = {spend}",
        "40",
    ),
    (
        "portion-own",
        "update ledger.portion set own = not own where transfer_id in ({refund}, {spend}); {spent}",
        "false",
    ),
    (
        "portion-own",
        "update ledger.portion set own = true where transfer_id = {spend}; {spent}",
        "true",
    ),
    (
        "portion-own",
        "update ledger.portion set own = true where not own and lot_version is not null and transfer_id in"
        " (select id from ledger.transfer where kind = 'refund'); {spent}",
        "true",
    ),
    ("entry-version", "update ledger.entry set account_version = account_version + 1 where {newest}", ""),
    ("entry-version", "delete from ledger.entry where account_version = 1 and account_id = {sink}", "2"),
    (
        "entry-balance",
        "update ledger.entry set balance_before = balance_before + 1, balance_after = balance_after + 1 where {newest}",
        "",
    ),
    ("entry-amount", "update ledger.entry set balance_after = balance_after + 1 where {newest}", ""),
    ("entry-account", "update ledger.entry set wallet_id = wallet_id + 1000 where {newest}", "wallet 1"),
    ("entry-account", "delete from ledger.account where id = {sink}", "no wallet"),
    ("entry-transfer", "delete from ledger.transfer where id = {spend}", "no such transfer"),
    ("wallet-entry-version", "update ledger.entry set wallet_version = wallet_version + 1000 where {newest}", "1"),
    ("wallet-version", "update ledger.wallet set version = version + 1 where user_id = 'bob'", ""),
    ("wallet-version", "update ledger.wallet set version = 0 where user_id = 'bob'", "0"),
    ("account-version", "update ledger.account set version = version - 1 where {alice}", ""),
    ("account-balance", "update ledger.account set balance = balance + 1 where {alice}", ""),
    ("account-lots", "update ledger.account set balance = balance + 1 where {alice}", ""),
    (
        "account-lots",
        "update ledger.lot set remaining = remaining - 1 where remaining > 0 and account_id in"
        " (select id from ledger.account where {alice})",
        "",
    ),
    ("account-held", "update ledger.account set held = held + 1 where {alice}", "8"),
    ("account-held", "update ledger.lot set held = held - 7 where held = 7", "7"),
    ("account-holds", "update ledger.account set held = held + 1 where {alice}", "8"),
    ("account-holds", "update ledger.hold set state = 'released' where id = {held}", "7"),
    (
        "account-reserved",
        "update ledger.lot set held = 0, remaining = remaining + held where held = 7;"
        " update ledger.lot set held = 7, remaining = remaining - 7 where (account_id, version) ="
        " (select account_id, version from ledger.lot where remaining >= 7 and held = 0"
        "     and account_id in (select id from ledger.account where {alice}) order by version desc limit 1)",
        "",
    ),
    ("account-owed", "update ledger.account set owed = owed + 1 where owed > 0", "31"),
    ("account-owed", "update ledger.portion set settled = amount where source = 'owed' and settled = 0", "30"),
    (
        "lot-credit",
        "update ledger.lot set amount = amount + 1 where account_id in (select id from ledger.account where {alice})",
        "",
    ),
    (
        "lot-credit",
        "insert into ledger.lot (account_id, version, amount, remaining)"
        " select account_id, account_version, 5, 5 from ledger.entry where amount < 0 and wallet_id = 1 limit 1",
        "",
    ),
    ("lot-parts", "update ledger.lot set remaining = remaining + 1 where held > 0", ""),
    ("lot-spent", "update ledger.lot set spent = spent + 1 where held > 0", ""),
    ("lot-spent", "update ledger.portion set own = true where transfer_id = {spend}", ""),
    ("spend-posted", "update ledger.spend set amount = amount + 1 where id = {spend}", "41"),
    ("spend-posted", "update ledger.transfer set kind = 'write_off' where id = {spend}", "40"),
    ("spend-reversed", "update ledger.spend set reversed = reversed + 1 where id = {spend}", "16"),
    ("spend-returned", "update ledger.portion set returned = returned + 1 where transfer_id = {spend}", "15"),
    ("spend-hold", "update ledger.hold set captured = captured + 1 where id = {captured}", "20"),
    ("spend-hold", "delete from ledger.hold where id = {captured}", "20"),
    ("hold-reserved", "update ledger.hold set amount = amount + 1 where id = {held}", "7"),
    ("hold-reserved", "delete from ledger.reservation where hold_id = {held}", "0"),
    ("hold-captured", "delete from ledger.spend where hold_id = {captured}", "no spend"),
    (
        "hold-captured",
        "update ledger.spend set hold_id = {held} where hold_id is not null and amount = 20",
        "a spend of",
    ),
    (
        "hold-request",
        "update ledger.hold set refund_request_id = gen_random_uuid() where id = {held}",
        "no such request",
    ),
    (
        "hold-request",
        "insert into ledger.refund_request (id, app, store, environment, transaction_id, purchase_id, user_id, state,"
        " spent_percentage_milli, expires_at, created_at, updated_at)"
        " values ({held}, 'game', 'apple', 'production', 'pack', 'pur_x', 'alice', 'declined', 0, now(), now(), now());"
        " update ledger.hold set refund_request_id = id where id = {held}",
        "one that is declined",
    ),
    ("transaction-posted", "update ledger.store_transaction set refunded_milli = 50000 where {pack}", ""),
    (
        "transaction-posted",
        "update ledger.store_transaction set due = jsonb_set(due, '{gems}', '9007199254740991') where {pack}",
        "",
    ),
    (
        "transaction-posted",
        "update ledger.store_transaction set state = 'parked', parked_reason = 'x' where {pack}",
        "",
    ),
    ("transaction-lots", "update ledger.store_transaction set lots = '{}' where {pack}", "0"),
    ("transaction-lots", "update ledger.store_transaction set granted = '{}' where {pack}", ""),
    ("transaction-refunds", "update ledger.portion set returned = 0 where transfer_id = {refund}", ""),
    (
        "transaction-wallet",
        "update ledger.store_transaction set user_id = 'bob' where transaction_id = 'play'",
        "wallet ",
    ),
    (
        "transaction-purchase",
        "drop index ledger.transfer_of_store;"
        " insert into ledger.transfer select gen_random_uuid(), app, environment, kind, store, transaction_id,"
        " sequence, purchase_id, event_id, trace_id, created_at from ledger.transfer where id = {purchase}",
        "2",
    ),
    (
        "transaction-sequence",
        "update ledger.store_transaction set sequence = sequence + 1 where {pack}",
        "4, of 3 postings",
    ),
    (
        "transaction-sequence",
        "update ledger.transfer set sequence = 9 where transaction_id = 'pack' and sequence = 3",
        "3, of 3 postings",
    ),
    (
        "transaction-signed",
        "update ledger.store_transaction set revoked_signed_at = now() + interval '25 hours'"
        " where transaction_id = 'gone'",
        "20",
    ),
    ("transaction-stated", "update ledger.store_transaction set stated_as = null where {pack}", "none"),
    ("event-posted", "delete from ledger.transfer where kind = 'grant'", "no such transfer"),
    ("event-posted", "delete from ledger.transfer where id = {spend}", "no such transfer"),
    ("event-posted", "delete from ledger.transfer where kind = 'spend_reversal'", "no such transfer"),
    ("event-posted", "update journal.event set subject = 'spd_x' where type = 'spend.posted'", "no such transfer"),
    (
        "event-posted",
        "update ledger.transfer set event_id = gen_random_uuid() where kind = 'spend_reversal'",
        "no such transfer",
    ),
    (
        "verified-granted",
        "insert into journal.event (id, type, version, app, subject, payload, trace_id, occurred_at)"
        " select gen_random_uuid(), type, version, app, subject,"
        "        jsonb_set(payload, '{transaction,transaction_id}', '\"never\"'), trace_id, occurred_at"
        "   from journal.event where type = 'purchase.verified' limit 1",
        "unknown",
    ),
    (
        "verified-granted",
        "update ledger.store_transaction set state = 'awaited', user_id = null, purchase_id = null where {pack}",
        "awaited",
    ),
    ("verified-granted", "delete from ledger.store_transaction where transaction_id = 'nothing'", "unknown"),
    ("refund-applied", "delete from ledger.store_transaction where transaction_id = 'unclaimed'", "unknown"),
    (
        "refund-applied",
        "update ledger.store_transaction set refunded_milli = 49999 where transaction_id = 'unclaimed'",
        "49999 as of ",
    ),
    (
        "refund-applied",
        "update ledger.store_transaction set revoked_signed_at = revoked_signed_at - interval '1 microsecond'"
        " where transaction_id = 'gone'",
        "100000 as of ",
    ),
    (
        "refund-applied",
        "update ledger.store_transaction set revoked_signed_at = null, refunded_milli = 49999"
        " where transaction_id = 'unclaimed'",
        "unknown",
    ),
    (
        "refund-applied",
        "update journal.event set payload = jsonb_set(payload, '{transaction,charge_id}', '\"another\"')"
        " where type = 'refund.received'",
        "unknown",
    ),
    ("subscription-heard", "delete from ledger.subscription where {newcomer}", "unknown, of nobody"),
    ("subscription-heard", "update ledger.subscription set heard = null, told = null, version = 0", "unknown"),
    (
        "subscription-heard",
        heard_otherwise("transaction,purchased_at", '"2020-01-01T00:00:00Z"', "1"),
        "a period of 2020-01-01",
    ),
    ("subscription-heard", heard_otherwise("transaction,signed_at", '"2020-01-01T00:00:00Z"', "20"), "a period of "),
    ("subscription-heard", heard_otherwise("renewal", "null", "33"), "a period of "),
    ("subscription-heard", heard_otherwise("renewal,signed_at", '"2020-01-01T00:00:00Z"', "33"), "a period of "),
    ("subscription-heard", heard_otherwise("revoked", "null", "40"), "a period of "),
    ("subscription-heard", heard_otherwise("revoked,signed_at", '"2020-01-01T00:00:00Z"', "41"), "a period of "),
    ("subscription-heard", heard_otherwise("revoked,signed_at", '"2020-01-01T00:00:00Z"', "42"), "a period of "),
    (
        "subscription-heard",
        "update ledger.subscription set user_id = null, told = null, version = 0 where {newcomer}",
        "a period of ",
    ),
    ("subscription-told", "update ledger.subscription set told = null, version = 0 where {newcomer}", "nothing"),
    ("subscription-told", "update ledger.subscription set user_id = null where {newcomer}", "something"),
    ("subscription-told", "update ledger.subscription set version = version + 1 where {newcomer}", "1"),
    ("subscription-told", "update ledger.subscription set told = told - 'trial' where {newcomer}", "nothing"),
    ("subscription-told", told_otherwise("trial", "false", "20"), "false"),
    ("subscription-told", told_otherwise("trial", "true", "1"), "true"),
    ("subscription-told", told_otherwise("price_milli", "1", "1"), "1"),
    ("subscription-told", told_otherwise("auto_renew", "false", "1"), "false"),
    ("subscription-told", told_otherwise("renews_at", '"2020-01-01T00:00:00Z"', "1"), '"2020-'),
    ("subscription-told", told_otherwise("family_shared", "false", "21"), "false"),
    ("subscription-told", told_otherwise("product_id", '"vip"', "22"), '"vip"'),
    ("subscription-told", told_otherwise("access_until", "null", "30"), "nothing"),
    ("subscription-told", told_otherwise("grace_period_expires_at", "null", "30"), "nothing"),
    ("subscription-told", told_otherwise("expiration_reason", '"other"', "32"), '"other"'),
    ("subscription-told", told_otherwise("expiration_reason", "null", "33"), "nothing"),
    ("subscription-told", told_otherwise("revoked_at", "null", "40"), "nothing"),
    ("subscription-told", told_otherwise("revoked_at", '"2020-01-01T00:00:00Z"', "41"), '"2020-'),
    ("subscription-status", told_otherwise("status", '"expired"', "1"), "expired"),
    ("subscription-status", told_otherwise("status", '"active"', "30"), "active"),
    ("subscription-status", told_otherwise("status", '"in_grace_period"', "31"), "in_grace_period"),
    ("subscription-status", told_otherwise("status", '"in_billing_retry"', "32"), "in_billing_retry"),
    ("subscription-status", told_otherwise("status", '"active"', "34"), "active"),
    ("subscription-status", told_otherwise("status", '"revoked"', "40"), "revoked"),
    ("subscription-status", told_otherwise("status", '"refunded"', "42"), "refunded"),
    ("subscription-due", "update ledger.subscription set due_at = null where {newcomer}", "never"),
    ("subscription-due", "update ledger.subscription set due_at = due_at + interval '1 s' where {newcomer}", "at "),
    (
        "subscription-due",
        "update ledger.subscription set due_at = now() where original_transaction_id in ('33', '40')",
        "at ",
    ),
    ("subscription-due", "update ledger.subscription set due_at = now() where user_id is null", "at "),
    (
        "subscription-gives",
        "update ledger.entitlement_source set until = until + interval '1 s' where {newcomer's}",
        "from ",
    ),
    (
        "subscription-gives",
        "update ledger.entitlement_source set since = since + interval '1 s' where {newcomer's}",
        "from ",
    ),
    ("subscription-gives", "update ledger.entitlement_source set until = null where {newcomer's}", "from "),
    ("subscription-gives", heard_otherwise("revoked", '{"percentage_milli": 1, "cause": "refund"}', "20"), "from "),
    ("source-cause", "delete from ledger.subscription where {newcomer}", "none"),
    ("source-cause", "update ledger.entitlement_source set user_id = 'carol' where {newcomer's}", "none"),
    ("source-cause", "update ledger.entitlement_source set user_id = 'carol' where {pass}", "none"),
    ("source-cause", "update ledger.entitlement_source set source_id = 'pur_x' where {pass}", "none"),
    (
        "source-cause",
        "update ledger.store_transaction set refunded_milli = 100000 where transaction_id = '61'",
        "granted, 100000 refunded, of ",
    ),
    (
        "source-cause",
        "update ledger.store_transaction set state = 'parked', parked_reason = 'x' where transaction_id = '61'",
        "parked, 33333 refunded, of ",
    ),
    (
        "source-cause",
        "update ledger.entitlement_source set since = since - interval '1 s' where {pass}",
        "granted, 33333 refunded, of ",
    ),
    ("entitlement-told", "delete from ledger.entitlement where user_id = 'alice'", "nothing"),
    ("entitlement-told", "delete from ledger.entitlement_source where user_id = 'alice'", "until "),
    ("entitlement-told", "delete from ledger.entitlement_source where {pass}", "until "),
    (
        "entitlement-told",
        "update ledger.entitlement_source set lasts = lasts - interval '1 us' where {pass}",
        "until ",
    ),
    (
        "entitlement-told",
        "update ledger.entitlement set until = until + interval '1 us' where active and entitlement = 'vip'",
        "until ",
    ),
    ("entitlement-told", "update ledger.entitlement set source_id = 'sub_x' where active", "until "),
    (
        "entitlement-told",
        "update ledger.entitlement set until = '9999-01-01' where active and entitlement = 'adfree'",
        "until 9999-01-01",
    ),
    (
        "entitlement-told",
        "update ledger.entitlement set active = false, source_id = null, until = now() where entitlement = 'vip'",
        "ended at ",
    ),
    ("entitlement-ended", "update ledger.entitlement set until = now() - interval '301 s' where active", "until "),
]


def break_books(connection: Connection, statement: str) -> None:
    """Runs it where neither trigger nor constraint stops it."""
    for table, constraints in FREE_CHECKS.items():
        for constraint in constraints:
            connection.exec_driver_sql(f"alter table ledger.{table} drop constraint if exists {constraint}")
    for name in reversed(NAMED):  # the later may hold the earlier
        statement = statement.replace(name, NAMED[name])
    connection.exec_driver_sql(statement)


@pytest.mark.parametrize(("check", "statement", "found"), BREAKS)
def test_a_broken_promise_is_named(broken: Connection, check: str, statement: str, found: str) -> None:
    break_books(broken, statement)
    named = [finding for finding in findings_on(broken) if finding.check == check]
    assert named, f"{check} is not among the findings"
    assert [finding for finding in named if finding.found.startswith(found)], named
    assert all(finding.found != finding.expected and finding.thing for finding in named)


def test_every_promise_is_broken_above() -> None:
    assert {check for check, _, _ in BREAKS} == set(PROMISES)


def test_every_promise_is_looked_at_and_every_look_has_its_promise() -> None:
    checks = {check for check in PROMISES if any(f"'{check}'" in walk.wrong for walk in WALKS.values())}
    assert checks == set(PROMISES)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_gap_is_found_on_the_border_between_two_pages_too(broken: Connection, rows: int) -> None:
    break_books(
        broken,
        "delete from ledger.entry where account_version = 2 and account_id in"
        " (select id from ledger.account where {alice})",
    )
    found = {finding.check for finding in findings_on(broken, rows=rows)}
    assert {"entry-version", "entry-balance", "wallet-entry-version"} <= found


def test_what_is_still_to_be_handled_is_no_problem(broken: Connection) -> None:
    """Nor is what is parked: it is on its list."""
    broken.exec_driver_sql(
        "with fact as (insert into journal.event (id, type, version, app, subject, payload, trace_id, occurred_at)"
        " select gen_random_uuid(), type, version, app, subject,"
        "        jsonb_set(jsonb_set(payload, '{transaction,transaction_id}', '\"new\"'),"
        "                  '{transaction,original_transaction_id}', '\"new\"'), trace_id, occurred_at"
        "   from journal.event where type in ('purchase.verified', 'refund.received', 'subscription.changed')"
        " returning id, type)"
        " insert into journal.delivery (consumer, event_id, type, state)"
        " select 'ledger', id, type, (array['waiting', 'handed', 'parked', 'dead'])[1 + row_number() over () %% 4]"
        "   from fact",
        {},
    )
    assert findings_on(broken) == []


def test_a_refund_from_before_its_date_was_kept_counts_by_its_size(broken: Connection) -> None:
    broken.exec_driver_sql("update ledger.store_transaction set revoked_signed_at = null where transaction_id = 'gone'")
    assert findings_on(broken) == []


def test_a_store_whose_clock_is_some_hours_ahead_is_no_problem(broken: Connection) -> None:
    broken.exec_driver_sql(
        "update ledger.store_transaction set revoked_signed_at = now() + interval '23 hours'"
        " where transaction_id = 'gone'"
    )
    assert findings_on(broken) == []


def test_of_many_problems_the_first_are_named_and_all_are_counted(broken: Connection) -> None:
    broken.exec_driver_sql(
        "insert into ledger.wallet (app, environment, user_id, version)"
        " select 'game', 'production', 'nobody-' || number, 1 from generate_series(1, 300) as number"
    )
    report = audited(within(broken), rows=50)
    assert (len(report.findings), report.problems) == (FINDINGS_KEPT_MAX, 300)
    assert not report.clean


def test_what_is_older_than_asked_for_is_left_out_and_the_accounts_are_not(broken: Connection) -> None:
    newest: Any = broken.exec_driver_sql("select id from ledger.transfer order by id desc limit 1").scalar_one()
    since = uuid7_moment(newest)
    break_books(broken, "update ledger.transfer set event_id = gen_random_uuid() where id = {spend}")
    report = audited(within(broken), since=since)
    assert report.clean
    assert 1 <= report.checked["transfers"] < audited(within(broken)).checked["transfers"]
    assert report.checked["accounts"] > 1


@pytest.mark.usefixtures("books")
@pytest.mark.parametrize("name", WALKS)
def test_no_walk_reads_a_table_whole(engine: Engine, name: str) -> None:
    """Everything is found by an index: with tables this small the planner would otherwise not use one."""
    walk = WALKS[name]
    parameters = {f"after_{place}": value for place, value in enumerate(walk.begin)} | {"rows": walk.rows}
    with engine.connect() as connection:
        connection.exec_driver_sql(BY_INDEX)
        plan = "\n".join(connection.exec_driver_sql(f"explain {walk.statement()}", parameters).scalars())
    assert "Index" in plan
    assert "Seq Scan" not in plan


# ---- a live system -----------------------------------------------------------------------------------------------

WORKERS = 8
ROUNDS = 6


def test_an_audit_of_books_that_eight_workers_post_into_is_clean(database: str) -> None:
    """In small pages, so that much is posted between one and the next; and again and again, until the workers stop."""
    engine = connect_engine(database, role="purser_ledger", pool_size=WORKERS + 1, application_name="test-live")
    now = today()
    with ThreadPoolExecutor(WORKERS) as pool:
        working = [pool.submit(_post, AuditedBooks(engine, shard=number % 2), number, now) for number in range(WORKERS)]
        audits = 0
        while not all(each.done() for each in working) or audits < 3:
            report = audited(partial(transact, engine), rows=5 + audits)
            assert list(report.findings) == []
            audits += 1
        for each in working:
            each.result()
    assert audited(partial(transact, engine)).checked["transfers"] > WORKERS * ROUNDS
    engine.dispose()


def _post(books: AuditedBooks, number: int, now: timedelta) -> None:
    """Two workers on each wallet: what one buys, refunds and gets back, the other spends and holds; and on each
    subscription, the last period of which ends meanwhile.
    """
    user = f"user-{number // 2}"
    for turn in range(ROUNDS):
        name = f"{number}-{turn}"
        books.buy(name, user, product="bundle")
        books.grant(user, 100)
        spend = books.spend(user, 60)
        hold = books.hold(user, 20)
        books.refund(name, milli=70_000, product="bundle")
        books.reverse(spend, 15)
        books.capture(hold, 5)
        books.reverse_refund(name, product="bundle")
        day = period(turn + 1, original=user, starts=now - (ROUNDS - turn) * DAY, lasts=DAY)
        books.tell(verified(day, user=UserId(user)), catalog=SHOP)
        books.tell(changed(day, user=None, renewal=renewal(signed=now - (ROUNDS - turn) * DAY)), catalog=SHOP)
        books.tell(verified(season_pass(f"pass-{name}", now - MONTH), user=UserId(user)), catalog=SHOP)
        books.tell(refunded(replace(day, signed_at=NOW + now), milli=100_000 if turn % 2 else 1), catalog=SHOP)
        books.tell(refund_reversed(replace(day, signed_at=NOW + now + timedelta(seconds=1))), catalog=SHOP)
        books.lapse()


# ---- the audits that are kept ------------------------------------------------------------------------------------


@pytest.fixture
def audits(servers: Servers) -> Iterator[PostgresAudits]:
    engine = connect_engine(servers.migrated_database(), role="purser_ledger", pool_size=1, application_name="test")
    yield PostgresAudits(partial(transact, engine))
    engine.dispose()


def test_no_audit_is_the_newest_before_one_was_finished(audits: PostgresAudits) -> None:
    assert audits.newest() is None
    assert audits.newest_began_at() is None
    number = audits.begin(at=NOW)
    assert audits.newest() is None
    assert audits.newest_began_at() == NOW
    audits.fail(number, error="StatementTimeout")
    assert audits.newest() is None


def test_the_newest_audit_is_the_last_one_that_was_finished(audits: PostgresAudits) -> None:
    for problems in (2, 1):
        number = audits.begin(at=NOW)
        audits.finish(number, _report(problems))
    audits.begin(at=NOW + timedelta(hours=1))
    assert audits.newest() == Newest(problems=1, finished_at=NOW + timedelta(seconds=90), duration_s=90.0)


def test_old_audits_are_forgotten_and_younger_ones_are_not(audits: PostgresAudits) -> None:
    for days in (100, 91, 90, 1):
        audits.begin(at=NOW - timedelta(days=days))
    assert audits.forget(before=NOW - timedelta(days=90)) == 2
    assert audits.forget(before=NOW - timedelta(days=90)) == 0


def test_a_database_that_fails_in_the_middle_is_noted_with_the_audit(database: str) -> None:
    engine = connect_engine(database, role=None, pool_size=1, application_name="test")
    with engine.begin() as connection:
        connection.exec_driver_sql("drop table ledger.reservation cascade")
    with pytest.raises(ProgrammingError):
        audited(partial(transact, engine))
    with engine.connect() as connection:
        kept = connection.exec_driver_sql("select finished_at, error from ledger.audit").all()
    assert kept == [(None, "ProgrammingError")]
    engine.dispose()


def test_what_an_audit_found_is_kept_with_it(database: str) -> None:
    engine = connect_engine(database, role=None, pool_size=1, application_name="test")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into ledger.wallet (app, environment, user_id, version) values ('game', 'sandbox', 'x', 5)"
        )
    report = audited(partial(transact, engine))
    with engine.connect() as connection:
        (kept,) = connection.exec_driver_sql("select problems, findings, checked, error from ledger.audit").all()
    (finding,) = report.findings
    assert kept == (1, [asdict(finding)], dict(report.checked), None)
    assert (finding.check, finding.found, finding.expected) == ("wallet-version", "5", "0")
    assert finding.thing["user_id"] == "x"
    engine.dispose()


def _report(problems: int) -> Report:
    return Report(
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=90),
        checked={"entries": 1},
        problems=problems,
        findings=[],
        refunds_waiting=0,
        waiting=[],
    )
