"""The app's backend: takes every webhook, and knows who has been told of a credit."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.support.receiver import Receiver, Reply


class Backend(Receiver):
    """A receiver that also keeps which wallets it was told of. What it keeps of a delivery is in `received`."""

    def __init__(self, secret: str) -> None:
        super().__init__(secret)
        self._credited: set[str] = set()

    def take(self, *, headers: Mapping[str, str], raw: bytes, client: tuple[str, int]) -> Reply:
        reply = super().take(headers=headers, raw=raw, client=client)
        if reply.status == 200:
            message = json.loads(raw)
            if message["type"] == "wallet.credited":
                self._credited.add(message["data"]["user_id"])
        return reply

    def knows_of_a_credit(self, user: str) -> bool:
        """Whether it was told, by a message that is genuine."""
        return user in self._credited
