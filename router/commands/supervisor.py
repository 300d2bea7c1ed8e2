"""`up`: store, worker and router in one terminal, and all of it gone with Ctrl-C.

Each part is a process of its own. One that dies is started again, slower each time, and so is the
store, for as long as it takes; asked to stop, the router finishes its answers first, then the
worker, then the store.
"""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from telemetry.errors import TelemetryError
from telemetry.processes import child_environment

log = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
"""A part that ran this long has recovered: its next pause is short again."""
STOP_MARGIN_S = 10.0
"""Beyond the drain time: to send the journal and close the store."""
TEND_EVERY_S = 1.0


@dataclass(slots=True)
class Part:
    """One process to keep running."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    next_start: float = 0.0
    stop_s: float = STOP_MARGIN_S
    longest_pause_s: float = LONGEST_PAUSE_S

    def start(self) -> None:
        """Start it, in a session of its own: the terminal's Ctrl-C is for the supervisor."""
        self.process = subprocess.Popen(  # noqa: S603 - our own modules
            list(self.command),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=child_environment(),
        )
        self.started_at = time.monotonic()

    def check(self) -> None:
        """Start it again if it died."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            log.error("a part died and is started again", part=self.name, code=self.process.poll())
            steady = now - self.started_at > STEADY_S
            self.pause_s = FIRST_PAUSE_S if steady else 2 * self.pause_s
            self.pause_s = min(self.pause_s, self.longest_pause_s)
            self.next_start, self.process = now + self.pause_s, None
        if self.process is None and now >= self.next_start:
            try:
                self.start()
            except OSError as error:  # no memory, no process to be had
                log.error("a part cannot be started", part=self.name, reason=str(error))
                self.next_start = now + self.longest_pause_s

    @property
    def due_s(self) -> float:
        """How long until it is to be started again; for ever while it runs."""
        return math.inf if self.process else max(self.next_start - time.monotonic(), 0.0)

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            log.error("a part does not end and is killed", part=self.name)
            self.process.kill()
            self.process.wait()


@dataclass(slots=True)
class Supervisor:
    """Keeps parts running until a signal asks to stop; stops them in the order given."""

    parts: list[Part]
    tend: Callable[[], None]  # called once a second: sees to the store
    _asked: bool = field(default=False)
    _failing: bool = field(default=False)  # the store could not be started

    def run(self) -> None:
        """Run until SIGINT, SIGTERM or a closed terminal."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a part died: that wakes us, too
        with _woken_by_signals() as sleep:
            for part in self.parts:
                part.start()
            try:
                while not self._asked:
                    for part in self.parts:
                        part.check()
                    self._tend()
                    sleep(min([TEND_EVERY_S, *(part.due_s for part in self.parts)]))
            finally:
                for part in self.parts:
                    part.stop()

    def _tend(self) -> None:
        """See to the store; one that does not start is tried again: calls are served meanwhile."""
        try:
            self.tend()
        except (TelemetryError, OSError, subprocess.TimeoutExpired) as error:
            if not self._failing:
                log.error("the store cannot be started and is tried again", reason=str(error))
            self._failing = True
        else:
            self._failing = False

    def _ask(self, *_: object) -> None:
        self._asked = True


@contextmanager
def _woken_by_signals() -> Iterator[Callable[[float], None]]:
    """Yield a sleep that any signal ends; one that came before it does, too."""
    heard, told = os.pipe()
    for end in (heard, told):
        os.set_blocking(end, False)
    before = signal.set_wakeup_fd(told)

    def sleep(at_most_s: float) -> None:
        if select.select([heard], [], [], at_most_s)[0]:
            os.read(heard, 4096)

    try:
        yield sleep
    finally:
        signal.set_wakeup_fd(before)
        os.close(heard)
        os.close(told)
