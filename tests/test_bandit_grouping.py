"""Batches: the same integers as one term a record, whatever the order and the cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit import cells, decay, grouping, terms
from bandit.families import HALF_LIFE_MS, N_COLUMNS, Family
from bandit.grouping import Grouping

NOW_MS = 1_790_000_000_000


def records(seed: int, n: int, n_cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    digests = rng.integers(0, 2**63, n_cells).astype(np.uint64)
    at_ms = NOW_MS - rng.integers(0, 3 * 86_400_000, n)
    return rng.choice(digests, n), rng.choice(digests, n), at_ms


@given(st.integers(0, 1000), st.integers(0, 60), st.integers(1, 5), st.sampled_from(list(Family)))
def test_a_batch_adds_what_its_records_add_one_by_one(
    seed: int, n: int, n_cells: int, family: Family
) -> None:
    category, endpoint, at_ms = records(seed, n, n_cells)
    columns = np.random.default_rng(seed).normal(0, 3, (n, N_COLUMNS))
    columns[:, 0] = 1
    one_by_one = cells.merge(
        [cells.terms(family, category=category, endpoint=endpoint, at_ms=at_ms, columns=columns)]
    )

    at_once = cells.merge(
        [Grouping.of(category, endpoint, at_ms).terms(family, dict(enumerate(columns.T)))]
    )

    assert (at_once.keys == one_by_one.keys).all()
    assert (at_once.values == one_by_one.values).all()


def test_records_that_add_nothing_make_no_row() -> None:
    category, endpoint, at_ms = records(1, 10, 2)

    got = Grouping.of(category, endpoint, at_ms).terms(Family.USAGE, {0: np.zeros(10)})

    assert len(got.keys) == 0


def test_a_span_lies_in_one_window_of_every_family() -> None:
    windows = [half * decay.HALF_LIVES_PER_WINDOW for half in HALF_LIFE_MS.values()]

    assert all(window % grouping.SPAN_MS == 0 for window in windows)


def test_two_cells_whose_words_collide_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # Patched, and private: nobody knows two rows whose words collide.
    monkeypatch.setattr(terms, "_MIX", (0, 0, 0, 0))
    rows = np.array([3, 1, 3, 2, 1], dtype=np.uint64)

    order, starts = terms.group([rows, rows])

    assert rows[order].tolist() == [1, 1, 2, 3, 3]
    assert starts.tolist() == [0, 2, 3]
