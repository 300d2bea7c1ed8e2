"""What a client's ledger says must be folded, held against what was. Pure.

Counts of a whole cell would not do: a lost call hides behind one whose connection was cut and
that was folded nevertheless. So each call and each label leaves a trace of its own in the sums.
Of the calls of a task, the i-th is answered with `FOLDS`^i tokens; the sum of tokens in a cell,
written in base `FOLDS`, then says how often each single call was folded there. Labels do the
same with rewards of `FOLDS`^k steps of the fixed point. What is folded `FOLDS` times or more
carries into the next digit, and is found by the plain counts, which must be the digits' sum.

- A call that was answered in full must be folded once, at the endpoint that answered, and
  nowhere else. One that was cut may be folded once, anywhere.
- Of a decision's labels only the one that holds in the end may be left, once; of retracted ones
  nothing.
- Attempts that failed before the answer leave no tokens: they are held to bounds, by task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.cells import Terms
from bandit.decay import windows_and_weights
from bandit.families import HALF_LIFE_MS, N_COLUMNS, REAL_SCALE, D, Family, Q, U

FOLDS = 4
"""A digit tells 0, 1, 2 and 3 folds apart: a power of two keeps rewards exact."""
DIGITS = 16
"""4^15 tokens are the most that a call may report."""
CALLS_PER_TASK = 2 * DIGITS
"""Half of them in the tokens of the prompt, half in those of the answer."""
LEVELS = tuple(FOLDS**k / REAL_SCALE for k in range(9))
"""Rewards that count as `FOLDS`^k; the last one is 1."""
MOST_ATTEMPTS = 4
NO_LABEL = -1
FAMILIES = (Family.USAGE, Family.QUALITY, Family.DERIVED)
"""In which effects are looked for; all of one half-life, so that all weigh the same."""


class Inconclusive(Exception):
    """The sums cannot be read call by call."""


@dataclass(frozen=True, slots=True)
class LedgerCall:
    """One call as its client saw it."""

    number: int
    answered: bool  # in full; else it was cut or refused
    endpoint: int = -1
    attempts: int = 1
    label: int = NO_LABEL  # place in `LEVELS` of the label that holds in the end
    derived: bool = False  # whether that is only a derived one, which is no label of quality


@dataclass(slots=True)
class LedgerVerdict:
    """How many effects are missing, and how many there are too many."""

    lost: int = 0
    doubled: int = 0

    def compare(self, found: int, least: int, most: int) -> None:
        """Count what lies outside the bounds."""
        self.lost += max(least - found, 0)
        self.doubled += max(found - most, 0)


def tokens(number: int) -> tuple[int, int]:
    """Return the tokens in and out that the call of this number is answered with."""
    half, place = divmod(number % CALLS_PER_TASK, DIGITS)
    return (0, FOLDS**place) if half else (FOLDS**place, 0)


def weight(at_ms: int) -> int:
    """Return what an observation of that moment weighs in the sums."""
    of = {
        family: int(windows_and_weights(np.array([at_ms]), HALF_LIFE_MS[family])[1][0])
        for family in FAMILIES
    }
    if len(set(of.values())) > 1:
        raise Inconclusive("usage and labels no longer share a half-life")
    return of[Family.USAGE]


@dataclass(frozen=True, slots=True)
class Sums:
    """What is folded, without its weight: (n_tasks, n_endpoints, N_COLUMNS) integers."""

    usage: NDArray[np.int64]
    quality: NDArray[np.int64]
    derived: NDArray[np.int64]


def read_sums(rows: Terms, tasks: Sequence[int], endpoints: Sequence[int], *, weight: int) -> Sums:
    """Return the sums of the tasks and endpoints with these digests.

    Raises:
        Inconclusive: some weigh something else than `weight`.
    """
    place = {digest: i for i, digest in enumerate(tasks)}
    arm = {digest: i for i, digest in enumerate(endpoints)}
    out = {
        family: np.zeros((len(tasks), len(endpoints), N_COLUMNS), dtype=np.int64)
        for family in FAMILIES
    }
    for key, value in zip(rows.keys, rows.values, strict=True):
        t, e = place.get(int(key["category"])), arm.get(int(key["endpoint"]))
        if t is not None and e is not None and int(key["family"]) in out:
            out[Family(int(key["family"]))][t, e] += value
    weighted: dict[Family, list[int]] = {
        Family.USAGE: [U.N, U.TOKENS_IN, U.TOKENS_OUT],
        Family.QUALITY: [Q.N, Q.R],
        Family.DERIVED: [D.N, D.GOOD],
    }
    for family, columns in weighted.items():
        if (out[family][..., columns] % weight).any():
            raise Inconclusive("the weight of new evidence changed on the way; run it again")
        out[family][..., columns] //= weight
    return Sums(*(out[family] for family in FAMILIES))


def judge(sums: Sums, calls: Sequence[LedgerCall]) -> LedgerVerdict:
    """Return how far the sums are from what the ledger allows."""
    verdict = LedgerVerdict()
    by_task: dict[int, list[LedgerCall]] = {}
    for call in calls:
        by_task.setdefault(call.number // CALLS_PER_TASK, []).append(call)
    for task in range(len(sums.usage)):
        of_task = by_task.get(task, [])
        _judge_outcomes(verdict, sums.usage[task], of_task)
        _judge_labels(verdict, sums.quality[task], sums.derived[task], of_task)
    return verdict


def _judge_outcomes(
    verdict: LedgerVerdict, usage: NDArray[np.int64], calls: list[LedgerCall]
) -> None:
    """Compare the outcomes of one task; `usage` is (n_endpoints, N_COLUMNS)."""
    folds = np.array(
        [digits(row[U.TOKENS_IN], DIGITS) + digits(row[U.TOKENS_OUT], DIGITS) for row in usage]
    )
    allowed = np.zeros_like(folds)
    n_cut = n_failed = 0
    for call in calls:
        place = call.number % CALLS_PER_TASK
        found = folds[:, place]
        if call.answered:
            allowed[call.endpoint, place] = 1
            n_failed += call.attempts - 1
            verdict.compare(int(found[call.endpoint]), 1, 1)
        else:
            n_cut += 1
            allowed[:, place] = found > 0
            verdict.compare(int((found > 0).sum()), 0, 1)
    verdict.doubled += int(np.where(allowed == 0, folds, 0).sum())
    cut = [c.number % CALLS_PER_TASK for c in calls if not c.answered]
    verdict.doubled += int(np.maximum(folds[:, cut] - 1, 0).sum())
    n_known = int(usage[:, U.N].sum())
    verdict.doubled += abs(n_known - int(folds.sum()))  # a carry from digit to digit
    n_tokenless = int(usage[:, U.CALLS].sum()) - n_known
    verdict.compare(n_tokenless, n_failed, n_failed + MOST_ATTEMPTS * n_cut)


def _judge_labels(
    verdict: LedgerVerdict,
    quality: NDArray[np.int64],
    derived: NDArray[np.int64],
    calls: list[LedgerCall],
) -> None:
    """Compare the labels of one task; `quality` and `derived` are (n_endpoints, N_COLUMNS)."""
    wanted = np.zeros((2, len(quality), len(LEVELS)), dtype=np.int64)
    for call in calls:
        if call.label != NO_LABEL:
            wanted[int(call.derived), call.endpoint, call.label] += 1
    # What the observer derives by itself is 0 here, and leaves no trace in the sum.
    sums = np.stack([quality[:, Q.R], derived[:, D.GOOD]])
    found = np.array([[digits(x, len(LEVELS)) for x in row] for row in sums])
    verdict.lost += int(np.maximum(wanted - found, 0).sum())
    verdict.doubled += int(np.maximum(found - wanted, 0).sum())
    verdict.doubled += abs(int(quality[:, Q.LABELS].sum()) - int(found[0].sum()))


def digits(value: int, n: int) -> list[int]:
    """Return the lowest `n` digits of a sum, the first first; the last one holds the rest."""
    out = []
    for _ in range(n - 1):
        value, digit = divmod(int(value), FOLDS)
        out.append(digit)
    return [*out, int(value)]
