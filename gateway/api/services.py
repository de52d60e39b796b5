"""What the views are answered from: put together by the wiring, the same for every request."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.api.credentials import Credentials
from gateway.api.limits import Limits
from gateway.handlers import Feed, InternalApi, Journal, Signatures, Waiting
from shared.apps import Apps
from shared.catalog import Catalog
from shared.clock import Clock
from shared.ids import IdSource


@dataclass(frozen=True, slots=True)
class Services:
    """The ports of the use-cases, with the configuration, the sources of time and ids, and the contract.

    `contract` is the OpenAPI document (JSON), `reference` the same as a page (HTML).
    """

    apps: Apps
    catalog: Catalog
    credentials: Credentials
    limits: Limits
    journal: Journal
    feed: Feed
    waiting: Waiting
    signatures: Signatures
    ledger: InternalApi
    notifier: InternalApi
    clock: Clock
    ids: IdSource
    contract: bytes
    reference: str
