"""The reckoning: what was found beside what has to be. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from shared.catalog import Catalog
from tests.proof.evidence import Booked, Books, Evidence, Unhandled, Wallet
from tests.proof.model import Amounts, Model, Refusal, Sale

Harm = Literal["lost", "doubled", "wrong", "parked", "untold", "audit", "answers"]
"""lost: accepted, and less came of it than should; doubled: more; parked: it waits for an operator; untold: the
backend, or the feed, was not told; audit: the books break a promise of theirs; answers: the gateway said what it may
never say; wrong: everything else."""

TAKEN_BACK: Final = frozenset({"already_refunded", "account_token_mismatch"})
"""Why a claim may be refused of what was refunded wholly in the meantime; the second, where it had to be its account
token that says whose it is, and the claim was looked at before that was known."""
OPEN: Final = frozenset({"accepted", "verifying"})
MAY_BE_HEARD: Final = frozenset({"200", "503", "none"})
"""What the store's notifications may be answered: durable, or not now; or nothing, by a process that is killed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it has to be."""

    harm: Harm
    sentence: str


def check(model: Model, evidence: Evidence, catalog: Catalog) -> list[Finding]:
    """Everything that is off; nothing, when all is well."""
    return [
        *check_books(model, evidence.books, catalog),
        *_purchases(model, evidence, catalog),
        *_subscriptions(model, evidence),
        *check_unhandled(evidence.unhandled),
        *(Finding("untold", f"{count} webhooks are {state}") for state, count in evidence.unsent.items()),
        *_feed(evidence),
        *_told(evidence),
        *_completed_once(model, evidence),
        *_wallets_told(evidence),
        *_audited(evidence.audit),
        *_answers(model, evidence),
    ]


# ---- the books ----------------------------------------------------------------------------------------------------


def check_books(model: Model, books: Books, catalog: Catalog) -> Iterator[Finding]:
    """Each transaction once, to one who may have it, less what is refunded; each spend once; each wallet their sum."""
    for sale in model.sales:
        yield from _sale(sale, books.transactions.get((sale.environment, sale.transaction_id)), catalog)
    bought = {(sale.environment, sale.transaction_id) for sale in model.sales}
    for key in books.transactions.keys() - bought:
        yield Finding("wrong", f"transaction {key} is in the books, and nobody has bought it")
    yield from _spends(model, books)
    yield from _wallets(model, books, catalog)


def _sale(sale: Sale, booked: Booked | None, catalog: Catalog) -> Iterator[Finding]:
    what = f"{sale.product_id} for {' or '.join(sale.claims)} (transaction {sale.transaction_id})"
    if booked is None:
        if sale.refunded_percent < 100:
            yield Finding("lost", f"{what}: not in the books")
        return
    if booked.owner not in sale.claims:
        yield Finding("wrong", f"{what}: belongs to {booked.owner}")
    if booked.state != "granted":
        yield Finding("parked", f"{what}: {booked.state}")
        return
    if booked.grants > 1:
        yield Finding("doubled", f"{what}: granted {booked.grants} times")
    if booked.refunds > 1:
        yield Finding("doubled", f"{what}: taken back {booked.refunds} times")
    yield from _moved(what, booked.moved, sale.left(catalog))


def _moved(what: str, moved: Amounts, left: Amounts) -> Iterator[Finding]:
    for currency in sorted({*moved, *left}):
        found, expected = moved.get(currency, 0), left.get(currency, 0)
        if found != expected:
            yield Finding("doubled" if found > expected else "lost", f"{what}: {found} {currency}, not {expected}")


def _spends(model: Model, books: Books) -> Iterator[Finding]:
    for spent in model.spends:
        count, amount = books.spent.get(spent.reference, (0, 0))
        if count > 1:
            yield Finding("doubled", f"{spent.reference}: spent {count} times")
        elif spent.made and (count, amount) != (1, spent.amount):
            yield Finding("lost", f"{spent.reference}: {spent.amount} answered as spent, {amount} in the books")
        elif count and not spent.made:
            yield Finding("wrong", f"{spent.reference}: refused, and in the books")


def _wallets(model: Model, books: Books, catalog: Catalog) -> Iterator[Finding]:
    expected = _balances(model, books, catalog)
    for wallet in sorted({*expected, *books.wallets}):
        if books.wallets.get(wallet, 0) != expected[wallet]:
            yield Finding("wrong", f"wallet {wallet}: {books.wallets.get(wallet, 0)}, not {expected[wallet]}")


def _balances(model: Model, books: Books, catalog: Catalog) -> Counter[Wallet]:
    """What everybody has by the model; which of several has a transaction, the books say."""
    balances: Counter[Wallet] = Counter()
    for sale in model.sales:
        for currency, amount in sale.left(catalog).items():
            balances[sale.environment, _owner(sale, books), currency] += amount
    for spent in model.spends:
        if spent.made:
            balances["production", spent.user, "gems"] -= spent.amount
    return balances


def _owner(sale: Sale, books: Books) -> str:
    booked = books.transactions.get((sale.environment, sale.transaction_id))
    has = booked.owner if booked is not None else None
    return has if has in sale.claims and has is not None else next(iter(sale.claims))


# ---- what clients are shown ---------------------------------------------------------------------------------------


def _purchases(model: Model, evidence: Evidence, catalog: Catalog) -> Iterator[Finding]:
    for sale in model.sales:
        owner = _owner(sale, evidence.books)
        for user, purchase_id in sale.claims.items():
            if purchase_id is None:
                continue
            seen = evidence.purchases.get(purchase_id, {})
            if user == owner:
                yield from _had(sale, purchase_id, seen, catalog)
            else:
                yield from _refused(Refusal(purchase_id, user, "claimed_by_another_user"), seen)
    for refusal in model.refusals:
        yield from _refused(refusal, evidence.purchases.get(refusal.purchase_id, {}))


def _had(sale: Sale, purchase_id: str, seen: Mapping[str, Any], catalog: Catalog) -> Iterator[Finding]:
    status = seen.get("status")
    if sale.refunded_percent == 100 and _code(seen) in TAKEN_BACK:
        return
    if status != sale.status:
        yield _off(purchase_id, seen, sale.status)
    elif (net := _net(seen)) != (left := sale.left(catalog)):
        yield Finding("wrong", f"purchase {purchase_id} shows {net}, and gives {left}")


def _refused(refusal: Refusal, seen: Mapping[str, Any]) -> Iterator[Finding]:
    if seen.get("status") != "rejected" or _code(seen) != refusal.code:
        yield _off(refusal.purchase_id, seen, f"rejected, {refusal.code}")


def _off(purchase_id: str, seen: Mapping[str, Any], expected: str) -> Finding:
    status = seen.get("status")
    harm: Harm = "lost" if status in {None, *OPEN} else "parked" if status == "parked" else "wrong"
    return Finding(harm, f"purchase {purchase_id} is {status} {_code(seen) or ''}, not {expected}")


def _code(seen: Mapping[str, Any]) -> str | None:
    return (seen.get("rejection") or {}).get("code")


def _net(seen: Mapping[str, Any]) -> dict[str, int]:
    net = Counter({each["currency"]: each["amount"] for each in seen["granted"]})
    net.subtract({each["currency"]: each["amount"] for each in seen["refunded"]})
    return {currency: amount for currency, amount in net.items() if amount}


def _subscriptions(model: Model, evidence: Evidence) -> Iterator[Finding]:
    for expected in model.subscriptions:
        stands = evidence.subscriptions.get(expected.original_transaction_id)
        if stands is None:
            yield Finding("lost", f"subscription {expected.original_transaction_id}: nobody was told of it")
            continue
        found = stands.user, stands.status, stands.transaction_id, stands.auto_renew
        wanted = expected.user, "active", expected.transaction_id, expected.auto_renew
        if found != wanted:
            yield Finding("wrong", f"subscription {expected.original_transaction_id}: {found}, not {wanted}")


# ---- what is left, and who was told -------------------------------------------------------------------------------


def check_unhandled(unhandled: Sequence[Unhandled]) -> Iterator[Finding]:
    """One for each delivery that is left."""
    for each in unhandled:
        harm: Harm = "parked" if each.is_stuck else "lost"
        sentence = f"{each.type} for {each.consumer} is {each.state}, handed over {each.handovers} times: {each.error}"
        yield from [Finding(harm, sentence)] * each.count


def _feed(evidence: Evidence) -> Iterator[Finding]:
    if list(evidence.places) != list(range(1, len(evidence.places) + 1)):
        yield Finding("wrong", "the feed's places are not 1, 2, 3, … without a gap")
    listed = Counter(str(event["id"]) for event in evidence.feed)
    for event_id, count in listed.items():
        if count > 1:
            yield Finding("doubled", f"event {event_id} is in the feed {count} times")
    for event_id in evidence.outward - listed.keys():
        yield Finding("untold", f"event {event_id} is not in the feed")
    for event_id in listed.keys() - evidence.outward:
        yield Finding("wrong", f"event {event_id} is in the feed, and not in the journal")


def _told(evidence: Evidence) -> Iterator[Finding]:
    """Each event of the feed at least once, with its id, signed, and in the feed's very words."""
    feed = {event["id"]: {name: event[name] for name in event if name != "id"} for event in evidence.feed}
    heard = set()
    for told in evidence.told:
        if not told.genuine:
            yield Finding("wrong", f"webhook {told.id} is not signed as it should be")
        elif told.id not in feed:
            yield Finding("wrong", f"webhook {told.id} is of no event in the feed")
        elif told.body != feed[told.id]:
            yield Finding("wrong", f"webhook {told.id} says something else than the feed")
        else:
            heard.add(told.id)
    for event_id in feed.keys() - heard:
        yield Finding("untold", f"event {event_id}: the backend was not told")


def _completed_once(model: Model, evidence: Evidence) -> Iterator[Finding]:
    """Of a purchase that nobody refunded it is told once that it is completed."""
    said = Counter(event["data"]["id"] for event in evidence.feed if event["type"] == "purchase.completed")
    for sale in model.sales:
        purchase_id = sale.claims.get(_owner(sale, evidence.books))
        if sale.refunded_percent or purchase_id is None:
            continue
        if said[purchase_id] > 1:
            yield Finding("doubled", f"purchase {purchase_id} is told as completed {said[purchase_id]} times")
        elif not said[purchase_id] and not _was_refunded(evidence, purchase_id):
            yield Finding("untold", f"purchase {purchase_id}: nobody was told that it is completed")


def _was_refunded(evidence: Evidence, purchase_id: str) -> bool:
    """One that was refunded before it was claimed, and then not after all, is told as that."""
    return any(
        event["type"] == "purchase.refund_reversed" and event["data"]["id"] == purchase_id for event in evidence.feed
    )


def _wallets_told(evidence: Evidence) -> Iterator[Finding]:
    """Of each wallet every change: its versions are 1, 2, 3, … without a gap."""
    versions: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for event in evidence.feed:
        if event["type"].startswith("wallet."):
            data = event["data"]
            versions[data["environment"], data["user_id"]].append(data["version"])
    for wallet, told in versions.items():
        if sorted(told) != list(range(1, len(told) + 1)):
            harm: Harm = "doubled" if len(set(told)) < len(told) else "untold"
            yield Finding(harm, f"wallet {wallet}: told of its changes {sorted(told)}")


def _audited(audit: Mapping[str, Any]) -> Iterator[Finding]:
    if not audit["clean"]:
        shown = list(audit["findings"])[:3]
        yield from [Finding("audit", f"purser audit: {shown}")] * max(1, int(audit["problems"]))


def _answers(model: Model, evidence: Evidence) -> Iterator[Finding]:
    yield from (Finding("wrong", sentence) for sentence in model.broken)
    yield from (Finding("answers", sentence) for sentence in evidence.wrong_answers)
    for status, count in evidence.store_heard.items():
        if status not in MAY_BE_HEARD:
            yield Finding("answers", f"{count} notifications of the store were answered {status}")
