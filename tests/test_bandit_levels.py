"""Two levels of categories: every label counts once where all are pooled, and once where not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from bandit import cells, levels, quality
from bandit.evidence import Evidence
from bandit.families import N_COLUMNS, Family, Q, U
from bandit.posterior import Apart, Arms, infer
from bandit.teaching import MOST_BORROWED_N
from bandit.utility import may_judge

NOW_MS = 1_800_000_000_000
CODE, REVIEW, FIX, CHAT = (np.uint64(n) for n in (11, 12, 13, 14))
ARMS = (np.uint64(1), np.uint64(2), np.uint64(3))
WITHIN = np.array([0, 0, 0, 3])
"""Rows of code, review, fix and chat."""


def terms(records: list[tuple[int, int, float]], places: list[np.uint64]) -> cells.Terms:
    """Labels as `(task, arm, reward)`, each task's under its own digest or another."""
    columns = np.zeros((len(records), N_COLUMNS))
    reward = [r for _, _, r in records]
    columns[:, [Q.LABELS, Q.N]], columns[:, Q.R], columns[:, Q.R2] = 1, reward, np.square(reward)
    return cells.terms(
        Family.QUALITY,
        category=np.array([places[task] for task, _, _ in records], dtype=np.uint64),
        endpoint=np.array([ARMS[arm] for _, arm, _ in records], dtype=np.uint64),
        at_ms=NOW_MS - 1000 * np.arange(len(records), dtype=np.int64),
        columns=columns,
    )


def read(rows: cells.Terms, *categories: np.uint64) -> Evidence:
    endpoints = np.array(ARMS, dtype=np.uint64)
    digests = np.array(categories, dtype=np.uint64)
    return cells.read(rows, categories=digests, endpoints=endpoints, now_ms=NOW_MS)


RECORDS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=60
)


@given(RECORDS)
@settings(max_examples=60, deadline=None)
def test_what_is_pooled_is_the_sum_of_the_rows(records: list[tuple[int, int, float]]) -> None:
    """Whether leaves have rows of their own or not, and as if nobody had ever told them apart."""
    own = cells.merge([terms(records, [CODE, REVIEW, FIX, CHAT])])
    flat = read(cells.merge([terms(records, [CODE, CODE, CODE, CHAT])]), CODE, CHAT)

    by_row = levels.together(read(own, CODE, REVIEW, FIX, CHAT), WITHIN)
    gathered = cells.renamed(own, np.array([REVIEW, FIX]), np.array([CODE, CODE]))

    np.testing.assert_allclose(by_row.quality[[0, 3]], flat.quality, rtol=1e-12)
    np.testing.assert_allclose(read(gathered, CODE, CHAT).quality, flat.quality, rtol=1e-12)
    np.testing.assert_array_equal(by_row.quality[1], read(own, REVIEW).quality[0])
    assert by_row.quality[[0, 3], :, Q.LABELS].sum() == len(records)


def test_what_is_damaged_in_a_leaf_is_damaged_above_it() -> None:
    evidence = Evidence.empty(4, 3)
    evidence.usage[1, 2, U.CALLS] = -5
    evidence.usage[0, 2, U.CALLS] = 100

    found = levels.together(evidence, WITHIN)

    assert np.isnan(found.usage[0, 2, U.CALLS])
    assert found.usage[0, 1, U.CALLS] == 0


def labelled(n: list[list[float]], mean: list[list[float]]) -> Evidence:
    """Labels of four rows, each in one."""
    out = Evidence.empty(4, 3)
    count, share = np.array(n), np.array(mean)
    out.quality[..., Q.LABELS] = out.quality[..., Q.N] = count
    out.quality[..., Q.R] = out.quality[..., Q.R2] = count * share
    return out


ALONE = labelled(
    [[100, 80, 0], [30, 20, 0], [0, 0, 0], [50, 60, 70]],
    [[0.3, 0.8, 0], [0.9, 0.2, 0], [0, 0, 0], [0.6, 0.5, 0.7]],
)
THREE = Arms(np.arange(3), np.arange(3), np.ones(3), np.ones(3))


def known(alone: Evidence = ALONE):
    together = levels.together(alone, WITHIN)
    apart = Apart(WITHIN, alone.quality)
    return infer(together, THREE, apart=apart, derived_apart=alone.derived)


def test_a_category_is_believed_as_if_nobody_had_told_its_leaves_apart() -> None:
    found, flat = known(), Evidence.empty(2, 3)
    flat.quality[:] = levels.pooled(ALONE.quality, WITHIN)[[0, 3]]

    expected = infer(flat, THREE).quality

    np.testing.assert_array_equal(found.quality.mean[[0, 3]], expected.mean)
    np.testing.assert_array_equal(found.quality.sd[[0, 3]], expected.sd)
    for row, category in ((0, 0), (3, 1)):
        np.testing.assert_array_equal(
            found.quality.difference(row, 1), expected.difference(category, 1)
        )


def test_a_leaf_goes_by_its_own_labels_and_from_what_is_above_it() -> None:
    mean = known().quality.mean

    assert mean[1, 0] > mean[1, 1] + 0.3, "its own labels say so"
    assert mean[0, 1] > mean[0, 0], "those above it say otherwise"
    assert mean[2, 1] > mean[2, 0], "and so does a leaf that has none"


def test_a_leafs_cell_is_the_product_of_its_prior_its_labels_and_what_is_lent() -> None:
    """Scipy is the referee: the density is integrated as it is defined."""
    found = known().quality
    alone = quality.fit(*(ALONE.quality[..., k] for k in (Q.N, Q.R, Q.R2)), family=np.arange(3))
    row, arm = 1, 0
    sd = alone.noise[row, arm] ** 0.5
    lent = min(MOST_BORROWED_N, 100)

    def density(theta: float) -> float:
        prior = stats.norm.pdf(theta, alone.base[row] + alone.skill[arm], alone.tau2[row] ** 0.5)
        own = stats.norm.pdf(0.9, theta, sd / 30**0.5)
        return float(prior * own * stats.norm.pdf(0.3, theta, sd / lent**0.5))

    mass, _ = integrate.quad(density, -1, 2, points=[0.3, 0.9])
    first, _ = integrate.quad(lambda t: t * density(t), -1, 2, points=[0.3, 0.9])

    assert found.mean[row, arm] == pytest.approx(first / mass, abs=1e-6)


def test_shared_levels_know_each_label_once() -> None:
    found = known().quality
    alone = quality.fit(*(ALONE.quality[..., k] for k in (Q.N, Q.R, Q.R2)), family=np.arange(3))

    np.testing.assert_array_equal(found.below.skill, alone.skill)
    np.testing.assert_array_equal(found.below.skill_var, alone.skill_var)


def test_a_verdict_over_all_tasks_counts_each_label_once() -> None:
    """19 of a leaf and 10 of another task are 29, though the leaf's are above it as well."""
    few = labelled([[0, 0, 0], [19, 0, 0], [0, 0, 0], [10, 0, 0]], [[0.5, 0, 0]] * 4)
    enough = labelled([[0, 0, 0], [19, 0, 0], [0, 0, 0], [11, 0, 0]], [[0.5, 0, 0]] * 4)

    assert not may_judge(known(few)).any()
    assert may_judge(known(enough))[:, 0].all()


def test_draws_of_a_leaf_are_around_its_own_means() -> None:
    posterior = known()

    drawn = posterior.bank(1, sharpness=1.0).quality

    spread = np.abs(drawn.mean(axis=0) - posterior.quality.mean[1])
    assert (spread < 0.05).all()
