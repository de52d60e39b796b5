"""A sign of life for processes that have no HTTP port: a file that is touched every few seconds while all is well."""

from __future__ import annotations

from pathlib import Path

FRESH_S = 30
"""A file that is older says that its process is stuck, or has lost the broker."""


class Heartbeat:
    """Touches the file, if one is configured (PURSER_HEARTBEAT_FILE)."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def beat(self, **_: object) -> None:
        if self._file is not None:
            self._file.touch()
