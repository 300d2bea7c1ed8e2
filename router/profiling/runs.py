"""Where runs lie in the state directory, and that one works at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from router.endpoints.catalog import Endpoint
from router.profiling.prompts import ProfilePrompt, digest_of

PART = "profiles"
LOCK = "lock"
LOG = "log.txt"
"""In a run's directory: what the process that makes its calls says."""


class RunBusy(Exception):
    """Another run is at work."""


def run_directory(
    state_dir: Path,
    prompts: Sequence[ProfilePrompt],
    endpoints: Sequence[Endpoint],
    *,
    judge: Endpoint | None,
    app: str,
) -> Path:
    """Return where a run of these prompts at these endpoints lies: the same for the same."""
    said = [
        sorted(prompt.digest for prompt in prompts),
        sorted(endpoint.digest for endpoint in endpoints),
        judge.digest if judge is not None else None,
        app,
    ]
    return state_dir / PART / digest_of(said)


def make_directory(directory: Path) -> None:
    """Make a run's directory, for the owner alone.

    Raises:
        OSError: it cannot be made or written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.mkdir(exist_ok=True, mode=0o700)


@contextmanager
def at_work(state_dir: Path) -> Iterator[None]:
    """Hold the lock that one run at a time may have.

    Raises:
        RunBusy: another one has it.
        OSError: it cannot be made.
    """
    file = os.open(state_dir / PART / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusy from None
        yield
    finally:
        os.close(file)
