"""Where a demo's files lie: out of sight, or in a directory in which it stays for a while."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USUAL_PORT = 8787
"""Where a sidecar listens that was not told otherwise."""


class PlaceTaken(Exception):
    """Others' files lie where the demo's would; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class DemoPlace:
    """Files of one demo."""

    scratch: Path  # logs, the table, ports
    config: Path
    state_dir: Path
    port: int = 0  # to listen on; 0: any free one

    @property
    def url(self) -> str:
        """Where its sidecar listens, if that was said."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def temporary_place() -> Iterator[DemoPlace]:
    """Yield a place of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pointsman-") as temporary:
        directory = Path(temporary)
        yield DemoPlace(directory, directory / "pointsman.yaml", directory / "state")


@contextmanager
def place_in(directory: Path) -> Iterator[DemoPlace]:
    """Yield a place in a directory, where every command finds it; what it made goes at the end.

    Raises:
        PlaceTaken: a configuration or a state directory is there already.
    """
    config, state_dir = directory / "pointsman.yaml", directory / ".pointsman"
    for there in (config, state_dir):
        if there.exists():
            raise PlaceTaken(f"{there} is there already; stay in another directory")
    with tempfile.TemporaryDirectory(prefix="pointsman-") as scratch:
        try:
            yield DemoPlace(Path(scratch), config, state_dir, free_port())
        finally:
            config.unlink(missing_ok=True)
            shutil.rmtree(state_dir, ignore_errors=True)


def free_port() -> int:
    """Return the usual port, else the next one that nobody listens on."""
    for port in range(USUAL_PORT, USUAL_PORT + 100):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    return 0


def wait_to_be_stopped() -> None:
    """Return at Ctrl-C."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
