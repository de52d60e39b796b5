"""What an application tells at a path of its own port, told where the metrics are too."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from shared.log import get_logger

log = get_logger(__name__)

ANSWER_WITHIN_S: Final = 2.0
TEXT_BYTES_MAX: Final = 1024 * 1024


class Relayed(Collector):
    """Asks at each scrape. What does not come, or cannot be read, is not told."""

    def __init__(self, *, host: str, port: int, path: str) -> None:
        self._host = host.strip("[]")
        self._port = port
        self._path = path

    def collect(self) -> Iterator[Metric]:
        try:
            families = list(text_string_to_metric_families(self._text()))
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("what the application tells cannot be had", path=self._path, error=type(error).__name__)
            return
        yield from families

    def _text(self) -> str:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=ANSWER_WITHIN_S)
        with closing(connection):
            connection.request("GET", self._path)
            answer = connection.getresponse()
            text = answer.read(TEXT_BYTES_MAX).decode()
        return text if answer.status == http.client.OK else ""
