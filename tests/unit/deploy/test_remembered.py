"""What the embedded stack remembers."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from deploy.errors import DataInvalid
from deploy.remembered import FILE_NAME, invent, recall, remember
from shared.ids import system_ids


def test_what_is_remembered_is_recalled_and_is_nobody_elses_to_read(tmp_path: Path) -> None:
    ports = itertools.count(20_000)
    invented = invent(ids=system_ids(), free_port=lambda: next(ports))
    remember(tmp_path, invented)
    assert recall(tmp_path) == invented
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_nothing_is_recalled_where_nothing_was(tmp_path: Path) -> None:
    assert recall(tmp_path) is None


def test_a_damaged_memory_is_refused_and_not_replaced(tmp_path: Path) -> None:
    """A new password would lock us out of the data."""
    (tmp_path / FILE_NAME).write_text('{"postgres_port": 1')
    with pytest.raises(DataInvalid, match="is damaged"):
        recall(tmp_path)


def test_secrets_are_not_shown() -> None:
    invented = invent(ids=system_ids(), free_port=lambda: 1)
    assert invented.postgres_password not in repr(invented)
