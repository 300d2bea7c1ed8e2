"""Whether one group is shown to be better than another: by a bank, and by some labels alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit.special import betainc, ndtr

SURE = 0.95
"""Probability from which on one is taken to be better than another."""
HOPELESS = 0.75
"""What is no likelier than this as of two normals is not worked out further: where two Betas are
worth .95, the normals are worth .85 at least."""
N_POINTS, N_SD = 96, 8.0
"""The grid over which one distribution is averaged has so many points around each of both means,
and reaches so many standard deviations to their sides."""


def p_better(scores: NDArray[np.floating], than: int) -> NDArray[np.float64]:
    """Return (n_groups,) in which share of the rows each column is above that of `than`.

    Args:
        scores: (n_draws, n_groups) of joint draws.
    """
    above = scores > scores[:, [than]]
    return np.asarray(above.mean(axis=0, dtype=np.float64))


def p_better_on_labels(
    n: NDArray[np.float64], r: NDArray[np.float64], than: int
) -> NDArray[np.float64]:
    """Return (n_groups,) P(quality > that of `than`) by these labels alone, from Beta(1, 1).

    P = Σ ΔF(x) · G(x) over a grid, F of the one side and G of the other. Where it is hopeless, it
    is that of two normals.

    Labels between 0 and 1 are taken to vary as much as coin flips, which is the most they can.

    Args:
        n, r: (n_groups,) number of labels and sum of rewards, where 0 ≤ r ≤ n.
    Returns:
        .5 where neither has any, and of `than` itself.

    Raises:
        ValueError: r lies outside [0, n].
    """
    if (r < 0).any() or (r > n).any():
        raise ValueError("a sum of rewards lies outside of what so many labels can come to")
    good, bad = 1 + r, 1 + n - r
    mean = good / (good + bad)
    var = mean * (1 - mean) / (good + bad + 1)
    found = ndtr((mean - mean[than]) / np.sqrt(var + var[than]))
    for group in np.flatnonzero(found > HOPELESS).tolist():
        pair = [group, than]
        reach = N_SD * np.sqrt(var[pair])
        x = np.linspace(mean[pair] - reach, mean[pair] + reach, N_POINTS).ravel()
        x = np.clip(np.sort(x), 0, 1)
        one, other = betainc(good[pair][:, None], bad[pair][:, None], x)
        found[group] = np.diff(one) @ (other[1:] + other[:-1]) / 2
    found[than] = 0.5
    return np.asarray(found)
