"""The line from the process that makes a profile's calls to the command that wants them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
from typing import Any

from router.profiling.log import as_told


class CommandGone(Exception):
    """Nobody waits for this any more, and nothing was begun."""


class CommandLine:
    """The line to the command: what it says, and whether it is still there."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.may_go = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._out = sys.stdout.buffer

    def listen(self) -> None:
        """Hear the command from now on, in a thread."""
        threading.Thread(target=self._hear, daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._loop.add_signal_handler(number, self.gone.set)

    def tell(self, kind: str, **what: Any) -> None:
        """Tell the command something, if it is there."""
        with contextlib.suppress(OSError, ValueError):
            self._out.write(as_told({"kind": kind, **what}))
            self._out.flush()

    def _hear(self) -> None:
        for line in sys.stdin.buffer:
            if line.strip() == b"go":
                self._loop.call_soon_threadsafe(self.may_go.set)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.gone.set)

    async def wait_for_go(self) -> None:
        """Wait until the user has agreed.

        Raises:
            CommandGone: the command is gone.
        """
        waits = [asyncio.create_task(e.wait()) for e in (self.may_go, self.gone)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        if self.gone.is_set():
            raise CommandGone
