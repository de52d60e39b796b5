"""Whether a run has come to what it should have. Each check says in words what is wrong."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, cast

from sqlalchemy import Connection

from gateway.domain.callers import Server
from gateway.domain.feeds import START as BEGINNING
from gateway.domain.feeds import FeedKey
from gateway.domain.purchases import Purchase
from gateway.handlers import PurchaseUnknown, find_purchase
from ledger.domain.audit import Report
from ledger.domain.entitlements import Holder
from ledger.domain.subscriptions import SubscriptionKey
from ledger.handlers.auditing import audit
from ledger.store import PostgresAudits, PostgresEvidence, PostgresSubscriptions
from ledger.store.audit_pages import BY_INDEX
from shared.events import OUTWARD, SubscriptionState, SubscriptionStatus
from shared.ids import TransactionId, UserId, purchase_id
from tests.simulation import expected
from tests.simulation.expected import Owners
from tests.simulation.plan import (
    WHOLE_MILLI,
    Input,
    Posted,
    Sale,
    Subscription,
)
from tests.simulation.stepping import GAME, Simulation
from tests.support.subscriber_life import Life
from tests.support.subscriber_road import due_gems, usable_until

FEED_MAX: Final = 10_000
APPLE: Final[dict[SubscriptionStatus, int]] = {
    "active": 1,
    "expired": 2,
    "in_billing_retry": 3,
    "in_grace_period": 4,
    "revoked": 5,
    "refunded": 5,
}
"""The App Store's numbers of a subscription's status."""

# At every moment, whatever is still on its way.
_BROKEN: Final = """
select 'the entries of ' || currency || ' sum to ' || sum(balance)
  from ledger.account group by environment, currency having sum(balance) <> 0
union all
select 'transaction ' || transaction_id || ' is granted ' || count(*) || ' times'
  from ledger.transfer where kind = 'purchase' group by environment, transaction_id having count(*) > 1
union all
select 'transaction ' || transaction_id || ' was given ' || given || ' and more was taken'
  from (select transaction_id, currency, -sum(amount) as given
          from ledger.transfer join ledger.entry on transfer_id = transfer.id
          join ledger.account on account.id = account_id
         where account.kind = 'issuance' group by transaction_id, account.environment, currency) as issued
 where given < 0
union all
select 'wallet account ' || id || ' owes ' || owed || ' and holds ' || held
  from ledger.account where owed > held and %(debt)s = 'floor'
union all
select 'event ' || event_id || ' has ' || count(*) || ' places in the feed'
  from journal.outward group by event_id having count(*) > 1
"""


def broken_now(run: Simulation) -> list[str]:
    """What is not as it must be at every moment."""
    return [row[0] for row in run.world.database.look(_BROKEN, debt=run.plan.debt)]


def note_how_it_ended(run: Simulation) -> None:
    """Adds to the story what the journal tells: two runs that tell the same have recorded the same events."""
    events = run.world.database.look("select id, type, subject, causation_id from journal.event order by id")
    run.note(f"{len(events)} events: {hashlib.sha256(repr(events).encode()).hexdigest()[:16]}")


def wrong_at_rest(run: Simulation) -> list[str]:
    """What is not as it must be once nothing is on its way any more."""
    owners = _owners(run)
    return [problem for check in _CHECKS for problem in check(run, owners)]


def still_wanted(run: Simulation) -> list[Input]:
    """What somebody's app would post now, since StoreKit shows it what stands and is nobody's: those who claimed it
    were told that a receipt or an id is no proof of it. Who had a proof has it without asking again."""
    owners = _owners(run)
    wanted: list[Input] = []
    for sale in run.plan.sales:
        posted = [each for each in run.told.accepted if isinstance(each, Posted) and each.sale == sale.number]
        asked = {each.user for each in posted if each.user in _possible(run, sale)}
        proved = any(each.user in asked and each.proof in ("signed", "vouched") for each in posted)
        may_be_refused = not proved and _may_be_refused(run, sale)
        if sale.number not in owners and sale.refunded_milli < WHOLE_MILLI and asked and may_be_refused:
            at_s = max(each.at_s for each in posted)
            wanted.append(Posted(at_s, min(asked), sale.number, "signed", knows=len(sale.changes)))
    return wanted


def _may_be_refused(run: Simulation, sale: Sale) -> bool:
    """Whether a good claim to it may have been refused because all of it was refunded then."""
    seen_in_receipt = any(sale.number in stated for stated in run.store.stated.values())
    return any(change.milli == WHOLE_MILLI or (seen_in_receipt and change.milli) for change in sale.changes)


# ---- what is left over -------------------------------------------------------------------------------------------


def left_over(run: Simulation) -> Iterator[str]:
    """What somebody has still to handle."""
    for consumer, event_type, state, attempts, error in run.world.database.look(
        "select consumer, type, state, attempts, error from journal.delivery order by consumer, event_id"
    ):
        yield f"{consumer} has not handled a {event_type}: {state}, {attempts} attempts, {error}"
    for endpoint, state, attempts in run.world.database.look(
        "select endpoint_id, state, attempts from notifier.delivery where state <> 'delivered' order by event_id"
    ):
        yield f"{endpoint} was not told of something: {state} after {attempts} attempts"


def _contradicted(run: Simulation, owners: Owners) -> Iterator[str]:
    for key in run.told.contradicted:
        yield f"command {key} was answered in two ways"


# ---- whose it is, and what they are told -------------------------------------------------------------------------


def _owned(run: Simulation, owners: Owners) -> Iterator[str]:
    for sale in run.plan.sales:
        possible, owner = _possible(run, sale), owners.get(sale.number)
        if owner is not None and owner not in possible:
            yield f"{sale} is {owner}'s, and may only be {sorted(possible)}'s"
        if owner is None and expected.must_be_owned(sale, run.told.accepted, possible):
            yield f"{sale} is nobody's, and should be one of {sorted(possible)}'s"


def _claims(run: Simulation, owners: Owners) -> Iterator[str]:
    """Everybody who posted a proof is told what came of it."""
    for sale in run.plan.sales:
        claimants = {each.user for each in run.told.accepted if isinstance(each, Posted) and each.sale == sale.number}
        for user in sorted(claimants | ({owners[sale.number]} if sale.number in owners else set())):
            purchase = _purchase(run, user, sale.transaction_id)
            should_be = expected.status(sale, owned=owners.get(sale.number) == user)
            if purchase is None:
                yield f"{user}'s claim to {sale} is not known, and should be {should_be}"
            elif purchase.status != should_be:
                yield f"{user}'s claim to {sale} is {purchase.status}, and should be {should_be}"


def _purchase(run: Simulation, user: UserId, transaction_id: TransactionId) -> Purchase | None:
    wanted = purchase_id(app=GAME, store="apple", transaction_id=transaction_id, user_id=user)
    caller = Server(run.apps.by_id[GAME], "backend", frozenset({"read"}))
    try:
        return find_purchase(wanted, caller=caller, journal=run.processes.journal)
    except PurchaseUnknown:
        return None


def _possible(run: Simulation, sale: Sale) -> set[UserId]:
    hurried = sale.number in run.told.hurried
    return expected.may_own(sale, run.told.accepted, run.store, hurried=hurried)


def _owners(run: Simulation) -> dict[int, UserId]:
    rows = run.world.database.look("select transaction_id, user_id from verifier.store_transaction")
    of_transaction = {transaction_id: user_id for transaction_id, user_id in rows if user_id is not None}
    return {
        sale.number: of_transaction[sale.transaction_id]
        for sale in run.plan.sales
        if sale.transaction_id in of_transaction
    }


# ---- what they have ----------------------------------------------------------------------------------------------


def _wallets(run: Simulation, owners: Owners) -> Iterator[str]:
    """To the unit; where debts are written off, of all users together."""
    due = expected.balances(run.plan, owners, run.told.answers, run.world.catalog)
    for user, lives in _lives_of_users(run).items():
        due["production", user, "gems"] += due_gems(lives, run.world.catalog)
    found: Counter[tuple[str, UserId, str]] = Counter()
    for environment, user, currency, balance in run.world.database.look(_BALANCES):
        found[environment, user, currency] += balance
    if run.plan.debt == "floor":
        for name in sorted({(environment, currency) for environment, _, currency in (*due, *found)}):
            (written_off,) = run.world.database.look(_WRITTEN_OFF, environment=name[0], currency=name[1])[0]
            should_be = sum(amount for (place, _, currency), amount in due.items() if (place, currency) == name)
            are = sum(amount for (place, _, currency), amount in found.items() if (place, currency) == name)
            if are != should_be + written_off:
                yield f"all have {are} {name[1]} ({name[0]}), and should have {should_be} and {written_off} written off"
        return
    for environment, user, currency in sorted({*due, *found}):
        has, should_have = found[environment, user, currency], due[environment, user, currency]
        if has != should_have:
            yield f"{user} has {has} {currency} ({environment}), and should have {should_have}"


_BALANCES: Final = """
select wallet.environment, user_id, currency, balance
  from ledger.account join ledger.wallet on wallet.id = wallet_id
"""
_WRITTEN_OFF: Final = """
select coalesce(-sum(balance), 0)::bigint from ledger.account
 where kind = 'write_off' and environment = %(environment)s and currency = %(currency)s
"""


def _entitlements(run: Simulation, owners: Owners) -> Iterator[str]:
    now, lives = run.clock.now(), _lives_of_users(run)
    for user in run.plan.users:
        owned = [sale for sale in run.plan.sales if owners.get(sale.number) == user]
        in_production = [sale for sale in owned if sale.environment == "production"]
        standing = {sale.product for sale in in_production if sale.refunded_milli < WHOLE_MILLI}
        should_be = {name for product, name in expected.ENTITLED.items() if product in standing}
        until = usable_until(lives.get(user, ()))
        should_be |= {"vip"} if until is not None and until > now else set()
        holder = Holder(GAME, "production", user)
        found = run.processes.ledger.entitlements(holder).entitlements
        active = {str(each.id): each.until for each in found if each.active}
        if set(active) != should_be:
            yield f"{user} may use {sorted(active)}, and should be able to use {sorted(should_be)}"
        elif "vip" in active and active["vip"] != until:
            yield f"{user} may use vip until {active['vip']}, and should until {until}"


def _subscriptions(run: Simulation, owners: Owners) -> Iterator[str]:
    for one in run.plan.subscriptions:
        if not expected.is_claimed(one, run.told.accepted):
            continue
        life, state = run.store.lives[one.number], _standing(run, one)
        if state is None:
            yield f"{one} is nobody's"
            continue
        are = (APPLE[state.status], state.product_id, state.auto_renew, state.renewal_product_id)
        should_be = (life.status, life.last.product, life.auto_renew, life.next_product)
        if are != should_be:
            yield f"{one} is told as {are}, and should be as {should_be}"


def _standing(run: Simulation, one: Subscription) -> SubscriptionState | None:
    key = SubscriptionKey(GAME, "apple", "production", TransactionId(run.store.lives[one.number].original))
    return cast(
        "SubscriptionState | None",
        run.world.database.leaving_no_trace(lambda connection: PostgresSubscriptions(connection).lock([key])[key].told),
    )


def _lives_of_users(run: Simulation) -> dict[UserId, list[Life]]:
    lives: defaultdict[UserId, list[Life]] = defaultdict(list)
    for one in run.plan.subscriptions:
        if expected.is_claimed(one, run.told.accepted):
            lives[one.buyer].append(run.store.lives[one.number])
    return lives


# ---- what the app's backend was told -----------------------------------------------------------------------------


def _outward(run: Simulation, owners: Owners) -> Iterator[str]:
    """Each outward event is in the feed, once, and each endpoint has taken it."""
    recorded = {
        str(event_id): event_type
        for event_id, event_type in run.world.database.look(
            "select id, type from journal.event where type = any(%(outward)s)", outward=list(OUTWARD)
        )
    }
    page = run.processes.feed.page(FeedKey(GAME), after=BEGINNING, limit=FEED_MAX)
    places = Counter(str(event.id) for event in page.events)
    if page.end.position != len(recorded):
        yield f"the feed ends at {page.end.position}, and should at {len(recorded)}"
    for event_id, event_type in recorded.items():
        if places[event_id] != 1:
            yield f"a {event_type} is in the feed {places[event_id]} times"
        for endpoint in run.apps.by_id[GAME].webhooks:
            if endpoint.wants(event_type) and (endpoint.id, event_id) not in run.poster.took:
                yield f"{endpoint.id} was never told of a {event_type}"
    if unknown := {event_id for _, event_id in run.poster.took} - set(recorded):
        yield f"{len(unknown)} webhooks tell of events that were never recorded"


# ---- the books ---------------------------------------------------------------------------------------------------


def _books(run: Simulation, owners: Owners) -> Iterator[str]:
    """`purser audit` finds nothing."""

    def on(connection: Connection) -> Report | None:
        once = cast("Connection", _PlannedOnce(connection))

        def work(do: Callable[[Connection], Any]) -> Any:
            return do(once)

        return audit(evidence=PostgresEvidence(work), audits=PostgresAudits(work), clock=run.clock)

    report = run.world.database.leaving_no_trace(on)
    for finding in report.findings:
        yield f"the audit finds {finding.check} at {dict(finding.thing)}: {finding.found}, not {finding.expected}"


class _PlannedOnce:
    """A connection that is told once, and not with every page, how statements are to be planned."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_told = False

    def exec_driver_sql(self, statement: str, parameters: Any = None) -> Any:
        if statement == BY_INDEX:
            if self._is_told:
                return None
            self._is_told = True
        return self._connection.exec_driver_sql(statement, parameters)


_CHECKS: Final[Sequence[Callable[[Simulation, Owners], Iterable[str]]]] = (
    lambda run, _: left_over(run),
    _contradicted,
    _owned,
    _claims,
    _wallets,
    _entitlements,
    _subscriptions,
    _outward,
    _books,
    lambda run, _: broken_now(run),
)
