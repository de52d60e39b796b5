"""Use-case: spends, holds and grants that are asked for are done, or refused; several in one transaction.

A request that comes again with the same key gets the first answer again. What is asked for at once is done one after
the other: each is answered for itself, and a refusal leaves no trace of what was refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from ledger.domain.books import AccountId, AccountKey, Locked, TransferId, WalletKey
from ledger.domain.commands import (
    Answer,
    AnswerKey,
    CaptureHold,
    Command,
    GivenAnswer,
    Grant,
    IdempotencyKey,
    Outcome,
    PlaceHold,
    Refused,
    ReleaseHold,
    ReverseSpend,
    Spend,
)
from ledger.domain.decisions import Debt
from ledger.domain.lots import LotsFound, LotsWanted, Reservation
from ledger.domain.postings import Batch
from ledger.domain.spending import Counter, Standing
from ledger.handlers.ports import Answers, Books, Commissions
from shared.apps import Apps
from shared.events import Draft

Render = Callable[[Command, Outcome], Answer]
"""What the caller is told of an outcome."""

KEPT_REFUSALS = frozenset(
    {"insufficient-funds", "spend-not-reversible", "hold-not-open", "hold-too-small", "balance-out-of-range"}
)
"""Refusals that are an answer to the request: a repeat gets them again."""


@dataclass(frozen=True, slots=True)
class Executed:
    """The answers, in the order of the commands, and the events that go with what was done."""

    answers: Sequence[Answer]
    drafts: Sequence[Draft]


def execute(
    commands: Sequence[Command],
    *,
    books: Books,
    commissions: Commissions,
    answers: Answers,
    apps: Apps,
    render: Render,
    new_id: Callable[[], UUID],
    now: datetime,
) -> Executed:
    """Does what is asked, in the order in which it is asked. No two commands may have the same idempotency key."""
    standing = _standing(commands, commissions)
    accounts = [_account_of(command, standing) for command in commands]
    given = answers.given({key for each in zip(commands, accounts, strict=True) if (key := _key_of(*each)) is not None})
    locked = books.lock_accounts({key for each in zip(commands, accounts, strict=True) for key in _touched(*each)})
    standing = _standing(commands, commissions)  # again: their accounts are locked now
    found = books.load_lots(_wanted(commands, accounts, standing, locked))
    batch = Batch(locked=locked, found=found, new_id=new_id, now=now)
    counter = counter_on(batch, standing, found=found, apps=apps, new_id=new_id)
    told = [
        _answer(command, account, counter=counter, given=given, render=render)
        for command, account in zip(commands, accounts, strict=True)
    ]
    posting = batch.result()
    books.write(posting, {})
    commissions.save(spends=counter.spends.values(), holds=counter.holds.values(), reservations=counter.reservations)
    answers.keep(_to_keep(commands, accounts, told), now=now)
    return Executed([answer for answer, _ in told], posting.drafts)


def counter_on(
    batch: Batch, standing: Standing, *, found: LotsFound, apps: Apps, new_id: Callable[[], UUID]
) -> Counter:
    """Where requests are carried out on a batch, with what was found of the lots of their holds."""
    reserved = replace(standing, reservations=_by_hold(found.reservations))
    return Counter(batch=batch, standing=reserved, debt_of=lambda wallet: _debt_policy(apps, wallet), new_id=new_id)


def _debt_policy(apps: Apps, wallet: WalletKey) -> Debt:
    """What the app does about a refund that its user cannot give back; an app that is gone lets nobody off."""
    app = apps.by_id.get(wallet.app)
    return "negative" if app is None else app.wallet.debt


def _by_hold(reservations: Sequence[Reservation]) -> dict[UUID, list[Reservation]]:
    grouped: dict[UUID, list[Reservation]] = {}
    for reservation in reservations:
        grouped.setdefault(reservation.hold_id, []).append(reservation)
    return grouped


def _standing(commands: Sequence[Command], commissions: Commissions) -> Standing:
    requests = [command.request for command in commands]
    spends = {request.spend for request in requests if isinstance(request, ReverseSpend)}
    holds = {request.hold for request in requests if isinstance(request, CaptureHold | ReleaseHold)}
    return commissions.standing(spends=spends, holds=holds) if spends or holds else Standing()


def _account_of(command: Command, standing: Standing) -> AccountKey | None:
    """The wallet's account that a command is about. None: what it names is not there, or not the caller's to see."""
    match command.request:
        case Spend() | PlaceHold() | Grant() as request:
            account = AccountKey.of_wallet(request.wallet, request.currency)
        case ReverseSpend() as request:
            spend = standing.spends.get(request.spend)
            if spend is None or spend.wallet.app != request.app:
                return None
            account = spend.account
        case CaptureHold() | ReleaseHold() as request:
            hold = standing.holds.get(request.hold)
            if hold is None or hold.wallet.app != request.app or hold.refund_request is not None:
                return None
            account = hold.account
    return account if command.only_user in {None, account.user_id} else None


def _touched(command: Command, account: AccountKey | None) -> list[AccountKey]:
    """The account, and those of the house that the command may touch."""
    if account is None:
        return []
    match command.request:
        case Spend():
            return [account, account.house("sink")]
        case ReverseSpend() | CaptureHold():
            return [account, account.house("sink"), account.house("write_off")]
        case Grant():
            return [account, account.house("goodwill")]
        case _:
            return [account]


def _key_of(command: Command, account: AccountKey | None) -> AnswerKey | None:
    if command.key is None or account is None or account.user_id is None:
        return None
    return AnswerKey(account.app, account.user_id, command.key.call, command.key.key)


def _wanted(
    commands: Sequence[Command], accounts: Sequence[AccountKey | None], standing: Standing, locked: Locked
) -> LotsWanted:
    oldest: defaultdict[AccountId, int] = defaultdict(int)
    for command, account in zip(commands, accounts, strict=True):
        if account is not None and isinstance(command.request, Spend | PlaceHold):
            stands = locked.accounts[account]
            oldest[stands.id] = min(stands.available, oldest[stands.id] + command.request.amount)
    return LotsWanted(
        oldest={account_id: amount for account_id, amount in oldest.items() if amount},
        transfers=frozenset(
            TransferId(each.id) for each in standing.spends.values() if each.account in locked.accounts
        ),
        holds=frozenset(
            each.id for each in standing.holds.values() if each.state == "open" and each.account in locked.accounts
        ),
        indebted=locked.indebted(),
        forgiven=frozenset(
            locked.accounts[account].id
            for command, account in zip(commands, accounts, strict=True)
            if account is not None and isinstance(command.request, ReverseSpend)
        ),
    )


def _answer(
    command: Command,
    account: AccountKey | None,
    *,
    counter: Counter,
    given: Mapping[AnswerKey, GivenAnswer],
    render: Render,
) -> tuple[Answer, Outcome | None]:
    """What the caller is told, and what was done about it (None: it was, before)."""
    key = _key_of(command, account)
    if account is None:
        what = "spend" if isinstance(command.request, ReverseSpend) else "hold"
        outcome: Outcome = Refused("not-found", f"there is no such {what}")
    elif key is not None and (before := given.get(key)) is not None:
        if before.body_sha256 == _digest(command.key):
            return Answer(before.status, before.document, replayed=True), None
        outcome = Refused("idempotency-key-reused", "this Idempotency-Key came with another request before")
    else:
        outcome = counter.carry_out(command)
    return render(command, outcome), outcome


def _digest(key: IdempotencyKey | None) -> bytes:
    return b"" if key is None else key.body_sha256


def _to_keep(
    commands: Sequence[Command],
    accounts: Sequence[AccountKey | None],
    told: Sequence[tuple[Answer, Outcome | None]],
) -> dict[AnswerKey, GivenAnswer]:
    return {
        key: GivenAnswer(_digest(command.key), answer.status, answer.document)
        for command, account, (answer, outcome) in zip(commands, accounts, told, strict=True)
        if (key := _key_of(command, account)) is not None and _is_kept(outcome)
    }


def _is_kept(outcome: Outcome | None) -> bool:
    if isinstance(outcome, Refused):
        return outcome.code in KEPT_REFUSALS
    return outcome is not None
