"""OCSP by setting, in the whole system: what is not known waits, what was revoked is refused, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.stack import wait_until
from tests.support.system import System, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def system() -> Iterator[System]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PURSER_APPLE_OCSP", "1")
        with running_system(webhooks=False) as running:
            yield running


def _responder(system: System, **faults: object) -> None:
    system.faults(ocsp=faults)


def test_while_the_responder_is_away_every_road_waits_and_afterwards_each_comes_to_its_end(system: System) -> None:
    _responder(system, http_status=503)
    token = system.get("/v1/users/me/account-token", user_id="named").json()["app_account_token"]
    told = system.get("/v1/users/me/account-token", user_id="told").json()["app_account_token"]
    signed = system.post("signed", {"signed_transaction": system.buy()["signed_transaction"]}).json()["id"]
    named = system.post("named", {"transaction_id": system.buy(app_account_token=token)["transaction_id"]}).json()["id"]
    system.buy(notify=True, app_account_token=told)
    wait_until(lambda: _unconfirmed(system) == 3, within_s=30, what="three events that wait for the responder")
    assert [system.gems(user) for user in ("signed", "named", "told")] == [0, 0, 0]

    _responder(system)
    assert system.purchase(signed, user_id="signed")["status"] == "completed"
    assert system.purchase(named, user_id="named")["status"] == "completed"
    wait_until(lambda: system.gems("told") == 100, within_s=60, what="what the store told of being credited")
    assert [system.gems(user) for user in ("signed", "named")] == [100, 100]
    assert system.scalar("select count(*) from journal.event where type = 'purchase.rejected'") == 0


def test_what_waits_when_its_certificate_is_found_revoked_is_refused_and_grants_nothing(system: System) -> None:
    _responder(system, http_status=503)
    bought = system.buy(notify=True)
    claim = system.post("thief", {"signed_transaction": bought["signed_transaction"]}).json()["id"]
    wait_until(lambda: _unconfirmed(system) == 2, within_s=30, what="the claim and the notification waiting")
    _responder(system, status="revoked")
    purchase = system.purchase(claim, user_id="thief")
    assert (purchase["status"], purchase["rejection"]["code"]) == ("rejected", "receipt_unauthentic")
    parked = "select count(*) from journal.delivery where state = 'parked' and type = 'notification.received'"
    wait_until(lambda: system.scalar(parked) == 1, within_s=60, what="the notification being parked")
    assert system.gems("thief") == 0


def _unconfirmed(system: System) -> int:
    """How many events wait because nobody says whether a certificate was revoked."""
    waiting = "state = 'waiting' and error like '%%revoked is not known%%'"
    count: int = system.scalar(f"select count(*) from journal.delivery where {waiting}")  # noqa: S608
    return count
