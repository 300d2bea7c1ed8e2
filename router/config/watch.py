"""The file of a running sidecar: looked at, judged once it stands still, and what is in force.

A file is taken as a whole or not at all. What is in force lies beside the other state, so that a
report can be made, and can say what was refused, while the file itself is broken.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct, structs

from router.config.compiled import Configuration
from router.config.file import read
from router.config.reload import Taken, take, version_of
from router.errors import ConfigError, Problem

log = structlog.get_logger()

LOOK_EVERY_S = 0.75
"""So that each look of the thread that looks at the store, every .8 s, looks at the file."""
STILL_S = 0.75
"""A file whose size and time stood still so long, from one look to the next, is not being written
any more: so a change is taken within two looks."""
MAX_SHOWN = 100
"""Errors that are kept and shown; the log has all of them."""
KEPT_FILE = "configuration.json"
"""In the state directory: what is in force there."""


class RefusedFile(Struct, frozen=True):
    """What was refused of a file; errors name line, field and what to do, and no value."""

    version: str
    at_ms: int
    n_errors: int
    errors: list[str]


class FileInForce(Struct, frozen=True):
    """Which configuration a sidecar goes by."""

    file: str  # as given
    version: str  # digest of its text, in hexadecimal form
    since_ms: int
    needs_restart: list[str] = []  # fields that stay as they were at the start
    refused: RefusedFile | None = None  # what the file has held since

    def row(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {name: msgspec.to_builtins(getattr(self, name)) for name in FIELDS}


FIELDS = FileInForce.__struct_fields__


class KeptFile(FileInForce, frozen=True):
    """The same with its text."""

    text: str = ""

    def is_refused(self, text: str) -> bool:
        """Return whether the sidecar has looked at this text, and refused it."""
        return self.refused is not None and self.refused.version == _hex(version_of(text))


class WatchedFile:
    """The configuration file of a running sidecar; not for several threads, but for `ask`."""

    def __init__(self, path: Path, running: Configuration, state_dir: Path) -> None:
        self.in_force = FileInForce(str(path), _hex(running.version), _now_ms())
        self._path = path
        self._kept_at = state_dir / KEPT_FILE
        self._text: str | None = None  # in force; None until it was looked at
        self._asked = False
        self._next_look = 0.0
        self._still_since = 0.0
        self._seen: object = self  # unlike every stamp
        self._judged: object = self

    def ask(self) -> None:
        """Have the file taken anew at the next look, changed or not: keys may have been."""
        self._asked = True
        self._next_look = 0.0

    def look(self, now: float, running: Configuration) -> Taken | None:
        """Return a configuration that is to go into force, if the file holds another sound one.

        Args:
            now: monotonic seconds.
        """
        if now < self._next_look:
            return None
        self._next_look = now + LOOK_EVERY_S
        stamp = _stamp(self._path)
        if stamp != self._seen:
            self._seen, self._still_since = stamp, now
        if now - self._still_since < STILL_S or (stamp == self._judged and not self._asked):
            return None
        anew, self._asked, self._judged = self._asked, False, stamp
        return self._judge(running, anew=anew)

    def accept(self, taken: Taken) -> None:
        """Note that a configuration went into force."""
        version, fields = _hex(taken.configuration.version), list(taken.needs_restart)
        self.in_force = FileInForce(str(self._path), version, _now_ms(), fields)
        self._keep(taken.text)
        log.info("the configuration is taken", file=str(self._path), version=version)
        if fields:
            log.warning(
                "changes that need a restart are not in force, the others are", fields=fields
            )

    def refuse(self, problems: Sequence[Problem], *, version: int = 0) -> None:
        """Note that what the file holds cannot go into force."""
        errors = [_told(problem) for problem in problems]
        refused = RefusedFile(_hex(version), _now_ms(), len(errors), errors[:MAX_SHOWN])
        self.in_force = structs.replace(self.in_force, refused=refused)
        self._keep(self._text)
        log.error(
            "the configuration file is refused; the one before stays in force",
            file=str(self._path),
            errors=errors,
        )

    def _judge(self, running: Configuration, *, anew: bool) -> Taken | None:
        version = 0
        try:
            text = read(self._path)
            if _stamp(self._path) != self._judged:  # it is being written after all
                self._judged, self._asked = self, anew
                return None
            version = version_of(text)
            if version != running.version or anew:
                return take(text, file=str(self._path), running=running)
        except ConfigError as error:
            self.refuse(error.problems, version=version)
            return None
        if self.in_force.refused is not None:
            log.info("the configuration file is the one in force again", file=str(self._path))
        self.in_force = structs.replace(self.in_force, refused=None)
        self._keep(text)
        return None

    def _keep(self, text: str | None) -> None:
        """Write down what is in force; a full disk only makes reports say less."""
        self._text = text
        if text is None:
            return
        whole = msgspec.json.encode(KeptFile(**structs.asdict(self.in_force), text=text))
        fresh = self._kept_at.with_suffix(".new")
        with contextlib.suppress(OSError):
            fresh.touch(mode=0o600)
            fresh.write_bytes(whole)
            fresh.replace(self._kept_at)


def read_kept(state_dir: Path) -> KeptFile | None:
    """Return what the last sidecar of a state directory went by, if it can be read."""
    try:
        return msgspec.json.decode((state_dir / KEPT_FILE).read_bytes(), type=KeptFile)
    except (OSError, msgspec.DecodeError):
        return None


def _told(problem: Problem) -> str:
    """Return an error as a line; a value is told only where it is what is wrong with the file."""
    where = f"line {problem.line}: " if problem.line else ""
    what = f"{problem.value}: " if problem.field in ("yaml", "file") else ""
    return f"{where}{problem.field}: {what}{problem.hint}"


def _stamp(path: Path) -> object:
    """Return what changes when a file does; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _hex(version: int) -> str:
    return f"{version:016x}"


def _now_ms() -> int:
    return int(time.time() * 1000)
