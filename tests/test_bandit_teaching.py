"""What others taught as a prior, and who taught what: numbers that can be checked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bandit import cells, teaching
from bandit.evidence import Evidence
from bandit.families import N_COLUMNS, D, Family, L, Q, R, T, U
from bandit.matrix import Z90
from bandit.posterior import Arms, infer

APP, TASK, ENDPOINT = 11, 22, 33


def labels(n: float, mean: float, *, plain: float | None = None) -> NDArray[np.float64]:
    out = np.zeros((1, 1, N_COLUMNS))
    out[0, 0, [Q.LABELS, Q.N, Q.R, Q.R2]] = n if plain is None else plain, n, n * mean, n * mean
    return out


def others(quality: NDArray[np.float64]) -> Evidence:
    found = Evidence.empty(1, 1)
    found.usage[..., U.CALLS] = 400
    found.latency[..., L.N] = 300
    found.reliability[..., R.OK] = 200
    found.derived[0, 0, [D.N, D.GOOD, D.PAIRS, D.PAIR_N, D.PAIR_D]] = 30, 15, 20, 20, 10
    return Evidence(
        quality, found.usage, found.latency, found.reliability, found.derived, found.chains
    )


NOTHING = np.zeros((1, 1, N_COLUMNS))


def test_what_others_taught_is_worth_ten_labels_and_their_calls_count_in_full() -> None:
    found = teaching.with_own_labels(others(labels(100, 0.8)), labels(10, 0.2), NOTHING)

    assert found.quality[0, 0, [Q.LABELS, Q.N, Q.R]].tolist() == [10, 20, 10]
    assert found.derived[0, 0, [D.N, D.GOOD, D.PAIRS]].tolist() == [6, 3, 4]
    counts = found.usage[0, 0, U.CALLS], found.latency[0, 0, L.N], found.reliability[0, 0, R.OK]
    assert counts == (400, 300, 200)


def test_few_labels_of_others_count_as_they_are() -> None:
    found = teaching.with_own_labels(others(labels(4, 0.5)), NOTHING, NOTHING)

    assert found.quality[0, 0, [Q.LABELS, Q.N, Q.R]].tolist() == [0, 4, 2]


def test_what_is_lent_counts_as_no_label_of_ones_own() -> None:
    """Where a review asks for labels, those of others are no reason for one."""
    quality, _ = teaching.borrowed(others(labels(5, 0.5, plain=500)))

    assert quality[0, 0, [Q.LABELS, Q.N]].tolist() == [0, 5]


def test_a_damaged_cell_lends_nothing_and_one_of_ones_own_is_told() -> None:
    lent = teaching.with_own_labels(others(labels(-5, 1)), labels(10, 0.2), NOTHING)
    own = teaching.with_own_labels(others(labels(100, 0.8)), labels(-5, 1), NOTHING)

    assert lent.quality[0, 0, [Q.N, Q.R]].tolist() == [10, 2]
    assert np.isnan(own.quality).all()


def estimates(n_own: int, *, apart: float, lent: bool) -> tuple[float, float]:
    """Mean error of an app's qualities, and how often 90 % intervals hold, over 60 worlds."""
    rng, shape, errors, held = np.random.default_rng(5), (3, 6), [], []
    arms = Arms(np.arange(6), np.arange(6), np.ones(6), np.ones(6))
    for _ in range(60):
        theirs = rng.normal(0.7, 0.15, (1, 6)) + rng.normal(0, 0.07, shape)
        truth = np.clip(theirs + rng.normal(0, apart, shape), 0.05, 0.95)
        said = [
            np.stack([np.full(shape, n), np.full(shape, n), good, good], axis=-1)
            for n, mean in ((400, np.clip(theirs, 0.05, 0.95)), (n_own, truth))
            for good in [rng.binomial(n, mean)]
        ]
        shared, own = (np.pad(each.astype(float), ((0, 0), (0, 0), (0, 6))) for each in said)
        rest = Evidence.empty(*shape)
        if not lent:
            shared = np.zeros_like(shared)
        evidence = teaching.with_own_labels(replace(rest, quality=shared), own, rest.derived)
        found = infer(evidence, arms).quality
        errors.append(np.abs(found.mean - truth).mean())
        held.append((np.abs(found.mean - truth) < Z90 * found.sd).mean())
    return float(np.mean(errors)), float(np.mean(held))


def test_a_new_app_starts_from_what_others_taught() -> None:
    """Six endpoints, three tasks, five labels of its own in each cell."""
    with_theirs, _ = estimates(5, apart=0.0, lent=True)
    without, _ = estimates(5, apart=0.0, lent=False)

    assert with_theirs < 0.6 * without


@pytest.mark.parametrize("n_own", [0, 5, 20, 80])
def test_intervals_hold_also_where_apps_are_of_different_minds(n_own: int) -> None:
    """Quality of a cell differs by an sd of .1 between them: as much as 20 labels can tell."""
    _, held = estimates(n_own, apart=0.1, lent=True)

    assert held > 0.84


def test_the_key_of_teaching_never_changes() -> None:
    """Rows in stores and archives are named by it."""
    word = 2**64 - 1
    keys = teaching.key_of(np.array([1, word], dtype=np.uint64), np.array([2], dtype=np.uint64))

    first = (0x9E3779B97F4A7C15 + 2 * 0xC2B2AE3D27D4EB4F) % 2**64
    second = (word * 0x9E3779B97F4A7C15 + 2 * 0xC2B2AE3D27D4EB4F) % 2**64
    assert keys.tolist() == [first, second]


def read(*said: tuple[float, float]) -> tuple[float, float]:
    """Labels and rewards of an app, given what each record adds of both."""
    columns = np.zeros((len(said), N_COLUMNS))
    columns[:, [T.LABELS, T.REWARD]] = said
    app, task, endpoint = (
        np.full(len(said), digest, dtype=np.uint64) for digest in (APP, TASK, ENDPOINT)
    )
    rows = cells.terms(
        Family.TEACHING,
        category=teaching.key_of(app, task),
        endpoint=endpoint,
        at_ms=np.zeros(len(said), dtype=np.int64),
        columns=columns,
    )
    found, reward = teaching.read_teaching(
        rows, app=APP, categories=task[:1], endpoints=endpoint[:1]
    )
    return float(found[0, 0]), float(reward[0, 0])


def test_teaching_is_counted_by_app_and_never_fades() -> None:
    assert read((1, 0.5), (1, 1.0), (1, 0.0)) == (3, 1.5)
