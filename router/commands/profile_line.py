"""The line from `pointsman profile` to the process that makes its calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import msgspec

from router.commands.console import FAILED, fail, say
from router.profiling.log import as_told
from telemetry.processes import PARENT

SAY_EVERY_S = 10.0
END_S = 10.0
"""So long the command waits for the end of a child that has nothing to do any more."""
MODULE = "router.commands.profile_child"


class ChildLine:
    """The child, from its start to its end; `with` asks it to end early where the command does."""

    def __init__(self, task: Mapping[str, Any], log: Path) -> None:
        """Start it; it begins nothing that costs before it is told to."""
        environment = {name: value for name, value in os.environ.items() if name != PARENT}
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(file)
        self._log = log
        self._shown = ProgressLine()
        self._n_signals = 0
        self._is_going = False
        self._before: dict[int, Any] = {}
        self._send(as_told(dict(task)))

    def __enter__(self) -> ChildLine:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):  # not in the main thread
                self._before[number] = signal.signal(number, self._asked_to_stop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hang_up()
        for number, before in self._before.items():
            signal.signal(number, before)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def plan(self) -> dict[str, Any]:
        """Return the plan; ends the command where there is none."""
        return self._until("plan")

    def go(self) -> None:
        """Let it begin."""
        self._is_going = True
        self._send(b"go\n")

    def end(self) -> dict[str, Any]:
        """Return what came of it, once it is done."""
        found = self._until("done")
        self._shown.clear()
        self._hang_up()
        self._process.wait()
        return found

    def _until(self, kind: str) -> dict[str, Any]:
        if self._process.stdout is None:
            raise ValueError("the child has no stdout")
        for line in self._process.stdout:
            told: dict[str, Any] = msgspec.json.decode(line)
            said = told.pop("kind")
            if said == kind:
                return told
            if said == "waiting":
                say("another run is at work, or finishes what it had begun: waiting for it")
            elif said == "looking":
                say(f"{told['done']:,} of {told['total']:,} prompts looked at; nothing is sent yet")
            elif said == "progress":
                self._shown.show(told)
            elif said == "failed":
                self._shown.clear()
                fail(told["text"], told["code"])
        self._shown.clear()
        code = self._process.wait()
        fail(f"the process that makes the calls ended ({code}); see {self._log}", FAILED)

    def _asked_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._n_signals += 1
        if not self._is_going:
            self._hang_up()
            fail("nothing was sent", FAILED)
        if self._n_signals > 1:
            self._shown.clear()
            say("what is under way is finished in the background; the same command goes on")
            os._exit(128 + number)
        self._shown.clear()
        say("finishing the calls that are under way; again to leave them behind")
        self._hang_up()

    def _hang_up(self) -> None:
        """Tell the child that nobody wants more."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _send(self, line: bytes) -> None:
        if self._process.stdin is not None:
            with suppress(OSError, ValueError):
                self._process.stdin.write(line)
                self._process.stdin.flush()


class ProgressLine:
    """How far it is: one line on a terminal, now and then a line elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._began_at = self._said_at = time.monotonic()
        self._width = 0

    def show(self, told: Mapping[str, Any]) -> None:
        """Show it, where it is time."""
        now = time.monotonic()
        if not self._is_terminal and now - self._said_at < SAY_EVERY_S:
            return
        self._said_at = now
        text = self.text_of(told, now - self._began_at)
        if self._is_terminal:
            print("\r" + text.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave the line."""
        if self._is_terminal and self._width:
            print(file=sys.stderr)
            self._width = 0

    @staticmethod
    def text_of(told: Mapping[str, Any], passed_s: float) -> str:
        """Return one line of progress."""
        done, total = told["done"], told["total"]
        text = f"{done}/{total} calls, {told['spent_usd']:.4f} USD spent"
        if done and done < total:
            text += f", {passed_s / done * (total - done):,.0f} s left"
        for name, seconds in told["resting"].items():
            text += f"; {name} has no room for {seconds:.0f} s"
        return text
