"""What a sidecar in this process says in its log, kept off the terminal: why endpoints fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from router.dispatch.attempt import AttemptFailed
from router.dispatch.diagnosis import Complaints
from router.net.pool import Target
from router.profiling.live_redirects import Redirect
from telemetry.events import Result

BEGUN = frozenset({Result.TIMEOUT, Result.CUT, Result.BAD_REPLY})
"""Results of calls that may have been answered, and paid for, all the same."""
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
        """Return the last line of how an endpoint failed, of those after the first `after`."""
        for line in reversed(self.lines[after:]):
            if line.get("endpoint") == endpoint and ("setting" in line or "result" in line):
                return line
        return None


class HeardComplaints(Complaints):
    """Says each failure, and remembers the provider's own words, which no log holds."""

    def __init__(self) -> None:
        super().__init__(again_s=0.0)
        self.said: dict[str, bytes] = {}  # by endpoint: the body of its last refusal
        self.moved: dict[str, Redirect] = {}  # by endpoint: where it sent its last call on to

    def forget(self, name: str) -> None:
        """Forget what an endpoint said."""
        self.said.pop(name, None)
        self.moved.pop(name, None)

    def say(self, name: str, target: Target, error: BaseException) -> None:
        """Log one failure of the endpoint `name`."""
        own = error.own if isinstance(error, AttemptFailed) else None
        if own is not None and own.body:
            self.said[name] = own.body
        if own is not None and 300 <= own.status < 400:
            location = next((v for k, v in own.headers if k == b"location"), b"")
            self.moved[name] = Redirect(target, location)
        super().say(name, target, error)


class LostCalls(Complaints):
    """Says each failure as a sidecar does, and counts calls that may be paid for all the same."""

    def __init__(self) -> None:
        super().__init__()
        self._n: Counter[str] = Counter()

    def say(self, name: str, target: Target, error: BaseException) -> None:
        """Log one failure of the endpoint `name`."""
        if isinstance(error, AttemptFailed) and error.is_sent and error.result in BEGUN:
            self._n[name] += 1
        super().say(name, target, error)

    def take(self, name: str) -> int:
        """Return how many of an endpoint's calls were lost since this was last asked."""
        return self._n.pop(name, 0)


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
