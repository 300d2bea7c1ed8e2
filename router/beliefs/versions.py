"""What is known of the versions of a task's prompt, and what one that is named changes. Pure.

A version that an app names for the first time opens an epoch of the task: what was learned so far
counts for little more than a prior from then on. Only then: where the app named another version
before (its first one says what is there already), sends at least half of the task's calls, and the
task's last epoch is a day old. One that came too early is looked at again when it is named after
that day, if the app has named no newer one since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

DAY_MS = 86_400_000
LEAST_SHARE = 0.5
"""Of the task's calls."""
MOST_A_DAY = 50
"""Versions that an app may name anew in a task and a day; of more, a name says nothing: whoever
names each call differently would fill the store."""
MOST_KNOWN = 200
"""Versions of an app and task that are known; the oldest go first."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it was first named."""

    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class TaskVersions:
    """The versions of one task, by app, and the epoch that they led to."""

    task: str
    epoch: int = 0
    at_ms: int = 0  # when it began; 0: it is the first
    app: str = ""  # whose version opened it
    prompt: str = ""  # that version
    before: str = ""  # the app's version before it
    observations: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Of the opening: by endpoint how many labels counted before, and after."""
    known: dict[str, tuple[Version, ...]] = field(default_factory=dict)  # in the order of naming
    waiting: dict[str, str] = field(default_factory=dict)  # by app the version that came too early

    def is_settled(self, app: str, prompt: str) -> bool:
        """Return whether to name a version changes nothing, now or later."""
        own = self.known.get(app, ())
        return self.waiting.get(app) != prompt and any(one.name == prompt for one in own)


def named(
    found: TaskVersions, app: str, prompt: str, share: Callable[[], float], *, now_ms: int
) -> TaskVersions:
    """Return what is known once an app names a version; the same where that changes nothing.

    Args:
        share: says which share of the task's calls the app sends; asked only where it matters.
    """
    if found.is_settled(app, prompt):
        return found
    own = found.known.get(app, ())
    waits = found.waiting.get(app) == prompt
    if not waits:
        if sum(one.at_ms > now_ms - DAY_MS for one in own) >= MOST_A_DAY:
            return found
        own = (*own, Version(prompt, now_ms))[-MOST_KNOWN:]
    later = _without(found.waiting, app)
    after = replace(found, known={**found.known, app: own}, waiting=later)
    if len(own) < 2:
        return after
    if found.at_ms and now_ms - found.at_ms < DAY_MS:
        return found if waits else replace(after, waiting={**later, app: prompt})
    if share() < LEAST_SHARE:
        return after
    return replace(
        after,
        epoch=found.epoch + 1,
        at_ms=now_ms,
        app=app,
        prompt=prompt,
        before=own[-2].name,
        observations={},
    )


def _without(waiting: Mapping[str, str], app: str) -> dict[str, str]:
    return {name: prompt for name, prompt in waiting.items() if name != app}
