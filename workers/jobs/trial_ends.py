"""When a trial is over, and how it ended. Pure."""

from __future__ import annotations

from msgspec import structs

from bandit.verdict import Verdict, VerdictKind
from telemetry.trials import Trial, TrialState

LEAST_UNITS = 200
"""On each side, before a verdict ends a trial."""
DAY_MS = 86_400_000
GAINS, NOT_WORTH, TIME, MONEY = "gains", "not worth it", "time", "money"
UNDECIDED = (TIME, MONEY)
"""Ends after which a label that comes late may still show a gain."""


def ended(trial: Trial, verdict: Verdict | None, *, spent_usd: float, now_ms: int) -> Trial | None:
    """Return a trial as it is once it ended, or None where it goes on, or stays as it ended.

    It is won where its verdict is a gain, also within the day after its time or money was up: its
    last labels come late. It ends where the verdict is that it is not worth it, once the
    challenger's side cost as much as it may, and when its time is up.

    Args:
        verdict: of its own comparison, at α of its own; None: not known.
        spent_usd: what the challenger's side cost.
    """
    is_read = verdict is not None and min(verdict.units) >= LEAST_UNITS
    kind = verdict.kind if verdict is not None and is_read else VerdictKind.NOT_SHOWN
    if trial.state is TrialState.ENDED:
        is_late = trial.reason in UNDECIDED and now_ms - trial.ended_ms <= DAY_MS
        if is_late and kind is VerdictKind.GAINS:
            return structs.replace(trial, state=TrialState.WON, reason=GAINS)
        return None
    if trial.state is not TrialState.RUNNING:
        return None
    if kind is VerdictKind.GAINS:
        return structs.replace(trial, state=TrialState.WON, ended_ms=now_ms, reason=GAINS)
    if kind is VerdictKind.KEEP:
        reason = NOT_WORTH
    elif trial.cap_usd is not None and spent_usd >= trial.cap_usd:
        reason = MONEY
    elif now_ms >= trial.ends_ms:
        reason = TIME
    else:
        return None
    return structs.replace(trial, state=TrialState.ENDED, ended_ms=now_ms, reason=reason)
