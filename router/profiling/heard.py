"""What a sidecar in this process says in its log, kept off the terminal: why endpoints fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

Line = dict[str, Any]


class HeardLog:
    """The lines of a log, as they come."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def __call__(self, _: object, level: str, event: structlog.typing.EventDict) -> Any:
        """Keep a line; nothing is printed."""
        self.lines.append({**event, "level": level})
        raise structlog.DropEvent

    def last_of(self, endpoint: str, *, after: int) -> Line | None:
        """Return the last line that names an endpoint, of those after the first `after`."""
        mine = (line for line in self.lines[after:] if line.get("endpoint") == endpoint)
        return next(reversed(list(mine)), None)


@contextmanager
def hearing() -> Iterator[HeardLog]:
    """Keep what is logged, in place of printing it, until the end."""
    heard = HeardLog()
    # In place: loggers that were used before hold this very list.
    processors = structlog.get_config()["processors"]
    before = [*processors]
    processors[:] = [heard]
    try:
        yield heard
    finally:
        processors[:] = before
