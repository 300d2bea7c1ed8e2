"""Simulated traffic through the observer and the fold: faults are found, and only those."""

from __future__ import annotations

import pytest

from scripts.benches.derived import FAULTY, SURE, find_faults, healthy, print_figures
from scripts.benches.derived_traffic import KINDS

SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
def test_faults_of_two_in_a_hundred_are_found_at_their_endpoint_and_nowhere_else(seed: int) -> None:
    found = find_faults(2000, seed=seed)

    print_figures({"faults": found})
    assert all(0 < found["found_after"][kind] <= 2000 for kind in KINDS)
    assert not found["wrongly"]
    for row in found["rows"]:
        if row["endpoint"] == FAULTY:
            assert row["usable"] < 0.97
            assert row["p_worse"] >= SURE
        else:
            assert row["usable"] > 0.975


def test_without_a_fault_nothing_moves() -> None:
    found = find_faults(2000, rate=0.0)

    assert not found["wrongly"]
    assert [row["usable"] for row in found["rows"]] == [1.0] * len(found["rows"])


def test_rare_faults_everywhere_point_at_nobody() -> None:
    for seed in SEEDS:
        found = find_faults(2000, rate=0.001, at=None, seed=seed)

        assert not found["wrongly"]
        shares = [row["usable"] for row in found["rows"]]
        assert max(shares) - min(shares) < 0.02


@pytest.mark.slow
def test_ten_thousand_healthy_conversations_that_are_alike_are_usable() -> None:
    found = healthy(10_000)

    print_figures({"healthy": found})
    assert found["calls"] > 20_000
    assert min(row["usable"] for row in found["rows"]) >= 0.99
    assert max(row["p_worse"] for row in found["rows"]) < SURE
    assert set(found["bad"]) <= {"REGENERATED"}  # of a session that asks the same twice
    assert sum(found["bad"].values()) < 0.01 * found["calls"]
