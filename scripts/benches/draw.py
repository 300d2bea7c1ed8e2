"""How long one decision takes: masks, chance constraints, draw and exact propensity.

The posterior is given, as a sidecar has it between two folds; which endpoints are eligible and
what latency is asked for change from call to call, so nothing can be remembered but the bank.
"""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np

from bandit.draws import Law, Uniforms, draw, tabulate
from bandit.evidence import Evidence
from bandit.families import L, Q, R, U
from bandit.limits import Limits, within
from bandit.posterior import Arms, Posterior, infer
from bandit.utility import Objective

WARM_UP, ROUNDS = 500, 20_000
KEPT_SHARE = 0.8
"""Of the endpoints that pass the masks of a call, on average."""
OBJECTIVE = Objective(value_usd=0.05, latency_usd_per_s=0.0005)
LAW = Law(incumbent=0, current=None, challengers=None, holdout=0.03, floor=0.02)


def run_bench(n_arms: int) -> dict[str, Any]:
    """Return p50 and p99 of one decision in microseconds."""
    rng = np.random.default_rng(0)
    bank = _posterior(n_arms, rng).bank(0)
    masks = rng.random((ROUNDS, n_arms)) < KEPT_SHARE
    masks[:, 0] = True
    limits = [Limits(latency_s=float(s)) for s in rng.uniform(2, 20, ROUNDS)]
    numbers = [Uniforms(*row) for row in rng.random((ROUNDS, 7)).tolist()]
    took = np.empty(ROUNDS)
    gc.collect()
    for i in range(-WARM_UP, ROUNDS):
        began = time.perf_counter_ns()
        eligible, _ = within(bank.posterior, 0, limits[i], masks[i])
        table = tabulate(bank, objective=OBJECTIVE, law=LAW, eligible=eligible)
        draw(LAW, table, numbers[i])
        took[max(i, 0)] = time.perf_counter_ns() - began
    p50, p99 = np.percentile(took, [50, 99]) / 1000
    return {"arms": n_arms, "p50_us": float(p50), "p99_us": float(p99)}


def _posterior(n_arms: int, rng: np.random.Generator) -> Posterior:
    """Return posteriors of three categories with a few dozen calls of every endpoint."""
    evidence = Evidence.empty(3, n_arms)
    n = rng.integers(5, 60, (3, n_arms)).astype(float)
    wins = rng.binomial(n.astype(int), 0.8).astype(float)
    evidence.quality[..., [Q.LABELS, Q.N, Q.R, Q.R2]] = np.stack([n, n, wins, wins], axis=-1)
    tokens = n * rng.uniform(50, 400, (3, n_arms))
    columns = [U.CALLS, U.N, U.TOKENS_IN, U.TOKENS_OUT]
    evidence.usage[..., columns] = np.stack([n, n, 2 * tokens, tokens], axis=-1)
    ln = rng.normal(0.3, 0.5, (3, n_arms))
    evidence.latency[..., [L.N, L.LN, L.LN2]] = np.stack([n, n * ln, n * (ln**2 + 0.1)], axis=-1)
    evidence.reliability[..., R.OK] = n
    evidence.reliability[:, ::5, R.SERVER] = 1
    usd = rng.uniform(0.1, 10, n_arms)
    return infer(evidence, Arms(np.arange(n_arms), np.arange(n_arms), usd, 4 * usd))
