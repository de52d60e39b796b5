"""Which of the App Store's signed things a set of claims is.

All of them are signed alike, so a good signature does not say what was signed: a transaction passes for a renewal info,
say, which names no app that could give it away (Apple's own library takes it). Therefore every reader of claims asks
here first.

Source: Apple's responseBodyV2DecodedPayload, JWSTransactionDecodedPayload, JWSRenewalInfoDecodedPayload and
AppTransaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["notification", "transaction", "renewal_info", "app_transaction"]


@dataclass(frozen=True, slots=True)
class Marks:
    """What tells one kind from the others: claims that it `always` has, and claims that `only` it has.

    `noun` is what people call it.
    """

    noun: str
    always: tuple[str, ...]
    only: tuple[str, ...]


KINDS: Mapping[Kind, Marks] = {
    "notification": Marks(
        noun="a notification",
        always=("notificationType", "notificationUUID"),
        only=("notificationType", "notificationUUID"),
    ),
    "transaction": Marks(
        noun="a transaction",
        always=("transactionId", "productId", "bundleId", "purchaseDate"),
        only=("transactionId", "purchaseDate", "inAppOwnershipType"),
    ),
    "renewal_info": Marks(
        noun="a renewal info",
        always=("originalTransactionId", "productId", "autoRenewStatus"),
        only=("autoRenewStatus", "autoRenewProductId", "isInBillingRetryPeriod", "renewalDate"),
    ),
    "app_transaction": Marks(
        noun="an app transaction",
        always=("receiptType", "bundleId"),
        only=("receiptType", "receiptCreationDate", "applicationVersion"),
    ),
}
"""A claim that a device adds to whatever the App Store signed for it (`deviceVerification`) is no mark."""


def kind_of(claims: Mapping[str, Any]) -> Kind | None:
    """The kind of verified claims: all that it always has is there, and nothing that only another has.

    None: it is none of these, or could be two of them. A claim that is null counts as absent.
    """
    marked: list[Kind] = [kind for kind, marks in KINDS.items() if len(_missing(claims, marks.only)) < len(marks.only)]
    if len(marked) != 1 or _missing(claims, KINDS[marked[0]].always):
        return None
    return marked[0]


def mistaken(claims: Mapping[str, Any], *, expected: Kind) -> str | None:
    """What is wrong when claims are not of the kind that is expected, in a sentence that quotes nothing of them."""
    kind = kind_of(claims)
    if kind == expected:
        return None
    wanted = KINDS[expected]
    if kind is not None:
        return f"this is {KINDS[kind].noun}, not {wanted.noun}"
    if missing := _missing(claims, wanted.always):
        return f"this is not {wanted.noun}: it has no {missing[0]}"
    return f"this is not {wanted.noun}: it has what only another kind has"


def _missing(claims: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [name for name in names if claims.get(name) is None]
