"""Quality against a dense solve of the whole joint Gaussian."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import linalg

from bandit import quality
from bandit.quality import Quality


def fix(monkeypatch: pytest.MonkeyPatch, tau2: np.ndarray) -> None:
    """Leave nothing to be estimated but what the joint Gaussian is of."""
    # Patched: a fit has no settings, and the dense solve that referees it cannot estimate these.
    monkeypatch.setattr(quality, "TAU2_RANGE", (tau2, tau2))
    monkeypatch.setattr(quality, "SKILL_SD_RANGE", (quality.SKILL_SD, quality.SKILL_SD))
    monkeypatch.setattr(quality, "OWN_NOISE_SHARE", 0.0)


def labels(
    rng: np.random.Generator, shape: tuple[int, int], most: int
) -> tuple[np.ndarray, np.ndarray]:
    n = rng.integers(0, most + 1, shape)
    return n.astype(float), rng.binomial(n, rng.uniform(0.3, 0.9, shape)).astype(float)


def solve(
    n: np.ndarray,
    r: np.ndarray,
    tau2: np.ndarray,
    skill_cov: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of all θ, from the model's definition and nothing else."""
    n_categories, n_groups = n.shape
    skill_cov = np.eye(n_groups) * quality.SKILL_SD**2 if skill_cov is None else skill_cov
    # Bases: sd BASE_SD around a mean of theirs that is N(.5, 1).
    ones = np.full((n_categories, n_categories), 1 / n_categories)
    base_cov = (np.eye(n_categories) - ones) * quality.BASE_SD**2 + n_categories * ones
    design = np.hstack(
        [
            np.kron(np.eye(n_categories), np.ones((n_groups, 1))),
            np.kron(np.ones((n_categories, 1)), np.eye(n_groups)),
        ]
    )
    prior_cov = design @ linalg.block_diag(base_cov, skill_cov) @ design.T
    prior_cov += np.diag(np.repeat(tau2, n_groups))
    level = (r.sum(axis=1) + 0.5) / (n.sum(axis=1) + 1)
    pseudo = quality.NOISE_PSEUDO_N
    within = (r - r * r / np.maximum(n, 1e-9)).sum(axis=1) + pseudo * level * (1 - level)
    noise = within / (np.maximum(n - 1, 0).sum(axis=1) + pseudo)
    seen = np.flatnonzero(n.ravel() > 0)
    spread = np.diag(np.repeat(noise, n_groups)[seen] / n.ravel()[seen])
    gain = linalg.solve(prior_cov[np.ix_(seen, seen)] + spread, prior_cov[seen], assume_a="pos").T
    mean = 0.5 + gain @ (r.ravel()[seen] / n.ravel()[seen] - 0.5)
    return mean.reshape(n.shape), prior_cov - gain @ prior_cov[seen]


CASES = [(1, 2, 5), (1, 4, 60), (3, 4, 6), (4, 3, 60), (6, 8, 200)]


@pytest.mark.parametrize(("n_categories", "n_groups", "most"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_means_are_those_of_the_joint_gaussian(
    monkeypatch, n_categories, n_groups, most, seed
) -> None:
    rng = np.random.default_rng([seed, n_categories, n_groups])
    tau2 = rng.uniform(0.002, 0.04, n_categories)
    n, r = labels(rng, (n_categories, n_groups), most)
    fix(monkeypatch, tau2)

    fitted = quality.fit(n, r, r, family=np.arange(n_groups))

    mean, _ = solve(n, r, tau2)
    assert fitted.mean == pytest.approx(mean, abs=1e-8)


@pytest.mark.parametrize(("n_categories", "n_groups", "most"), CASES)
@pytest.mark.parametrize("seed", range(4))
def test_spreads_are_those_of_the_joint_gaussian(
    monkeypatch, n_categories, n_groups, most, seed
) -> None:
    rng = np.random.default_rng([seed, n_categories, n_groups])
    tau2 = rng.uniform(0.002, 0.04, n_categories)
    n, r = labels(rng, (n_categories, n_groups), most)
    fix(monkeypatch, tau2)

    fitted = quality.fit(n, r, r, family=np.arange(n_groups))

    _, cov = solve(n, r, tau2)
    assert fitted.sd == pytest.approx(np.sqrt(np.diag(cov)).reshape(n.shape), rel=1e-6)


@pytest.mark.parametrize(("n_categories", "n_groups", "most"), CASES)
@pytest.mark.parametrize("reference", [0, 1])
def test_differences_are_those_of_the_joint_gaussian(
    monkeypatch, n_categories, n_groups, most, reference
) -> None:
    rng = np.random.default_rng([7, n_categories, n_groups])
    tau2 = rng.uniform(0.002, 0.04, n_categories)
    n, r = labels(rng, (n_categories, n_groups), most)
    fix(monkeypatch, tau2)
    fitted = quality.fit(n, r, r, family=np.arange(n_groups))
    mean, cov = solve(n, r, tau2)

    for c in range(n_categories):
        got, sd = fitted.difference(c, reference)

        place = slice(c * n_groups, (c + 1) * n_groups)
        contrast = np.eye(n_groups) - np.eye(n_groups)[reference]
        referee = np.sqrt(np.maximum(np.diag(contrast @ cov[place, place] @ contrast.T), 0))
        assert got == pytest.approx(mean[c] - mean[c, reference], abs=1e-8)
        assert sd == pytest.approx(referee, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_settings_of_one_model_share_its_skill_as_in_the_joint_gaussian(monkeypatch, seed) -> None:
    rng = np.random.default_rng(seed)
    family = np.array([0, 0, 1, 0, 2])
    tau2 = rng.uniform(0.002, 0.02, 3)
    n, r = labels(rng, (3, 5), 60)
    fix(monkeypatch, tau2)
    # Patched: the few passes of a fit end before its limit, which is what the referee solves for.
    monkeypatch.setattr(quality, "N_PASSES", 400)
    same = family[:, None] == family
    siblings = same.sum(axis=0) > 1
    skill_cov = same * quality.SKILL_SD**2 + np.diag(siblings * quality.SETTING_SD**2)

    fitted = quality.fit(n, r, r, family=family)

    mean, _ = solve(n, r, tau2, skill_cov)
    assert fitted.mean == pytest.approx(mean, abs=1e-5)


def test_an_untried_setting_is_known_better_than_an_untried_model() -> None:
    n = np.array([[300.0, 0, 300, 0]] * 3)
    fitted = quality.fit(n, 0.8 * n, 0.8 * n, family=np.array([0, 0, 1, 2]))

    assert (fitted.sd[:, 1] < fitted.sd[:, 3]).all()


def fitted_figures(found: Quality) -> list[np.ndarray]:
    return [found.mean, found.sd, found.precision]


@pytest.mark.parametrize("seed", range(4))
def test_renaming_arms_renames_their_figures_and_nothing_else(seed) -> None:
    rng = np.random.default_rng(seed)
    n, r = labels(rng, (4, 6), 40)
    family, order = np.array([0, 1, 1, 2, 3, 3]), rng.permutation(6)

    plain = quality.fit(n, r, r, family=family)
    moved = quality.fit(n[:, order], r[:, order], r[:, order], family=family[order])

    for before, after in zip(fitted_figures(plain), fitted_figures(moved), strict=True):
        assert after == pytest.approx(before[:, order], rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_renaming_categories_renames_their_figures_and_nothing_else(seed) -> None:
    rng = np.random.default_rng(seed)
    n, r = labels(rng, (5, 4), 40)
    order = rng.permutation(5)

    plain = quality.fit(n, r, r, family=np.arange(4))
    moved = quality.fit(n[order], r[order], r[order], family=np.arange(4))

    for before, after in zip(fitted_figures(plain), fitted_figures(moved), strict=True):
        assert after == pytest.approx(before[order], rel=1e-9)


def test_a_difference_to_oneself_is_nothing_and_turns_its_sign() -> None:
    n, r = labels(np.random.default_rng(1), (2, 3), 30)
    fitted = quality.fit(n, r, r, family=np.arange(3))

    there, sd_there = fitted.difference(1, 0)
    back, sd_back = fitted.difference(1, 2)

    assert (there[0], sd_there[0]) == (0.0, 0.0)
    assert there[2] == pytest.approx(-back[0])
    assert sd_there[2] == pytest.approx(sd_back[0])
