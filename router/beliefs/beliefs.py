"""What the sidecar believes right now: configuration and posteriors as one immutable value.

A request keeps the value that it started with. A thread builds the next one when the store has
news; banks are drawn on first use, and ahead of time for categories that were in use before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from bandit import cells, regimes, watcher
from bandit.draws import LEARNING, Law, Table, tabulate
from bandit.posterior import Bank, Posterior, infer
from bandit.utility import Objective
from router.beliefs import alarms, choices, splits
from router.beliefs.alarms import EndpointWatch
from router.beliefs.choices import Choices, Kept, ReviewKey
from router.config.compiled import Configuration

MAX_TABLES = 4096
"""Distinct (category, strategy, law, eligible set) remembered; a bound, not a tuning."""


@dataclass(slots=True, eq=False)
class Beliefs:
    """Configuration and posteriors of one version. Only its memory of tables ever grows."""

    configuration: Configuration
    evidence: cells.Evidence
    posterior: Posterior
    version: int
    quality_mean: NDArray[np.float64]  # (n_tasks, n_groups)
    quality_sd: NDArray[np.float64]
    quality_spread: NDArray[np.float64]  # (n_tasks, n_groups) sd of a single reward
    latency_q99_s: NDArray[np.float64]  # (n_tasks, n_arms)
    ttft_q99_s: NDArray[np.float64]
    signals: NDArray[np.float64]  # (n_tasks, n_arms, N_COLUMNS) what labels were read off
    known: tuple[EndpointWatch, ...]  # by arm: whether it changed, and since when
    learning: Law  # of learning mode
    built_at: float  # monotonic seconds
    choices: Mapping[ReviewKey, Choices] = field(default_factory=dict)
    banks: dict[tuple[int, bool], Bank] = field(default_factory=dict)
    _tables: dict[tuple[int, Objective, Law, bytes], Table] = field(default_factory=dict)

    def bank(self, category: int, *, exact: bool = False) -> Bank:
        """Return the category's bank: the same for everybody who has this version.

        Args:
            exact: draws that are not sharpened. Among the two or three candidates of a guarded
                law each is tried as often as it may be the best.
        """
        found = self.banks.get((category, exact))
        if found is None:
            sharpness = 1.0 if exact else None
            found = self.posterior.bank(category, sharpness=sharpness)
            self.banks[category, exact] = found
        return found

    def table(
        self, category: int, objective: Objective, law: Law, eligible: NDArray[np.bool_]
    ) -> Table:
        """Return what a draw needs; counted once for each eligible set."""
        key = (category, objective, law, eligible.tobytes())
        found = self._tables.get(key)
        if found is None:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            found = self._tables[key] = tabulate(
                self.bank(category, exact=not law.is_learning),
                objective=objective,
                law=law,
                eligible=eligible,
            )
        return found


def believe(
    configuration: Configuration,
    rows: cells.Terms,
    *,
    version: int,
    review_keys: Iterable[ReviewKey] = (),
    kept: Mapping[ReviewKey, Kept] = MappingProxyType({}),
    watches: Mapping[int, EndpointWatch] = MappingProxyType({}),
    now_ms: int | None = None,
) -> Beliefs:
    """Return the beliefs that the rows support as of now, with the choices of these review keys.

    Their configuration is the one given, but for hosts that were split off from their groups.

    Args:
        watches: what is known of endpoints that were watched, by digest.
        now_ms: when now is, in epoch milliseconds; None: as the clock says.
    """
    split = {digest: one.split for digest, one in watches.items() if one.split is not None}
    configuration = splits.with_splits(configuration, split)
    known = alarms.by_arm(configuration.catalog, watches)
    as_of_ms = int(time.time() * 1000) if now_ms is None else now_ms
    evidence = _evidence(configuration, rows, known, as_of_ms)
    posterior = infer(evidence, configuration.catalog.arms)
    signals = cells.read_plain(
        rows,
        cells.Family.SIGNALS,
        names=np.array(configuration.task_digests, dtype=np.uint64),
        endpoints=configuration.catalog.digests,
    )
    return Beliefs(
        configuration=configuration,
        evidence=evidence,
        posterior=posterior,
        version=version,
        quality_mean=posterior.quality.mean,
        quality_sd=posterior.quality.sd,
        quality_spread=np.sqrt(posterior.quality.noise + posterior.quality.sd**2),
        latency_q99_s=posterior.latency.quantile(0.99),
        ttft_q99_s=posterior.ttft.quantile(0.99),
        signals=np.nan_to_num(signals),
        known=known,
        learning=_learning(configuration, known),
        built_at=time.monotonic(),
        choices=choices.weigh_all(
            review_keys, kept, posterior, rows, configuration, now_ms=int(time.time() * 1000)
        ),
    )


def _evidence(
    configuration: Configuration, rows: cells.Terms, known: tuple[EndpointWatch, ...], now_ms: int
) -> cells.Evidence:
    tasks = np.array(configuration.task_digests, dtype=np.uint64)
    endpoints = configuration.catalog.digests
    found = cells.read(rows, categories=tasks, endpoints=endpoints, now_ms=now_ms)
    if not any(one.regimes.now for one in known):
        return found
    quality, derived = (
        cells.read_by_regime(rows, family, categories=tasks, endpoints=endpoints, now_ms=now_ms)
        for family in (cells.Family.QUALITY, cells.Family.DERIVED)
    )
    counting = [one.regimes for one in known]
    return replace(
        found,
        quality=regimes.count_quality(quality, counting),
        derived=regimes.count_derived(derived, counting),
    )


def _learning(configuration: Configuration, known: tuple[EndpointWatch, ...]) -> Law:
    """Return the law of learning mode: now and then it probes whoever fell, for a recovery."""
    arm, share = watcher.probe([one.watch for one in known])
    if arm is None:
        return LEARNING
    return replace(LEARNING, floor=share, declared=(configuration.catalog.endpoints[arm].group,))
