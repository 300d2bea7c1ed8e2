"""Exemplars to weights: what each feature of a word says for each task.

A ridge regression onto the tasks, each of the same weight however many exemplars it has, over
features that count the more the fewer exemplars they are in. It is solved by conjugate gradients in
the space of exemplars, with sums in one fixed order; weights are then rounded to whole numbers, so
that every process and hash seed finds the same.

Ref: Hoerl and Kennard (1970), ridge regression; Hestenes and Stiefel (1952), conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from router.classify.words import features_of

UNIT = 1024
"""What one word may say for a task against another, at most; a power of two, so that shares of it
are exact."""
PENALTY = 1.0
STEPS, PRECISION = 24, 1e-3
"""Of conjugate gradients, at most; and the share of the first residual at which they end."""
CAPPED = 0.4
"""Share of the exemplars' words that say as much as a word may. Fewer, and rare words decide;
more, and all words say the same: between .3 and .6 little changes (`scripts/prove classify`)."""
BEGINNING, KIND = 0.7, 1.0
"""Weight of a word's beginning and of a mark, beside the word itself."""

Matrix = NDArray[np.float64]


class Taught(Struct, frozen=True):
    """What exemplars taught."""

    tasks: tuple[str, ...]  # in the order of columns
    rows: dict[str, int]  # of features
    weights: NDArray[np.int64]  # (features, tasks), in units of `UNIT` per word


class Incidence(Struct, frozen=True):
    """Which exemplar has which feature, in both orders; no row or column is empty."""

    by_text: tuple[NDArray[np.intp], NDArray[np.intp], Matrix]  # starts, features, values
    by_feature: tuple[NDArray[np.intp], NDArray[np.intp], Matrix]  # starts, texts, values

    def to_features(self, values: Matrix) -> Matrix:
        """Return (features, tasks) of (texts, tasks)."""
        return _summed(self.by_feature, values)

    def to_texts(self, values: Matrix) -> Matrix:
        """Return (texts, tasks) of (features, tasks)."""
        return _summed(self.by_text, values)


def teach(exemplars: Mapping[str, Sequence[Set[str]]]) -> Taught:
    """Return what exemplars teach.

    Args:
        exemplars: by task the keys of each text; texts without any are left out.
    """
    tasks = tuple(sorted(task for task, texts in exemplars.items() if any(texts)))
    texts = [
        (column, keys) for column, task in enumerate(tasks) for keys in exemplars[task] if keys
    ]
    found = [sorted({f for key in keys for f in features_of(key)}) for _, keys in texts]
    rows = {feature: row for row, feature in enumerate(sorted({f for fs in found for f in fs}))}
    if len(tasks) < 2:
        return Taught(tasks, {}, np.zeros((0, len(tasks)), np.int64))
    spread_over = np.bincount([rows[f] for fs in found for f in fs])
    scale = np.sqrt(np.log1p(len(texts) / spread_over)) * np.array([_weight(f) for f in rows])
    incidence = _incidence([[rows[f] for f in fs] for fs in found], scale)
    columns = np.array([column for column, _ in texts])
    weights = incidence.to_features(_solved(incidence, columns, len(tasks))) * scale[:, None]
    weights -= weights.mean(axis=1, keepdims=True)
    most = _most([keys for _, keys in texts], rows, weights)
    return Taught(tasks, rows, np.rint(weights * (UNIT / most)).astype(np.int64))


def capped(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return votes of words, (words, tasks), of which none says more than `UNIT`.

    Of whole numbers a and b whose difference is at most `UNIT`, so is that of their floors.
    """
    said = votes.max(axis=1) - votes.min(axis=1)
    over = said > UNIT
    if over.any():
        votes[over] = votes[over] * UNIT // said[over][:, None]
    return votes


def _weight(feature: str) -> float:
    return BEGINNING if feature[0] == "^" else KIND


def _incidence(found: Sequence[Sequence[int]], scale: Matrix) -> Incidence:
    """Return exemplars, each of length one, as rows of their features."""
    sizes = np.array([len(one) for one in found])
    features = np.array([f for one in found for f in one], np.intp)
    texts = np.repeat(np.arange(len(found)), sizes)
    values = scale[features]
    values /= np.sqrt(np.bincount(texts, values**2))[texts]
    order = np.argsort(features, kind="stable")
    by_text = (np.cumsum(sizes) - sizes, features, values)
    starts = np.searchsorted(features[order], np.arange(len(scale)))
    return Incidence(by_text, (starts, texts[order], values[order]))


def _summed(entries: tuple[NDArray[np.intp], NDArray[np.intp], Matrix], of: Matrix) -> Matrix:
    starts, columns, values = entries
    sums = np.empty((len(starts), of.shape[1]))
    for task, column in enumerate(of.T):  # one at a time: what is multiplied stays in the cache
        np.add.reduceat(column[columns] * values, starts, out=sums[:, task])
    return sums


def _solved(incidence: Incidence, columns: NDArray[np.intp], n_tasks: int) -> Matrix:
    """Return (texts, tasks): the ridge regression's own weight of each exemplar."""
    n = len(columns)
    target = np.full((n, n_tasks), -1.0 / (n_tasks - 1))
    target[np.arange(n), columns] = 1.0
    held = (PENALTY * n_tasks * np.bincount(columns) / n)[columns][:, None]
    solution, residual = np.zeros_like(target), target
    step, size = target, (target**2).sum(axis=0)
    first = size
    for _ in range(STEPS):
        image = incidence.to_texts(incidence.to_features(step)) + held * step
        length = size / np.maximum((step * image).sum(axis=0), 1e-300)
        solution, residual = solution + length * step, residual - length * image
        before, size = size, (residual**2).sum(axis=0)
        if (size <= PRECISION**2 * first).all():
            break
        step = residual + size / np.maximum(before, 1e-300) * step
    return solution


def _most(texts: Sequence[Set[str]], rows: Mapping[str, int], weights: Matrix) -> float:
    """Return the most that a word may say: what a share `CAPPED` of the exemplars' words reach."""
    said = []
    for key in sorted({key for keys in texts for key in keys}):
        vote = weights[[rows[f] for f in features_of(key)]].sum(axis=0)
        said.append(vote.max() - vote.min())
    return max(float(np.quantile(said, 1 - CAPPED)), 1e-9)
