"""Simulated calls as the records that a sidecar would write of them, many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.beliefs.beliefs import Beliefs
from scripts.benches.truth_setting import N_TASKS
from telemetry.digests import digest8
from telemetry.events import Flag, Kind, Result
from telemetry.layouts import RECORD
from telemetry.tokens import TOKEN_VERSION

RELEASE_KEYS = np.array([digest8("simulated", str(c)) for c in range(N_TASKS)], dtype=np.uint64)
TOKENS_IN, TOKENS_OUT = 40, (20, 40)
LN_LATENCY_US, LN_LATENCY_SD = 13.0, 0.5
"""A median of .44 s: alike at all endpoints, since nothing here depends on it."""


def outcomes(
    beliefs: Beliefs,
    task: NDArray[np.intp],
    *,
    drawn: NDArray[np.intp],
    executed: NDArray[np.intp],
    propensity: NDArray[np.float64],
    at_ms: NDArray[np.int64],
) -> NDArray[np.void]:
    """Return the outcomes of calls, (n_calls,) of RECORD, with what was believed in their tokens.

    Args:
        beliefs: those that all of them started with; each group has one host.
        task, drawn, executed: (n_calls,) positions in configuration and catalog.
        at_ms: (n_calls,) when they were decided.
    """
    digests = beliefs.configuration.catalog.digests
    out = np.zeros(len(task), dtype=RECORD)
    out["kind"], out["result"], out["status"] = Kind.OUTCOME, Result.OK, 200
    out["flags"] = Flag.USAGE_KNOWN | Flag.ROUTED | Flag.FINAL
    token = out["token"]
    token["token_version"] = TOKEN_VERSION
    token["token_flags"] = Flag.ROUTED
    token["decided_at_ms"] = at_ms
    token["category"] = np.array(beliefs.configuration.task_digests, dtype=np.uint64)[task]
    token["drawn"], token["executed"] = digests[drawn], digests[executed]
    token["release_key"] = RELEASE_KEYS[task]
    token["propensity"] = propensity
    token["predicted"] = beliefs.quality_mean[task, executed]
    token["predicted_sd"] = beliefs.quality_sd[task, executed]
    token["spread"] = beliefs.quality_spread[task, executed]
    token["regime"] = np.array([known.regimes.now for known in beliefs.known])[executed]
    return out


def draw_figures(records: NDArray[np.void], rng: np.random.Generator) -> None:
    """Draw what answers used and how long they took."""
    records["tokens_in"] = TOKENS_IN
    records["tokens_out"] = rng.integers(*TOKENS_OUT, len(records))
    records["latency_us"] = rng.lognormal(LN_LATENCY_US, LN_LATENCY_SD, len(records)).astype(int)
