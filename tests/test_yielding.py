"""The bench of an incumbent that yields: in small, what it says in full."""

from __future__ import annotations

import pytest

from bandit import incumbent
from scripts.benches.yielding import EQUAL, UNEQUAL, released_at_once, until_first_release

ROW = {"experiment", "measure", "value", "goal", "kept"}


def test_an_incumbent_that_is_the_worst_yields_within_1500_labels_a_task() -> None:
    row = until_first_release(runs=2, seed=1)

    assert set(row) == ROW
    assert 2 * incumbent.CERTAIN_LABELS <= row["value"] <= row["goal"] == 1500
    assert row["kept"]
    assert UNEQUAL[0] == min(UNEQUAL)


@pytest.mark.slow
def test_an_incumbent_does_not_yield_to_its_equals() -> None:
    row = released_at_once(runs=20, seed=1)

    assert set(row) == ROW
    assert len(set(EQUAL)) == 1
    assert (row["value"], row["kept"]) == (0, True)
