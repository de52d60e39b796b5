"""Signals."""

from __future__ import annotations

import os
import signal

import pytest

from deploy.interruption import SIGNALS, Interrupted, interruptible


@pytest.mark.parametrize("number", SIGNALS)
def test_each_of_the_signals_ends_the_work(number: signal.Signals) -> None:
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.signal is number


def test_a_second_signal_does_not_cut_the_cleaning_up_short() -> None:
    cleaned_up = False
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGINT)
    except Interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        cleaned_up = True
    assert cleaned_up


def test_a_second_signal_does_not_cut_short_what_unwinds_after_the_first() -> None:
    unwound = False

    def interrupted_work() -> None:
        nonlocal unwound
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
            unwound = True

    with pytest.raises(Interrupted) as caught, interruptible():
        interrupted_work()
    assert unwound
    assert caught.value.signal is signal.SIGINT


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
