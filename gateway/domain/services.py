"""What other services answer, the gateway hands on as it is: wallets and what users own are the ledger's, webhooks the
notifier's.
"""

from __future__ import annotations

from dataclasses import dataclass


class ServiceUnavailable(Exception):
    """The service's internal API cannot be reached, or does not answer as it should. Try again later.

    The message may be shown.
    """


class ServiceAnswerUnavailable(ServiceUnavailable):
    """The service was told to do something, and whether it did is not known: the same request once more finds out."""


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """What the service said: a JSON document, or a problem about what the caller asked for.

    `replayed`: it said so before, word for word, to a request with the same key.
    """

    status: int
    body: bytes
    content_type: str
    replayed: bool = False
