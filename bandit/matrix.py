"""Posteriors as rows for people: one per category and endpoint."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.cells import damaged as damaged_sums
from bandit.derived import checked, usable
from bandit.draws import LEARNING, tabulate
from bandit.evidence import Evidence
from bandit.families import Family, Q, S, U
from bandit.hosts import HostDifferences, beside_group
from bandit.posterior import Posterior
from bandit.utility import Objective

GIVEN = [S.JUDGE, S.EDIT, S.HUMAN, S.TEST]
"""Labels that somebody gave; the others were read off calls."""
Z90 = 1.6449
"""Half-width in sd of a central 90 % interval of a normal."""


@dataclass(frozen=True, slots=True)
class ReportRow:
    """What is known of one endpoint in one category; None where nothing is."""

    category: str
    endpoint: str
    calls: int  # of traffic: those of a profile or a check are none
    labels: int
    quality: float | None  # posterior mean, in [0, 1]
    quality_low: float | None  # central 90 % interval
    quality_high: float | None
    p_best: float | None
    ok_rate: float | None  # answered ÷ calls, over all that is kept
    usable: float | None  # share of answers that could be used, where any were read
    reliability: float  # posterior mean of the share of calls with a usable answer, as of now
    latency_p50_s: float | None  # predictive
    latency_p95_s: float | None
    cost_usd: float | None  # a call, as observed
    cost_per_success_usd: float | None  # of whole chains: with what came after the calls
    share: float | None  # of the category's calls
    signals: dict[str, int]  # what the labels are, by the name of the signal: decisions
    app: str | None = None  # whose labels alone these are; None: of all that share theirs
    borrowed: int = 0  # labels of others that count here as a prior, beside the app's own
    apps: dict[str, int] = field(default_factory=dict)  # who taught: labels ever given, by app
    rewards: dict[str, float] = field(default_factory=dict)  # mean reward of those, by app
    unnamed: int = 0  # labels of apps that are gone, or from before it was counted who taught
    profiled: int = 0  # labels of a profile, of those that count
    profile_calls: int = 0  # of a profile or a check, beside `calls`
    damaged: bool = False  # some sums are none that records have: those count as unknown
    calls_after: float = 0.0  # expected: further attempts of a call, and repeats by its app
    chain_cost_usd: float | None = None  # a call's, with theirs
    chain_time_s: float | None = None  # mean seconds from a call's begin to the end of its chain
    time_per_success_s: float | None = None
    labels_given: int = 0  # ever, each once: while `labels` are those that still count, with what
    # was read off calls as far as it is worth labels, and so may fall

    @property
    def is_inferred(self) -> bool:
        """Whether it has no data of its own here: what is said of it follows from others'."""
        return self.calls == 0 and self.labels_given == 0 and self.profiled == 0

    @property
    def is_of_traffic(self) -> bool:
        """Whether traffic had any part in it: calls, or labels that are not a profile's."""
        return self.calls > 0 or self.labels > self.profiled


@dataclass(frozen=True, slots=True)
class Teacher:
    """What an app taught, by cell: (n_categories, n_arms) labels, and the sums of their rewards."""

    app: str
    labels: NDArray[np.float64]
    reward: NDArray[np.float64]


def rows(
    evidence: Evidence,
    posterior: Posterior,
    signals: NDArray[np.float64],
    hosts: HostDifferences,
    *,
    categories: list[str],
    endpoints: list[str],
    objective: Objective,
    teachers: Sequence[Teacher] = (),
    app: str | None = None,
    borrowed: NDArray[np.float64] | None = None,
    profiled: NDArray[np.float64] | None = None,
    profile_calls: NDArray[np.float64] | None = None,
    only: Collection[int] | None = None,
    with_best: bool = True,
) -> list[ReportRow]:
    """Return a row for every endpoint of every category with traffic or labels, or with damage.

    Calls of a profile that nobody labelled make no row. Of an endpoint without traffic or labels
    nothing is shown that only such calls measured.

    Args:
        signals: (n_categories, n_arms, N_COLUMNS) plain sums of SIGNALS.
        hosts: how hosts of one group differ; a row's quality is that of its own host.
        teachers: whose labels these are, as far as that is known.
        app: whose labels alone these are; None: of all that share theirs.
        borrowed: (n_categories, n_arms) observations in the posterior that others lent; None: none.
        profiled: (n_categories, n_arms) labels that are a profile's; None: none.
        profile_calls: (n_categories, n_arms) calls of it that the evidence has; None: none.
        only: these categories; None: all.
        with_best: work out P(best), for which all endpoints are drawn together.
    """
    nothing = np.zeros_like(posterior.labels)
    borrowed = nothing if borrowed is None else borrowed
    profiled = nothing if profiled is None else profiled
    profile_calls = nothing if profile_calls is None else profile_calls
    bad = damaged_sums(evidence.quality, Family.QUALITY)
    given = np.where(bad, 0.0, evidence.quality[..., Q.LABELS])
    mean, low, high = _by_host(posterior, hosts)
    p50, p95 = posterior.latency.quantile(0.5), posterior.latency.quantile(0.95)
    out = []
    for c, category in enumerate(categories):
        traffic = np.maximum(posterior.calls[c] - profile_calls[c], 0)
        damaged, told = posterior.damaged[c], (traffic > 0) | (posterior.labels[c] > 0)
        if (only is not None and c not in only) or (not told.any() and not damaged.any()):
            continue
        best = _p_best(posterior, c, objective) if with_best else None
        for e, endpoint in enumerate(endpoints):
            group = posterior.arms.group[e]
            labelled = posterior.judged[c].any()
            quality = float(mean[c, e]) if labelled else None
            cost = _observed_cost(posterior.evidence, c, e) if told[e] else None
            timed = posterior.timed[c, e] > 0 and told[e]
            row = ReportRow(
                category=category,
                endpoint=endpoint,
                calls=int(traffic[e]),
                labels=int(round(posterior.labels[c, e], 6)),
                quality=quality,
                quality_low=float(low[c, e]) if labelled else None,
                quality_high=float(high[c, e]) if labelled else None,
                p_best=float(best[group]) if labelled and best is not None else None,
                ok_rate=_ok_rate(posterior.evidence, c, e) if told[e] else None,
                usable=_usable(posterior, c, e),
                reliability=float(posterior.reliability.mean[c, e]),
                latency_p50_s=float(p50[c, e]) if timed else None,
                latency_p95_s=float(p95[c, e]) if timed else None,
                cost_usd=cost,
                cost_per_success_usd=None,
                share=float(traffic[e] / traffic.sum()) if traffic.any() else None,
                signals={s.name.lower(): int(signals[c, e, s]) for s in S if signals[c, e, s]},
                app=app,
                borrowed=round(borrowed[c, e]),
                profiled=round(profiled[c, e]),
                profile_calls=round(profile_calls[c, e]),
                damaged=bool(damaged[e]),
                labels_given=int(signals[c, e, GIVEN].sum()),
                **_taught(teachers, c, e, of=given[c, e]),
            )
            out.append(_with_chain(row, posterior, c, e))
    return out


def _with_chain(row: ReportRow, posterior: Posterior, category: int, arm: int) -> ReportRow:
    """Return a row with what is expected of chains that begin at its endpoint."""
    chains, usd, seconds = posterior.chains, row.cost_usd, None
    if usd is not None:
        usd += float(chains.usd[category, arm])
    if row.latency_p50_s is not None:
        seconds = float(posterior.seconds[category, arm])
    won = row.quality or None
    return replace(
        row,
        calls_after=float(chains.per_call[category, arm]),
        chain_cost_usd=usd,
        chain_time_s=seconds,
        cost_per_success_usd=usd / won if usd is not None and won else None,
        time_per_success_s=seconds / won if seconds is not None and won else None,
    )


def _taught(teachers: Sequence[Teacher], category: int, arm: int, *, of: float) -> dict[str, Any]:
    """Return the fields of a row that say who gave its labels, `of` which there are so many."""
    found = [(t.app, t.labels[category, arm], t.reward[category, arm]) for t in teachers]
    named = {app: int(n) for app, n, _ in found if n}
    return {
        "apps": named,
        "rewards": {app: float(total / n) for app, n, total in found if n},
        "unnamed": max(round(float(of)) - sum(named.values()), 0),
    }


def _by_host(posterior: Posterior, hosts: HostDifferences) -> tuple[NDArray[np.float64], ...]:
    """Return mean and central 90 % interval of each host's quality, (n_categories, n_arms)."""
    group = posterior.arms.group
    apart, sd_apart = beside_group(hosts, posterior.evidence.quality[..., Q.N], group)
    mean = posterior.quality.mean[:, group] + apart
    sd = np.hypot(posterior.quality.sd[:, group], sd_apart)
    return tuple(np.clip(x, 0, 1) for x in (mean, mean - Z90 * sd, mean + Z90 * sd))


def _p_best(posterior: Posterior, category: int, objective: Objective) -> NDArray[np.float64]:
    """Return (n_groups,) P(no other group is better) under the strategy's own objective."""
    bank = posterior.bank(category, sharpness=1.0)
    everybody = np.ones(len(posterior.arms.group), dtype=bool)
    return tabulate(bank, objective=objective, law=LEARNING, eligible=everybody).shares


def _ok_rate(evidence: Evidence, category: int, arm: int) -> float | None:
    calls = evidence.usage[category, arm, U.CALLS]
    return float(1 - evidence.usage[category, arm, U.FAILED] / calls) if calls else None


def _usable(posterior: Posterior, category: int, arm: int) -> float | None:
    derived = posterior.read[category, None]
    if not checked(derived)[0][0, arm]:
        return None
    valid, invalid = usable(derived)
    return float(valid[0, arm] / (valid[0, arm] + invalid[0, arm]))


def _observed_cost(evidence: Evidence, category: int, arm: int) -> float | None:
    priced = evidence.usage[category, arm, U.PRICED]
    return float(evidence.usage[category, arm, U.COST_NANO] / priced / 1e9) if priced else None
