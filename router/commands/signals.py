"""A verb that is asked to end ends as by Ctrl-C, so that what it started does not outlive it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ASKED = (signal.SIGTERM, signal.SIGHUP)
OF_A_SIGNAL = 128
"""An exit code says the signal beyond this, as shells have it."""


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Have what asks this process to end leave the block as Ctrl-C does, and end the process then.

    Who hears a signal already, or ignores it (`nohup`), goes on to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        as_by_hand = signal.getsignal(signal.SIGINT)  # in a loop: ends its main task
        if callable(as_by_hand):
            as_by_hand(signal.SIGINT, frame)
        else:
            raise KeyboardInterrupt

    ours = [number for number in ASKED if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, ask)
    try:
        yield
    except KeyboardInterrupt:
        if heard:
            raise SystemExit(OF_A_SIGNAL + heard[0]) from None
        raise
    finally:
        for number in ours:
            if signal.getsignal(number) is ask:
                signal.signal(number, signal.SIG_DFL)
