"""What is kept of the choices of an app and strategy: their name, where they stand, what came last.

All of it lies in the store; configuration and posteriors do the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
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


def _id(*parts: str) -> str:
    return f"{digest8(*parts):016x}"[:8]


def release_id(review_key: ReviewKey, notice: ReleaseNotice) -> str:
    """Return the 8 hex digits that a release is undone by; it follows from what is kept of it."""
    named = (notice.task, notice.before, notice.after, str(notice.at_ms))
    return _id("release id", f"{review_key.digest:016x}", *named)


def proposal_id(review_key: ReviewKey, task: str, after: str, now_ms: int) -> str:
    """Return the 8 hex digits that a proposal is accepted by."""
    return _id("proposal id", f"{review_key.digest:016x}", task, after, str(now_ms))


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
class Proposal:
    """A release that a review found and that is held back."""

    task: str
    before: str
    after: str
    p_better: float | None
    gain: float | None
    reason: str
    made_at_ms: int
    seen_at_ms: int  # as of when the figures are
    id: str = ""  # 8 hex digits by which it is accepted; empty: it is held back, and not proposed
    labels: Mapping[str, int] = field(default_factory=dict)
    """As of a release."""


@dataclass(frozen=True, slots=True)
class Undone:
    """A group that somebody took a task from by hand."""

    at_ms: int
    evidence: float  # its labels in the task by then; under an order its calls


class NoteKind(StrEnum):
    """What is announced beside releases."""

    PROPOSED = "proposed"
    LAPSED = "lapsed"  # a proposal whose evidence no longer holds
    YIELDED = "yielded"  # the room is spent: the incumbent serves, while the choice stays


@dataclass(frozen=True, slots=True)
class Note:
    """What is announced beside releases, once."""

    kind: NoteKind
    task: str
    before: str
    after: str
    why: str
    id: str = ""  # of a proposal


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
    waiting: Mapping[str, Proposal] = field(default_factory=dict)
    """What is held back, by task."""
    undone: Mapping[str, Mapping[str, Undone]] = field(default_factory=dict)
    """What was undone by hand and not released since: by task, then by first host."""
    yielded_at_ms: Mapping[str, int] = field(default_factory=dict)
    """When it was last announced that a task's choice yields, as the room is spent; by task."""
    notes: tuple[Note, ...] = field(default=(), compare=False)
    """What is to be announced with this version, and is not kept."""
