"""Draws of single margins, kept from one snapshot to the next.

To draw from a Beta or a Student t takes a generator a hundred times as long as to move and stretch
what was drawn. Evidence changes with each call and each second, by decay; the *shape* of a
posterior hardly does. So shapes are drawn on a grid, eight steps to a doubling of each parameter,
and kept; each time they are moved to the mean and stretched to the spread of the exact evidence. So
what may be off is skew and tails alone, by half a step: 4 % of a parameter, 2 % of the skew. A bank
of 256 draws is off by a multiple of that anyhow.

Nothing here depends on what was drawn before: who has the same evidence has the same draws.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STEPS = 8
"""Of the grid, to a doubling."""
KEPT = 4096
"""Shapes that are kept: 2 kB each for 256 draws."""
LEAST = 1e-6
"""That is drawn of a share at least: costs are divided by it."""


def betas(
    seed: tuple[int, ...],
    arms: NDArray[np.intp],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    *,
    n_draws: int,
) -> NDArray[np.float64]:
    """Return (n_drawn, n_draws) draws of Betas, each of its own mean and sd, in a kept shape.

    Args:
        seed: of what is drawn; each arm has its own luck in it.
        arms: (n_drawn,) which arms to draw for.
        a, b: (n_arms,) their parameters.
    """
    a, b = a[arms], b[arms]
    at = zip(arms.tolist(), _steps(a), _steps(b), strict=True)
    shapes = np.array([_beta_shape((*seed, arm), of_a, of_b, n_draws) for arm, of_a, of_b in at])
    total = a + b
    mean, sd = a / total, np.sqrt(a * b / (total + 1)) / total
    return np.asarray(np.clip(mean[:, None] + sd[:, None] * shapes, LEAST, 1.0))


def students(
    seed: tuple[int, ...], half: NDArray[np.float64], *, n_draws: int
) -> NDArray[np.float64]:
    """Return (n_arms, n_draws) draws of Student's t of scale 1, in kept shapes.

    Args:
        seed: of what is drawn; each arm has its own luck in it.
        half: (n_arms,) of their degrees of freedom.
    """
    return np.array(
        [_t_shape((*seed, arm), of_half, n_draws) for arm, of_half in enumerate(_steps(half))]
    )


def _steps(parameters: NDArray[np.float64]) -> list[int]:
    """Return for each parameter, above 0, which step of the grid it is nearest to."""
    return np.rint(STEPS * np.log2(parameters)).astype(int).tolist()


@lru_cache(maxsize=KEPT)
def _beta_shape(
    seed: tuple[int, ...], a_step: int, b_step: int, n_draws: int
) -> NDArray[np.float64]:
    """Return (n_draws,) draws of a Beta near these steps, less its mean, in its sd; read-only."""
    a, b = _at(a_step), _at(b_step)
    drawn = np.random.default_rng(seed).beta(a, b, size=n_draws)
    out = (drawn - a / (a + b)) / (math.sqrt(a * b / (a + b + 1)) / (a + b))
    out.flags.writeable = False
    return np.asarray(out)


@lru_cache(maxsize=KEPT)
def _t_shape(seed: tuple[int, ...], half_step: int, n_draws: int) -> NDArray[np.float64]:
    """Return (n_draws,) draws of a Student t of scale 1; read-only.

    Args:
        half_step: of half its degrees of freedom.
    """
    rng, half = np.random.default_rng(seed), _at(half_step)
    out = rng.standard_normal(n_draws) / np.sqrt(rng.standard_gamma(half, n_draws) / half)
    out.flags.writeable = False
    return np.asarray(out)


def _at(step: int) -> float:
    return float(2.0 ** (step / STEPS))
