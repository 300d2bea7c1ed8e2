"""A clock that can be moved: the whole process's, so that no part of it knows another time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from unittest.mock import patch

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400.0


class MovableClock:
    """Epoch seconds that go on from a noon, and by a day when they are told to."""

    def __init__(self) -> None:
        self._real = time.time
        self._ahead_s = NOON - self._real()
        self._moved_s = 0.0

    def now_s(self) -> float:
        """Return what time it is."""
        return self._real() + self._ahead_s + self._moved_s

    def move_to_next_day(self) -> None:
        """Let it be tomorrow, once until it is set back."""
        self._moved_s = DAY_S

    def set_back(self) -> None:
        """Let it be the first day again, at noon."""
        self._ahead_s, self._moved_s = NOON - self._real(), 0.0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have everybody in this process go by it."""
        with patch("time.time", self.now_s):
            yield
