"""The real processes for a demo or a test: store, worker, router, and whatever they talk to."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from telemetry.processes import child_environment

START_S = 30.0
"""An import of numpy and scipy on a cold disk takes seconds."""


class DidNotStart(Exception):
    """A process ended, or did not listen in time; carries the end of its log."""


@dataclass(slots=True)
class Stack:
    """Processes of one state directory; stopped in the reverse order of their start."""

    directory: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    arguments: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `python -m …`; its output goes to `<name>.log`."""
        environment = child_environment()
        environment.pop("REDIS_URL", None)
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.processes[name] = process
        self.arguments[name] = arguments
        return process

    def revive(self, name: str) -> bool:
        """Start a process again if it died; return whether it had."""
        if self.processes[name].poll() is None:
            return False
        self.start(name, *self.arguments[name])
        return True

    def listen(self, name: str, *arguments: str) -> int:
        """Start something that listens; return its port once it does.

        Raises:
            DidNotStart: it ended, or took too long.
        """
        ready = self.directory / f"{name}.port"
        ready.unlink(missing_ok=True)
        process = self.start(name, *arguments, "--ready", str(ready))
        deadline = time.monotonic() + START_S
        while not (ready.exists() and ready.read_text()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise DidNotStart(f"{name} did not start:\n{self.log(name)}")
            time.sleep(0.01)
        return int(ready.read_text())

    def log(self, name: str) -> str:
        """Return the end of what a process wrote."""
        return (self.directory / f"{name}.log").read_text()[-2000:]

    def simulator(self, table: Path, *, time_scale: float) -> int:
        """Start simulated endpoints; return their port."""
        arguments = ("--table", str(table), "--time-scale", str(time_scale))
        return self.listen("simulator", "router.demo.simulator", *arguments)

    def worker(self, state_dir: Path, *, shards: int) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self.start(
            "worker", "workers", "--state-dir", str(state_dir), "--shards", str(shards)
        )

    def jobs(self, state_dir: Path, *, shards: int) -> subprocess.Popen[bytes]:
        """Start the periodic jobs beside a worker."""
        told = ("--state-dir", str(state_dir), "--shards", str(shards), "--jobs")
        return self.start("jobs", "workers", *told)

    def router(self, config: Path) -> int:
        """Start the sidecar; return its port."""
        return self.listen("router", "router.cli", "serve", "--config", str(config))

    def stop(self, name: str) -> None:
        """Ask one process to end, and wait for it."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def stop_all(self) -> None:
        """Stop everything."""
        for name in reversed(list(self.processes)):
            self.stop(name)


@contextmanager
def stack(directory: Path) -> Iterator[Stack]:
    """Yield a stack in `directory`; all of it is stopped at the end."""
    processes = Stack(directory)
    try:
        yield processes
    finally:
        processes.stop_all()
