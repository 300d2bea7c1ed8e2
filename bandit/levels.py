"""Categories of two levels: a category holds the evidence of all its leaves, each leaf its own.

Where a leaf has a row of its own, its labels are in two rows: its own, and its category's. Bases
and skills must count each label once, so quality is fitted twice: over categories, each with all
that its leaves were given, as if there were no leaves; and over leaves and what no leaf holds. A
leaf goes by the second, and starts where its category's other labels are.

Everything else that is measured is told of each row by itself, or from a mean over all rows in
which a leaf that counts twice moves nothing that matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandit import cells, quality
from bandit.evidence import Evidence
from bandit.families import FADING, Family
from bandit.quality import Quality
from bandit.teaching import MOST_BORROWED_N

Columns = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Number of labels, Σ reward, Σ reward²; each (n_categories, n_groups)."""


def tops(within: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return (n_categories,) which categories are below no other.

    Args:
        within: (n_categories,) the row of the category that each is below; its own at the top.
    """
    return np.asarray(within == np.arange(len(within)))


def pooled(values: NDArray[np.float64], within: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return sums (n_categories, …) with those of leaves added to their categories'."""
    leaves = np.flatnonzero(~tops(within))
    if not len(leaves):
        return values
    out = values.copy()
    np.add.at(out, within[leaves], values[leaves])
    return out


def together(evidence: Evidence, within: NDArray[np.intp]) -> Evidence:
    """Return the evidence of both levels, given that of each row alone.

    What is damaged in a leaf is damaged in its category, too.
    """
    if tops(within).all():
        return evidence
    families = {family: getattr(evidence, family.name.lower()) for family in FADING}
    return Evidence(*(pooled_sums(values, family, within) for family, values in families.items()))


def pooled_sums(
    values: NDArray[np.float64], family: Family, within: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return `pooled` of a family's sums, NaN wherever a damaged cell is among them."""
    if tops(within).all():
        return values
    bad = cells.damaged(values, family)
    return pooled(np.where(bad[..., None], np.nan, values), within)


@dataclass(frozen=True, eq=False)
class TwoLevels:
    """Posterior of θ of both levels; says of every category and group what `Quality` does."""

    above: Quality  # over categories at the top, each with all of its leaves' labels
    below: Quality  # over all categories, each label in one of them
    is_top: NDArray[np.bool_]  # (n_categories,)

    @cached_property
    def _row(self) -> NDArray[np.intp]:
        """(n_categories,) where a top is in `above`."""
        return np.cumsum(self.is_top) - 1

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Posterior means, (n_categories, n_groups)."""
        return self._both(self.above.mean, self.below.mean)

    @cached_property
    def sd(self) -> NDArray[np.float64]:
        """Posterior standard deviations, (n_categories, n_groups)."""
        return self._both(self.above.sd, self.below.sd)

    @cached_property
    def noise(self) -> NDArray[np.float64]:
        """(n_categories, n_groups) variance of a single reward."""
        return self._both(self.above.noise, self.below.noise)

    def difference(
        self, category: int, reference: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and sd of θ[g] − θ[reference], each (n_groups,)."""
        fitted, row = self._of(category)
        return fitted.difference(row, reference)

    def draw(
        self,
        category: int,
        normals: tuple[NDArray[np.float64], NDArray[np.float64]],
        *,
        sharpness: float | None = None,
    ) -> NDArray[np.float64]:
        """Return (n_draws, n_groups) joint draws of θ, as `Quality.draw` does."""
        fitted, row = self._of(category)
        return fitted.draw(row, normals, sharpness=sharpness)

    def _of(self, category: int) -> tuple[Quality, int]:
        if self.is_top[category]:
            return self.above, int(self._row[category])
        return self.below, category

    def _both(self, above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
        out = below.copy()
        out[self.is_top] = above
        return out


def fit(
    together: Columns, apart: Columns, within: NDArray[np.intp], *, family: NDArray[np.intp]
) -> TwoLevels:
    """Return the posterior of both levels.

    Args:
        together: labels with those of leaves in their categories' rows as well.
        apart: the same labels, each in one row.
        within: (n_categories,) the row of the category that each is below; its own at the top.
        family: (n_groups,) index of the model that a group belongs to.
    """
    is_top = tops(within)
    n, r, r2 = (column[is_top] for column in together)
    above = quality.fit(n, r, r2, family=family)
    below = _lent(quality.fit(*apart, family=family), apart, within)
    return TwoLevels(above, below, is_top)


def _lent(found: Quality, apart: Columns, within: NDArray[np.intp]) -> Quality:
    """Return the posterior in which leaves start from what their categories hold beside them.

    In each cell that counts as `MOST_BORROWED_N` labels at most. It says nothing of bases and
    skills, which know it already.
    """
    precision, pull = found.precision.copy(), found.pull.copy()
    rows = np.arange(len(within))
    for leaf in np.flatnonzero(~tops(within)).tolist():
        others = (within == within[leaf]) & (rows != leaf)
        n, r = apart[0][others].sum(axis=0), apart[1][others].sum(axis=0)
        share = np.minimum(1.0, MOST_BORROWED_N / np.maximum(n, 1e-9))
        precision[leaf] += share * n / found.noise[leaf]
        pull[leaf] += share * r / found.noise[leaf]
    return replace(found, precision=precision, pull=pull)
