"""From records to what they add to the cells. Pure: no store, no clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import B, D, Family, L, Q, R, S, Terms, U
from telemetry.events import FeedbackKind, Flag, Result, Source
from workers.labels import NOTHING, Standing

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
    return [
        _usage(records),
        _latency(records[result == Result.OK]),
        _censored(records[result == Result.TIMEOUT]),
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
class LabelChange:
    """What held of a decision before and after."""

    category: int
    endpoint: int
    decided_at_ms: int
    old: Standing
    new: Standing
    release_key: int | None = None  # None: not routed, so that it counts in no verdict

    @classmethod
    def of(cls, token: np.void, old: Standing, new: Standing) -> LabelChange:
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


def label_terms(changes: list[LabelChange]) -> list[Terms]:
    """Return new − old for each change, in every family that a label counts in.

    Weights are those of the decision's own time. Old and new are folded as two terms, each
    rounded on its own, so that taking a label back leaves exactly nothing.
    """
    signed = [(c, held, sign) for c in changes for held, sign in ((c.new, 1), (c.old, -1))]
    rewarded = [x for x in signed if x[1].reward is not None]
    routed = [x for x in rewarded if x[0].release_key is not None]
    # A failed attempt is in the books of reliability already: that it was repeated links the two.
    derived = [x for x in signed if x[1].derived is not None and x[1].source != Source.RETRIED]
    said = [x for x in signed if x[1] != NOTHING]
    return [
        _label_terms(Family.QUALITY, rewarded, _quality),
        _label_terms(Family.BOOKS, routed, _reward),
        _label_terms(Family.DERIVED, derived, _derived),
        _label_terms(Family.SIGNALS, said, _signals),
    ]


_Signed = tuple[LabelChange, Standing, int]
_SIGNAL_OF_KIND = {
    FeedbackKind.JUDGE: S.JUDGE,
    FeedbackKind.EDIT: S.EDIT,
    FeedbackKind.HUMAN: S.HUMAN,
    FeedbackKind.TEST: S.TEST,
}
_SIGNAL_OF_SOURCE = {
    Source.CALLER: S.SAID,
    Source.EMPTY: S.ANSWER,
    Source.REFUSED: S.ANSWER,
    Source.FILTERED: S.ANSWER,
    Source.TRUNCATED: S.ANSWER,
    Source.REASONING_LIMIT: S.ANSWER,
    Source.SCHEMA: S.SCHEMA,
    Source.TOOL_CALL: S.TOOLS,
    Source.TOOL_RESULT: S.TOOLS,
    Source.LOOP: S.TOOLS,
    Source.REGENERATED: S.REPEATED,
    Source.EDITED: S.REPEATED,
    Source.RETRIED: S.RETRIED,
}


def _quality(held: Standing) -> dict[int, float]:
    assert held.reward is not None
    return {Q.LABELS: 1, Q.N: 1, Q.R: held.reward, Q.R2: held.reward**2}


def _reward(held: Standing) -> dict[int, float]:
    assert held.reward is not None
    return {B.LABELLED: 1, B.REWARD: held.reward}


def _derived(held: Standing) -> dict[int, float]:
    d, s = held.derived, held.reward
    assert d is not None
    if s is None:
        return {D.N: 1, D.GOOD: d}
    pair: dict[int, float] = {D.PAIRS: 1, D.PAIR_N: 1, D.PAIR_D: d, D.PAIR_D2: d * d}
    return {**pair, D.PAIR_S: s, D.PAIR_DS: d * s, D.PAIR_S2: s * s}


def _signals(held: Standing) -> dict[int, float]:
    out: dict[int, float] = {}
    if held.reward is not None:
        out[_SIGNAL_OF_KIND[FeedbackKind(held.kind)]] = 1
    if held.derived is not None:
        out[_SIGNAL_OF_SOURCE[Source(held.source)]] = 1
    return out


def _label_terms(
    family: Family, signed: list[_Signed], columns_of: Callable[[Standing], dict[int, float]]
) -> Terms:
    columns = np.zeros((len(signed), cells.N_COLUMNS))
    for i, (_, held, _) in enumerate(signed):
        for column, value in columns_of(held).items():
            columns[i, column] = value
    names = [c.release_key if family is Family.BOOKS else c.category for c, _, _ in signed]
    added = cells.terms(
        family,
        category=np.array(names, dtype=np.uint64),
        endpoint=np.array([c.endpoint for c, _, _ in signed], dtype=np.uint64),
        at_ms=np.array([c.decided_at_ms for c, _, _ in signed], dtype=np.int64),
        columns=columns,
    )
    sign = np.array([s for _, _, s in signed], dtype=np.int64)
    return Terms(added.keys, added.values * sign[:, None])
