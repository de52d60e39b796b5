"""The gateway for tests: on a real database, with an App Store of the test's own, asked without a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Connection
from werkzeug.test import TestResponse

from gateway.app import build
from gateway.settings import GatewaySettings
from gateway.store.waiting import WaitingRoom
from shared.bus import journal
from shared.bus.feed import Feed
from shared.clock import Clock, SystemClock
from shared.database import transact
from shared.events import Payload
from shared.ids import EventId, IdSource, system_ids
from tests.support.apple_pki import Chain
from tests.support.bus import Bus, bus_in

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
APP = "game"
BUNDLE_ID, APP_APPLE_ID = "com.example.game", 1234567890
CLIENT_KEY = "example-only-client-token-key-change-me"
API_KEY = 'issuer_id = "issuer"\nkey_id = "key"\nprivate_key_file = "AuthKey.p8"'
"""The key of the App Store Server API, as an apps file has it. The gateway never reads the file."""
SERVER_KEY = "sk_example_only_change_me"
SERVICE_TOKEN = "service-token-of-a-test"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway, who may sign for its App Store, the journal that it writes, and the room where its callers wait."""

    app: Flask
    chain: Chain
    clock: Clock
    bus: Bus
    waiting: WaitingRoom

    def client(self) -> FlaskClient:
        return self.app.test_client()

    def token(self, user_id: str = "alice", **changes: Any) -> str:
        """A client token of the user; `changes` replace its claims, None takes one out."""
        expires = (self.clock.now() + timedelta(minutes=5)).timestamp()
        claims = {"aud": APP, "sub": user_id, "exp": int(expires)} | changes
        return jwt.encode({name: value for name, value in claims.items() if value is not None}, CLIENT_KEY, "HS256")

    def as_user(self, user_id: str = "alice") -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user_id)}"}

    def as_server(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {SERVER_KEY}"}

    def signed_transaction(self, transaction_id: str = "2000000000000001", **changes: Any) -> str:
        """A purchase as StoreKit 2 gives it, signed by this gateway's App Store."""
        return self.chain.sign(transaction_claims(transaction_id, now=self.clock.now()) | changes)

    def submit(self, transaction_id: str = "2000000000000001", *, user_id: str = "alice", **query: Any) -> TestResponse:
        """Posts a signed transaction as the user."""
        body = {"store": "apple", "signed_transaction": self.signed_transaction(transaction_id)}
        return self.client().post("/v1/purchases", json=body, headers=self.as_user(user_id), query_string=query)

    def events(self, subject: str) -> list[tuple[str, dict[str, Any]]]:
        """Type and payload of all events about something, oldest first."""
        sql = "select type, payload from journal.event where subject = %(subject)s order by id"
        return [(row[0], row[1]) for row in self.bus.execute(sql, subject=subject)]

    def tell(self, purchase: str, payload: Payload, *, cause: EventId | None = None) -> EventId:
        """What a later service says of a purchase of alice's."""
        draft = replace(self.bus.draft(payload, subject=purchase), causation_id=cause)
        return self.bus.record(draft)[0]

    def announce(self, *payloads: Payload, user_id: str | None = "alice") -> list[EventId]:
        """Outward events, which the notifier has put into the feed, in this order."""
        event_ids = self.bus.record(*(self.bus.draft(payload, user_id=user_id) for payload in payloads))

        def append(connection: Connection) -> None:
            Feed(connection).append(journal.load(connection, event_ids))

        transact(self.bus.engine, append)
        self.bus.execute("notify purser_journal")
        return event_ids

    def signed_notification(self, **changes: Any) -> str:
        """A refund's notification, signed by this gateway's App Store."""
        return self.chain.sign(notification_claims(now=self.clock.now()) | changes)


def transaction_claims(transaction_id: str, *, now: datetime) -> dict[str, Any]:
    """JWSTransactionDecodedPayload of 100 gems."""
    return {
        "transactionId": transaction_id,
        "originalTransactionId": transaction_id,
        "bundleId": BUNDLE_ID,
        "productId": "com.example.game.gems100",
        "type": "Consumable",
        "quantity": 1,
        "environment": "Production",
        "inAppOwnershipType": "PURCHASED",
        "purchaseDate": int(now.timestamp() * 1000),
        "signedDate": int(now.timestamp() * 1000),
    }


def notification_claims(*, now: datetime) -> dict[str, Any]:
    """responseBodyV2DecodedPayload of a refund."""
    return {
        "notificationType": "REFUND",
        "notificationUUID": "002e14d5-51f5-4503-b5a8-c3a1af68eb20",
        "version": "2.0",
        "signedDate": int(now.timestamp() * 1000),
        "data": {"bundleId": BUNDLE_ID, "appAppleId": APP_APPLE_ID, "environment": "Production"},
    }


def apps_file(directory: Path, *, api_key: bool, client_may_spend: bool = False) -> Path:
    """The example's apps file, with a key of the App Store Server API or without; its clients may spend, or not."""
    lines = (EXAMPLES / "apps.toml").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("issuer_id", "key_id", "private_key_file"))]
    place = kept.index("[apps.apple]") + 1
    text = "\n".join([*kept[:place], *([API_KEY] if api_key else []), *kept[place:], ""])
    if client_may_spend:
        text = text.replace("client_may_spend = false", "client_may_spend = true")
    path = directory / f"apps{'' if api_key else '-without-key'}{'-spending' if client_may_spend else ''}.toml"
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def gateway_on(
    database_url: str,
    directory: Path,
    *,
    clock: Clock | None = None,
    ids: IdSource | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Iterator[Gateway]:
    """A gateway of the example app, with a key of the Server API, on this database; `changes` are to its settings."""
    chain = Chain()
    root = directory / "root.der"
    root.write_bytes(chain.root.der)
    defaults: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "service_token": SecretStr(SERVICE_TOKEN),
        "apps_file": apps_file(directory, api_key=True),
        "catalog_file": EXAMPLES / "catalog.toml",
        "apple_root_files": str(root),
    }
    settings = GatewaySettings(**defaults | dict(changes or {}))
    clock = clock or SystemClock()
    with bus_in(database_url) as bus, closing(build(settings, clock=clock, ids=ids or system_ids())) as built:
        yield Gateway(app=built.app, chain=chain, clock=clock, bus=bus, waiting=built.waiting)
