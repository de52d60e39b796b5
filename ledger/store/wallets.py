"""Wallets and their entries, for reading: by their keys, however large they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection

from ledger.domain.books import WalletKey
from ledger.domain.postings import entry_id
from ledger.domain.statements import Funds, WalletEntry, WalletState
from shared.ids import grant_id, spend_id

_READ_WALLET = """
select wallet.version, account.currency, account.balance, account.held, account.owed
  from ledger.wallet left join ledger.account on account.wallet_id = wallet.id
 where wallet.app = %(app)s and wallet.environment = %(environment)s and wallet.user_id = %(user_id)s
"""

# The page first, along the index, so that a wallet of a million entries is read as fast as any.
_READ_ENTRIES = """
select page.transfer_id, page.position, transfer.kind, account.currency, page.amount, page.balance_after,
       page.wallet_version, transfer.purchase_id, transfer.created_at, transfer.reverses, transfer.reference
  from (select * from ledger.entry
         where wallet_id = (select id from ledger.wallet
                             where (app, environment, user_id) = (%(app)s, %(environment)s, %(user_id)s))
           and wallet_version < %(before)s
         order by wallet_version desc limit %(limit)s) as page
  join ledger.transfer on transfer.id = page.transfer_id
  join ledger.account on account.id = page.account_id
 order by page.wallet_version desc
"""

_VERSION_MAX: Final = 2**63 - 1


class PostgresWallets:
    """The wallets, for reading, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wallet(self, key: WalletKey) -> WalletState | None:
        """The wallet with its balances; None when the user has none there."""
        rows = self._connection.exec_driver_sql(_READ_WALLET, key._asdict()).all()
        if not rows:
            return None
        balances = {
            currency: Funds.of(balance=balance, held=held, owed=owed)
            for _, currency, balance, held, owed in rows
            if currency is not None
        }
        return WalletState(version=rows[0][0], balances=balances)

    def entries(self, key: WalletKey, *, before: int | None, limit: int) -> Sequence[WalletEntry]:
        """Newest first, of versions less than `before`."""
        parameters = {**key._asdict(), "before": _VERSION_MAX if before is None else before, "limit": limit}
        return [_entry(row) for row in self._connection.exec_driver_sql(_READ_ENTRIES, parameters)]


def _entry(row: Any) -> WalletEntry:
    transfer_id, position, kind, currency, amount, balance_after, version, purchase_id, created_at, *cause = row
    reverses, reference = cause
    spend = {"spend": transfer_id, "spend_reversal": reverses}.get(kind)
    return WalletEntry(
        id=entry_id(transfer_id, position),
        kind=kind,
        currency=currency,
        amount=amount,
        balance_after=balance_after,
        version=version,
        purchase_id=purchase_id,
        created_at=created_at,
        spend_id=None if spend is None else spend_id(spend),
        grant_id=grant_id(transfer_id) if kind == "grant" else None,
        reference=reference,
    )
