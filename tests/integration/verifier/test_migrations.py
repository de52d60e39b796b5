"""What earlier releases left on record, after the migrations of this one."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, create_engine

from deploy.migrate import migrate
from shared.apps import Apps
from shared.database import connect_engine
from shared.events import Event
from tests.support.app_store import AppStore, refunded
from tests.support.verifying import Desk, notified, posted, said

BEFORE_ORIGINS = """
drop index verifier.store_transaction_of_user, verifier.account_token_of_user;
drop function verifier.erase_user(text, text, text, text);
drop table verifier.origin, verifier.reconciliation;
alter table verifier.store_transaction
    drop column original_transaction_id, drop column revoked_at, drop column revocation_cause, drop column promised_to;
update verifier.schema_version set version_num = 'verifier_0003';
"""

BEFORE_REFUNDS_WERE_DATED = """
alter table verifier.store_transaction drop column revoked_signed_at;
update verifier.schema_version set version_num = 'verifier_0002';
"""


@pytest.mark.parametrize("milli", [0, 40_000, 100_000])
def test_whatever_comes_after_a_refund_whose_date_was_not_kept_is_newer(
    database: str, store: AppStore, apps: Apps, milli: int
) -> None:
    owner = create_engine(database.replace("postgresql://", "postgresql+psycopg2://", 1))
    engine = connect_engine(database, role="purser_verifier", pool_size=1, application_name="test")
    try:
        claims = store.transaction()
        happens(engine, store, apps, posted(store, "alice", claims))
        if milli:
            taken = refunded(claims, after_s=60, revocationPercentage=milli)
            happens(engine, store, apps, notified(store, "REFUND", taken))
        with owner.begin() as connection:
            connection.exec_driver_sql(BEFORE_ORIGINS)
            connection.exec_driver_sql(BEFORE_REFUNDS_WERE_DATED)
        migrate(database)
        reversal = notified(store, "REFUND_REVERSED", claims | {"signedDate": claims["signedDate"] + 1})
        assert happens(engine, store, apps, reversal) == ["refund.reversed"]
        with engine.connect() as connection:
            left = connection.exec_driver_sql("select refunded_milli from verifier.store_transaction").scalar_one()
        assert left == 0
    finally:
        engine.dispose()
        owner.dispose()


OWNED = """
select original_transaction_id, user_id, check_at is not null from verifier.origin order by original_transaction_id
"""

WITHOUT_PERIODS = """
update verifier.store_transaction set statement = statement - 'period' - 'charge_id' - 'family_shared'
"""


def test_what_belongs_together_has_the_owner_of_what_was_claimed_of_it_and_the_store_is_asked_how_it_stands(
    database: str, store: AppStore, apps: Apps
) -> None:
    owner = create_engine(database.replace("postgresql://", "postgresql+psycopg2://", 1))
    engine = connect_engine(database, role="purser_verifier", pool_size=1, application_name="test")
    try:
        first, adfree, gems = store.period(), store.transaction(type="Non-Consumable"), store.transaction()
        second, nobodys = store.period(2, of=first, signedDate=first["signedDate"]), store.period()
        for claims in (second, adfree, gems):
            happens(engine, store, apps, posted(store, "alice", claims))
        for claims in (nobodys, first):
            happens(engine, store, apps, notified(store, "DID_RENEW", claims))
        happens(engine, store, apps, notified(store, "REFUND", refunded(first)))
        with owner.begin() as connection:
            connection.exec_driver_sql(BEFORE_ORIGINS)
            connection.exec_driver_sql(WITHOUT_PERIODS)
        migrate(database)
        with engine.connect() as connection:
            owned = {tuple(row) for row in connection.exec_driver_sql(OWNED)}
        assert owned == {
            (first["transactionId"], "alice", True),
            (adfree["transactionId"], "alice", False),
            (nobodys["transactionId"], None, True),
        }
        third = store.period(3, of=first, signedDate=first["signedDate"])
        assert "purchase.verified" in happens(engine, store, apps, notified(store, "DID_RENEW", third))
        reversal = notified(store, "REFUND_REVERSED", first | {"signedDate": first["signedDate"] + 90_000})
        assert "refund.reversed" in happens(engine, store, apps, reversal)
    finally:
        engine.dispose()
        owner.dispose()


def happens(engine: Engine, store: AppStore, apps: Apps, event: Event[Any]) -> list[str]:
    with engine.begin() as connection:
        return said(Desk(connection, store, apps).handle(event))
