"""Terms of several owners, each with a state of its own: worked out at once, and told apart again.

A few records cost hardly less than a few hundred: so what several owners are told is added up in
one go, with the owner as a part of each row's name. Gives what each owner's own would, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bandit import cells, exact
from bandit.cells import KEY, Terms
from bandit.families import N_COLUMNS

Stored = Callable[[NDArray[np.void]], NDArray[np.int64]]
"""Given keys (n,), the rows (n, N_COLUMNS) that are there, 0 where none is."""


def split(terms: Terms, n_owners: int) -> list[Terms]:
    """Return each owner's terms, of those that `cells.merge` made of all."""
    if terms.owners is None:
        none = Terms(np.empty(0, dtype=KEY), np.empty((0, N_COLUMNS), dtype=np.int64))
        return [terms if len(terms.keys) else none, *[none] * (n_owners - 1)]
    order = np.argsort(terms.owners, kind="stable")
    keys, values = terms.keys.take(order), terms.values[order]
    ends = np.bincount(terms.owners.astype(np.intp), minlength=n_owners).cumsum().tolist()
    return [Terms(keys[a:b], values[a:b]) for a, b in pairwise([0, *ends])]


def add_each(parts: Sequence[Terms], stored: Sequence[Stored]) -> list[Terms]:
    """Return of each owner the rows that its terms change, as `cells.add` does."""
    sizes = [len(part.keys) for part in parts]
    if not any(sizes):
        return list(parts)
    both = np.empty((2 * sum(sizes), N_COLUMNS), dtype=np.int64)
    pairs = list(zip(parts, stored, strict=True))
    both[::2] = np.concatenate([known(part.keys) for part, known in pairs if len(part.keys)])
    both[1::2] = np.concatenate([part.values for part in parts])
    low, high = exact.sums(both, np.arange(0, len(both), 2))
    if high is not None:  # some row is carried
        return [cells.add(part, known) for part, known in pairs]
    ends = np.cumsum(sizes).tolist()
    return [Terms(p.keys, low[a:b]) for p, (a, b) in zip(parts, pairwise([0, *ends]), strict=True)]
