"""Whether a statement of the App Store is about this app, and whether a user may have what it is about."""

from __future__ import annotations

from dataclasses import dataclass

from shared.apps import AppleApp
from shared.catalog import QUANTITY_MAX, Product
from shared.events import StoreTransaction
from shared.ids import TransactionId, UserId
from verifier.domain.notifications import AppleNotification
from verifier.domain.receipts import ReceiptValid
from verifier.domain.transactions import AppleTransaction, Rejected


@dataclass(frozen=True, slots=True)
class Verified:
    """The store confirms the transaction, and the claimant may have it."""

    transaction: StoreTransaction


@dataclass(frozen=True, slots=True)
class KnownTransaction:
    """What is on record of a transaction: who claimed it first (or another transaction of its origin), and whether the
    store has taken all of it back."""

    owner: UserId | None
    refunded: bool


Statement = AppleTransaction | AppleNotification | ReceiptValid


def check_app(statement: Statement, *, app: AppleApp) -> Rejected | None:
    """None when an authentic statement is about this app, and from an environment that the app takes purchases from.

    Rejected: `wrong_app` or `wrong_environment`, in this order, as Apple's own library has it.
    """
    if _is_of_another(statement, app):
        return Rejected("wrong_app", "this is about another app")
    if statement.environment is None:
        return Rejected("wrong_environment", "this is neither from production nor from the sandbox")
    if statement.environment == "sandbox" and app.sandbox == "refuse":
        return Rejected("wrong_environment", "this app takes no purchases from the sandbox")
    return None


def _is_of_another(statement: Statement, app: AppleApp) -> bool:
    """The bundle id differs, or in production the App Store's id of the app; one that is not configured matches none.

    A signed transaction carries no such id, and the sandbox knows none.
    """
    if statement.bundle_id != app.bundle_id:
        return True
    if isinstance(statement, AppleTransaction) or statement.environment != "production":
        return False
    return app.app_apple_id is None or statement.app_apple_id != app.app_apple_id


def decide_claim(
    *,
    transaction: StoreTransaction,
    claimed_id: TransactionId,
    claimant: UserId,
    known: KnownTransaction,
    token_holder: UserId | None,
    product: Product | None,
    proven: bool = True,
) -> Verified | Rejected:
    """Whether `claimant` may have a transaction as it is stated, authentic and about this app.

    `known` is our own record of the transaction, which has met the statement; `token_holder` is the user to whom this
    app issued its account token (None: it carries none, or one that we did not issue); `product` is what the catalogue
    says of it. A claim is `proven` when the claimant brought the statement, or somebody vouches for him; otherwise the
    account token has to say that it is his, because ids can be guessed, and whoever only guessed learns nothing more.
    Of several reasons to reject, the first is given, and that somebody else owns it comes before all that could be told
    about that somebody. What a user owns already he may have again: to grant it once is the ledger's business.

    Whether it is refunded is for the record to say, not for the statement: a receipt does not show refunds of
    consumables, and a refund that an older statement shows may be reversed by now (REFUND_REVERSED). What was refunded
    in part is granted: the refund takes its own part.
    """
    if transaction.transaction_id != claimed_id:
        return Rejected("transaction_not_found", "the signed transaction is another one than the one claimed")
    if not proven and claimant not in (token_holder, known.owner):
        return Rejected(
            "account_token_mismatch",
            "a transaction id does not say who bought: send the signed transaction, or buy with the account token",
        )
    if not 1 <= transaction.quantity <= QUANTITY_MAX:
        return Rejected("receipt_malformed", f"a quantity is between 1 and {QUANTITY_MAX}")
    if transaction.family_shared and not _may_be_shared(transaction, product):
        return Rejected("not_granted_family_shared", "the purchase is shared by a family member; it was not bought")
    if known.owner not in (None, claimant):
        return Rejected("claimed_by_another_user", "another user has claimed this transaction")
    if known.owner is None and token_holder not in (None, claimant):
        return Rejected("account_token_mismatch", "the purchase was made for another account")
    if known.refunded:
        return Rejected("already_refunded", "the store has taken this purchase back")
    return Verified(transaction)


def _may_be_shared(transaction: StoreTransaction, product: Product | None) -> bool:
    """What a family may share (Apple: only these two) and what gives something to use: it never gives currency."""
    shareable = transaction.product_type in {"auto_renewable", "non_consumable"}
    return shareable and product is not None and bool(product.entitlements)


def shows_owner(decided: Verified | Rejected) -> bool:
    """Whether who claimed a transaction is whose it is. That it was refunded is the last reason to reject a claim: all
    but that was good, so what comes of the same subscription later is his; the purchase too, if it is given back."""
    return isinstance(decided, Verified) or decided.code == "already_refunded"
