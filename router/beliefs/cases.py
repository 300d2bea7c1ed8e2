"""What a review of one key starts from, gathered once. Pure, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.incumbent import Standings
from bandit.posterior import Posterior
from bandit.utility import Objective, Order
from router.beliefs.choices import groups_of, limited, objective_of
from router.beliefs.kept import Kept
from router.beliefs.review_keys import first_hosts
from router.config.compiled import Configuration
from router.config.releasing import Releasing


@dataclass(frozen=True, slots=True, eq=False)
class ReviewCase:
    """One review key: what is kept of it, where its tasks stand, and what is believed."""

    kept: Kept  # as of before; leaves that stand have begun
    configuration: Configuration
    posterior: Posterior
    decides: NDArray[np.bool_]  # (n_tasks,) rows by which anything is decided
    standings: Standings

    @property
    def mode(self) -> Releasing:
        """Who says yes to the app's releases."""
        return self.configuration.apps[self.kept.review_key.app].releases

    @property
    def objective(self) -> Objective:
        """What the key's strategy maximises."""
        return objective_of(self.kept.review_key, self.posterior, self.configuration)

    @property
    def is_order(self) -> bool:
        """Whether the user's own order decides, rather than a belief."""
        return self.objective.order is not Order.UTILITY

    @property
    def names(self) -> list[str]:
        """By which host each group is named."""
        return first_hosts(self.kept.review_key, self.configuration)

    def arms(self) -> NDArray[np.bool_]:
        """Return (n_tasks, n_arms) the rivals within the strategy's limits."""
        found = limited(self.kept.review_key, self.posterior, self.configuration)
        shape = (len(self.standings.current), found.shape[-1])
        return np.broadcast_to(np.atleast_2d(found), shape)

    def groups(self) -> NDArray[np.bool_]:
        """Return (n_tasks, n_groups) the groups of which some host is among those."""
        return groups_of(self.arms(), self.configuration.catalog)

    def group_of(self, name: str) -> int | None:
        """Return the group that a host is in; None where there is no such host."""
        endpoint = self.configuration.catalog.by_id.get(name)
        return None if endpoint is None else endpoint.group
