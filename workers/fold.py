"""From records to what they add to the cells. Pure: no store, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.batch import Batch
from bandit.cells import B, Family, L, Q, R, Terms, U
from telemetry.events import MICRO, RETRACTED, Flag, Result

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


def first_reward_terms(said: NDArray[np.void]) -> list[Terms]:
    """Return what feedback adds, each record being the first that is said of its decision.

    The same as `reward_terms` of the change from nothing to its value, for all at once.
    """
    token, micro = said["token"], said["value_micro"]
    known = micro != RETRACTED
    reward = np.where(known, micro / MICRO, 0)
    judged = Batch.of(token["category"], token["executed"], token["decided_at_ms"])
    releases = Batch.of(token["release_key"], token["executed"], token["decided_at_ms"])
    routed = (token["token_flags"] & Flag.ROUTED) > 0
    quality: Columns = {Q.LABELS: known, Q.N: known, Q.R: reward, Q.R2: reward**2}
    books: Columns = {B.LABELLED: known & routed, B.REWARD: np.where(routed, reward, 0)}
    return [judged.terms(Family.QUALITY, quality), releases.terms(Family.BOOKS, books)]


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
