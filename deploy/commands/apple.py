"""`purser apple`: what the App Store itself says, asked with the app's own key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from deploy.desk import app_option, environment_option, json_option, read_since, show

if TYPE_CHECKING:
    from appstoreserverlibrary.models.CheckTestNotificationResponse import CheckTestNotificationResponse
    from appstoreserverlibrary.models.NotificationHistoryResponseItem import NotificationHistoryResponseItem
    from appstoreserverlibrary.models.SendAttemptItem import SendAttemptItem
    from appstoreserverlibrary.models.StatusResponse import StatusResponse

    from deploy.app_store import Desk, Statement
    from shared.events import Environment

F = TypeVar("F", bound=Callable[..., Any])

STATUSES: Final = {1: "active", 2: "expired", 3: "billing retry", 4: "grace period", 5: "revoked"}
"""Source: developer.apple.com, appstoreserverapi, status."""

TEST_LIMIT_S: Final = 60

VERIFIED: Final = "yes"
UNVERIFIED: Final = "UNVERIFIED"


@dataclass(frozen=True, slots=True)
class TransactionRow:
    """One transaction, as the App Store states it."""

    transaction_id: Any
    product_id: Any
    type: Any
    quantity: Any
    purchased_at: datetime | None
    revoked_at: datetime | None
    environment: Any
    verified: str
    claims: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SubscriptionRow:
    """One subscription, as the App Store states it."""

    original_transaction_id: Any
    status: str
    product_id: Any
    expires_at: datetime | None
    auto_renews: str
    verified: str
    transaction: dict[str, Any]
    renewal: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One notification that the App Store sent, or tries to send; each attempt with its outcome."""

    signed_at: datetime | None
    type: Any
    subtype: Any
    notification_id: Any
    attempts: str
    verified: str
    claims: dict[str, Any]


def asking(command: F) -> F:
    """The options that every question has."""
    for option in (json_option, environment_option, app_option):
        command = option(command)
    return command


@click.group()
def command() -> None:
    """Ask the App Store Server API, with the app's own key. What comes back is verified as everything is."""


@command.command()
@click.argument("transaction_id", metavar="ID")
@asking
def transaction(transaction_id: str, app_id: str | None, environment: Environment, as_json: bool) -> None:
    """One transaction."""
    _show_transactions(
        app_id,
        lambda desk: [desk.api.transaction(transaction_id, app=desk.app, environment=environment)],
        as_json=as_json,
    )


@command.command()
@click.argument("transaction_id", metavar="ID")
@asking
def history(transaction_id: str, app_id: str | None, environment: Environment, as_json: bool) -> None:
    """All transactions of the customer who has this one, finished and refunded ones too."""
    _show_transactions(
        app_id,
        lambda desk: desk.api.history(transaction_id, app=desk.app, environment=environment),
        as_json=as_json,
    )


@command.command()
@click.argument("transaction_id", metavar="ID")
@asking
def refunds(transaction_id: str, app_id: str | None, environment: Environment, as_json: bool) -> None:
    """All refunded transactions of the customer who has this one."""
    _show_transactions(
        app_id,
        lambda desk: desk.api.refunds(transaction_id, app=desk.app, environment=environment),
        as_json=as_json,
    )


@command.command()
@click.argument("transaction_id", metavar="ID")
@asking
def statuses(transaction_id: str, app_id: str | None, environment: Environment, as_json: bool) -> None:
    """The subscriptions of the customer who has this transaction."""
    from deploy.app_store import app_store

    with app_store(app_id) as desk:
        answer = desk.api.statuses(transaction_id, app=desk.app, environment=environment)
        rows = _subscriptions(desk, answer)
    columns = ["original_transaction_id", "status", "product_id", "expires_at", "auto_renews", "verified"]
    show(rows, columns, as_json=as_json, empty="no subscriptions")
    _end([row.verified for row in rows])


@command.command()
@click.option(
    "--since", callback=read_since, default="1d", show_default=True, help="7d, 12h, 30m, or an ISO 8601 date."
)
@click.option("--only-failures", is_flag=True, help="Those that have not reached us, or not yet.")
@asking
def notifications(
    since: datetime, only_failures: bool, app_id: str | None, environment: Environment, as_json: bool
) -> None:
    """What the App Store told us, or tried to: it remembers 180 days, of the sandbox 30."""
    from deploy.app_store import app_store

    with app_store(app_id) as desk:
        items = desk.api.notifications(
            app=desk.app, environment=environment, since=since, until=desk.clock.now(), only_failures=only_failures
        )
        rows = [_notification(desk, item) for item in items]
    columns = ["signed_at", "type", "subtype", "notification_id", "attempts", "verified"]
    show(rows, columns, as_json=as_json, empty="no notifications")
    _end([row.verified for row in rows])


@command.command("test-notification")
@click.option("--wait", is_flag=True, help=f"Until the App Store says how it went, for {TEST_LIMIT_S} s at most.")
@asking
def test_notification(wait: bool, app_id: str | None, environment: Environment, as_json: bool) -> None:
    """Have the App Store send a TEST notification to the address that App Store Connect knows."""
    from deploy.app_store import app_store, sent_test_notification

    with app_store(app_id) as desk:
        token = desk.api.request_test_notification(app=desk.app, environment=environment)
        if not wait:
            click.echo(_as_json({"token": token}) if as_json else f"requested: {token}")
            return
        item = sent_test_notification(desk, token, environment=environment, within_s=TEST_LIMIT_S)
        if item is None:
            raise click.ClickException(f"the App Store has not said within {TEST_LIMIT_S} s how it went")
        row = _notification(desk, item)
    show([row], ["type", "notification_id", "attempts", "verified"], as_json=as_json, empty="")
    _end([row.verified])
    if not row.attempts.endswith("SUCCESS"):
        raise click.ClickException(f"it did not arrive: {row.attempts}")


def _show_transactions(app_id: str | None, ask: Callable[[Desk], Iterable[str]], *, as_json: bool) -> None:
    """What the store answers with signed transactions."""
    from deploy.app_store import app_store

    with app_store(app_id) as desk:
        rows = [_transaction(desk, token) for token in ask(desk)]
    columns = ["transaction_id", "product_id", "type", "quantity", "purchased_at", "revoked_at", "environment"]
    show(rows, [*columns, "verified"], as_json=as_json, empty="no transactions")
    _end([row.verified for row in rows])


def _transaction(desk: Desk, token: str) -> TransactionRow:
    from deploy.app_store import moment, state

    stated = state(desk, token)
    return TransactionRow(
        transaction_id=stated.claims.get("transactionId"),
        product_id=stated.claims.get("productId"),
        type=stated.claims.get("type"),
        quantity=stated.claims.get("quantity"),
        purchased_at=moment(stated.claims, "purchaseDate"),
        revoked_at=moment(stated.claims, "revocationDate"),
        environment=stated.claims.get("environment"),
        verified=_verified(stated),
        claims=dict(stated.claims),
    )


def _subscriptions(desk: Desk, answer: StatusResponse) -> list[SubscriptionRow]:
    from deploy.app_store import moment, state

    rows = []
    for item in (item for group in answer.data or () for item in group.lastTransactions or ()):
        stated, renewal = state(desk, item.signedTransactionInfo), state(desk, item.signedRenewalInfo)
        rows.append(
            SubscriptionRow(
                original_transaction_id=item.originalTransactionId,
                status=STATUSES.get(item.rawStatus or 0, str(item.rawStatus)),
                product_id=stated.claims.get("productId"),
                expires_at=moment(stated.claims, "expiresDate"),
                auto_renews={0: "no", 1: "yes"}.get(renewal.claims.get("autoRenewStatus", -1), ""),
                verified=_verified(stated, renewal),
                transaction=dict(stated.claims),
                renewal=dict(renewal.claims),
            )
        )
    return rows


def _notification(desk: Desk, item: NotificationHistoryResponseItem | CheckTestNotificationResponse) -> NotificationRow:
    from deploy.app_store import moment, state

    stated = state(desk, item.signedPayload)
    return NotificationRow(
        signed_at=moment(stated.claims, "signedDate"),
        type=stated.claims.get("notificationType"),
        subtype=stated.claims.get("subtype"),
        notification_id=stated.claims.get("notificationUUID"),
        attempts=_attempts(item.sendAttempts or ()),
        verified=_verified(stated),
        claims=dict(stated.claims),
    )


def _attempts(attempts: Sequence[SendAttemptItem]) -> str:
    """The words of the App Store, oldest attempt first: `TIMED_OUT, SUCCESS`."""
    in_order = sorted(attempts, key=lambda attempt: attempt.attemptDate or 0)
    return ", ".join(attempt.rawSendAttemptResult or "?" for attempt in in_order)


def _verified(*statements: Statement) -> str:
    doubts = [statement.doubt for statement in statements if statement.doubt is not None]
    return f"{UNVERIFIED}: {'; '.join(doubts)}" if doubts else VERIFIED


def _end(verified: Sequence[str]) -> None:
    """Exit code 1, and a sentence, when anything that was shown is not proven to be the App Store's."""
    if doubtful := sum(one != VERIFIED for one in verified):
        raise click.ClickException(f"{UNVERIFIED}: {doubtful} of {len(verified)} may have been written by anybody")


def _as_json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2)
