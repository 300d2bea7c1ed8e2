"""What a job found out of episodes, as far as decisions go by it: how many calls are to come."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any


@dataclass(frozen=True, slots=True)
class EpisodeLengths:
    """How many calls are to come in an app's sessions, by how many there were."""

    by_app: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    """By the app's digest: calls so far, in rising order, and the median of those that remained."""

    def remaining(self, app: int, calls_so_far: int) -> float | None:
        """Return the median of the calls that remained after so many; None where nobody knows.

        Args:
            app: its digest.
        """
        known = self.by_app.get(app, ())
        place = bisect_right(known, calls_so_far, key=lambda pair: pair[0])
        return known[place - 1][1] if place else None


UNKNOWN = EpisodeLengths()


class SeenEpisodes:
    """What the store was last seen to hold of it; `take` is for one thread."""

    def __init__(self) -> None:
        self.lengths = UNKNOWN  # replaced as a whole
        self._raw: bytes | None = None

    def take(self, raw: bytes | None) -> None:
        """Go by what lies under `keys.EPISODES`; what cannot be read says nothing."""
        if raw != self._raw:
            self._raw, self.lengths = raw, read_lengths(raw)


def read_lengths(raw: bytes | None) -> EpisodeLengths:
    """Return what is said of the lengths of sessions; apps of whom it makes no sense are left out.

    Args:
        raw: `{"apps": {app's digest in hexadecimal: {"remaining": [[calls so far, median], …]}}}`.
    """
    try:
        apps = json.loads(raw or b"{}").get("apps", {})
        named = {int(name, 16): _pairs(said) for name, said in apps.items()}
    except (ValueError, TypeError, AttributeError):
        return UNKNOWN
    return EpisodeLengths({app: pairs for app, pairs in named.items() if pairs})


def _pairs(said: Any) -> tuple[tuple[int, float], ...]:
    try:
        pairs = [(int(calls), float(left)) for calls, left in said["remaining"]]
    except (ValueError, TypeError, KeyError, OverflowError):
        return ()
    if not all(isfinite(left) and left >= 0 for _, left in pairs):
        return ()
    return tuple(sorted(pairs))
