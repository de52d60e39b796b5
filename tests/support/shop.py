"""A simulated App Store on a clock that stands still, with seeded ids, that writes its notifications down.

Apple's own library judges what it signs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from appstoreserverlibrary.models.Environment import Environment as AppleEnvironment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier

from shared.apps import Apps, parse_apps
from shared.catalog import Catalog, parse_catalog
from shared.clock import ManualClock
from shared.events import Environment
from simulator.agenda import Agenda
from simulator.certificates import Authority
from simulator.domain import NotificationUnknown
from simulator.faults import FaultBoard
from simulator.notification_log import Attempt, AttemptResult, Notification, NotificationState
from simulator.notifications import SenderUnavailable
from simulator.receipts import ReceiptSeal
from simulator.records import Records
from simulator.shelf import Shelf
from simulator.signing import Signer
from simulator.state import State
from simulator.storefront import AppStore
from simulator.subscribers import Subscribers
from simulator.telling import Teller
from tests.support.seeded import seeded_ids

START = datetime(2026, 11, 22, 12, 0, 0, 123_456, tzinfo=UTC)
BUNDLE_ID, APP_APPLE_ID, SHARED_SECRET = "com.example.game", 1234567890, "example-shared-secret"
GEMS, ADFREE, MONTHLY, YEARLY, SEASON = "gems100", "adfree", "vip.monthly", "vip.yearly", "season.pass"
WEEKLY, NEWS = "vip.weekly", "news.monthly"

_APPS = f"""
[[apps]]
id = "game"
name = "Game"
[apps.apple]
bundle_id = "{BUNDLE_ID}"
app_apple_id = {APP_APPLE_ID}
shared_secret = "{SHARED_SECRET}"

[[apps]]
id = "quiz"
name = "Quiz"
[apps.apple]
bundle_id = "com.example.quiz"
app_apple_id = 987654321
"""

_PRODUCTS = {
    ("game", GEMS): 'type = "consumable"',
    ("game", ADFREE): 'type = "non_consumable"',
    ("game", MONTHLY): 'type = "auto_renewable"\ngroup = "vip"',
    ("game", YEARLY): 'type = "auto_renewable"\ngroup = "vip"',
    ("game", WEEKLY): 'type = "auto_renewable"\ngroup = "vip"',
    ("game", NEWS): 'type = "auto_renewable"\ngroup = "news"',
    ("game", SEASON): 'type = "non_renewing"',
    ("quiz", "hint"): 'type = "consumable"',
}


def example_apps() -> Apps:
    """Two apps: `game`, with a shared secret, and `quiz`, without."""
    return parse_apps(_APPS)


def example_catalog() -> Catalog:
    """One product of each type for `game`, three subscriptions in one group, and another."""
    return parse_catalog(
        "".join(f'[[products]]\napp = "{a}"\nid = "{i}"\nname = "-"\n{rest}\n' for (a, i), rest in _PRODUCTS.items())
    )


def apples_verifier(root_der: bytes, environment: Environment = "production") -> SignedDataVerifier:
    """Apple's own verifier, in its strict mode, trusting one root."""
    return SignedDataVerifier([root_der], False, AppleEnvironment(environment.title()), BUNDLE_ID, APP_APPLE_ID)


def claims(jws: str) -> dict[str, Any]:
    """The payload of a JWS as it was written, unverified."""
    segment = jws.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return decoded


class RecordingSender:
    """A sender that keeps what it is given; without room it refuses."""

    def __init__(self) -> None:
        self.sent: list[Notification] = []
        self.has_room = True

    def wait_for_room(self) -> None:
        if not self.has_room:
            raise SenderUnavailable("full")

    def send(self, notification: Notification) -> None:
        self.sent.append(notification)

    def tried(self, result: AttemptResult, *, at: datetime) -> None:
        """The newest was tried once, and this came of it."""
        state: NotificationState = "delivered" if result == "SUCCESS" else "pending"
        attempt = Attempt(at, result, http_status=None, answer="", duration_ms=1)
        self.sent[-1] = replace(self.sent[-1], attempts=(*self.sent[-1].attempts, attempt), state=state)

    def get(self, notification_id: UUID) -> Notification:
        found = next((each for each in self.sent if each.id == notification_id), None)
        if found is None:
            raise NotificationUnknown(str(notification_id))
        return found

    def oldest(
        self, *, limit: int, after: UUID | None, since: datetime, wanted: Callable[[Notification], bool]
    ) -> Sequence[Notification]:
        start = 0 if after is None else self.sent.index(self.get(after)) + 1
        return [each for each in self.sent[start:] if each.created_at >= since and wanted(each)][:limit]


@dataclass(frozen=True)
class Shop:
    """The store and everything around it."""

    store: AppStore
    subscribers: Subscribers
    records: Records
    state: State
    agenda: Agenda
    sender: RecordingSender
    faults: FaultBoard
    clock: ManualClock
    authority: Authority
    seal: ReceiptSeal
    apple: SignedDataVerifier
    apple_sandbox: SignedDataVerifier


def open_shop(authority: Authority) -> Shop:
    """A store that remembers nothing yet, with the given certificates."""
    clock = ManualClock(START)
    ids = seeded_ids(7, clock=clock)
    sender, faults, seal, signer = RecordingSender(), FaultBoard(ids), ReceiptSeal(authority), Signer(authority)
    agenda, shelf = Agenda(clock), Shelf(example_apps(), example_catalog())
    state = State(clock, plan=agenda.plan)
    teller = Teller(state=state, signer=signer, seal=seal, sender=sender, clock=clock, ids=ids)
    store = AppStore(shelf=shelf, state=state, seal=seal, teller=teller, agenda=agenda, clock=clock, ids=ids)
    subscribers = Subscribers(state=state, teller=teller, listings=shelf, agenda=agenda, clock=clock, ids=ids)
    records = Records(state=state, signer=signer, notifications=sender, teller=teller, clock=clock)
    apple, apple_sandbox = (apples_verifier(authority.root_der, name) for name in ("production", "sandbox"))
    return Shop(
        store=store,
        subscribers=subscribers,
        records=records,
        state=state,
        agenda=agenda,
        sender=sender,
        faults=faults,
        clock=clock,
        authority=authority,
        seal=seal,
        apple=apple,
        apple_sandbox=apple_sandbox,
    )
