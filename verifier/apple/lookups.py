"""One transaction, wherever the App Store has it: production or sandbox."""

from __future__ import annotations

from shared.apps import App
from shared.events import Environment
from shared.ids import TransactionId
from verifier.apple.refusals import (
    UNAUTHORIZED,
    ServerApiMisconfigured,
    ServerApiNotFound,
    ServerApiRejected,
    ServerApiUnavailable,
)
from verifier.apple.server_api import ServerApi
from verifier.domain import LookupAnswer, StoreBusy, StoreMisconfigured, TransactionFound, TransactionUnknown


class TransactionLookups:
    """`verifier.handlers.TransactionStore`, without patience."""

    def __init__(self, api: ServerApi) -> None:
        self._api = api

    def find(self, transaction_id: TransactionId, *, app: App) -> LookupAnswer:
        """The store's statement of a transaction: production's, or the sandbox's when production has none.

        Production says 401 to every question about an app that has no release there yet, and has been seen to say it of
        ids of the sandbox. So the sandbox is asked then too; but that it does not know the transaction either proves
        nothing, and trouble of our own is not the user's.
        """
        production = self._ask("production", transaction_id, app=app)
        if isinstance(production, TransactionFound | StoreBusy):
            return production
        sandbox = self._ask("sandbox", transaction_id, app=app)
        if isinstance(sandbox, TransactionFound | StoreBusy) or isinstance(production, TransactionUnknown):
            return sandbox
        return production

    def _ask(self, environment: Environment, transaction_id: TransactionId, *, app: App) -> LookupAnswer:
        try:
            signed = self._api.transaction(transaction_id, app=app, environment=environment)
        except ServerApiNotFound:
            return TransactionUnknown()
        except ServerApiUnavailable as error:
            return StoreBusy(f"{environment}: {error.reason}", status=error.code, retry_after_s=error.retry_after_s)
        except (ServerApiMisconfigured, ServerApiRejected) as error:
            return StoreMisconfigured(error.code or UNAUTHORIZED, f"{environment}: {error.reason}")
        return TransactionFound(signed, environment)
