"""From records to what they add to the cells. Pure: no store, no clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.batch import Batch
from bandit.cells import B, Family, L, Q, R, Terms, U
from telemetry.events import Flag, Result

_COLUMN_OF = {
    Result.OK: R.OK,
    Result.RATE_LIMIT: R.RATE_LIMIT,
    Result.SERVER: R.SERVER,
    Result.TIMEOUT: R.TIMEOUT,
    Result.CONNECT: R.CONNECT,
    Result.CUT: R.CUT,
    Result.REFUSED: R.REFUSED,
    Result.BAD_REPLY: R.BAD_REPLY,
}
"""A client's own error and a client that left say nothing of the endpoint."""
MIN_LATENCY_S = 1e-5
"""Below the clock's use; keeps the logarithm finite."""


def outcome_terms(records: NDArray[np.void]) -> list[Terms]:
    """Return what outcomes add to usage, latency, reliability and books."""
    token, result = records["token"], records["result"]
    executed, decided_at_ms = token["executed"], token["decided_at_ms"]
    batch = Batch.of(token["category"], executed, decided_at_ms)
    releases = Batch.of(token["release_key"], executed, decided_at_ms)
    return [
        batch.terms(Family.USAGE, _usage(records)),
        batch.terms(Family.LATENCY, _latency(records)),
        batch.terms(Family.RELIABILITY, {c: result == r for r, c in _COLUMN_OF.items()}),
        releases.terms(Family.BOOKS, _books(records)),
    ]


Columns = dict[int, NDArray[Any]]


def _usage(records: NDArray[np.void]) -> Columns:
    flags, tokens_out = records["flags"], records["tokens_out"]
    known = (flags & Flag.USAGE_KNOWN) > 0
    spoke = known & (tokens_out > 0)
    ln = np.where(spoke, np.log(np.maximum(tokens_out, 1)), 0)
    priced = (flags & Flag.PRICED) > 0
    return {
        U.CALLS: np.ones(len(records)),
        U.FAILED: records["result"] >= Result.RATE_LIMIT,
        U.N: known,
        U.TOKENS_IN: np.where(known, records["tokens_in"], 0),
        U.TOKENS_OUT: np.where(known, tokens_out, 0),
        U.N_LOG: spoke,
        U.LN_OUT: ln,
        U.LN_OUT2: ln**2,
        U.COST_NANO: np.where(priced, records["cost_nano"], 0).astype(float),
        U.PRICED: priced,
    }


def _latency(records: NDArray[np.void]) -> Columns:
    """Return whole answers, times to first content, and time-outs, which are only bounds."""
    answered = records["result"] == Result.OK
    ran_out = records["result"] == Result.TIMEOUT
    ln = np.log(np.maximum(records["latency_us"] / 1e6, MIN_LATENCY_S))
    first = answered & ((records["flags"] & Flag.TTFT_KNOWN) > 0)
    ln_first = np.log(np.maximum(records["ttft_us"] / 1e6, MIN_LATENCY_S))
    return {
        L.N: answered,
        L.LN: np.where(answered, ln, 0),
        L.LN2: np.where(answered, ln**2, 0),
        L.N_TTFT: first,
        L.LN_TTFT: np.where(first, ln_first, 0),
        L.LN_TTFT2: np.where(first, ln_first**2, 0),
        L.N_CENSORED: ran_out,
        L.LN_CENSORED: np.where(ran_out, ln, 0),
    }


def _books(records: NDArray[np.void]) -> Columns:
    """Return the calls that count in verdicts, each once: by the answer that its client got."""
    routed = (records["token"]["token_flags"] & Flag.ROUTED) > 0
    return {B.CALLS: routed & ((records["flags"] & Flag.FINAL) > 0)}


def reward_terms(
    tokens: NDArray[np.void], old: NDArray[np.float64], new: NDArray[np.float64]
) -> list[Terms]:
    """Return new − old for each decision, in quality and, of routed decisions, in the books.

    Quality takes the weight of the decision's own time. Old and new are folded as two terms,
    each rounded on its own, so that taking a label back leaves exactly nothing.

    Args:
        tokens: (n,) of TOKEN.
        old, new: (n,) rewards; not a number where there is none.
    """
    token = np.concatenate([tokens, tokens])
    sign = np.repeat([1.0, -1.0], len(tokens))
    known = ~np.isnan(np.concatenate([new, old]))
    reward = np.where(known, np.concatenate([new, old]), 0)
    counted = known * sign
    routed = (token["token_flags"] & Flag.ROUTED) > 0
    judged = Batch.of(token["category"], token["executed"], token["decided_at_ms"])
    releases = Batch.of(token["release_key"], token["executed"], token["decided_at_ms"])
    quality: Columns = {
        Q.LABELS: counted,
        Q.N: counted,
        Q.R: reward * sign,
        Q.R2: reward**2 * sign,
    }
    books: Columns = {B.LABELLED: counted * routed, B.REWARD: reward * sign * routed}
    return [judged.terms(Family.QUALITY, quality), releases.terms(Family.BOOKS, books)]
