"""The posteriors together, and the bank of joint draws that decisions are made on.

Everything here is computed when it is first asked for: a strategy that has no use for latency
pays nothing for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from bandit import chains, derived, latency, levels, quality, reliability
from bandit.call_costs import CallCosts
from bandit.cells import damaged as damaged_sums
from bandit.chains import Chains
from bandit.derived import Calibration
from bandit.evidence import Evidence
from bandit.families import FADING, Family, L, Q, R, U
from bandit.latency import Latency
from bandit.levels import TwoLevels
from bandit.quality import Quality
from bandit.reliability import Reliability
from bandit.special import ndtri

N_DRAWS = 256
"""Rows of a bank: propensities come in steps of .004, and a draw at ten endpoints takes 25 µs."""


@dataclass(frozen=True, slots=True)
class Arms:
    """What the statistics need to know of the endpoints, in one fixed order."""

    group: NDArray[np.intp]  # (n_arms,) equivalents share a number, counted from 0
    family: NDArray[np.intp]  # (n_groups,) groups of one model share a number
    input_usd_per_mtok: NDArray[np.float64]  # (n_arms,) NaN where no price is known
    output_usd_per_mtok: NDArray[np.float64]  # (n_arms,)
    compared: NDArray[np.bool_] | None = None  # (n_arms,) may be split off by labels; None: all
    machine_usd_per_s: NDArray[np.float64] | None = None  # (n_arms,) 0 where tokens are paid for

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return len(self.family)

    def by_group(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (n_categories, n_groups): (n_categories, n_arms) summed over hosts."""
        out = np.zeros((len(values), self.n_groups))
        np.add.at(out.T, self.group, values.T)
        return out


@lru_cache(maxsize=64)
def normals(n_columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two tables (N_DRAWS, n_columns) of standard normals, the same every time.

    Banks of all categories and versions share them. Each column holds the N_DRAWS midpoint
    quantiles in an order of its own: so every margin is exact to the step, and a bank depends on
    the evidence alone. The luck of a draw lies in which row it takes.
    """
    rng = np.random.default_rng(n_columns)
    quantiles = ndtri((np.arange(N_DRAWS) + 0.5) / N_DRAWS)
    tables = [
        rng.permuted(np.repeat(quantiles[:, None], n_columns, axis=1), axis=0) for _ in range(2)
    ]
    return tables[0], tables[1]


@dataclass(frozen=True, eq=False)
class Bank:
    """Joint posterior draws of one category; row d is one possible world."""

    posterior: Posterior
    category: int
    sharpness: float | None = None
    memory: dict[object, NDArray[np.float64]] = field(default_factory=dict)
    rankings: dict[object, list[int]] = field(default_factory=dict)

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """(n_draws, n_arms); hosts of a group share their column."""
        arms = self.posterior.arms
        drawn = self.posterior.quality.draw(
            self.category, normals(arms.n_groups), sharpness=self.sharpness
        )
        return drawn[:, arms.group] if arms.n_groups < len(arms.group) else drawn

    @cached_property
    def ok(self) -> NDArray[np.float64]:
        """(n_draws, n_arms) shares of calls that are answered."""
        return self.posterior.reliability.draw(self.category, n_draws=N_DRAWS)

    @cached_property
    def latency_s(self) -> NDArray[np.float64]:
        """(n_draws, n_arms) expected seconds from a call's begin to the end of its chain."""
        of_answer = self.posterior.latency.draw(self.category, n_draws=N_DRAWS)
        return of_answer + self.posterior.chains.seconds[self.category] * self._luck

    @property
    def cost_usd(self) -> NDArray[np.float64]:
        """(n_arms,) expected, of a chain; prices are known, tokens learned fast."""
        return self.posterior.cost_usd[self.category]

    @cached_property
    def drawn_usd(self) -> NDArray[np.float64]:
        """(n_draws or 1, n_arms) the same with the draws of what comes after a call.

        It is the luck that `latency_s` has: who is asked again pays and waits for it.
        """
        own = self.posterior.call_usd[self.category]
        return np.atleast_2d(own + self.posterior.chains.usd[self.category] * self._luck)

    @cached_property
    def _luck(self) -> NDArray[np.float64] | float:
        """(n_draws, n_arms) of chains; 1 where no call of the category has had more than one."""
        rng, chained = np.random.default_rng([self.category, 4]), self.posterior.chains
        return chained.luck(self.category, rng, n_draws=N_DRAWS, sharpness=self._sharpness)

    @property
    def _sharpness(self) -> float:
        return quality.SHARPNESS if self.sharpness is None else self.sharpness

    @cached_property
    def spent_usd(self) -> NDArray[np.float64]:
        """(n_draws, n_arms) of the expected USD a chain, where it is to be tried who is cheaper."""
        rng = np.random.default_rng([self.category, 3])
        sd = self.posterior.call_ln_sd[self.category] / np.sqrt(self._sharpness)
        own = self.posterior.call_usd[self.category]
        drawn = own * np.exp(sd * rng.standard_normal((N_DRAWS, len(sd))))
        return np.asarray(drawn + self.posterior.chains.usd[self.category] * self._luck)


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """What tells leaves that have rows of their own from the categories that they are below."""

    within: NDArray[np.intp]  # (n_categories,) row of each one's category; its own at the top
    quality: NDArray[np.float64]  # QUALITY with each label in one row, as evidence has it otherwise


@dataclass(frozen=True, slots=True, eq=False)
class Marked:
    """Calls of a profile or a check, which usage counts as well, and which are no traffic."""

    calls: NDArray[np.float64]  # (n_categories, n_arms) plain count
    failures: NDArray[np.float64]  # of those; fewer where rows are of before they were counted


@dataclass(frozen=True, eq=False)
class Posterior:
    """All posteriors as of one moment; a value, never changed."""

    arms: Arms
    evidence: Evidence  # quality holds what calibrated derived labels are worth as well
    damaged: NDArray[
        np.bool_
    ]  # (n_categories, n_arms) cells that hold what no sum of records can: they count as unknown
    read: NDArray[np.float64]  # DERIVED of all answers that were read, whoever's labels count
    memory: dict[object, NDArray[np.float64]] = field(default_factory=dict)
    apart: Apart | None = None  # None: no category is below another
    marked: Marked | None = None  # None: all calls are traffic
    calibrated: Calibration | None = None  # `calibration`, where it is known; None: nobody asked

    def bank(self, category: int, *, sharpness: float | None = None) -> Bank:
        """Return the bank of one category; the same evidence gives the same bank.

        Args:
            sharpness: η of the quality draws; None is the default that decisions use.
        """
        return Bank(self, category, sharpness)

    @cached_property
    def quality(self) -> Quality | TwoLevels:
        """Over groups."""
        together, family = self._labels_of(self.evidence.quality), self.arms.family
        if self.apart is None:
            return quality.fit(*together, family=family)
        apart = self._labels_of(self.apart.quality)
        return levels.fit(together, apart, self.apart.within, family=family)

    def _labels_of(self, evidence: NDArray[np.float64]) -> levels.Columns:
        n, r, r2 = (self.arms.by_group(evidence[..., k]) for k in (Q.N, Q.R, Q.R2))
        return n, r, r2

    @property
    def is_top(self) -> NDArray[np.bool_]:
        """(n_categories,) rows that together hold everything once: all but those of leaves."""
        if self.apart is None:
            return np.ones(len(self.damaged), dtype=bool)
        return levels.tops(self.apart.within)

    @cached_property
    def latency(self) -> Latency:
        """Of whole answers, over arms like all that follow."""
        lat = self.evidence.latency
        return latency.fit(
            lat[..., L.N],
            lat[..., L.LN],
            lat[..., L.LN2],
            n_censored=lat[..., L.N_CENSORED],
            ln_censored=lat[..., L.LN_CENSORED],
        )

    @cached_property
    def ttft(self) -> Latency:
        """Of the time to the first content."""
        lat = self.evidence.latency
        return latency.fit(lat[..., L.N_TTFT], lat[..., L.LN_TTFT], lat[..., L.LN_TTFT2])

    @cached_property
    def reliability(self) -> Reliability:
        """Of the share of calls with a usable answer."""
        usable = derived.as_validity(self.read, self.calibration)
        return reliability.fit(self.ok_calls, self.failed_calls, usable)

    @cached_property
    def calibration(self) -> Calibration:
        """Of derived labels."""
        return self.calibrated or derived.calibrate(self.evidence.derived)

    @cached_property
    def _calls(self) -> CallCosts:
        """Costs of single calls."""
        arms = self.arms
        prices = arms.input_usd_per_mtok, arms.output_usd_per_mtok
        return CallCosts(self.evidence.usage, *prices, arms.machine_usd_per_s)

    @cached_property
    def chains(self) -> Chains:
        """What comes after a call: further attempts, and the same asked again."""
        return chains.fit(self.evidence.chains)

    @cached_property
    def cost_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) expected USD of a chain that begins there, by which it is chosen:
        of the call, and of what comes after it."""
        return self.call_usd + self.chains.usd

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) expected seconds of such a chain."""
        return self.latency.expected + self.chains.seconds

    @property
    def seconds_ln_variance(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) variance of ln(`seconds`)."""
        share = np.stack([self.latency.expected, self.chains.seconds]) / self.seconds
        of_chains = (share[1] * self.chains.ln_sd) ** 2
        return np.asarray(share[0] ** 2 * self.latency.ln_variance + of_chains)

    @cached_property
    def cost_ln_sd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) sd of ln(`cost_usd`)."""
        if not self.chains.usd.any():
            return self.call_ln_sd
        usd = np.stack([self.call_usd, self.chains.usd])
        share = np.divide(usd, self.cost_usd, out=np.zeros_like(usd), where=self.cost_usd > 0)
        return np.hypot(share[0] * self.call_ln_sd, share[1] * self.chains.ln_sd)

    @property
    def call_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) expected USD of a call at an endpoint, and of nothing else."""
        return self._calls.usd

    @property
    def call_ln_sd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) sd of ln(`call_usd`)."""
        return self._calls.ln_sd

    @property
    def cost_bound_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) USD that nine calls of ten stay below, each by itself."""
        return self._calls.bound_usd

    @property
    def dearest_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) USD that 99 calls of 100 stay below, each by itself."""
        return self._calls.q99_usd

    @property
    def cost_q95_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) USD that nineteen calls of twenty stay below, each by itself."""
        return self._calls.q95_usd

    @property
    def tokens_out(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) expected tokens of an answer."""
        return self._calls.tokens_out

    @property
    def tokens_q95(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) tokens in and out that nineteen calls of twenty stay below."""
        return self._calls.q95_tokens

    @property
    def labels(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) plain count of quality labels."""
        return self.evidence.quality[..., Q.LABELS]

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(n_categories, n_arms) where anything is known of quality, lent labels included."""
        return np.asarray(self.evidence.quality[..., Q.N] > 0)

    @property
    def calls(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) plain count of calls."""
        return self.evidence.usage[..., U.CALLS]

    @property
    def failures(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) plain count of calls that failed."""
        return self.evidence.usage[..., U.FAILED]

    @property
    def profile_calls(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) plain count of calls of a profile or a check."""
        return np.zeros_like(self.calls) if self.marked is None else self.marked.calls

    @property
    def traffic_calls(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) plain count of calls, without those of a profile or a check."""
        return np.maximum(self.calls - self.profile_calls, 0.0)

    @property
    def traffic_failures(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) plain count of those that failed; rather too many."""
        marked = 0.0 if self.marked is None else self.marked.failures
        failed = np.maximum(self.failures - marked, 0.0)
        return np.asarray(np.minimum(failed, self.traffic_calls))

    @property
    def ok_calls(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) decayed answers, for bounds."""
        return self.evidence.reliability[..., R.OK]

    @property
    def failed_calls(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) decayed failures."""
        return np.asarray(self.evidence.reliability[..., R.RATE_LIMIT :].sum(axis=-1))

    @property
    def timed(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) decayed calls with a latency."""
        return self.evidence.latency[..., L.N]


def infer(
    evidence: Evidence,
    arms: Arms,
    *,
    read: NDArray[np.float64] | None = None,
    apart: Apart | None = None,
    derived_apart: NDArray[np.float64] | None = None,
    marked: Marked | None = None,
) -> Posterior:
    """Return the posteriors that the evidence supports; a damaged cell counts as unknown.

    Args:
        read: (n_categories, n_arms, N_COLUMNS) DERIVED of all answers that were read, where the
            evidence has fewer: they tell how often an endpoint's can be used.
        apart: which categories are below others, whose labels are in both's evidence.
        derived_apart: DERIVED with each label in one row, to go with it.
        marked: which calls are no traffic; None: none.
    """
    families = [getattr(evidence, family.name.lower()) for family in FADING]
    bad = [damaged_sums(f, kind) for f, kind in zip(families, FADING, strict=True)]
    if read is None or read is evidence.derived:
        read, bad_read = evidence.derived, bad[FADING.index(Family.DERIVED)]
    else:
        bad_read = damaged_sums(read, Family.DERIVED)
    families, bad = [*families, read], [*bad, bad_read]
    damaged = np.logical_or.reduce(bad)
    if damaged.any():
        families = [np.where(b[..., None], 0.0, f) for f, b in zip(families, bad, strict=True)]
    *families, read = families
    sound = Evidence(*families)
    calibration = derived.calibrate(sound.derived)
    if calibration.worth.any():
        by_itself = derived.as_quality(sound.derived, calibration)
        sound = replace(sound, quality=sound.quality + by_itself)
    if apart is not None and derived_apart is not None:
        apart = replace(apart, quality=_sound_apart(apart.quality, derived_apart))
    return Posterior(arms, sound, damaged, read, apart=apart, marked=marked, calibrated=calibration)


def _sound_apart(given: NDArray[np.float64], by_itself: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return labels of each row with what was read off calls there; damaged cells are unknown."""
    bad = damaged_sums(given, Family.QUALITY) | damaged_sums(by_itself, Family.DERIVED)
    given, by_itself = (np.where(bad[..., None], 0.0, values) for values in (given, by_itself))
    return given + derived.as_quality(by_itself, derived.calibrate(by_itself))
