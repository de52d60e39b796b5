"""The calls that read a wallet."""

from __future__ import annotations

from typing import Annotated, Final

from flask import Response
from pydantic import BaseModel, Field

from ledger.api.answers import entry_page
from ledger.api.services import Services
from ledger.domain.books import WalletKey
from ledger.handlers.reading import PAGE_MAX
from shared.callers import Caller
from shared.events import Environment
from shared.http import answer, read_query

PAGE_DEFAULT: Final = 50
VERSION_DIGITS_MAX: Final = 18
"""Any number of so many digits is one that a version can have (64 bits)."""


class WalletQuery(BaseModel):
    """Which of the user's wallets."""

    environment: Environment = "production"


class EntriesQuery(WalletQuery):
    """Which page: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    after: Annotated[str | None, Field(pattern=rf"^[0-9]{{1,{VERSION_DIGITS_MAX}}}$")] = None


def show(services: Services, caller: Caller, user_id: str) -> Response:
    """The balances of a wallet."""
    user = caller.addressed(user_id)
    query = read_query(WalletQuery)
    return answer(services.queries.wallet(WalletKey(caller.app.id, query.environment, user)))


def entries(services: Services, caller: Caller, user_id: str) -> Response:
    """A page of a wallet's entries."""
    user = caller.addressed(user_id)
    query = read_query(EntriesQuery)
    key = WalletKey(caller.app.id, query.environment, user)
    before = None if query.after is None else int(query.after)
    return answer(entry_page(services.queries.entries(key, before=before, limit=query.limit)))
