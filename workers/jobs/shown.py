"""What sums of a comparison show: a verdict, and figures of both sides. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bandit.assignment import HALF
from bandit.checked import checked_difference
from bandit.compared import EPISODES
from bandit.told_verdicts import to_plain
from bandit.verdict import ALPHA, Basis, Verdict, row_alpha, verdict
from telemetry.events import FeedbackKind
from telemetry.trials import MAX_HOLDOUT
from workers.jobs.compared_state import KeptSums
from workers.jobs.sequences_known import KnownSequence

MOST_UNPRICED = 0.01
"""Of the calls of a side. Where more have no price, nobody knows what it cost, and costs decide
nothing."""
Told = dict[str, object]


def judged(rows: NDArray[np.void]) -> NDArray[np.void]:
    """Return the sums by which a comparison is judged: of episodes, if one was ever completed."""
    whole = rows["task"] == EPISODES
    by_episode = bool(rows["labelled"][whole].any())
    return np.asarray(rows.compress(whole if by_episode else ~whole))


def spent_usd(rows: NDArray[np.void]) -> float:
    """Return what the calls of the challenger's side cost, as far as that is known."""
    mine = ~rows["is_control"] & (rows["task"] != EPISODES)
    return float(rows["cost_usd"][mine].sum())


def verdict_of(
    sequence: KnownSequence,
    rows: NDArray[np.void],
    *,
    alpha: float,
    at_ms: int,
    checked: float | None = None,
) -> Verdict:
    """Return what a comparison shows.

    Args:
        rows: as `judged` returns them.
        checked: as of a verdict.
    """
    trial, value_usd = sequence.trial, sequence.trial.value_usd
    if not _is_priced(rows):
        rows, value_usd = _without_costs(rows), None
    return verdict(
        rows,
        basis=Basis.HOLDOUT if sequence.is_holdout else Basis.TRIAL,
        alpha=alpha,
        value_usd=value_usd or None,
        is_of_app=trial.is_of_app,
        checked=checked,
        at_ms=at_ms,
        ended_ms=0 if sequence.is_holdout else trial.ended_ms,
    )


def shown(
    sequence: KnownSequence, sums: KeptSums, *, n_compared: int, at_ms: int
) -> tuple[Verdict, Told]:
    """Return what a comparison shows by itself, and all that is told of it.

    Args:
        n_compared: comparisons that share the α of rows.
    """
    rows = judged(sums.rows)
    whole = bool(len(rows)) and bool((rows["task"] == EPISODES).all())
    checked = None if whole else _checked(sequence, sums.draws)
    alone, as_row = (
        verdict_of(sequence, rows, alpha=alpha, at_ms=at_ms, checked=checked)
        for alpha in (ALPHA, row_alpha(n_compared))
    )
    signals = sums.signals.compress(sums.signals["of_episodes"] == whole)
    return alone, {
        "verdict": to_plain(alone),
        "row": to_plain(as_row),
        "by_episode": whole,
        "is_priced": _is_priced(rows),
        "signals": _signals(signals),
        "control": _side(rows.compress(rows["is_control"]), signals, is_control=True),
        "treated": _side(rows.compress(~rows["is_control"]), signals, is_control=False),
    }


def _checked(sequence: KnownSequence, draws: NDArray[np.void]) -> float | None:
    """Return the difference in quality by logged propensities; of calls, not of episodes."""
    trial = sequence.trial
    control = min(trial.holdout, MAX_HOLDOUT) if sequence.is_holdout else HALF
    is_pair = not (sequence.is_holdout or trial.is_of_app)
    return checked_difference(draws, control=control, is_pair=is_pair)


def _is_priced(rows: NDArray[np.void]) -> bool:
    for is_control in (True, False):
        own = rows.compress(rows["is_control"] == is_control)
        unpriced = float(own["unpriced"].sum())
        if unpriced > MOST_UNPRICED * (float(own["calls"].sum()) + unpriced):
            return False
    return True


def _without_costs(rows: NDArray[np.void]) -> NDArray[np.void]:
    out = rows.copy()
    out["calls"] += out["unpriced"]  # tasks weigh as their calls
    for name in ("cost_usd", "labelled_cost_usd"):
        out[name] = 0
    return out


def _side(rows: NDArray[np.void], signals: NDArray[np.void], *, is_control: bool) -> Told:
    units, calls, unpriced, labelled = (
        int(rows[name].sum()) for name in ("units", "calls", "unpriced", "labelled")
    )
    cost, reward = float(rows["cost_usd"].sum()), float(rows["reward"].sum())
    quality = reward / labelled if labelled else None
    per_call = cost / calls if calls else None
    return {
        "units": units,
        "calls": calls,
        "unpriced": unpriced,
        "labelled": labelled,
        "quality": quality,
        "cost_usd": cost,
        "cost_per_call_usd": per_call,
        "cost_per_success_usd": per_call / quality if per_call is not None and quality else None,
        "wall_s": float(rows["wall_s"].sum()) / labelled if labelled else None,
        "signals": _signals(signals.compress(signals["is_control"] == is_control)),
    }


def _signals(signals: NDArray[np.void]) -> Mapping[str, int]:
    """Return how many labels there are by the name of their kind."""
    out: dict[str, int] = {}
    for row in signals:
        try:
            name = FeedbackKind(int(row["kind"])).name.lower()
        except ValueError:
            continue  # of a later version
        out[name] = out.get(name, 0) + int(row["n"])
    return out
