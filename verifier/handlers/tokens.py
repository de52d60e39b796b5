"""Use-case: account tokens that were issued to users."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from shared.events import AccountTokenIssued, Draft, Event
from shared.outcome import Handled
from verifier.domain.records import Record
from verifier.handlers.ports import Records
from verifier.handlers.settling import verified


def issue_account_tokens(events: Sequence[Event[AccountTokenIssued]], *, records: Records, now: datetime) -> Handled:
    """What was bought with one of them before we knew whose it is gets its owner."""
    issued = {(event.app, event.payload.token): event for event in events}
    records.token_holders(issued)
    records.issue_tokens({token: event.user_id for token, event in issued.items() if event.user_id is not None})
    drafts: list[Draft] = []
    claimed: list[Record] = []
    for key, record in records.lock_unclaimed(issued).items():
        event = issued[key.app, record.account_token] if record.account_token else None
        if event is None or event.user_id is None or record.statement is None or record.known.refunded:
            continue
        owned = record.claimed(event.user_id)
        claimed.append(owned)
        drafts.append(verified(event, owned, now))
    records.save(claimed)
    return Handled(drafts)
