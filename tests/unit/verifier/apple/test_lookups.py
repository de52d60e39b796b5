"""One transaction, wherever the App Store has it, against a real HTTP server that answers as told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from shared.apps import App, AppleApp
from shared.clock import ManualClock
from shared.ids import AppId, TransactionId
from tests.support.scripted_store import Reply, ScriptedStore, hang_up, says, serving
from tests.support.server_api_key import BUNDLE_ID, new_signing_key
from verifier.apple.lookups import TransactionLookups
from verifier.apple.pace import Pace
from verifier.apple.server_api import ServerApi
from verifier.apple.transport import Transport, store_session
from verifier.domain import LookupAnswer, StoreBusy, StoreMisconfigured, TransactionFound, TransactionUnknown

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id=BUNDLE_ID))
OTHER = App(id=AppId("other"), name="Other", apple=AppleApp(bundle_id="com.example.other"))
ONE = TransactionId("1")
PRODUCTION = "/inApps/v1/transactions/1"
SANDBOX = "/sandbox/inApps/v1/transactions/1"

FOUND = says({"signedTransactionInfo": "a.b.c"})
NOT_FOUND = says({"errorCode": 4040010, "errorMessage": "Transaction id not found."}, status=404)
UNAUTHORIZED = says(b"Unauthenticated", status=401)
LATER = says({"errorCode": 5000001, "errorMessage": "Try again."}, status=500, Retry_After="7")


class Looking:
    def __init__(self, url: str, transport: Transport, store: ScriptedStore) -> None:
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.store = store
        self.lookups = TransactionLookups(
            ServerApi(
                keys={GAME.id: new_signing_key()},
                transport=transport,
                production_url=url,
                sandbox_url=f"{url}/sandbox",
                pace=Pace(share=1, clock=clock, wait=clock.advance),
                clock=clock,
            )
        )

    def find(self, *, production: Reply, sandbox: Reply | None = None) -> LookupAnswer:
        self.store.tell(PRODUCTION, production)
        if sandbox is not None:
            self.store.tell(SANDBOX, sandbox)
        return self.lookups.find(ONE, app=GAME)


@pytest.fixture
def looking() -> Iterator[Looking]:
    store = ScriptedStore()
    with serving(store) as url, store_session(connections=1) as session:
        yield Looking(url, Transport(session=session, connect_timeout_s=5, read_timeout_s=20), store)


def test_what_production_knows_the_sandbox_is_not_asked_about(looking: Looking) -> None:
    assert looking.find(production=FOUND) == TransactionFound("a.b.c", "production")
    assert looking.store.paths() == [PRODUCTION]


@pytest.mark.parametrize("production", [NOT_FOUND, UNAUTHORIZED])
def test_what_production_does_not_tell_the_sandbox_may(looking: Looking, production: Reply) -> None:
    assert looking.find(production=production, sandbox=FOUND) == TransactionFound("a.b.c", "sandbox")


def test_what_neither_knows_is_unknown(looking: Looking) -> None:
    assert looking.find(production=NOT_FOUND, sandbox=NOT_FOUND) == TransactionUnknown()


@pytest.mark.parametrize(
    ("production", "sandbox", "who"),
    [
        (UNAUTHORIZED, UNAUTHORIZED, "production"),
        (UNAUTHORIZED, NOT_FOUND, "production"),
        (NOT_FOUND, UNAUTHORIZED, "sandbox"),
    ],
)
def test_a_key_that_is_not_taken_is_our_trouble_and_never_says_that_there_is_no_transaction(
    looking: Looking, production: Reply, sandbox: Reply, who: str
) -> None:
    answer = looking.find(production=production, sandbox=sandbox)
    assert isinstance(answer, StoreMisconfigured)
    assert answer.status == 401
    assert answer.detail.startswith(f"{who}: ")


def test_a_production_that_is_busy_is_not_replaced_by_the_sandbox(looking: Looking) -> None:
    assert looking.find(production=LATER) == StoreBusy("production: Try again.", status=5000001, retry_after_s=7)
    assert looking.store.paths() == [PRODUCTION]


@pytest.mark.parametrize("production", [NOT_FOUND, UNAUTHORIZED])
@pytest.mark.parametrize("sandbox", [LATER, hang_up])
def test_a_sandbox_that_is_busy_leaves_the_question_open(looking: Looking, production: Reply, sandbox: Reply) -> None:
    answer = looking.find(production=production, sandbox=sandbox)
    assert isinstance(answer, StoreBusy)
    assert answer.reason.startswith("sandbox: ")


def test_a_question_that_apple_does_not_understand_is_our_trouble(looking: Looking) -> None:
    bad = says({"errorCode": 4000000, "errorMessage": "Bad request."}, status=400)
    answer = looking.find(production=bad, sandbox=NOT_FOUND)
    assert answer == StoreMisconfigured(4000000, "production: Bad request.")


def test_an_id_that_apple_calls_malformed_is_unknown(looking: Looking) -> None:
    malformed = says({"errorCode": 4000006, "errorMessage": "Invalid transaction id."}, status=400)
    assert looking.find(production=malformed, sandbox=malformed) == TransactionUnknown()


def test_what_cannot_be_an_id_is_unknown_and_nobody_is_asked(looking: Looking) -> None:
    assert looking.lookups.find(TransactionId("../1"), app=GAME) == TransactionUnknown()
    assert looking.store.asked == []


def test_an_app_without_a_key_is_our_trouble(looking: Looking) -> None:
    answer = looking.lookups.find(ONE, app=OTHER)
    assert isinstance(answer, StoreMisconfigured)
    assert "app 'other' has no key" in answer.detail
