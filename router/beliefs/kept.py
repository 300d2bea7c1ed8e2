"""What is kept of the choices of an app and strategy: their name, where they stand, what came last.

All of it lies in the store; configuration and posteriors do the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from telemetry.events import digest8


@lru_cache(maxsize=4096)
def release_key(app: int, review_key: str) -> int:
    """Return the digest of what a choice is kept under: app × task × strategy (× model)."""
    return digest8("release", str(app), review_key)


def key_text(strategy: str, model: str, incumbent_id: str) -> str:
    """Return what of a review key a unit's draw is stored under, beside app and task."""
    return f"{strategy}\x1f{model}\x1f{incumbent_id}"


@dataclass(frozen=True, slots=True)
class ReviewKey:
    """Whose choices are reviewed together and share one room: an app's calls of one strategy."""

    app: str
    strategy: str
    model: str  # the caller's own under `map_models`, else empty
    incumbent: str  # endpoint id

    @property
    def digest(self) -> int:
        """Names the key in the store, and sets who comes first among the unknown."""
        text = key_text(self.strategy, self.model, self.incumbent)
        return digest8("choices", self.app, text)

    def release_keys(self, tasks: Iterable[str]) -> list[int]:
        """Return the digest under which each task's books are kept."""
        text = key_text(self.strategy, self.model, self.incumbent)
        app = digest8("app", self.app)
        return [release_key(app, f"{task}\x1f{text}") for task in tasks]


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
    begun_at_ms: int = field(default=0, compare=False)
    """Since when the key's calls are counted, for their rate; 0: just now."""
