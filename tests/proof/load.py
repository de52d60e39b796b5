"""The load: performs the stories, as many at once as there are threads, and tells the model what has to come of it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import requests

from tests.proof.clients import Clients, NeverAnswered, Stopped
from tests.proof.model import Model, Refusal, Sale, Spent, Subscribed
from tests.proof.stories import Spending, Story
from tests.support.stack import wait_until
from tests.support.system import client, server

THREADS: Final = 16
PARTIAL_PERCENT: Final = 40
UNKNOWN_IDS: Final = 2_999_000_000_000_000
"""From here on the App Store has given no ids."""

Bought = dict[str, Any]
"""What the store said of a purchase: its ids, the signed transaction, the receipt, its notification's id."""


class Load:
    """Stories that are performed as they are let, each in its turn. Call `close` in the end."""

    def __init__(self, plan: Sequence[Story | Spending], *, clients: Clients, model: Model) -> None:
        self._plan, self._clients, self._model = plan, clients, model
        self._turns = iter(plan)
        self._let = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._closed = False
        self._left = len(plan)
        self._twins = ThreadPoolExecutor(THREADS, thread_name_prefix="twin")
        self._tokens: dict[str, str] = {}
        self._threads = [threading.Thread(target=self._perform_some, daemon=True) for _ in range(THREADS)]
        self.done = 0
        for thread in self._threads:
            thread.start()

    def let(self, stories: int) -> None:
        """So many more may begin; never more than there are."""
        stories = min(stories, self._left)
        self._left -= stories
        if stories:
            self._let.release(stories)

    def finish(self, *, within_s: float) -> None:
        """Lets all that is left begin, and waits for its end. Raises AssertionError when that takes longer."""
        self.let(self._left)
        wait_until(lambda: self.done >= len(self._plan), within_s=within_s, what="all stories performed")

    def close(self) -> None:
        """Ends what is under way."""
        self._closed = True
        self._clients.stop()
        self._let.release(THREADS)
        for thread in self._threads:
            thread.join()
        self._twins.shutdown(cancel_futures=True)

    # ---- the threads --------------------------------------------------------------------------------------------

    def _perform_some(self) -> None:
        while True:
            self._let.acquire()
            with self._lock:
                turn = next(self._turns, None)
            if turn is None or self._closed:
                return
            try:
                self._perform(turn)
            except Stopped:
                return
            except (NeverAnswered, requests.RequestException, KeyError) as error:
                self._model.complain(f"story {turn}: {error!r}")
            with self._lock:
                self.done += 1

    def _perform(self, turn: Story | Spending) -> None:
        if isinstance(turn, Spending):
            self._spend(turn)
            return
        match turn.kind:
            case "purchase":
                self._purchase(turn)
            case "subscription":
                self._subscription(turn)
            case "contested":
                self._contested(turn)
            case "refused":
                self._refused(turn)

    # ---- the stories --------------------------------------------------------------------------------------------

    def _purchase(self, story: Story) -> None:
        bought = self._buy(story)
        sale = self._sold(story, bought)
        if story.refunded_first:
            self._refund(story, sale)
        self._submit(story, sale, bought)
        if not story.refunded_first:
            self._refund(story, sale)
        self._repeat(story, sale, bought)

    def _subscription(self, story: Story) -> None:
        bought = self._buy(story)
        first = self._sold(story, bought)
        self._submit(story, first, bought)
        original = bought["original_transaction_id"]
        newest = bought["transaction_id"]
        for _ in range(story.renewals):
            newest = self._clients.tell_store(f"/_sim/subscriptions/{original}/renew")["transaction_id"]
            self._model.keep(Sale(story.environment, newest, story.product_id, 1, {story.user: None}))
            self._model.count("renewals")
        self._refund(story, first)  # of a period that is followed by another: the subscription goes on
        if story.cancels:
            self._clients.tell_store(f"/_sim/subscriptions/{original}/cancel")
        self._model.keep(Subscribed(original, story.user, newest, auto_renew=not story.cancels))
        self._repeat(story, first, bought)

    def _contested(self, story: Story) -> None:
        """Two users post the same transaction at the same moment: it is one's, and the other is told so."""
        bought = self._buy(story)
        sale = self._sold(story, bought)
        body = _body("signed", bought)
        rival = self._twins.submit(self._post, story.rival, body)
        sale.claims[story.user] = self._post(story.user, body)
        sale.claims[story.rival] = rival.result()
        self._model.count("submissions", 2)

    def _refused(self, story: Story) -> None:
        if story.refusal == "wrong_app":
            buying = {"product_id": story.product_id, "bundle_id": "com.example.elsewhere", "notify": False}
            body = _body("receipt", self._clients.tell_store("/_sim/purchases", buying))
        else:
            body = {"transaction_id": str(UNKNOWN_IDS + story.number)}
        purchase_id = self._post(story.user, body)
        self._model.count("submissions")
        self._model.keep(Refusal(purchase_id, story.user, str(story.refusal)))

    def _spend(self, spending: Spending) -> None:
        """The answers to one key are one answer."""
        body = {"currency": "gems", "amount": spending.amount, "reference": f"spend-{spending.number}"}
        headers = server() | {"Idempotency-Key": f"key-{spending.number}"}
        path = f"/v1/users/{spending.user}/spends"
        answers = [
            self._clients.ask("POST", path, headers=headers, body=body, wanted=(201, 422))
            for _ in range(1 + spending.repeats)
        ]
        self._model.count("spends asked for")
        self._model.count("duplicates", spending.repeats)
        if len({(answer.status_code, answer.text) for answer in answers}) > 1:
            self._model.complain(f"spend-{spending.number} was answered in several ways to one key")
        made = any(answer.status_code == 201 for answer in answers)
        self._model.keep(Spent(f"spend-{spending.number}", spending.user, spending.amount, made))

    # ---- what they are made of ----------------------------------------------------------------------------------

    def _buy(self, story: Story) -> Bought:
        token = {"app_account_token": self._token(story.user)} if story.token else {}
        return self._clients.tell_store(
            "/_sim/purchases",
            {
                "product_id": story.product_id,
                "quantity": story.quantity,
                "environment": story.environment,
                "notify": story.notified,
                **token,
            },
        )

    def _sold(self, story: Story, bought: Bought) -> Sale:
        sale = Sale(
            story.environment, bought["transaction_id"], story.product_id, story.quantity, claims={story.user: None}
        )
        self._model.keep(sale)
        self._model.count("purchases")
        return sale

    def _submit(self, story: Story, sale: Sale, bought: Bought) -> None:
        if story.proof == "none":
            return
        body = _body(story.proof, bought)
        twin = self._twins.submit(self._post, story.user, body) if story.repeat == "at once" else None
        sale.claims[story.user] = self._post(story.user, body)
        self._model.count("submissions")
        if twin is not None:
            self._same(sale, story.user, twin.result())

    def _refund(self, story: Story, sale: Sale) -> None:
        if story.refund is None:
            return
        percent = PARTIAL_PERCENT if story.refund == "partial" else 100
        path = f"/_sim/transactions/{sale.transaction_id}"
        told = self._clients.tell_store(f"{path}/refund", {"percent": percent})
        sale.refunded_percent = percent
        self._model.count("refunds")
        if story.repeat == "told again":
            self._tell_again(told["notification_id"])
        if story.refund == "reversed":
            self._clients.tell_store(f"{path}/reverse-refund")
            sale.refunded_percent = 0
            self._model.count("refunds reversed")

    def _repeat(self, story: Story, sale: Sale, bought: Bought) -> None:
        if story.repeat == "told again" and bought["notification_id"] is not None:
            self._tell_again(bought["notification_id"])
        elif story.proof != "none" and story.repeat == "again":
            self._same(sale, story.user, self._post(story.user, _body(story.proof, bought)))
        elif story.proof != "none" and story.repeat == "with another proof":
            other = "receipt" if story.proof == "signed" else "signed"
            self._same(sale, story.user, self._post(story.user, _body(other, bought)))

    def _tell_again(self, notification_id: str) -> None:
        self._clients.tell_store(f"/_sim/notifications/{notification_id}/resend")
        self._model.count("duplicates")

    def _same(self, sale: Sale, user: str, purchase_id: str) -> None:
        """A repeat is answered with the purchase that there is."""
        self._model.count("duplicates")
        if purchase_id != sale.claims[user]:
            self._model.complain(f"{sale.transaction_id}: {purchase_id} and {sale.claims[user]} for one claim")

    def _post(self, user: str, body: dict[str, Any]) -> str:
        """The purchase's id, once it is accepted."""
        answer = self._clients.ask(
            "POST", "/v1/purchases", headers=client(user), body={"store": "apple", **body}, wanted=(200, 202)
        )
        purchase_id: str = answer.json()["id"]
        return purchase_id

    def _token(self, user: str) -> str:
        if user not in self._tokens:
            answer = self._clients.ask("GET", "/v1/users/me/account-token", headers=client(user))
            self._tokens[user] = answer.json()["app_account_token"]
        return self._tokens[user]


def _body(proof: str, bought: Bought) -> dict[str, Any]:
    match proof:
        case "signed":
            return {"signed_transaction": bought["signed_transaction"]}
        case "receipt":
            return {"transaction_id": bought["transaction_id"], "receipt": bought["receipt"]}
        case _:
            return {"transaction_id": bought["transaction_id"]}
