"""Use-case: account tokens that were issued to users."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.catalog import Catalog
from shared.events import TOKEN_REMOVED, AccountTokenIssued, Draft, Event
from shared.outcome import Handled
from verifier.handlers.holding import Held
from verifier.handlers.ports import Records


def issue_account_tokens(
    events: Sequence[Event[AccountTokenIssued]], *, records: Records, catalog: Catalog, now: datetime
) -> Handled:
    """What was bought with one of them before we knew whose it is gets its owner, and so does what belongs to it."""
    kept = [event for event in events if event.payload.token != TOKEN_REMOVED]
    issued = {(event.app, event.payload.token): event for event in kept}
    records.token_holders(issued)
    records.issue_tokens({token: event.user_id for token, event in issued.items() if event.user_id is not None})
    bought = records.unclaimed_with(issued)
    origins = records.lock_origins({origin for origin in bought.values() if origin is not None})
    nobodys = {key for key, origin in origins.items() if origin.user_id is None}
    locked = records.lock({*bought, *records.unclaimed_of(nobodys)})
    held = Held(records=locked, origins=origins, holders={}, catalog=catalog, now=now)
    drafts: list[Draft] = []
    for key in sorted(bought):
        record = held.record(key)
        event = issued.get(record.token) if record.token else None
        if event is None or event.user_id is None:
            continue
        if record.origin is None:
            drafts += held.give(event, key, event.user_id)
        elif held.unowned(record.origin):
            drafts += held.own(event, record.origin, event.user_id)
    held.save(records)
    return Handled(drafts)
