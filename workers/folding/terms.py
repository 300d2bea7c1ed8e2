"""From records to what they add to the cells. Pure: no store, no clock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit import parts, teaching
from bandit.cells import Terms
from bandit.families import MOST, B, D, Family, L, P, Q, R, S, T, U
from bandit.grouping import Grouping
from telemetry.events import WAITED, FeedbackKind, Flag, Result, Source
from telemetry.tokens import COUNTED_SINCE, FIRST_WORD_SINCE, TAUGHT_SINCE, WATCHED_SINCE
from workers.folding import chains
from workers.folding.hearing import LabelStandings

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
"""A client's own error, a client that left and an attempt that another overtook say nothing of
whether the endpoint would have answered."""
FAILURES = [result for result in _COLUMN_OF if result is not Result.OK]
_OF_RESULT = [(int(column), int(result)) for result, column in _COLUMN_OF.items()]
_IS_FAILURE, _HAS_WAITED = (np.isin(np.arange(256), some) for some in (FAILURES, WAITED))
"""By result."""
BEYOND_BOUND = 0.28
"""What ln(first content) exceeds ln(bound) by on average, for a normal of the prior's spread
(β/α = .125, sd .35) whose mean is the bound: sd · φ(0) / ½."""
MIN_LATENCY_S = 1e-5
"""Below the clock's use; keeps the logarithm finite."""


Owners = NDArray[np.uint64] | None
"""(n,) of which shard each record is, as of `cells.Terms`; None: all of one."""


def outcome_terms(records: NDArray[np.void], owner: Owners = None) -> list[Terms]:
    """Return what outcomes add to usage, latency, reliability, books, roles, and calls read, to
    the calls of apps, and to chains."""
    token, result = records["token"], records["result"]
    executed, decided_at_ms = token["executed"], token["decided_at_ms"]
    batch = Grouping.of(token["category"], executed, decided_at_ms, token["regime"], owner)
    releases = Grouping.of(token["release_key"], executed, decided_at_ms, owner=owner)
    by_app = Grouping.of(
        teaching.key_of(token["app"], token["category"]), executed, decided_at_ms, owner=owner
    )
    return [
        *_outcomes_in_roles(records, owner),
        by_app.terms(Family.TEACHING, _calls(records)),
        batch.terms(Family.USAGE, _usage(records)),
        batch.terms(Family.LATENCY, _latency(records)),
        batch.terms(Family.RELIABILITY, {c: result == r for c, r in _OF_RESULT}),
        releases.terms(Family.BOOKS, _books(records)),
        batch.terms(Family.DERIVED, _seen(records)),
        *chains.attempt_terms(records, batch, owner),
    ]


Columns = dict[int, NDArray[Any]]


def are_failures(records: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return (n,) which attempts count against their endpoints."""
    return np.asarray(_IS_FAILURE[records["result"]])


def _usage(records: NDArray[np.void]) -> Columns:
    """Return calls, tokens and costs; a cost that no call has (beyond `MOST`) is not known."""
    flags, tokens_out = records["flags"], records["tokens_out"]
    known = (flags & Flag.USAGE_KNOWN) > 0
    spoke = known & (tokens_out > 0)
    ln = np.where(spoke, np.log(np.maximum(tokens_out, 1)), 0)
    priced = ((flags & Flag.PRICED) > 0) & (records["cost_nano"] <= MOST)
    return {
        U.CALLS: np.ones(len(records)),
        U.FAILED: are_failures(records),
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
    # Who dispatches by himself need not have measured.
    timed = (records["latency_us"] > 0) | ((records["flags"] & Flag.INGESTED) == 0)
    answered = timed & (records["result"] == Result.OK)
    waited = _HAS_WAITED[records["result"]]
    ran_out = timed & waited
    ln = np.log(np.maximum(records["latency_us"] / 1e6, MIN_LATENCY_S))
    bound = waited & ((records["flags"] & Flag.TTFT_BOUND) > 0)
    first = (answered & ((records["flags"] & Flag.TTFT_KNOWN) > 0)) | bound
    ln_first = np.log(np.maximum(records["ttft_us"] / 1e6, MIN_LATENCY_S)) + BEYOND_BOUND * bound
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


def _outcomes_in_roles(records: NDArray[np.void], owner: Owners) -> list[Terms]:
    """Return what outcomes of calls in a role add to its figures."""
    mine = records["token"]["role_mark"] > 0
    if not mine.any():
        return []
    own = records.compress(mine)
    usage, latency, result = _usage(own), _latency(own), own["result"]
    columns: Columns = {
        P.CALLS: usage[U.CALLS],
        P.OK: result == Result.OK,
        P.FAILED: usage[U.FAILED],
        P.COST_NANO: usage[U.COST_NANO],
        P.PRICED: usage[U.PRICED],
        P.N: latency[L.N],
        P.LN: latency[L.LN],
        P.LN2: latency[L.LN2],
    }
    return _in_roles(own["token"], columns, None if owner is None else owner[mine])


def _in_roles(token: NDArray[np.void], columns: Columns, owner: Owners) -> list[Terms]:
    """Return what decisions add to the figures of their roles; of most decisions there is none.

    Args:
        columns: of P, (n,) each.
    """
    mine = token["role_mark"] > 0
    if not mine.any():
        return []
    own = token.compress(mine)
    grouping = Grouping.of(
        parts.key_of(own["role_mark"]),
        own["executed"],
        own["decided_at_ms"],
        owner=None if owner is None else owner[mine],
    )
    return [grouping.terms(Family.ROLES, {c: x[mine] for c, x in columns.items()})]


def _books(records: NDArray[np.void]) -> Columns:
    """Return the calls that count in verdicts, each once: by the answer that its client got."""
    routed = (records["token"]["token_flags"] & Flag.ROUTED) > 0
    return {B.CALLS: routed & ((records["flags"] & Flag.FINAL) > 0)}


def _calls(records: NDArray[np.void]) -> Columns:
    """Return an app's calls, routed or not, each once: by the answer that its client got.

    Attempts of a profile are told apart as USAGE counts them, so that it can be taken off there.
    """
    counted = records["token"]["token_version"] >= COUNTED_SINCE
    by_profile = (records["flags"] & Flag.PROFILE) > 0
    # Whoever tells of calls of his own could tell of any number.
    ours = ((records["flags"] & Flag.INGESTED) == 0) & ~by_profile
    final = (records["flags"] & Flag.FINAL) > 0
    failed = are_failures(records)
    return {
        T.CALLS: counted & ours & final,
        T.PROFILED: by_profile,
        T.PROFILED_FAILED: by_profile & failed,
    }


def _seen(records: NDArray[np.void]) -> Columns:
    """Return which answers went in full to who reads labels off them, whatever they then showed."""
    read = (records["flags"] & Flag.READ) > 0
    return {D.SEEN: read & (records["result"] == Result.OK)}


def label_terms(
    tokens: NDArray[np.void], old: LabelStandings, new: LabelStandings, owner: Owners = None
) -> list[Terms]:
    """Return new − old for each decision, in every family that a label counts in.

    Weights are those of the decision's own time. Old and new are folded as two terms, each
    rounded on its own, so that taking a label back leaves exactly nothing.

    Args:
        tokens: (n,) of TOKEN.
    """
    stood = old.is_rewarded | old.is_derived  # of most decisions nothing was said before
    token, held = tokens, new
    if stood.any():
        token, held = np.concatenate([tokens, tokens.compress(stood)]), new + old.of(stood)
    if owner is not None:
        owner = np.concatenate([owner, owner[stood]])
    sign = np.repeat([1.0, -1.0], [len(tokens), len(token) - len(tokens)])
    routed = (token["token_flags"] & Flag.ROUTED) > 0
    judged = Grouping.of(
        token["category"], token["executed"], token["decided_at_ms"], token["regime"], owner
    )
    releases = Grouping.of(
        token["release_key"], token["executed"], token["decided_at_ms"], owner=owner
    )
    by_app = teaching.key_of(token["app"], token["category"])
    taught = Grouping.of(by_app, token["executed"], token["decided_at_ms"], owner=owner)
    rewards = {c: x * sign * routed for c, x in _rewards(held).items()}
    return [
        judged.terms(Family.QUALITY, {c: x * sign for c, x in _quality(held, held.reward).items()}),
        releases.terms(Family.BOOKS, rewards),
        judged.terms(Family.DERIVED, {c: x * sign for c, x in _derived(held).items()}),
        judged.terms(Family.SIGNALS, {c: x * sign for c, x in _signals(held).items()}),
        judged.terms(Family.WATCH, {c: x * sign for c, x in _watched(token, held).items()}),
        taught.terms(Family.TEACHING, {c: x * sign for c, x in _teaching(token, held).items()}),
        *_in_roles(token, {P.LABELS: held.is_rewarded * sign, P.REWARD: held.reward * sign}, owner),
    ]


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


def _quality(held: LabelStandings, reward: NDArray[np.float64]) -> Columns:
    known = held.is_rewarded
    return {Q.LABELS: known, Q.N: known, Q.R: reward, Q.R2: reward**2}


def _rewards(held: LabelStandings) -> Columns:
    return {B.LABELLED: held.is_rewarded, B.REWARD: held.reward}


def _teaching(token: NDArray[np.void], held: LabelStandings) -> Columns:
    """Return labels as their app's: of calls that were not routed, too."""
    counted = token["token_version"] >= TAUGHT_SINCE
    return {T.LABELS: held.is_rewarded & counted, T.REWARD: held.reward * counted}


def _derived(held: LabelStandings) -> Columns:
    if not held.is_derived.any():
        return {}
    # A failed attempt is in the books of reliability already: that it was repeated links the two.
    counted = held.is_derived & (held.source != Source.RETRIED)
    alone, paired = counted & ~held.is_rewarded, counted & held.is_rewarded
    d, s = held.derived * paired, held.reward * paired
    pairs: Columns = {D.PAIRS: paired, D.PAIR_N: paired, D.PAIR_D: d, D.PAIR_D2: d * d}
    sums: Columns = {D.PAIR_S: s, D.PAIR_DS: d * s, D.PAIR_S2: s * s}
    return {D.N: alone, D.GOOD: held.derived * alone, **pairs, **sums}


def _watched(token: NDArray[np.void], held: LabelStandings) -> Columns:
    """Return the labels by which a change is told: of decisions that expected something.

    Nothing is expected of calls that others dispatched or that were passed on: what they bring is
    their choice, and a file of old ones is no change. Nor is it one that old answers are judged
    anew, by a stronger word: of each the first word counts, and it stays. Raters' labels tell of no
    change either: however few of each count, a few raters within a minute would look like a fall.
    """
    heard = np.where(token["token_version"] >= FIRST_WORD_SINCE, held.first, held.reward)
    expected = held.is_rewarded & (token["spread"] > 0)
    expected &= token["token_version"] >= WATCHED_SINCE
    expected &= (token["token_flags"] & Flag.RATED) == 0
    return {c: x * expected for c, x in _quality(held, heard).items()}


def _signals(held: LabelStandings) -> Columns:
    out: Columns = {column: held.kind == kind for kind, column in _SIGNAL_OF_KIND.items()}
    if held.is_derived.any():
        derived: Columns = {column: np.zeros(len(held.reward)) for column in S}
        for source, column in _SIGNAL_OF_SOURCE.items():
            derived[column] += held.is_derived & (held.source == source)
        out = {**derived, **out}
    return out
