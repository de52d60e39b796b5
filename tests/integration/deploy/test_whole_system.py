"""The whole system as the tests run it."""

from __future__ import annotations

import pytest
import requests

from deploy.processes import PROCESSES
from tests.support.stack import WholeSystem

pytestmark = pytest.mark.slow


def test_every_process_is_ready_when_the_stack_has_started(whole_system: WholeSystem) -> None:
    states = {status.name: status.state for status in whole_system.stack.status()}
    assert states == {name: "ready" for name in ("postgres", "redis", *PROCESSES) if name != "flower"}


def test_the_gateway_answers_and_the_ledger_answers_nobody_without_the_service_token(
    whole_system: WholeSystem,
) -> None:
    where = whole_system.addresses
    assert requests.get(f"{where.gateway}/readyz", timeout=10).status_code == 200
    assert requests.get(f"{where.ledger}/v1/users/alice/wallet", timeout=10).status_code == 401
