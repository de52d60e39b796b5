"""How long the store's short troubles are waited out within one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from shared.apps import App, AppleApp
from shared.catalog import Catalog, load_catalog
from shared.events import ProductType
from shared.ids import AppId, TransactionId
from shared.settings import AppsSettings
from tests.support.metrics import counting
from verifier.apple import patience
from verifier.apple.lookups import TransactionLookups
from verifier.apple.patience import TRIES_MAX, PatientReceiptStore, PatientTransactionStore
from verifier.apple.receipts import VerifyReceiptClient
from verifier.domain import ReceiptRefused, StoreBusy, StoreMisconfigured, TransactionFound

GAME = App(id=AppId("game"), name="Game", apple=AppleApp(bundle_id="com.example.game", shared_secret="secret"))
BUSY = StoreBusy("away")
RETRIES = "purser_store_retries_total"
FOUND = TransactionFound("a.b.c", "production")
REFUSED = ReceiptRefused(21003, "receipt_unauthentic", "not authentic")


class Answers:
    """Both clients: gives these answers in order, keeps what it was asked and when; waiting moves its clock."""

    def __init__(self, answers: Sequence[Any], *, each_takes_s: float = 0) -> None:
        self.answers = list(answers)
        self.each_takes_s = each_takes_s
        self.asked: list[dict[str, Any]] = []
        self.began_s: list[float] = []
        self.now_s = 0.0

    def verify(self, **question: Any) -> Any:
        return self._answer(question)

    def find(self, transaction_id: TransactionId, *, app: App) -> Any:
        return self._answer({"transaction_id": transaction_id, "app": app})

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def _answer(self, question: dict[str, Any]) -> Any:
        self.asked.append(question)
        self.began_s.append(self.now_s)
        self.now_s += self.each_takes_s
        return self.answers.pop(0)

    @property
    def waits_s(self) -> list[float]:
        return [
            later - before - self.each_takes_s for before, later in zip(self.began_s, self.began_s[1:], strict=False)
        ]


Ask = Callable[[Answers], Any]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(AppsSettings().catalog_file)


@pytest.fixture(params=["receipts", "transactions"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> Ask:
    """One question to a patient store, whichever of the two it is, whose time is that of the answers."""

    def asked(answers: Answers) -> Any:
        monkeypatch.setattr(patience, "_sleep", answers.wait)
        monkeypatch.setattr("tenacity.time.monotonic", lambda: answers.now_s)
        if request.param == "receipts":
            return PatientReceiptStore(cast(VerifyReceiptClient, answers), catalog).verify("receipt", app=GAME)
        return PatientTransactionStore(cast(TransactionLookups, answers)).find(TransactionId("1"), app=GAME)

    return asked


@pytest.mark.parametrize("answer", [FOUND, REFUSED, StoreMisconfigured(401, "no key")])
def test_an_answer_is_not_asked_for_again(ask: Ask, answer: Any) -> None:
    answers = Answers([answer])
    assert ask(answers) == answer


def test_a_store_that_is_busy_is_asked_again_and_the_last_answer_counts(ask: Ask) -> None:
    answers = Answers([BUSY, BUSY, FOUND])
    assert ask(answers) == FOUND
    assert all(0 <= waited_s <= patience.WAIT_S_MAX for waited_s in answers.waits_s)


def test_each_time_that_it_is_to_be_asked_again_is_counted_and_an_answer_is_not(ask: Ask) -> None:
    overloaded, unanswered = counting(RETRIES, status="21005"), counting(RETRIES, status="unanswered")
    ask(Answers([StoreBusy("away", 21005), BUSY, FOUND]))
    assert (overloaded.so_far, unanswered.so_far) == (1, 1)


def test_one_that_stays_busy_is_to_be_asked_again_by_others_and_that_is_counted_too(ask: Ask) -> None:
    retries = counting(RETRIES, status="21009")
    ask(Answers([StoreBusy("away", 21009)] * TRIES_MAX))
    assert retries.so_far == TRIES_MAX


def test_a_store_that_stays_busy_is_left_after_a_few_tries(ask: Ask) -> None:
    last = StoreBusy("still away")
    answers = Answers([*[BUSY] * (TRIES_MAX - 1), last])
    assert ask(answers) == last


def test_the_time_that_the_store_asks_for_is_waited_at_least(ask: Ask) -> None:
    answers = Answers([StoreBusy("away", retry_after_s=0.9), FOUND])
    assert ask(answers) == FOUND
    assert answers.waits_s[0] >= 0.9


def test_a_longer_time_than_we_wait_is_left_to_others(ask: Ask) -> None:
    later = StoreBusy("away", retry_after_s=patience.WAIT_S_MAX + 0.1)
    answers = Answers([later])
    assert ask(answers) == later
    assert answers.now_s == 0


def test_a_store_that_let_us_wait_for_long_is_not_asked_again_at_once(ask: Ask) -> None:
    """Three time-outs of ten seconds each would keep a worker from others for half a minute."""
    answers = Answers([BUSY], each_takes_s=10)
    assert ask(answers) == BUSY
    assert len(answers.asked) == 1


def test_a_receipt_is_asked_about_with_the_apps_secret_and_the_catalogues_types(catalog: Catalog) -> None:
    answers = Answers([REFUSED])
    PatientReceiptStore(cast(VerifyReceiptClient, answers), catalog).verify("receipt", app=GAME)
    (question,) = answers.asked
    assert (question["receipt"], question["shared_secret"]) == ("receipt", "secret")
    types: Callable[[str], ProductType | None] = question["product_types"]
    assert types("com.example.game.gems100") == "consumable"
    assert types("com.example.game.unheard-of") is None
