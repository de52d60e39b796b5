"""Asks processes for their metrics, as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from urllib3.exceptions import HTTPError

from deploy.errors import StackInvalid
from deploy.processes import PROCESSES, metrics_ports
from deploy.remembered import recall
from deploy.settings import StackSettings, reach_of

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 8.0
"""A courier whose database and broker are away takes four."""
TEXT_BYTES_MAX: Final = 8 * 1024 * 1024


class Unscraped(Exception):
    """The metrics did not come; the message says why in a few words."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one process told."""

    samples: Sequence[Sample]

    def total(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's values, of those that have these labels; None when there are none."""
        values = [
            sample.value for sample in self.samples if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(values) if values else None


def addresses_beside(settings: StackSettings) -> dict[str, str]:
    """Where the processes of the `purser up` of this data directory tell theirs, `host:port` by name.

    Raises StackInvalid where there is none, or it was not told to.
    """
    if not settings.metrics_port:
        raise StackInvalid("PURSER_METRICS_PORT is not set: no process tells its metrics")
    if recall(settings.data_dir) is None:
        raise StackInvalid(f"{settings.data_dir} is no `purser up`'s: name the processes with --at HOST:PORT")
    host = reach_of(settings.bind)
    return {name: f"{host}:{port}" for name, port in metrics_ports(PROCESSES, settings).items()}


def scrape(address: str) -> Numbers:
    """What the process at `host:port` tells. Raises Unscraped."""
    timeouts = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        with requests.get(f"http://{address}/metrics", timeout=timeouts, allow_redirects=False, stream=True) as answer:
            text = answer.raw.read(TEXT_BYTES_MAX, decode_content=True).decode()
    except (requests.RequestException, HTTPError, UnicodeDecodeError) as error:
        raise Unscraped(f"no answer ({type(error).__name__})") from error
    if answer.status_code != requests.codes.ok:
        raise Unscraped(f"it answers {answer.status_code}")
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        raise Unscraped("it does not answer with metrics") from error
    return Numbers([sample for family in families for sample in family.samples])


def scrape_all(addresses: Mapping[str, str]) -> dict[str, Numbers | Unscraped]:
    """What each of them tells, or why it does not; all are asked at once."""

    def ask(address: str) -> Numbers | Unscraped:
        try:
            return scrape(address)
        except Unscraped as error:
            return error

    with ThreadPoolExecutor(max(1, len(addresses))) as pool:
        return dict(zip(addresses, pool.map(ask, addresses.values()), strict=True))
