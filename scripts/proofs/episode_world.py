"""A simulated agent of three roles, of which an episode succeeds only if all parts fit.

Pure and seeded. Two things are true of who plays a part, and they are told apart on purpose: how
good each answer looks by itself, and what it is worth to the whole. A plan may read well that the
coder cannot follow. So a label a call praises another endpoint than the one that lets episodes
succeed, however many labels there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

ENDPOINTS = ("a", "b", "c", "d")
TASKS = {
    "planner": ("plan", "replan"),
    "coder": ("implement", "fix"),
    "reviewer": ("review",),
}
"""By role, in the order in which they play. Two parts have two tasks: where an app is not locked
each task draws for itself, as real agents' calls do that say what they are about."""
ROLES = tuple(TASKS)
REPLANNED = 0.5
"""Of the episodes: some plans hold."""
BEGUN_WITH_A_FIX = 0.5
"""Of the episodes: a fault was reported, else something new is wanted. A coder does both."""

RoleMap = tuple[int, ...]
"""(n_roles,) who plays each part."""


@dataclass(frozen=True, slots=True)
class AgentWorld:
    """What is true of everybody in every part; endpoints stand as in `ENDPOINTS`."""

    name: str
    fit: NDArray[np.float64]  # (n_roles, n_endpoints) what the part contributes to success
    pair: NDArray[np.float64]  # (n_endpoints, n_endpoints) planner × coder: what they do together
    looks: NDArray[np.float64]  # (n_roles, n_endpoints) chance that a call's answer looks good

    def success_of(self, roles: RoleMap) -> float:
        """Return the chance that an episode succeeds that this map plays."""
        parts = np.prod([self.fit[role, who] for role, who in enumerate(roles)])
        return float(parts * self.pair[roles[0], roles[1]])

    def success_of_hands(self, hands: tuple[frozenset[int], ...]) -> float:
        """Return the same where several hands may have played a part.

        Such an episode is worth what the worst map is that its hands could make: all parts must
        fit, and a call that does not is not made good by another one that does.

        Args:
            hands: (n_roles,) of everybody who served a call of the part.
        """
        return min(self.success_of(roles) for roles in product(*map(sorted, hands)))

    def maps(self) -> list[RoleMap]:
        """Return all maps."""
        return list(product(range(len(ENDPOINTS)), repeat=len(ROLES)))

    @property
    def best(self) -> RoleMap:
        """The map of the best episodes."""
        return max(self.maps(), key=self.success_of)

    @property
    def praised(self) -> RoleMap:
        """The map that labels of single calls favour: in each part who looks best."""
        return tuple(self.looks.argmax(axis=1).tolist())

    @property
    def uniform(self) -> float:
        """The success of a map by chance."""
        return float(np.mean([self.success_of(roles) for roles in self.maps()]))

    def is_local(self, roles: RoleMap) -> bool:
        """Return whether no other endpoint in any one part would make a map better."""
        own = self.success_of(roles)
        return all(
            self.success_of((*roles[:role], who, *roles[role + 1 :])) <= own
            for role in range(len(ROLES))
            for who in range(len(ENDPOINTS))
        )


LOOKS = np.array([[0.90, 0.70, 0.75, 0.60], [0.60, 0.90, 0.70, 0.72], [0.60, 0.75, 0.90, 0.70]])
"""Who looks best in a part does by fifteen points or more, so that a few hundred labels show it:
whoever goes by single calls is led astray for certain, and not by bad luck."""
_ALONE = np.ones((len(ENDPOINTS), len(ENDPOINTS)))
PARTS = AgentWorld(
    name="parts",
    fit=np.array([[0.75, 0.95, 0.60, 0.70], [0.60, 0.75, 0.95, 0.70], [0.70, 0.60, 0.75, 0.95]]),
    pair=_ALONE,
    looks=LOOKS,
)
"""Parts that fit or do not by themselves. The best of each adds a fifth or more to who looks best,
so that the best map is worth twice what the praised one is; no endpoint is best in two parts."""
TOGETHER = AgentWorld(
    name="together",
    fit=np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.70, 0.60, 0.75, 0.95]]),
    pair=np.array(
        [
            [0.55, 0.55, 0.40, 0.65],
            [0.40, 0.40, 0.95, 0.40],
            [0.55, 0.55, 0.40, 0.65],
            [0.65, 0.65, 0.40, 0.80],
        ]
    ),
    looks=LOOKS,
)
"""A pair that only fits together: planner b with coder c is best, and either of them is the worst
with anybody else. By themselves d and d look better, and from there no single change helps."""
WORLDS = {world.name: world for world in (PARTS, TOGETHER)}


@dataclass(frozen=True, slots=True)
class EpisodeCall:
    """One call of an episode."""

    role: int
    task: str
    luck: float  # in [0, 1): its answer looks good where this is below the chance


@dataclass(frozen=True, slots=True)
class AgentEpisode:
    """What an episode is before anybody serves it: the same whoever does."""

    calls: tuple[EpisodeCall, ...]
    luck: float  # in [0, 1): it succeeds where this is below the chance


def episode_of(seed: int, number: int) -> AgentEpisode:
    """Return an episode: a plan, two or three calls of the coder, a review, perhaps all again."""
    rng = np.random.default_rng([seed, number])
    coder = list(TASKS["coder"])
    if rng.random() < BEGUN_WITH_A_FIX:
        coder.reverse()
    steps = [(0, "plan"), (1, coder[0])]
    if rng.random() < REPLANNED:
        steps.append((0, "replan"))
    steps += [(1, coder[1]), (2, "review")]
    calls = tuple(EpisodeCall(role, task, rng.random()) for role, task in steps)
    return AgentEpisode(calls, rng.random())
