"""Ctrl-C, `kill` and a closed terminal: the first ends the work, and none cuts the cleaning-up short."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked us to end. Raised in the main thread, wherever it is."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.signal = number


@contextmanager
def interruptible() -> Iterator[None]:
    """In here the signals raise Interrupted, once. Afterwards they do nothing: what follows is the cleaning-up.

    SIGHUP is left alone where it was ignored, as `nohup` has it.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _set_all(_ignore)
        raise Interrupted(signal.Signals(number))

    _set_all(interrupt)
    try:
        yield
    finally:
        _set_all(_ignore)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, which children would inherit."""


def _set_all(handler: signal._HANDLER) -> None:
    for number in SIGNALS:
        if not (number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN):
            signal.signal(number, handler)
