"""The supervisor: keeps store, router and workers running, and ends them all with Ctrl-C.

Each part is a process of its own. One that dies is started again, slower each time, and so is the
store, for as long as it takes; asked to stop, the router finishes its answers first (asked again,
it ends them), then the worker, then the store. It runs for as long as they do and hardly ever does
anything, so it imports next to nothing: `python -m router.commands.supervisor up PLAN`.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from router.commands.adopted import AdoptedProcess
from telemetry.embedded import PrivateServer
from telemetry.errors import TelemetryError
from telemetry.processes import end_with_parent, has_terminal, lasting_environment

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
STEADY_S = 30.0
"""A part that ran this long has recovered: its next pause is short again."""
STOP_MARGIN_S = 10.0
"""Beyond the drain time: to send the journal and close the store."""
TEND_EVERY_S = 1.0
FIRST_READY_S = 10.0
"""So long the others wait for the first part: an import on a cold disk takes seconds."""
LOOK_EVERY_S = 0.02
"""While it starts."""
PORT = "{port}"
"""In a greeting."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process to keep running."""

    name: str
    command: list[str]
    stop_s: float = STOP_MARGIN_S  # how long it may take to end
    reloads: bool = False  # takes its configuration anew on SIGHUP
    sockets: list[int] = field(default_factory=list)  # descriptors that it shares with its like


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """What to keep running."""

    parts: list[Part]
    store: str | None = None  # directory of the private store, if it is ours to keep
    first_ready: str | None = None  # the first part writes its port here once it serves
    early: tuple[int, int] | None = None  # process id and line of the first part, which waits there
    greeting: str = ""  # what is said then, with the port in place of PORT
    longest_pause_s: float = LONGEST_PAUSE_S

    def text(self) -> str:
        """Return the plan as an argument."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> ProcessPlan:
        """Return the plan in an argument."""
        value = json.loads(text)
        return cls(**{**value, "parts": [Part(**part) for part in value["parts"]]})


@dataclass(slots=True)
class Running:
    """A part and its process."""

    part: Part
    longest_pause_s: float = LONGEST_PAUSE_S
    pause_s: float = FIRST_PAUSE_S
    process: subprocess.Popen[bytes] | AdoptedProcess | None = None
    started_at: float = 0.0
    next_start: float = 0.0
    stopping: bool = False

    def start(self) -> None:
        """Start it, in a session of its own: the terminal's Ctrl-C is for the supervisor.

        Until it hears a SIGHUP itself, it ignores one: it reads the configuration as it starts.
        """
        before = signal.getsignal(signal.SIGHUP)
        if self.part.reloads:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self.process = subprocess.Popen(  # noqa: S603 - our own modules
                self.part.command,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=lasting_environment(),
                pass_fds=self.part.sockets,
            )
        finally:
            signal.signal(signal.SIGHUP, before)
        self.started_at = time.monotonic()

    def adopt(self, pid: int, line: int, ready: Path) -> None:
        """Have one serve that was started before, and waits to be told where to say so."""
        self.process, self.started_at = AdoptedProcess(pid), time.monotonic()
        with suppress(BrokenPipeError), open(line, "w", encoding="utf-8") as told:
            told.write(f"{ready}\n")

    def check(self) -> None:
        """Start it again if it died."""
        now = time.monotonic()
        if self.process is not None and self.process.poll() is not None:
            code = self.process.poll()
            _log("error", "a part died and is started again", part=self.part.name, code=code)
            steady = now - self.started_at > STEADY_S
            self.pause_s = FIRST_PAUSE_S if steady else 2 * self.pause_s
            self.pause_s = min(self.pause_s, self.longest_pause_s)
            self.next_start, self.process = now + self.pause_s, None
        if self.process is None and now >= self.next_start:
            try:
                self.start()
            except OSError as error:  # no memory, no process to be had
                _log("error", "a part cannot be started", part=self.part.name, reason=str(error))
                self.next_start = now + self.longest_pause_s

    @property
    def due_s(self) -> float:
        """How long until it is to be started again; for ever while it runs."""
        return math.inf if self.process else max(self.next_start - time.monotonic(), 0.0)

    def reload(self) -> None:
        """Have it take its configuration anew."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGHUP)

    def ask(self) -> None:
        """Ask it to end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.stopping = True

    def see_off(self) -> None:
        """See to it that it ends, once it was asked."""
        if self.process is None or not self.stopping:
            return
        try:
            self.process.wait(self.part.stop_s)
        except subprocess.TimeoutExpired:
            _log("error", "a part does not end and is killed", part=self.part.name)
            self.process.kill()
            self.process.wait()

    def hurry(self) -> None:
        """Ask it again: what drains ends at once then, in order."""
        if self.stopping and self.process is not None and self.process.returncode is None:
            self.process.terminate()


@dataclass(slots=True)
class Supervisor:
    """Keeps parts running until a signal asks to stop; stops them in the order given."""

    parts: list[Running]  # the others are started once the first one serves
    tend: Callable[[], object]  # called now and then: sees to the store
    tend_every_s: float = TEND_EVERY_S
    first_ready: Path | None = None
    early: tuple[int, int] | None = None
    greeting: str = ""
    _asked: bool = field(default=False)
    _told_to_reload: bool = field(default=False)
    _failing: bool = field(default=False)  # the store could not be started

    def run(self) -> int:
        """Run until SIGINT, SIGTERM or a closed terminal; return the exit code.

        A SIGHUP of anybody else's goes to the parts that take their configuration anew.

        Where the first part ends before it ever served, nothing else is started, and its exit
        code is ours: it has said why.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)
        had_terminal = has_terminal()
        signal.signal(signal.SIGHUP, lambda *_: self._hang_up(had_terminal))
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a part died: that wakes us, too
        with _woken_by_signals() as sleep:
            try:
                if self.first_ready is not None and (code := self._await_first(sleep)) is not None:
                    return code
                while not self._asked:
                    for part in self.parts:
                        part.check()
                    self._pass_reload_on()
                    self._greet()
                    self._tend()
                    sleep(min([self.tend_every_s, *(part.due_s for part in self.parts)]))
            finally:
                self._stop()
        return 0

    def _stop(self) -> None:
        """Stop what serves, at once with its like; then the others, one after the other."""
        for descriptor in {one for part in self.parts for one in part.part.sockets}:
            os.close(descriptor)  # or who comes now would wait for nobody
        serving = [part for part in self.parts if part.part.reloads]
        for group in (serving, *([part] for part in self.parts if part not in serving)):
            for part in group:
                part.ask()
            for part in group:
                part.see_off()

    def _await_first(self, sleep: Callable[[float], None]) -> int | None:
        """Start the first part and wait until it serves; return its exit code if it never does."""
        assert self.first_ready is not None
        self.first_ready.unlink(missing_ok=True)
        first, deadline = self.parts[0], time.monotonic() + FIRST_READY_S
        if self.early is not None:
            first.adopt(*self.early, self.first_ready)
        else:
            first.start()
        while not (self._asked or self.first_ready.exists() or time.monotonic() > deadline):
            assert first.process is not None
            if (code := first.process.poll()) is not None:
                return code if code > 0 else 1
            sleep(LOOK_EVERY_S)
        return None

    def _greet(self) -> None:
        """Say once where the first part listens; not before it does."""
        if not self.greeting or self.first_ready is None:
            return
        with suppress(OSError):
            if port := self.first_ready.read_text():
                print(self.greeting.replace(PORT, port), file=sys.stderr, flush=True)
                self.greeting = ""

    def _tend(self) -> None:
        """See to the store; one that does not start is tried again: calls are served meanwhile."""
        try:
            self.tend()
        except (TelemetryError, OSError, subprocess.TimeoutExpired) as error:
            if not self._failing:
                _log("error", "the store cannot be started and is tried again", reason=str(error))
            self._failing = True
        else:
            self._failing = False

    def _ask(self, *_: object) -> None:
        if self._asked:
            for part in self.parts:
                part.hurry()
        self._asked = True

    def _hang_up(self, had_terminal: bool) -> None:
        """Tell a closed terminal from somebody who wants the configuration taken anew."""
        closed = had_terminal and not has_terminal()
        if closed or not any(part.part.reloads for part in self.parts):
            self._asked = True
        self._told_to_reload = True

    def _pass_reload_on(self) -> None:
        if not self._told_to_reload or self._asked:
            return
        self._told_to_reload = False
        told = [part for part in self.parts if part.part.reloads]
        for part in told:
            part.reload()
        others = [part.part.name for part in self.parts if part not in told]
        names = [part.part.name for part in told]
        event = "told to take the configuration anew; the others read theirs as they start"
        _log("info", event, parts=names, others=others)


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


def _log(level: str, event: str, **fields: object) -> None:
    """Write a line as the other processes do, without their library, which takes 20 MB."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    print(json.dumps({**fields, "event": event, "level": level, "timestamp": at}), file=sys.stderr)


def main(text: str) -> int:
    """Keep what a plan names running; return the exit code."""
    end_with_parent()
    plan = ProcessPlan.parse(text)
    parts = [Running(part, plan.longest_pause_s) for part in plan.parts]
    try:
        server = PrivateServer(Path(plan.store)) if plan.store else None
        with server or nullcontext():
            return Supervisor(
                parts,
                tend=server.revive if server else lambda: None,
                first_ready=Path(plan.first_ready) if plan.first_ready else None,
                early=plan.early,
                greeting=plan.greeting,
            ).run()
    except TelemetryError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[2]))
