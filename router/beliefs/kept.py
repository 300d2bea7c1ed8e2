"""What is kept of the choices of an app and strategy: their name, where they stand, what came last.

All of it lies in the store; configuration and posteriors do the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from telemetry.digests import digest8


@lru_cache(maxsize=4096)
def release_key(app: int, review_key: str) -> int:
    """Return the digest of what a choice is kept under: app × task × strategy × role (× model)."""
    return digest8("release", str(app), review_key)


@dataclass(frozen=True, slots=True)
class ReviewKey:
    """Whose choices are reviewed together and share one room: an app's calls of one strategy.

    Those of a role have their own, and those of a task that itself says who may serve it.
    """

    app: str
    strategy: str
    model: str  # the caller's own under `map_models` or of a role's callers, else empty
    incumbent: str  # endpoint id
    role: str = ""
    task: str = ""  # of all others together it is empty

    @property
    def text(self) -> str:
        """What of it a unit's draw is stored under, beside app and task."""
        text = f"{self.strategy}\x1f{self.model}\x1f{self.incumbent}"
        return f"{text}\x1f{self.role}\x1f{self.task}" if self.role or self.task else text

    @property
    def digest(self) -> int:
        """Names the key in the store, and sets who comes first among the unknown."""
        return digest8("choices", self.app, self.text)

    def release_keys(self, tasks: Iterable[str]) -> list[int]:
        """Return the digest under which each task's books are kept."""
        app = digest8("app", self.app)
        return [release_key(app, f"{task}\x1f{self.text}") for task in tasks]


@dataclass(frozen=True, slots=True)
class ReleaseNotice:
    """A release as it is announced; figures are None where the reason is no belief."""

    task: str
    before: str
    after: str
    p_better: float | None
    gain: float | None
    reason: str
    labels: Mapping[str, int] = field(default_factory=dict)
    """How many labels of the two each app gave in the task; nobody's where there are none."""
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store keeps of a review key: the choices that a review settled, by task."""

    review_key: ReviewKey
    version: int = 0
    reviewed_at_ms: int = 0
    current: Mapping[str, str] = field(default_factory=dict)  # task -> id of the group's first host
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    """All hosts of those groups, by the first: a group outlives the removal of one of them."""
    certain_at_ms: Mapping[str, int] = field(default_factory=dict)
    """When a task's last release between reviews was, by task."""
    moved_at_ms: Mapping[str, int] = field(default_factory=dict)
    """When an order last moved a task, by task; what was lost is no move."""
    left_at_ms: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """When a task left whom within the last day, under an order: by task, then by first host."""
    last: Mapping[str, ReleaseNotice] = field(default_factory=dict, compare=False)
    """The last release of each task, to be shown."""
    won: Mapping[str, str] = field(default_factory=dict)
    """Which won trial brought a task to its challenger last, by task."""
    begun_at_ms: int = field(default=0, compare=False)
    """Since when the key's calls are counted, for their rate; 0: just now."""
