"""What it takes to make the calls; `shared.callers` asks for it."""

from __future__ import annotations

from typing import Final

from shared.apps import App
from shared.callers import Right, everywhere, nowhere


def _where_clients_spend(app: App) -> bool:
    return app.wallet.client_may_spend


READ: Final = Right("read", clients=everywhere)
SPEND: Final = Right("spend", clients=_where_clients_spend)
SETTLE: Final = Right("spend", clients=nowhere)
"""For what a spend is to the app's backend alone: giving it back, setting currency aside, capturing, releasing."""
GRANT: Final = Right("grant", clients=nowhere)
ASK_REFUND: Final = Right("admin", clients=everywhere)
