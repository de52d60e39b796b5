"""What was bought, and when, is carried over from the journal: users may ask for refunds of it as of the rest."""

from __future__ import annotations

import importlib

from sqlalchemy import Engine

from tests.support.audited import AuditedBooks

_WHAT_IS_KNOWN = "select transaction_id, product_id, purchased_at from ledger.store_transaction order by transaction_id"


def test_a_purchase_of_the_first_release_knows_what_was_bought_and_when(engine: Engine, owner: Engine) -> None:
    books = AuditedBooks(engine)
    books.buy("plain", "alice")
    books.buy("refunded", "alice")
    books.refund("refunded")
    books.refund("unclaimed")
    with owner.connect() as connection:
        before = connection.exec_driver_sql(_WHAT_IS_KNOWN).all()
        assert [each.purchased_at is not None for each in before] == [True, True, False]
        connection.exec_driver_sql("update ledger.store_transaction set product_id = null, purchased_at = null")
        connection.exec_driver_sql(importlib.import_module("ledger.migrations.0002_lots_and_commands").BOUGHT)
        assert connection.exec_driver_sql(_WHAT_IS_KNOWN).all() == before
        connection.rollback()
