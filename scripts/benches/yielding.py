"""How soon an incumbent yields to who is better, and how seldom to who is merely lucky.

Simulated labels through the law and the posterior that the sidecar runs, looked at all the time;
the weekly review is never due, so what is released is what was certain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit import incumbent
from bandit.draws import propensities, tabulate
from bandit.evidence import Evidence
from bandit.families import Q
from bandit.incumbent import Books, Standings
from bandit.posterior import Arms, Posterior, infer
from bandit.utility import Objective

OBJECTIVE = Objective()
N_TASKS = 8
UNEQUAL = (0.62, 0.70, 0.74, 0.78, 0.82, 0.86, 0.88, 0.92)
"""Qualities in every task; the first is the incumbent's."""
EQUAL = (0.8,) * 8
LABELLED = 0.4
CALLS_A_LOOK = 125
"""Fifty labels, where .4 of the calls have one: a third of a second at 150 calls a second."""
CALLS_A_DAY = 150 * 86_400.0
GIVEN_UP = 5_000
"""Labels a task after which a release is not waited for any longer."""
LABELS_A_RUN = 10_000
LABELS_A_LOOK = 50
LOOKS_A_LAW = 4
"""So many looks share a law once the first thousand labels are there: it hardly moves in between,
and working it out is what takes the time."""
MAY_BE_CERTAIN = 2.0
"""Standard errors between plain means from which on the posterior is asked. Certainty takes about
four of its own, and it shrinks differences: it never sees four where the plain means show two."""
MOST_LABELS, MOST_RELEASES = 1_500, 0.005


@dataclass(slots=True)
class _Run:
    """One stream of calls; everything by task and endpoint."""

    quality: NDArray[np.float64]  # (n_tasks, n_arms) true
    labelled: float
    rng: np.random.Generator
    standings: Standings
    order: NDArray[np.float64]
    arms: Arms
    calls: NDArray[np.float64]
    labels: NDArray[np.float64]
    reward: NDArray[np.float64]
    share: NDArray[np.float64]  # (n_tasks, n_arms) of the next calls
    everybody: NDArray[np.bool_]
    first: dict[int, float] = field(default_factory=dict)
    """Labels of a task at its first release."""

    def serve(self, n_calls: int) -> None:
        """Draw the next calls, and the labels of some of them."""
        for task in range(len(self.calls)):
            served = self.rng.multinomial(n_calls, self.share[task])
            heard = self.rng.binomial(served, self.labelled)
            self.calls[task] += served
            self.labels[task] += heard
            self.reward[task] += self.rng.binomial(heard, self.quality[task])

    def posterior(self) -> Posterior:
        """Return what the labels tell."""
        evidence = Evidence.empty(*self.calls.shape)
        columns = [self.labels, self.labels, self.reward, self.reward]
        evidence.quality[..., [Q.LABELS, Q.N, Q.R, Q.R2]] = np.stack(columns, axis=-1)
        return infer(evidence, self.arms)

    def look(self, posterior: Posterior) -> None:
        """Release what is certain, and note of each task when that was first."""
        asked = np.array([task not in self.first for task in range(len(self.calls))])
        self.standings, released = incumbent.certain(
            self.standings, posterior, OBJECTIVE, self.everybody, asked
        )
        self.first |= {r.task: float(self.labels[r.task].sum()) for r in released}

    def weigh(self, posterior: Posterior) -> None:
        """Work out whom the law gives the next calls."""
        inc = self.standings.incumbent
        routed, others = self.calls.sum(axis=1), np.arange(len(self.order)) != inc
        books = Books(
            routed,
            self.labels * others,
            self.reward * others,
            (self.calls - self.labels) * others,
        )
        room = incumbent.room(books, posterior, OBJECTIVE, inc)
        self.standings = incumbent.choose_challengers(
            self.standings, posterior, OBJECTIVE, self.everybody, self.order
        )
        a_day = CALLS_A_DAY * (routed + 1) / (routed + 1).sum()
        explored = incumbent.explored_tasks(self.standings, posterior, OBJECTIVE, a_day, room=room)
        for task in range(len(self.calls)):
            law = incumbent.law(
                self.standings, posterior, OBJECTIVE, task, room=room, explored=bool(explored[task])
            )
            bank = posterior.bank(task, sharpness=1.0)
            table = tabulate(bank, objective=OBJECTIVE, law=law, eligible=self.everybody)
            self.share[task] = propensities(law, table)


def _begin(
    rates: tuple[float, ...], n_tasks: int, labelled: float, rng: np.random.Generator
) -> _Run:
    """Return a run of which nothing is known: the incumbent serves."""
    n, shape = len(rates), (n_tasks, len(rates))
    unpriced = np.full(n, np.nan)
    share = np.zeros(shape)
    share[:, 0] = 1
    return _Run(
        quality=np.tile(rates, (n_tasks, 1)),
        labelled=labelled,
        rng=rng,
        standings=incumbent.begin(0, n_tasks),
        order=rng.permutation(n).astype(float),
        arms=Arms(np.arange(n), np.arange(n), unpriced, unpriced),
        calls=np.zeros(shape),
        labels=np.zeros(shape),
        reward=np.zeros(shape),
        share=share,
        everybody=np.ones(n, dtype=bool),
    )


def until_first_release(runs: int = 20, seed: int = 0) -> dict[str, Any]:
    """Return the median of the labels that a task has at its first release.

    The incumbent is the worst of eight endpoints, in eight tasks; two calls in five are labelled.
    A task that never releases counts with what it had when it was given up.
    """
    found: list[float] = []
    for run in range(runs):
        stream = _begin(UNEQUAL, N_TASKS, LABELLED, np.random.default_rng([seed, run]))
        while len(stream.first) < N_TASKS and stream.labels.sum() < GIVEN_UP * N_TASKS:
            stream.serve(CALLS_A_LOOK // N_TASKS)
            posterior = stream.posterior()
            stream.look(posterior)
            stream.weigh(posterior)
        missing = [task for task in range(N_TASKS) if task not in stream.first]
        found += [*stream.first.values(), *(float(stream.labels[t].sum()) for t in missing)]
    value = float(np.median(found))
    return {
        "experiment": "an incumbent of .62 beside seven of .70 to .92, eight tasks",
        "measure": "labels a task until its first release, median",
        "value": value,
        "goal": MOST_LABELS,
        "kept": value <= MOST_LABELS,
    }


def released_at_once(runs: int = 1_000, seed: int = 0) -> dict[str, Any]:
    """Return in how many runs an incumbent yields to one that is no better than it.

    Eight endpoints of quality .8, one task, 10,000 labels, a look at every fiftieth.
    """
    released = 0
    for run in range(runs):
        stream = _begin(EQUAL, 1, 1.0, np.random.default_rng([seed, run]))
        released += _yields(stream)
    goal = int(MOST_RELEASES * runs)
    return {
        "experiment": "an incumbent beside seven that are equal to it",
        "measure": f"runs of {runs} with a release before the review",
        "value": released,
        "goal": goal,
        "kept": released <= goal,
    }


def _yields(stream: _Run) -> bool:
    for look in range(LABELS_A_RUN // LABELS_A_LOOK):
        stream.serve(LABELS_A_LOOK)
        weighs = look * LABELS_A_LOOK < 1_000 or not look % LOOKS_A_LAW
        if not weighs and not _may_be_certain(stream.labels[0], stream.reward[0]):
            continue
        posterior = stream.posterior()
        stream.look(posterior)
        if stream.first:
            return True
        if weighs:
            stream.weigh(posterior)
    return False


def _may_be_certain(labels: NDArray[np.float64], reward: NDArray[np.float64]) -> bool:
    """Return whether the plain means set anybody so far above the first as to ask the posterior."""
    mean = (reward + 1) / (labels + 2)
    variance = mean * (1 - mean) / (labels + 2)
    apart = (mean - mean[0]) / np.sqrt(variance + variance[0])
    return bool((apart[labels >= incumbent.CERTAIN_LABELS] > MAY_BE_CERTAIN).any())
