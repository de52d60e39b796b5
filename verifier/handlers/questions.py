"""Use-cases: receipts and bare transaction ids. Only the store can tell, so it is asked first, with no transaction of
the database open; what it said is settled afterwards.

A transaction id proves nothing about who bought: neither when it stands alone, nor when it comes with a receipt that
does not hold it. What the store then says of it is true, but whose it is has to be said by its account token, or by the
app's own backend (`vouched`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.apps import App, Apps
from shared.catalog import Catalog
from shared.events import Event, ReceiptSubmitted, Renewal, TransactionIdSubmitted
from shared.ids import TransactionId
from shared.jws import JwsUnconfirmed
from shared.outcome import Handled, Parked, Tried, TryLater
from verifier.domain import (
    AppleTransaction,
    ReceiptRefused,
    ReceiptValid,
    Rejected,
    StoreBusy,
    StoreMisconfigured,
    TransactionFound,
    TransactionUnknown,
    check_app,
)
from verifier.handlers.holding import Statement
from verifier.handlers.ports import ReceiptStore, Records, Signatures, TransactionStore
from verifier.handlers.proofs import app_of, kept, signed_transaction
from verifier.handlers.settling import Findings, settle

UNREADABLE_TRIES_MAX: Final = 5
"""verifyReceipt's 21002 means a broken receipt or a passing trouble of the store. It is the receipt when so many tries
have come to nothing and the last two runs heard nothing else; one 21002 among a store's other troubles says nothing."""

_VERIFY_RECEIPT: Final = "verifyReceipt"
_SERVER_API: Final = "the App Store Server API"


@dataclass(frozen=True, slots=True)
class ReceiptWord:
    """What the store says of a receipt. `claimed`: the transaction that is claimed from it, or why there is none; a
    receipt loses a consumable once the app has finished it, so the store was asked about that one by itself
    (`from_receipt` False)."""

    answer: ReceiptValid | ReceiptRefused
    claimed: AppleTransaction | Rejected
    from_receipt: bool = True


def ask_about_receipt(
    event: Event[ReceiptSubmitted],
    before: Tried,
    *,
    receipts: ReceiptStore,
    transactions: TransactionStore,
    signatures: Signatures,
    apps: Apps,
    now: datetime,
) -> ReceiptWord:
    """What the store says of a receipt, and of the transaction that is claimed from it.

    Raises TryLater when it does not say, Parked when it says that we are wrong.
    """
    app = app_of(apps, event.app)
    answer = _answered(receipts.verify(kept(event.payload.receipt), app=app), before)
    if isinstance(answer, ReceiptRefused):
        return ReceiptWord(answer, Rejected(answer.code, f"{answer.detail} (status {answer.status})"))
    if (refused := check_app(answer, app=app.apple)) is not None:
        return ReceiptWord(answer, refused)
    claimed = answer.find(event.payload.transaction_id)
    if isinstance(claimed, AppleTransaction) or app.apple.api_key is None:
        return ReceiptWord(answer, claimed)
    opinion = _stated(event.payload.transaction_id, app=app, transactions=transactions, signatures=signatures, now=now)
    return ReceiptWord(answer, opinion, from_receipt=False)


def settle_receipts(
    answered: Sequence[tuple[Event[ReceiptSubmitted], ReceiptWord]],
    *,
    records: Records,
    apps: Apps,
    catalog: Catalog,
    now: datetime,
) -> Handled:
    """Receipts that the store has answered. Their other unfinished consumables are credited too: each was paid for, and
    the app is about to finish them. What a receipt keeps for ever (subscriptions, non-consumables) waits to be claimed,
    and until then is only heard; what belongs to the claimed transaction is claimed with it.
    """
    findings = Findings()
    for event, word in answered:
        app = app_of(apps, event.app)
        answer = word.answer if isinstance(word.answer, ReceiptValid) else None
        proven = word.from_receipt or _may_be_named(event, app)
        _claim(event, word.claimed, findings, proven=proven, renewals=answer.renewals if answer else {})
        if answer is not None and check_app(answer, app=app.apple) is None:
            findings.statements += _others(event, answer)
    return settle(findings, records=records, catalog=catalog, now=now)


def look_up(
    event: Event[TransactionIdSubmitted],
    *,
    transactions: TransactionStore,
    signatures: Signatures,
    apps: Apps,
    now: datetime,
) -> AppleTransaction | Rejected:
    """What the store says of a transaction that somebody named. Raises as `ask_about_receipt` does."""
    app = app_of(apps, event.app)
    return _stated(event.payload.transaction_id, app=app, transactions=transactions, signatures=signatures, now=now)


def settle_lookups(
    answered: Sequence[tuple[Event[TransactionIdSubmitted], AppleTransaction | Rejected]],
    *,
    records: Records,
    apps: Apps,
    catalog: Catalog,
    now: datetime,
) -> Handled:
    """Transactions that were named and that the store has stated, or not."""
    findings = Findings()
    for event, stated in answered:
        _claim(event, stated, findings, proven=_may_be_named(event, app_of(apps, event.app)), renewals={})
    return settle(findings, records=records, catalog=catalog, now=now)


Asking = Event[ReceiptSubmitted] | Event[TransactionIdSubmitted]


Renewals = Mapping[TransactionId, Renewal]


def _claim(
    event: Asking, stated: AppleTransaction | Rejected, findings: Findings, *, proven: bool, renewals: Renewals
) -> None:
    if isinstance(stated, Rejected):
        findings.rejections.append((event, stated))
        return
    renewal = renewals.get(stated.transaction.original_transaction_id)
    claimed_id = event.payload.transaction_id
    findings.statements.append(Statement.claimed(event, stated, claimed_id=claimed_id, renewal=renewal, proven=proven))


def _may_be_named(event: Asking, app: App) -> bool:
    return event.payload.vouched or app.apple.transaction_id_claims == "first_claimant"


def _others(event: Event[ReceiptSubmitted], answer: ReceiptValid) -> Iterator[Statement]:
    """The rest of what it holds. Of what was bought for a time there is something to hear only if it was taken back."""
    for other in answer.transactions:
        stated = other.transaction
        if stated.transaction_id == event.payload.transaction_id:
            continue
        if stated.product_type in {"consumable", None}:
            yield Statement.claimed(event, other, claimed_id=stated.transaction_id, told=False)
        elif stated.product_type != "non_renewing" or other.revocation is not None:
            yield Statement(event, other, renewal=answer.renewals.get(stated.original_transaction_id))


def _answered(
    answer: ReceiptValid | ReceiptRefused | StoreBusy | StoreMisconfigured, before: Tried
) -> ReceiptValid | ReceiptRefused:
    if not isinstance(answer, StoreBusy | StoreMisconfigured):
        return answer
    unanswered = _unanswered(answer, asked=_VERIFY_RECEIPT)
    persists = before.times >= UNREADABLE_TRIES_MAX and before.error == str(unanswered)
    if isinstance(answer, StoreBusy) and answer.persisting is not None and persists:
        return answer.persisting
    raise unanswered


def _stated(
    transaction_id: TransactionId,
    *,
    app: App,
    transactions: TransactionStore,
    signatures: Signatures,
    now: datetime,
) -> AppleTransaction | Rejected:
    """The store's own statement about one transaction."""
    answer = transactions.find(transaction_id, app=app)
    match answer:
        case TransactionUnknown():
            return Rejected("transaction_not_found", "the store knows no such transaction of this app")
        case TransactionFound():
            return _authentic(answer, app=app, signatures=signatures, now=now)
    raise _unanswered(answer, asked=_SERVER_API)


def _authentic(
    found: TransactionFound, *, app: App, signatures: Signatures, now: datetime
) -> AppleTransaction | Rejected:
    """The store's answer, checked like everything else that arrives. What is wrong with it is no fault of the user's,
    so somebody should look at it; only that this app takes nothing from the sandbox is an answer to the user."""
    try:
        read = signed_transaction(found.signed_transaction, app=app, signatures=signatures, now=now)
    except JwsUnconfirmed as unconfirmed:
        raise TryLater(str(unconfirmed), after_s=unconfirmed.retry_after_s) from unconfirmed
    if isinstance(read, Rejected):
        if read.code == "wrong_environment":
            return read
        raise Parked(f"{_SERVER_API}: its answer: {read.detail}")
    if read.environment != found.environment:
        raise Parked(
            f"{_SERVER_API}: the {found.environment} store states a transaction of the {read.environment} store"
        )
    return read


def _unanswered(answer: StoreBusy | StoreMisconfigured, *, asked: str) -> Parked | TryLater:
    if isinstance(answer, StoreMisconfigured):
        return Parked(f"{asked} {answer.status}: {answer.detail}")
    status = "" if answer.status is None else f" {answer.status}"
    return TryLater(f"{asked}{status}: {answer.reason}", after_s=answer.retry_after_s)
