"""Quality: a two-level Gaussian over (category, group), pooled by empirical Bayes.

    θ[c,g] = base[c] + skill[g] + d[c,g],   d ~ N(0, τ²[c]),   skill ~ N(family, ω²)
    mean reward of a cell | θ ~ N(θ, s²[c,g] / n)

How far skill carries into a category is told by its τ². The noise s² is measured within cells as
far as they allow, not taken from Beta's μ(1−μ): graded rewards vary far less than coin flips do.
Groups of one model with different settings share a family, so that a second setting starts from
what the first has shown.

Bases are solved with all skills integrated out (generalised least squares), so that few labels on
few groups are not mistaken for the level of a category.

Ref: Gelman et al. (2013), Bayesian Data Analysis, ch. 5 (hierarchical normal model); Harville
(1977), JASA 72, §4 (mixed-model equations); the moment estimators follow DerSimonian and Laird
(1986), with residuals corrected for their leverage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

SKILL_SD = 0.2
"""How far models differ over all categories, until enough of them were seen to measure it."""
SKILL_SD_WEIGHT = 10.0
"""Groups that this guess is worth."""
SKILL_SD_RANGE = (0.02, 0.5)
SETTING_SD = 0.1
"""How far two settings of one model differ. UNVALIDATED: no recording holds such pairs."""
BASE_SD = 0.2
"""How far categories differ in difficulty around their common mean."""
COMMON_MEAN, COMMON_PRECISION = 0.5, 1.0
"""Where that common mean is sought: N(.5, 1)."""
NOISE_PSEUDO_N = 8.0
"""Weight of μ(1−μ) in the noise, so that two equal labels do not read as certainty."""
NOISE_FLOOR = 0.0015
"""Least within-cell variance: below the finest judge's own repeatability."""
OWN_NOISE_SHARE = 0.5
"""Share of a cell's own μ(1−μ), scaled to its category's level, in its noise: near 0 and 1
rewards vary less."""
MEAN_RANGE = (0.02, 0.98)
TAU2 = 0.01
"""τ² until the cells say otherwise: sd .1."""
TAU2_RANGE = (0.01, 0.2)
"""It never falls below that guess. In recordings it is .006 to .03 over all cells; the cells that
have labels enough to tell are the leaders, which were chosen for being alike, and by them it would
be .003: then who was unlucky at first is taken for known, and not tried again."""
TAU2_POOLED_CELLS = 8.0
"""Cells that the guess is worth in the τ² of all categories. It is counted in cells, not in
labels: a thousand labels of two endpoints tell no more of how far endpoints differ than two
endpoints can, and those two were chosen for being alike."""
TAU2_OWN_CELLS = 5.0
"""Cells that the τ² of all categories is worth in that of one."""
MAX_LEVERAGE = 0.95
N_PASSES = 3
"""Alternations between skills, noise and τ²; later ones move the means by under .001."""
SHARPNESS = 5.0
SKILL_SHARPNESS = 2.0
"""η: by how much the variance of draws is less than the posterior's, in a cell's own deviation,
and at most in what a group's skill is. Exact Thompson sampling (1) explores more than a few
thousand calls pay back. But whose first labels were unlucky would never be drawn again: so skill
is drawn as wide as it is uncertain where little is known of it, and settles as it becomes known.
"""


@dataclass(frozen=True, eq=False)
class Quality:
    """Posterior of θ for all categories and groups; a value, never changed."""

    base: NDArray[np.float64]  # (n_categories,)
    base_cov: NDArray[np.float64]  # (n_categories, n_categories)
    skill: NDArray[np.float64]  # (n_groups,)
    skill_var: NDArray[np.float64]  # (n_groups,) where the bases are given
    skill_per_base: NDArray[np.float64]  # (n_categories, n_groups) by how much skill falls
    tau2: NDArray[np.float64]  # (n_categories,)
    precision: NDArray[np.float64]  # (n_categories, n_groups) of the cell's own labels, n / s²
    pull: NDArray[np.float64]  # (n_categories, n_groups) Σr / s²
    noise: NDArray[np.float64]  # (n_categories, n_groups) s², variance of a single reward

    @cached_property
    def _total(self) -> NDArray[np.float64]:
        return 1 / self.tau2[:, None] + self.precision

    @cached_property
    def _inherited(self) -> NDArray[np.float64]:
        """(n_categories, n_groups) weight of what the levels above say, in [0, 1]."""
        return 1 / self.tau2[:, None] / self._total

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Posterior means, (n_categories, n_groups); may leave [0, 1] where data are few."""
        prior = self.base[:, None] + self.skill
        return (prior / self.tau2[:, None] + self.pull) / self._total

    @cached_property
    def sd(self) -> NDArray[np.float64]:
        """Posterior standard deviations, (n_categories, n_groups)."""
        # A base that is higher than thought makes the skills lower: the two errors offset.
        with_skill = self.base_cov @ self.skill_per_base
        of_skill = (self.skill_per_base * with_skill).sum(axis=0)
        shared = np.diag(self.base_cov)[:, None] - 2 * with_skill + of_skill
        return np.sqrt(self._own_var + self._inherited**2 * shared)

    @cached_property
    def _own_var(self) -> NDArray[np.float64]:
        """(n_categories, n_groups) variance that no other group shares, where bases are given."""
        return 1 / self._total + self._inherited**2 * self.skill_var

    @cached_property
    def _skill_sharpness(self) -> NDArray[np.float64]:
        """(n_groups,) η of skill: its prior variance ÷ what labels have left of it."""
        left = 1 - self.skill_per_base.sum(axis=0)
        return 1 / np.maximum(left, 1 / SKILL_SHARPNESS)

    def difference(
        self, category: int, reference: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and sd of θ[g] − θ[reference], each (n_groups,); what both share cancels."""
        own = self._own_var[category]
        by_base = -self.skill_per_base  # of θ[category], to each base
        by_base[category] += 1
        by_base *= self._inherited[category]
        by_base -= by_base[:, [reference]]
        shared = (by_base * (self.base_cov @ by_base)).sum(axis=0)
        mean = self.mean[category]
        sd = np.sqrt(own + own[reference] + shared)
        sd[reference] = 0.0
        return mean - mean[reference], sd

    def draw(
        self,
        category: int,
        normals: tuple[NDArray[np.float64], NDArray[np.float64]],
        *,
        sharpness: float | None = None,
    ) -> NDArray[np.float64]:
        """Return (n_draws, n_groups) joint draws of θ, unclipped.

        What all groups share, the base, is not drawn: it changes no ranking.

        Args:
            normals: two tables (n_draws, n_groups) of standard normals.
            sharpness: η; the draws come from a posterior with its variance divided by it.
                1 is exact Thompson sampling, more explores less; None is the default, by which
                a cell's deviation is drawn less and less as its own labels take over.

        Ref: Chapelle and Li (2011), "An empirical evaluation of Thompson sampling", §3.1.
        """
        inherited, own_var = self._inherited[category], 1 / self._total[category]
        if sharpness is None:
            own_var = own_var * inherited / SHARPNESS
            skill_var = self.skill_var / self._skill_sharpness
        else:
            own_var, skill_var = own_var / sharpness, self.skill_var / sharpness
        by_skill = inherited * np.sqrt(skill_var)
        return np.asarray(
            self.mean[category] + by_skill * normals[0] + np.sqrt(own_var) * normals[1]
        )


def fit(
    n: NDArray[np.float64],
    r: NDArray[np.float64],
    r2: NDArray[np.float64],
    *,
    family: NDArray[np.intp],
) -> Quality:
    """Return the posterior given each cell's decayed labels.

    Args:
        n, r, r2: (n_categories, n_groups) number of labels, Σ reward, Σ reward².
        family: (n_groups,) index of the model that a group belongs to.
    """
    labelled = n > 0
    count = np.maximum(n, 1e-9)
    seen = np.where(labelled, r / count, 0.0)
    level, measured = _noise(n, r, r2)
    noise = np.broadcast_to(measured[:, None], n.shape)
    siblings = np.bincount(family)[family] > 1
    skill_var0, tau2 = SKILL_SD**2, np.full(len(n), TAU2)
    family_mean = np.zeros(n.shape[1])
    for left in reversed(range(N_PASSES)):
        prior_var = np.where(siblings, SETTING_SD**2, skill_var0)
        weight = np.where(labelled, 1 / (tau2[:, None] + noise / count), 0.0)
        precision = weight.sum(axis=0) + 1 / prior_var
        base, base_cov = _bases(weight, seen, precision, family_mean / prior_var)
        residual = (weight * (seen - base[:, None])).sum(axis=0)
        skill = (residual + family_mean / prior_var) / precision
        skill_var = 1 / precision
        if left:  # there is a next pass
            skill_var0 = _skill_variance(skill[~siblings], skill_var[~siblings], skill_var0)
        if left and siblings.any():
            family_mean = _family_means(precision - 1 / prior_var, residual, family, siblings)
        prior = base[:, None] + skill
        tau2 = _tau2(n, seen - prior, noise, weight * skill_var)
        fitted = prior / tau2[:, None] + r / noise
        noise = _own_noise(fitted / (1 / tau2[:, None] + n / noise), level, measured)
    return Quality(
        base=base,
        base_cov=base_cov,
        skill=skill,
        skill_var=skill_var,
        skill_per_base=weight / precision,
        tau2=tau2,
        precision=n / noise,
        pull=r / noise,
        noise=noise,
    )


def _noise(
    n: NDArray[np.float64], r: NDArray[np.float64], r2: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (n_categories,) mean reward, and pooled variance of single rewards within cells."""
    total = n.sum(axis=1)
    level = (r.sum(axis=1) + 0.5) / (total + 1)
    within = np.maximum(r2 - r * r / np.maximum(n, 1e-9), 0).sum(axis=1)
    freedom = np.maximum(n - 1, 0).sum(axis=1)
    pooled = (within + NOISE_PSEUDO_N * level * (1 - level)) / (freedom + NOISE_PSEUDO_N)
    return level, np.maximum(pooled, NOISE_FLOOR)


def _own_noise(
    mean: NDArray[np.float64], level: NDArray[np.float64], measured: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (n_categories, n_groups) noise: half as measured, half by the cell's own mean."""
    inside = np.minimum(np.maximum(mean, MEAN_RANGE[0]), MEAN_RANGE[1])
    of_coin = np.minimum(1, measured / np.maximum(level * (1 - level), 0.01))
    own = inside * (1 - inside) * of_coin[:, None]
    return np.maximum(
        (1 - OWN_NOISE_SHARE) * measured[:, None] + OWN_NOISE_SHARE * own, NOISE_FLOOR
    )


def _bases(
    weight: NDArray[np.float64],
    seen: NDArray[np.float64],
    precision: NDArray[np.float64],
    prior_pull: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return bases and their covariance, with all skills integrated out.

    Args:
        precision: (n_groups,) of skills, where the bases are given.
        prior_pull: (n_groups,) their prior means, by their prior precisions.
    """
    n_categories = len(weight)
    pulled = (weight * seen).sum(axis=0) + prior_pull
    system = _prior_of_bases(n_categories) - (weight / precision) @ weight.T
    system.reshape(-1)[:: n_categories + 1] += weight.sum(axis=1)
    right = (weight * (seen - pulled / precision)).sum(axis=1)
    cov = np.asarray(np.linalg.inv(system), dtype=np.float64)
    return cov @ (right + COMMON_MEAN * COMMON_PRECISION / n_categories), cov


@lru_cache(maxsize=64)
def _prior_of_bases(n_categories: int) -> NDArray[np.float64]:
    """Return the prior's precision: categories scatter around a common mean, and that around .5."""
    one, share = np.eye(n_categories), np.full((n_categories, n_categories), 1 / n_categories)
    out = (one - share) / BASE_SD**2 + share * (COMMON_PRECISION / n_categories)
    out.flags.writeable = False
    return np.asarray(out)


def _skill_variance(
    skill: NDArray[np.float64], skill_var: NDArray[np.float64], prior_var: float
) -> float:
    """Return how far skills differ, as far as the groups seen tell."""
    known = float((1 - skill_var / prior_var).sum())
    total = float((skill**2).sum()) + SKILL_SD_WEIGHT * SKILL_SD**2
    low, high = SKILL_SD_RANGE
    return min(max(total / (known + SKILL_SD_WEIGHT), low**2), high**2)


def _family_means(
    mass: NDArray[np.float64],
    residual: NDArray[np.float64],
    family: NDArray[np.intp],
    siblings: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return for each group the mean skill of its model; 0 where it is the only setting."""
    own = np.divide(residual, mass, out=np.zeros_like(residual), where=mass > 0)
    trust = np.where(mass > 0, 1 / (SETTING_SD**2 + 1 / np.maximum(mass, 1e-9)), 0.0)
    pooled = np.bincount(family, trust * own) / (np.bincount(family, trust) + 1 / SKILL_SD**2)
    return np.where(siblings, pooled[family], 0.0)


def _tau2(
    n: NDArray[np.float64],
    residual: NDArray[np.float64],
    noise: NDArray[np.float64],
    leverage: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return (n_categories,) variance of cells around the levels above, by moments.

    A residual is too small by its leverage, the share of it that the cell's own skill took up.
    A cell counts by what it can tell of τ²: one at most, however many labels it has.
    """
    labelled = n > 0
    free = 1 - np.minimum(leverage, MAX_LEVERAGE)  # a share is never below 0
    error = np.divide(noise, n, out=np.zeros_like(n), where=labelled)
    weight = np.where(labelled, free * (TAU2 / (TAU2 + error)) ** 2, 0.0)
    mass, found = weight.sum(axis=1), (weight * (residual**2 / free - error)).sum(axis=1)
    low, high = TAU2_RANGE
    pooled = found.sum() + TAU2_POOLED_CELLS * TAU2
    pooled = np.minimum(np.maximum(pooled / (mass.sum() + TAU2_POOLED_CELLS), low), high)
    own = (found + TAU2_OWN_CELLS * pooled) / (mass + TAU2_OWN_CELLS)
    return np.minimum(np.maximum(own, low), high)
