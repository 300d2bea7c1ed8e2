"""The smallest difference that a trial can show, at the labelled traffic of the last week."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from bandit.cells import Terms, read_plain
from bandit.families import B, Family
from bandit.sequences import smallest_difference
from bandit.verdict import ALPHA, measures_of
from router.beliefs.books import DAY_MS
from telemetry import keys
from telemetry.damaged import DAMAGED
from telemetry.store import Client
from telemetry.trials import Trial

MOST_PP = 5.0
"""A trial that can show nothing smaller is not started: hardly any choice of models is worth that
much, so it would end without a word."""
MOST_DAYS = 90.0
TOP = 100.0
"""Points of a reward of 1."""


@dataclass(frozen=True, slots=True)
class LabelledTraffic:
    """What a trial's calls are expected to bring."""

    per_day: float  # units with a label
    variance: float  # of a unit's mean reward
    is_of_books: bool = False  # averaged over all time, each call a unit: no job has told yet

    def smallest_pp(self, days: float, alpha: float) -> float:
        """Return the smallest difference in quality, in points, that so many days show.

        Args:
            alpha: of the sequence that is to show it.
        """
        return TOP * smallest_difference(self.per_day, self.variance, days, alpha)

    def days_for(self, most_pp: float, alpha: float) -> float | None:
        """Return how many days show this much; None: not even the longest trial does."""
        for days in np.arange(1.0, MOST_DAYS + 1).tolist():
            if self.smallest_pp(days, alpha) <= most_pp:
                return float(days)
        return None


def alpha_of(trial: Trial) -> float:
    """Return the alpha of the sequence of quality: what decides together has equal shares."""
    return ALPHA / len(measures_of(trial.value_usd, is_of_app=trial.is_of_app))


def read_traffic(client: Client, digest: int, *, of_app: bool) -> LabelledTraffic | None:
    """Return what the jobs last told of a release key's or an app's week; None: nothing.

    Args:
        digest: of the release key, or of the app.
    """
    raw = client.get(keys.VERDICTS)
    try:
        told = json.loads(raw or b"{}")["traffic"]
        row = told["apps" if of_app else "keys"][f"{digest:016x}"]
        days, units = float(told["days"]), float(row["labelled_units"])
        return LabelledTraffic(units / days, float(row["variance"])) if days > 0 else None
    except DAMAGED:
        return None


def books_traffic(
    rows: Terms, digests: list[int], endpoints: list[int], *, age_ms: float
) -> LabelledTraffic:
    """Return the mean traffic of release keys by their books.

    Args:
        age_ms: since when they are kept.
    """
    names = np.array(digests, dtype=np.uint64)
    found = np.nan_to_num(
        read_plain(rows, Family.BOOKS, names=names, endpoints=np.array(endpoints, dtype=np.uint64))
    )
    labelled, reward = float(found[..., B.LABELLED].sum()), float(found[..., B.REWARD].sum())
    mean = reward / labelled if labelled else 0.5
    variance = max(mean * (1 - mean), 0.01)
    return LabelledTraffic(labelled * DAY_MS / max(age_ms, DAY_MS), variance, is_of_books=True)
