"""What each task's choice was when: read off the stream of releases, to cut days where it changed.

A release is told by app, strategy and task, whatever the role or model: of several that share them
each one's release cuts the days of all, which harms nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry import keys
from telemetry.damaged import DAMAGED
from telemetry.digests import digest8
from telemetry.store import Client
from workers.folding.batch import position

RELEASE_FIELD = b"release"
ChoiceKey = tuple[int, int, int]
"""Digests of app, strategy and task, as calls carry them."""
Change = tuple[int, int, int]
"""When, in ms, and the choice before and after."""


@dataclass(frozen=True, slots=True)
class KnownChoices:
    """Changes of choices in the order of time, by app, strategy and task."""

    changes: Mapping[ChoiceKey, list[Change]] = field(default_factory=dict)

    def at(self, calls: NDArray[np.void], at_ms: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Return (n,) what the choice was when calls were decided; 0 where that is not known.

        Args:
            calls: with columns app, strategy and task.
        """
        out = np.zeros(len(calls), dtype=np.uint64)
        for (app, strategy, task), changes in self.changes.items():
            is_of = (calls["app"] == app) & (calls["strategy"] == strategy)
            mine = np.flatnonzero(is_of & (calls["task"] == task))
            if not len(mine):
                continue
            choices = np.array([changes[0][1], *(after for _, _, after in changes)], np.uint64)
            place = np.searchsorted([ms for ms, _, _ in changes], at_ms[mine], side="right")
            out[mine] = choices[place]
        return out


def known_choices(client: Client, *, since_ms: int) -> KnownChoices:
    """Return the changes since a moment that the store tells.

    Raises:
        redis.RedisError: the store is away.
    """
    return choices_in(
        (position(entry)[0], fields[RELEASE_FIELD])
        for entry, fields in client.xrange(keys.RELEASES, min=str(since_ms))
        if RELEASE_FIELD in fields
    )


def choices_in(told: Iterable[tuple[int, bytes]]) -> KnownChoices:
    """Return the changes that releases tell; one that cannot be read is left out.

    Args:
        told: when, in ms of the store's clock, by which calls are decided; and what.
    """
    changes: dict[ChoiceKey, list[Change]] = defaultdict(list)
    for at_ms, raw in told:
        try:
            value: dict[str, Any] = json.loads(raw)
            app, task = str(value["app"]), str(value["task"])
            strategy = digest8("strategy", str(value["strategy"]))
            before, after = (digest8("choice", str(value[name])) for name in ("before", "after"))
        except DAMAGED:
            continue
        for category in _categories(task, app):
            changes[digest8("app", app), strategy, category].append((at_ms, before, after))
    return KnownChoices({key: sorted(of) for key, of in changes.items()})


def _categories(task: str, app: str) -> list[int]:
    """Return under which digests calls of a task are booked, whomever their labels teach."""
    own = digest8("task", task, "app", app)
    return [digest8("task", task), own, digest8("task", task, "listening")]
