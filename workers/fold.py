"""From records to what they add to the cells. Pure: no store, no clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit import cells
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
    result = records["result"]
    # Who dispatches by himself need not have measured.
    timed = (records["latency_us"] > 0) | ((records["flags"] & Flag.INGESTED) == 0)
    return [
        _usage(records),
        _latency(records[timed & (result == Result.OK)]),
        _censored(records[timed & (result == Result.TIMEOUT)]),
        _reliability(records[(result == Result.OK) | (result >= Result.RATE_LIMIT)]),
        _books(records),
    ]


def _usage(records: NDArray[np.void]) -> Terms:
    flags = records["flags"]
    columns = np.zeros((len(records), cells.N_COLUMNS))
    columns[:, U.CALLS] = 1
    columns[:, U.FAILED] = records["result"] >= Result.RATE_LIMIT
    known = (flags & Flag.USAGE_KNOWN) > 0
    tokens_out = records["tokens_out"].astype(float)
    columns[:, U.N] = known
    columns[:, U.TOKENS_IN] = np.where(known, records["tokens_in"], 0)
    columns[:, U.TOKENS_OUT] = np.where(known, tokens_out, 0)
    spoke = known & (tokens_out > 0)
    ln = np.log(np.maximum(tokens_out, 1))
    columns[:, U.N_LOG] = spoke
    columns[:, U.LN_OUT] = np.where(spoke, ln, 0)
    columns[:, U.LN_OUT2] = np.where(spoke, ln**2, 0)
    priced = (flags & Flag.PRICED) > 0
    columns[:, U.PRICED] = priced
    columns[:, U.COST_NANO] = np.where(priced, records["cost_nano"], 0)
    return _terms(Family.USAGE, records, columns)


def _latency(records: NDArray[np.void]) -> Terms:
    columns = np.zeros((len(records), cells.N_COLUMNS))
    ln = np.log(np.maximum(records["latency_us"] / 1e6, MIN_LATENCY_S))
    columns[:, L.N] = 1
    columns[:, L.LN] = ln
    columns[:, L.LN2] = ln**2
    first = (records["flags"] & Flag.TTFT_KNOWN) > 0
    ln_first = np.log(np.maximum(records["ttft_us"] / 1e6, MIN_LATENCY_S))
    columns[:, L.N_TTFT] = first
    columns[:, L.LN_TTFT] = np.where(first, ln_first, 0)
    columns[:, L.LN_TTFT2] = np.where(first, ln_first**2, 0)
    return _terms(Family.LATENCY, records, columns)


def _censored(records: NDArray[np.void]) -> Terms:
    columns = np.zeros((len(records), cells.N_COLUMNS))
    columns[:, L.N_CENSORED] = 1
    columns[:, L.LN_CENSORED] = np.log(np.maximum(records["latency_us"] / 1e6, MIN_LATENCY_S))
    return _terms(Family.LATENCY, records, columns)


def _reliability(records: NDArray[np.void]) -> Terms:
    columns = np.zeros((len(records), cells.N_COLUMNS))
    for result, column in _COLUMN_OF.items():
        columns[:, column] = records["result"] == result
    return _terms(Family.RELIABILITY, records, columns)


def _books(records: NDArray[np.void]) -> Terms:
    """Return the calls that count in verdicts, each once: by the answer that its client got."""
    token = records["token"]
    routed = (token["token_flags"] & Flag.ROUTED) > 0
    token = token[routed & ((records["flags"] & Flag.FINAL) > 0)]
    columns = np.zeros((len(token), cells.N_COLUMNS))
    columns[:, B.CALLS] = 1
    return cells.terms(
        Family.BOOKS,
        category=token["release_key"],
        endpoint=token["executed"],
        at_ms=token["decided_at_ms"],
        columns=columns,
    )


def _terms(family: Family, records: NDArray[np.void], columns: NDArray[np.float64]) -> Terms:
    token = records["token"]
    return cells.terms(
        family,
        category=token["category"],
        endpoint=token["executed"],
        at_ms=token["decided_at_ms"],
        columns=columns,
    )


@dataclass(frozen=True, slots=True)
class RewardChange:
    """A decision's reward before and after; None is no label."""

    category: int
    endpoint: int
    decided_at_ms: int
    old: float | None
    new: float | None
    release_key: int | None = None  # None: not routed, so that it counts in no verdict

    @classmethod
    def of(cls, token: np.void, old: float | None, new: float | None) -> RewardChange:
        """Return the change of the decision in `token`."""
        routed = int(token["token_flags"]) & Flag.ROUTED
        return cls(
            int(token["category"]),
            int(token["executed"]),
            int(token["decided_at_ms"]),
            old,
            new,
            int(token["release_key"]) if routed else None,
        )


def reward_terms(changes: list[RewardChange]) -> list[Terms]:
    """Return new − old for each change, in quality and, of routed decisions, in the books.

    Quality takes the weight of the decision's own time. Old and new are folded as two terms,
    each rounded on its own, so that taking a label back leaves exactly nothing.
    """
    signed = [(c, c.new, 1) for c in changes if c.new is not None]
    signed += [(c, c.old, -1) for c in changes if c.old is not None]
    quality = [(c, c.category, x, sign) for c, x, sign in signed]
    books = [(c, c.release_key, x, sign) for c, x, sign in signed if c.release_key is not None]
    return [_rewards(Family.QUALITY, quality), _rewards(Family.BOOKS, books)]


def _rewards(family: Family, signed: list[tuple[RewardChange, int, float, int]]) -> Terms:
    columns = np.zeros((len(signed), cells.N_COLUMNS))
    for i, (_, _, reward, _) in enumerate(signed):
        if family is Family.QUALITY:
            columns[i, [Q.LABELS, Q.N, Q.R, Q.R2]] = (1, 1, reward, reward**2)
        else:
            columns[i, [B.LABELLED, B.REWARD]] = (1, reward)
    added = cells.terms(
        family,
        category=np.array([name for _, name, _, _ in signed], dtype=np.uint64),
        endpoint=np.array([c.endpoint for c, _, _, _ in signed], dtype=np.uint64),
        at_ms=np.array([c.decided_at_ms for c, _, _, _ in signed], dtype=np.int64),
        columns=columns,
    )
    sign = np.array([s for _, _, _, s in signed], dtype=np.int64)
    return Terms(added.keys, added.values * sign[:, None])
