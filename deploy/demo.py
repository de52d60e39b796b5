"""The sample purchase and its refund: over HTTP as an app and its backend would, step by step, with what each took.

Everything is looked at from outside, save the times of the steps in between: those are the journal's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlsplit

import jwt
import requests
from sqlalchemy import Engine

from deploy.addresses import Addresses
from deploy.errors import StackInvalid, StackUnavailable
from deploy.receiver import Received, Receiver
from shared.apps import App, WebhookEndpoint
from shared.catalog import Catalog, Product
from shared.clock import Clock
from shared.database import DatabaseUnavailable, connect_engine, transact
from shared.ids import IdSource

PRODUCT_ID = "com.example.game.gems100"
STEP_WITHIN_S = 30.0
HTTP_TIMEOUT_S = (3.05, STEP_WITHIN_S + 5)
LOOK_EVERY_S = 0.02
LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened: its name, what can be told of it, how long after the tap or the refund."""

    name: str
    detail: str
    after: timedelta


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the wallet."""

    at: str
    kind: str
    currency: str
    amount: int
    balance_after: int


class Audience(Protocol):
    """Who the demo is shown to."""

    def step(self, step: Step) -> None: ...

    def entries(self, entries: Sequence[Entry]) -> None: ...


Journal = Callable[[str], Mapping[str, datetime]]
"""Given a subject: when each type of its events was first recorded."""


def journal_of(engine: Engine) -> Journal:
    """The journal in this database."""

    def times(subject: str) -> dict[str, datetime]:
        query = "select type, min(recorded_at) from journal.event where subject = %(subject)s group by type"
        rows = transact(engine, lambda on: on.exec_driver_sql(query, {"subject": subject}).all())
        return {str(event_type): recorded_at for event_type, recorded_at in rows}

    return times


def demo_app(apps: Sequence[App]) -> App:
    """The app to play: the first whose client tokens can be minted here. Raises StackInvalid."""
    for app in apps:
        if app.client_tokens is not None and app.client_tokens.key is not None:
            return app
    raise StackInvalid("PURSER_APPS_FILE: the demo needs an app whose client tokens are HS256: use --no-demo")


def demo_product(catalog: Catalog, app: App) -> Product:
    """The product to buy: the example's, or the first consumable that gives something. Raises StackInvalid."""
    consumables = [one for one in catalog.of_app(app.id) if one.type == "consumable" and one.grants]
    for product in (*(one for one in consumables if one.id == PRODUCT_ID), *consumables):
        return product
    raise StackInvalid(f"PURSER_CATALOG_FILE: the demo needs a consumable of {app.id!r} with grants: use --no-demo")


def local_endpoint(app: App) -> WebhookEndpoint | None:
    """The app's webhook that points at this machine without TLS, for the demo to receive at; None without one."""
    for endpoint in app.webhooks:
        url = urlsplit(endpoint.url)
        if url.scheme == "http" and url.hostname in LOOPBACK:
            return endpoint
    return None


def run_demo(
    *,
    where: Addresses,
    app: App,
    catalog: Catalog,
    receiver: Receiver | None,
    audience: Audience,
    clock: Clock,
    ids: IdSource,
) -> None:
    """The demo against a running system. Raises StackInvalid or StackUnavailable with a sentence."""
    engine = connect_engine(where.database_url, role=None, pool_size=1, application_name="purser demo")
    try:
        Demo(
            where=where,
            app=app,
            product=demo_product(catalog, app),
            receiver=receiver,
            journal=journal_of(engine),
            audience=audience,
            clock=clock,
            ids=ids,
        ).run()
    except DatabaseUnavailable as error:
        raise StackUnavailable("the database does not answer: is `purser up` running?") from error
    finally:
        engine.dispose()


class Demo:
    """One run: a fresh user buys, is credited and told, is refunded, debited and told."""

    def __init__(
        self,
        *,
        where: Addresses,
        app: App,
        product: Product,
        receiver: Receiver | None,
        journal: Journal,
        audience: Audience,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._where = where
        self._app = app
        self._product = product
        self._receiver = receiver
        self._journal = journal
        self._audience = audience
        self._clock = clock
        self._user = f"demo-{ids.uuid().hex[:8]}"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy has no part in what stays on this machine
        self._pause = threading.Event()

    def run(self) -> None:
        """Raises StackUnavailable with a sentence when a step does not come."""
        with self._session:
            bought = self._buy()
            purchase = self._submit(bought["signed_transaction"])
            self._refund(bought["transaction_id"], purchase)
            self._show_entries()

    def _buy(self) -> dict[str, Any]:
        began = self._clock.now()
        bought = self._simulator(
            "/_sim/purchases", {"product_id": self._product.id, "app": self._app.id, "notify": False}
        )
        transaction = bought["transaction_id"]
        self._tell("bought", f"{self._product.name} in the simulated App Store, transaction {transaction}", began)
        return bought

    def _submit(self, signed_transaction: str) -> str:
        began = self._clock.now()
        accepted = self._gateway("POST", "/v1/purchases", {"store": "apple", "signed_transaction": signed_transaction})
        purchase = str(accepted["id"])
        self._tell("accepted", f"purchase {purchase} of {self._user}, durable", began)
        self._wait_for_status(purchase, "completed")
        times = self._wait_for_events(purchase, "purchase.verified", "wallet.credited")
        self._tell("verified", "the App Store's signature is good", began, times["purchase.verified"])
        self._tell("credited", f"{self._granted()}, balance now {self._balance()}", began, times["wallet.credited"])
        self._tell_webhook("wallet.credited", began)
        return purchase

    def _refund(self, transaction_id: str, purchase: str) -> None:
        began = self._clock.now()
        self._simulator(f"/_sim/transactions/{transaction_id}/refund", {})
        self._tell("refunded", "by the App Store, which notifies the gateway", began)
        self._wait_for_status(purchase, "refunded")
        times = self._wait_for_events(purchase, "wallet.debited")
        self._tell("debited", f"{self._granted()}, balance now {self._balance()}", began, times["wallet.debited"])
        self._tell_webhook("wallet.debited", began)

    def _show_entries(self) -> None:
        listed = self._gateway("GET", "/v1/users/me/wallet/entries")["entries"]
        self._audience.entries(
            [
                Entry(
                    at=entry["created_at"],
                    kind=entry["kind"],
                    currency=entry["currency"],
                    amount=entry["amount"],
                    balance_after=entry["balance_after"],
                )
                for entry in reversed(listed)
            ]
        )

    # ---- waiting ------------------------------------------------------------------------------------------------

    def _wait_for_status(self, purchase: str, wanted: str) -> None:
        seen = ""

        def reached() -> bool:
            nonlocal seen
            seen = str(self._gateway("GET", f"/v1/purchases/{purchase}", query={"wait": "5"})["status"])
            return seen == wanted

        if not self._until(reached):
            raise StackUnavailable(
                f"purchase {purchase} is {seen!r} and not {wanted!r} after {STEP_WITHIN_S:g} s: "
                f"see the logs, and `purser timeline {purchase}`"
            )

    def _wait_for_events(self, subject: str, *types: str) -> Mapping[str, datetime]:
        times: Mapping[str, datetime] = {}

        def recorded() -> bool:
            nonlocal times
            times = self._journal(subject)
            return all(name in times for name in types)

        if not self._until(recorded):
            missing = ", ".join(name for name in types if name not in times)
            raise StackUnavailable(f"{missing} of {subject} was not recorded within {STEP_WITHIN_S:g} s: see the logs")
        return times

    def _tell_webhook(self, event_type: str, began: datetime) -> None:
        if self._receiver is None:
            return

        def ours(received: Received) -> bool:
            return received.type == event_type and received.data.get("user_id") == self._user

        received = self._receiver.wait_for(ours, within_s=STEP_WITHIN_S)
        if received is None:
            raise StackUnavailable(f"no webhook {event_type} came within {STEP_WITHIN_S:g} s: see the logs")
        self._tell("webhook delivered", f"{event_type}, its signature checked", began, received.at)

    def _until(self, condition: Callable[[], bool]) -> bool:
        deadline = self._clock.monotonic() + STEP_WITHIN_S
        while not condition():
            if self._clock.monotonic() > deadline:
                return False
            self._pause.wait(LOOK_EVERY_S)
        return True

    # ---- talking ------------------------------------------------------------------------------------------------

    def _tell(self, name: str, detail: str, began: datetime, at: datetime | None = None) -> None:
        self._audience.step(Step(name=name, detail=detail, after=max((at or self._clock.now()) - began, timedelta(0))))

    def _granted(self) -> str:
        return ", ".join(f"{grant.amount} {grant.currency}" for grant in self._product.granted(1))

    def _balance(self) -> str:
        balances = self._gateway("GET", "/v1/users/me/wallet")["balances"]
        return ", ".join(
            f"{balances.get(currency, {}).get('balance', 0)} {currency}" for currency in self._product.grants
        )

    def _simulator(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("the simulator", "POST", f"{self._where.simulator}{path}", body=body)

    def _gateway(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._client_token()}"}
        return self._call(
            "the gateway", method, f"{self._where.gateway}{path}", body=body, query=query, headers=headers
        )

    def _client_token(self) -> str:
        """What the app's own login would give its user (apps.toml: HS256, `aud` the app, `sub` the user)."""
        key = self._app.client_tokens.key if self._app.client_tokens else None
        assert key is not None, "demo_app chose an app that has one"
        expires = self._clock.now() + timedelta(minutes=10)
        return jwt.encode({"aud": self._app.id, "sub": self._user, "exp": expires}, key, algorithm="HS256")

    def _call(
        self,
        whom: str,
        method: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        with _explained(whom):
            answer = self._session.request(
                method, url, json=body, params=query, headers=headers, timeout=HTTP_TIMEOUT_S, allow_redirects=False
            )
            if not answer.ok:
                raise StackUnavailable(f"{whom} answered {answer.status_code} to {method} {url}: {answer.text[:300]}")
            document = answer.json()
        if not isinstance(document, dict):
            raise StackUnavailable(f"{whom} answered {method} {url} with what is no JSON object")
        return document


@contextmanager
def _explained(whom: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        raise StackUnavailable(f"{whom} does not answer ({type(error).__name__}): is `purser up` running?") from error
