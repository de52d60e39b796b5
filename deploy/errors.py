"""What can go wrong before and while the stack runs. Each message is one sentence for the person at the terminal.

`…Invalid` stays so until somebody changes something; `…Unavailable` may be gone on the next try.
"""

from __future__ import annotations

from collections.abc import Sequence


class DeployError(Exception):
    """The command cannot be carried out; the message says why and what helps."""


class BinariesInvalid(DeployError):
    """No server program that could be used was found on this machine."""


class DataInvalid(DeployError):
    """The embedded stack's data cannot be used by what is installed, or by whoever asks."""


class StackInvalid(DeployError):
    """The command needs something that is not configured."""


class PortUnavailable(DeployError):
    """A port that is needed is held by somebody else."""


class StackUnavailable(DeployError):
    """Another `purser up` uses the data directory, or an address that is needed does not answer, or not in time."""


class ProcessUnavailable(DeployError):
    """A process ended, or did not answer, before it was ready for the first time."""

    def __init__(self, sentence: str, *, last_lines: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.last_lines = tuple(last_lines)
