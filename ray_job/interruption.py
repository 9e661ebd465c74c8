"""Signals that end a command: what it has opened is closed, and its exit code says which it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_CODE = 128
"""With the signal's number added, as shells count."""


class Interrupted(BaseException):
    """A signal, raised where the main thread is. No Exception: nobody may take it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = _EXIT_CODE + number

    def __str__(self) -> str:
        return (
            f"ended by {self.args[0]}: nothing that is half done can be seen; the same command"
            " goes on from here"
        )


_received: list[int] = []


def raise_if_interrupted() -> None:
    """Raise Interrupted if a signal has come, for callers that got another error.

    DuckDB drops the exception of a handler and raises an error of its own, by which a file that it
    was reading would be taken for a bad one.
    """
    if _received:
        raise Interrupted(_received[-1])


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise Interrupted for the signals that end a command, so that it deletes its working folders.

    Signals that are ignored, as under `nohup`, stay so. Only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        _received.append(number)
        raise Interrupted(number)

    before = {
        number: signal.signal(number, interrupt)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    except Exception:
        raise_if_interrupted()
        raise
    finally:
        _received.clear()
        for number, handler in before.items():
            signal.signal(number, handler)
