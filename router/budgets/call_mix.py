"""Which kinds of calls count in an account, as this process sees them. Pure.

A price of money is worked out for what the next call may be: in which task and strategy it comes,
and who may serve it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bandit.draws import Law
from router.budgets.claims import Claims
from router.config.compiled import Strategy
from router.endpoints.catalog import Catalog

MAX_KINDS = 32
"""Of an account; the rarest makes room."""
HALVED_IN = 8
"""Parts of a period after which a call counts half: what comes changes with the hour.
UNVALIDATED."""
LEAST_HALF_S, MOST_HALF_S = 60.0, 7200.0
_RESCALED = 2.0**40

KindKey = tuple[str, str, int, int, bool, bytes]


class CallKind(Struct, frozen=True):
    """Calls that are decided alike, as the last of them was."""

    app: str
    task: str  # by whose row it is decided
    strategy: Strategy
    compared: int  # arm that a trade compares with
    first: int  # arm that serves where nothing is drawn
    law: Law | None
    mask: NDArray[np.bool_]  # (n_arms,) who may be drawn
    catalog: Catalog
    claims: Claims = ()

    @property
    def key(self) -> KindKey:
        """What tells it from other kinds."""
        drawn, who = self.law is not None, self.mask.tobytes()
        return self.app, self.task, self.strategy.digest, self.compared, drawn, who

    def is_of(self, catalog: Catalog) -> bool:
        """Return whether its arms and groups are those of a catalog."""
        if self.catalog is catalog:
            return True
        own, other = self.catalog, catalog
        return np.array_equal(own.digests, other.digests) and np.array_equal(
            own.arms.group, other.arms.group
        )


class CallMix:
    """The kinds of an account's calls, each with how many came lately."""

    def __init__(self, length_s: int) -> None:
        self._half_s = min(max(length_s / HALVED_IN, LEAST_HALF_S), MOST_HALF_S)
        self._began_s: float | None = None
        self._weights: dict[KindKey, float] = {}
        self._kinds: dict[KindKey, CallKind] = {}

    def note(self, kind: CallKind, at_s: float) -> None:
        """Count one call; later ones count for more."""
        if self._began_s is None:
            self._began_s = at_s
        weight: float = 2.0 ** (max(at_s - self._began_s, 0.0) / self._half_s)
        if weight > _RESCALED:
            self._weights = {key: old / weight for key, old in self._weights.items()}
            self._began_s, weight = at_s, 1.0
        key = kind.key
        if key not in self._weights and len(self._weights) >= MAX_KINDS:
            rarest = min(self._weights, key=self._weights.__getitem__)
            del self._weights[rarest], self._kinds[rarest]
        self._weights[key] = self._weights.get(key, 0.0) + weight
        self._kinds[key] = kind

    def shares(self) -> Iterator[tuple[float, CallKind]]:
        """Yield each kind with its share of the calls; they add up to 1."""
        total = sum(self._weights.values())
        for key, weight in self._weights.items():
            yield weight / total, self._kinds[key]
