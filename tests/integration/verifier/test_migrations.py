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


def happens(engine: Engine, store: AppStore, apps: Apps, event: Event[Any]) -> list[str]:
    with engine.begin() as connection:
        return said(Desk(connection, store, apps).handle(event))
