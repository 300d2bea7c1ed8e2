"""What follows from names, and from digests of rows, is made anew only where they change."""

from __future__ import annotations

import numpy as np

from bandit import cells
from bandit.families import N_COLUMNS, Family
from router.beliefs.names import Names


def test_names_are_the_same_value_until_one_is_new() -> None:
    names, known = Names(), {1: "a"}
    first = names.beside(known)

    assert names.beside(known) is first
    names.add(2, "b")
    second = names.beside(known)
    assert (first, second) == ({1: "a"}, {1: "a", 2: "b"})
    names.add(2, "b")
    assert names.beside(known) is second
    assert names.beside({**known, 3: "c"}) == {1: "a", 2: "b", 3: "c"}
    assert Names().beside(None) == {}


def test_rows_under_their_own_name_are_not_made_anew() -> None:
    n = 3
    rows = cells.terms(
        Family.QUALITY,
        category=np.arange(1, n + 1, dtype=np.uint64),
        endpoint=np.ones(n, dtype=np.uint64),
        at_ms=np.zeros(n, dtype=np.int64),
        columns=np.ones((n, N_COLUMNS)),
    )
    names = np.array([1, 2, 3], dtype=np.uint64)

    assert cells.renamed(rows, names, names) is rows
    moved = cells.renamed(rows, names, np.array([1, 1, 3], dtype=np.uint64))
    assert moved.keys["category"].tolist() == [1, 1, 3]
    assert rows.keys["category"].tolist() == [1, 2, 3]
