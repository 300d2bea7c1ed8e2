"""A trial on recorded outcomes: users with several sessions of several calls, over two weeks.

Each user asks from a few prompts of each task again and again, so its calls belong together, on
both sides. Prompts are drawn for each call anew: a copy of an endpoint answers other ones. What is
true is the mean of the table, tasks weighing as their shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.compared import COMPARED, N_BUCKETS
from telemetry.recorded import Recorded

DAYS = 14
CALLS_A_SESSION = 4.0
SESSIONS_A_USER = 8
PROMPTS_A_USER = 25
"""Of each task."""
LABEL_AFTER_DAYS = 1 / 24
VALUE_USD = 1.0
FINE_LOOKS, FINE_UNTIL, LOOKS = 50, 2000, 200
"""A look after so many sessions; later on after so many."""


@dataclass(frozen=True, slots=True)
class TrialPair:
    """Two endpoints of a table, and what share of the calls each task has."""

    incumbent: int
    challenger: int
    shares: NDArray[np.float64]  # (n_tasks,)
    truth: float  # the challenger's utility a call less the incumbent's, ÷ the value


@dataclass(frozen=True, slots=True)
class PlayedTrial:
    """A trial's sessions by time, and what its sums are made of."""

    at: NDArray[np.float64]  # (n_sessions,) days
    is_treated: NDArray[np.bool_]
    calls: NDArray[np.int64]
    utility: NDArray[np.float64]  # (n_sessions,) Σ over its calls
    utility2: NDArray[np.float64]  # of their squares
    events: NDArray[np.void]  # (2·n_sessions,) of COMPARED by time: a session; its labels
    event_at: NDArray[np.float64]

    def looks(self) -> list[int]:
        """Return after how many sessions somebody looks; the last look waits for all labels."""
        n = len(self.at)
        fine = range(FINE_LOOKS, min(n, FINE_UNTIL), FINE_LOOKS)
        return [*fine, *range(FINE_UNTIL, n, LOOKS), n]

    def sums(self) -> Iterator[tuple[int, NDArray[np.void]]]:
        """Yield each look's number of sessions, and the sums by place that there are then."""
        place, first = _places(self.events)
        names = [name for name in COMPARED.names or () if COMPARED[name].kind in "uif"]
        added = [name for name in names if name not in ("sequence", "task", "day", "bucket")]
        rows = self.events[first]
        for name in added:
            rows[name] = 0
        since = 0
        for n in self.looks():
            is_last = n == len(self.at)
            until = len(place) if is_last else int(np.searchsorted(self.event_at, self.at[n - 1]))
            size = int(place[:until].max(initial=-1)) + 1
            for name in added:
                new = np.bincount(place[since:until], self.events[name][since:until], size)
                rows[name][:size] += new.astype(rows.dtype[name])
            since = until
            yield n, rows[:size]


def _places(events: NDArray[np.void]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return each event's place, numbered as they first occur, and the first event of each."""
    key = events["task"].astype(np.int64) * DAYS + events["day"]
    key = (key * N_BUCKETS + events["bucket"]) * 2 + events["is_control"]
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(first), dtype=np.intp)
    rank[order] = np.arange(len(first))
    return rank[inverse], first[order]


def trial_pair(table: Recorded, incumbent: str, challenger: str, truth: float) -> TrialPair:
    """Return two endpoints with shares of tasks such that they differ by exactly `truth`.

    Shares are those of the table, times exp(θ·difference in the task).

    Raises:
        ValueError: no shares of the table's tasks make it so.
    """
    pair = table.endpoints.index(incumbent), table.endpoints.index(challenger)
    worth = table.quality - table.cost_usd / VALUE_USD
    n = np.bincount(table.category).astype(float)
    by_task = np.array([worth[table.category == c].mean(axis=0) for c in range(len(n))])
    apart = by_task[:, pair[1]] - by_task[:, pair[0]]
    if pair[0] != pair[1] and not apart.min() < truth < apart.max():
        raise ValueError(f"{challenger} cannot differ from {incumbent} by {truth}")
    low, high = -500.0, 500.0
    for _ in range(80):
        middle = (low + high) / 2
        tilted = np.log(n) + middle * apart
        shares = np.exp(tilted - tilted.max())
        shares /= shares.sum()
        low, high = (middle, high) if float(shares @ apart) < truth else (low, middle)
    return TrialPair(*pair, n / n.sum() if pair[0] == pair[1] else shares, truth)


def play_trial(table: Recorded, pair: TrialPair, seed: int, n_calls: int) -> PlayedTrial:
    """Return a trial of so many calls."""
    rng = np.random.default_rng([seed, pair.incumbent, pair.challenger])
    long = rng.geometric(1 / CALLS_A_SESSION, n_calls)
    calls = long[: int(np.searchsorted(long.cumsum(), n_calls)) + 1]
    calls[-1] -= int(calls.sum()) - n_calls
    n = len(calls)
    at = np.sort(rng.random(n)) * DAYS
    n_users = max(n // SESSIONS_A_USER, 1)
    user, is_treated = rng.integers(0, n_users, n), rng.random(n) < 0.5
    task = rng.choice(len(pair.shares), n, p=pair.shares)
    session = np.repeat(np.arange(n), calls)
    prompt = _prompts(table, rng, n_users, user[session], task[session])
    served = np.where(is_treated[session], pair.challenger, pair.incumbent)
    reward, cost = table.quality[prompt, served], table.cost_usd[prompt, served]
    events = np.zeros((2, n), dtype=COMPARED)
    events["task"], events["day"], events["is_control"] = task, at.astype(int), ~is_treated
    events["bucket"] = (user * 2_654_435_761) % 2**32 % N_BUCKETS
    events["units"][0], events["calls"][0], events["labelled"][1] = 1, calls, calls
    events["reward"][1] = np.bincount(session, reward)
    events["cost_usd"][0] = events["labelled_cost_usd"][1] = np.bincount(session, cost)
    event_at = np.concatenate([at, at + rng.exponential(LABEL_AFTER_DAYS, n)])
    order = np.argsort(event_at, kind="stable")
    worth = reward - cost / VALUE_USD
    return PlayedTrial(
        at,
        is_treated,
        calls,
        np.bincount(session, worth).astype(float),
        np.bincount(session, worth**2).astype(float),
        events.ravel()[order],
        event_at[order],
    )


def _prompts(
    table: Recorded,
    rng: np.random.Generator,
    n_users: int,
    user: NDArray[np.intp],
    task: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Return (n_calls,) a prompt of each call's task, of those that its user has."""
    count = np.bincount(table.category)
    by_task, first = np.argsort(table.category, kind="stable"), count.cumsum() - count
    own = rng.random((n_users, len(count), PROMPTS_A_USER), dtype=np.float32)
    drawn = own[user, task, rng.integers(0, PROMPTS_A_USER, len(user))]
    place = np.minimum((drawn * count[task]).astype(np.intp), count[task] - 1)
    return by_task[first[task] + place]
