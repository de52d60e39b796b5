"""A user is erased while the whole system runs, and they and others go on buying: nothing is lost, nothing is doubled,
nothing is refused, and what had been theirs is the pseudonym's from then on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.users.holdings import under_way
from shared.ids import AppId, UserId
from tests.support.gateway import APP
from tests.support.system import System, at_once, purser, running_system

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GEMS = 100
PAUSE_S = 1.5


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with running_system() as running:
        yield running


def bought(system: System, user: str) -> tuple[str, dict[str, Any]]:
    """A purchase that is completed: its id, and what the store says of it."""
    transaction = system.buy()
    purchase = system.post_until_accepted(user, {"signed_transaction": transaction["signed_transaction"]})
    assert system.purchase(purchase, user_id=user)["status"] == "completed"
    return purchase, transaction


def looked_at(system: System, user: str) -> bool:
    """Something of the user's is on its way to the verifier, or in its hands."""
    with system.engine.begin() as connection:
        return under_way(connection, app=AppId(APP), user_id=UserId(user)) > 0


def settled(system: System) -> None:
    """Nothing is to be handled any more, and no webhook to be told."""
    left = (
        "select (select count(*) from journal.delivery)"
        "     + (select count(*) from notifier.delivery where state = 'waiting')"
    )
    system.eventually(lambda: system.scalar(left) == 0, within_s=60, what="everything being handled")


def test_who_buys_while_they_are_erased_has_each_purchase_before_it_or_after_it(system: System) -> None:
    user, others = "eve-who-leaves", ["mallory-who-stays", "trent-who-stays"]
    first, transaction = bought(system, user)
    stop = threading.Event()

    def go_on(who: str) -> int:
        """Buys again and again until the erasing is over; how often. Each waits for what they bought, so that a slow
        machine has no queue; who is erased pauses then, for the erasing waits while something of theirs is looked at.
        """
        count = 0
        while not stop.is_set():
            signed = system.buy()["signed_transaction"]
            response = system.post(who, {"signed_transaction": signed})
            while response.status_code == 503:
                assert response.headers["Retry-After"]
                response = system.post(who, {"signed_transaction": signed})
            assert response.status_code == 202, response.text
            count += 1
            if who == user:
                system.eventually(lambda: stop.is_set() or not looked_at(system, who), within_s=60, what="an answer")
                stop.wait(PAUSE_S)
            else:
                system.purchase(response.json()["id"], user_id=who)
        return count

    def erase(_: str) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads(purser(system, "users", "erase", user, "--yes", "--json", within_s=120))
            return said
        finally:
            stop.set()

    *counts, erased = at_once(lambda work: work[0](work[1]), [(go_on, who) for who in [user, *others]] + [(erase, "")])
    settled(system)
    pseudonym = erased["pseudonym"]

    purchases = "select count(*) from journal.timeline where user_id = %(user)s and word_type = 'purchase.completed'"
    before, after = (system.scalar(purchases, user=who) for who in (pseudonym, user))
    assert before + after == counts[0] + 1
    assert gems_of_pseudonym(system, pseudonym) == before * GEMS
    assert [system.gems(who) for who in others] == [count * GEMS for count in counts[1:]]
    assert system.get(f"/v1/purchases/{first}", user_id=user).status_code == 404
    purser(system, "audit")

    system.refund(transaction["transaction_id"])
    debited = {"type": "wallet.debited", "user_id": pseudonym, "amount": -GEMS}
    system.eventually(lambda: debited in told(system), within_s=60, what="the refund being told of the pseudonym")
    settled(system)
    assert gems_of_pseudonym(system, pseudonym) == (before - 1) * GEMS
    purser(system, "audit")


def test_who_asks_for_what_was_theirs_is_told_that_somebody_else_has_it(system: System) -> None:
    user = "victor-who-returns"
    purchase, transaction = bought(system, user)
    settled(system)
    assert user in purser(system, "users", "export", user)
    purser(system, "users", "erase", user, "--yes")
    again = system.post_until_accepted(user, {"signed_transaction": transaction["signed_transaction"]})
    assert again == purchase
    answer = system.purchase(again, user_id=user)
    assert (answer["status"], answer["rejection"]["code"]) == ("rejected", "claimed_by_another_user")
    assert system.get("/v1/users/me/wallet", user_id=user).json()["version"] == 0


def gems_of_pseudonym(system: System, pseudonym: str) -> int:
    """The backend may ask for who somebody is now. Nobody can sign in as a pseudonym."""
    path = "/v1/users/{}/wallet"
    assert system.get(path.format("me"), user_id=pseudonym).status_code == 401
    wallet = system.get(path.format(pseudonym)).json()
    assert wallet["user_id"] == pseudonym
    balance: int = wallet["balances"]["gems"]["balance"]
    return balance


def told(system: System) -> list[dict[str, Any]]:
    """What the backend was told of wallets."""
    bodies = [received.body for received in system.receiver.received]
    return [
        {"type": body["type"], "user_id": body["data"]["user_id"], "amount": body["data"].get("amount")}
        for body in bodies
    ]
