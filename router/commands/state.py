"""The state directory, before anything is written there: can it be used, and else why not."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from router.commands.console import BAD_INPUT, fail
from router.config.places import NoHome, state_problem

if TYPE_CHECKING:
    from router.config.process import ServerEntry

PARTS = ("journal", "decisions", "archive", "store")


def state_of(server: ServerEntry) -> Path:
    """Return the configured state directory, or end with a word of why there is none."""
    with naming_state(None):
        return server.state_directory()


def require_state(directory: Path) -> None:
    """See to it that the state directory is there and can be written, or end with a word of why."""
    with naming_state(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for part in (directory, *(directory / name for name in PARTS)):
            if part == directory or part.exists():
                _try_to_write(part)


def problem_of_state(directory: Path) -> str | None:
    """Return what would keep a state directory from being used; nothing is made for that."""
    there = directory
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        for part in (there, *(directory / name for name in PARTS)):
            if part == there or part.exists():
                there = part
                _try_to_write(part)
    except OSError as error:  # what it names may be a file that was to be tried
        return state_problem(directory, OSError(error.errno, error.strerror, str(there)))
    return None


@contextmanager
def naming_state(directory: Path | None) -> Iterator[None]:
    """Say in one line what keeps the state directory from being used."""
    try:
        yield
    except NoHome as error:
        fail(str(error), BAD_INPUT)
    except OSError as error:
        problem = state_problem(directory, error) if directory is not None else None
        if problem is None:
            raise
        fail(problem, BAD_INPUT)


def _try_to_write(directory: Path) -> None:
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"\0")
