"""A router that is started before it is known whether it may serve.

To check a configuration takes a second of a core, and to import a router another: on two cores both
are done at once. It does nothing but import until it is told where to say that it serves; whoever
started it and ends without a word has it end, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from telemetry.processes import lasting_environment


@dataclass(frozen=True, slots=True)
class EarlyRouter:
    """A router that waits, a child of this process."""

    pid: int
    line: int  # descriptor; what comes there it waits for

    @classmethod
    def begin(cls, config: Path | None) -> EarlyRouter:
        """Start one, in a session of its own; it ignores a SIGHUP until it hears one itself."""
        theirs, line = os.pipe()
        # Named, not imported: it imports this.
        command = [sys.executable, "-m", "router.commands.router_process", "serve"]
        command += ["--await-ready", str(theirs)]
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*command, *(["--config", str(config)] if config is not None else [])],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=lasting_environment(),
                pass_fds=(theirs,),
            )
        finally:
            signal.signal(signal.SIGHUP, before)
            os.close(theirs)
        process.returncode = 0  # whoever becomes its keeper waits for it
        os.set_inheritable(line, True)
        return cls(process.pid, line)

    def give_up(self) -> None:
        """End it: it is not to serve."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def awaited(descriptor: int) -> Path:
    """Return where to say that we serve; end where nobody will tell."""
    with open(descriptor, encoding="utf-8") as line:
        told = line.readline()
    if not told:
        raise SystemExit(1)
    return Path(told.rstrip("\n"))
