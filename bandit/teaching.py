"""Whose labels count: what others taught as a prior of who goes by his own, and who taught what."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit.cells import Terms, damaged, of_family, positions, read_plain
from bandit.evidence import Evidence
from bandit.families import D, Family, Q, T

MOST_BORROWED_N = 10.0
"""What others' labels are worth at most to an app that goes by its own, in observations a cell.
Where cells of two apps differ by an sd of .1, its 90 % intervals then hold in .86 of the cells and
more; at 25 in .72 and more. Where they do not differ, five labels of its own with these err by
.045, without by .098, and at 25 by .031 (simulated: three categories, six endpoints)."""
_MIX = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
"""Odd multipliers. Rows in stores and archives are named by them, so they never change."""
_UNMIX = pow(_MIX[1], -1, 1 << 64)
"""The inverse of the second."""


def with_own_labels(
    others: Evidence, quality: NDArray[np.float64], derived: NDArray[np.float64]
) -> Evidence:
    """Return what an app goes by whose labels count for it alone: others' labels are its prior.

    Calls are calls, whoever made them: usage, latency, reliability and chains stay as they are.

    Args:
        others: the evidence that everybody else shares.
        quality, derived: (n_categories, n_arms, N_COLUMNS) the app's own labels. A damaged cell of
            them is NaN in what is returned; a damaged one of the others lends nothing.
    """
    lent_quality, lent_derived = borrowed(others)
    return Evidence(
        _added(Family.QUALITY, quality, lent_quality),
        others.usage,
        others.latency,
        others.reliability,
        _added(Family.DERIVED, derived, lent_derived),
        others.chains,
    )


def borrowed(others: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return others' labels as a prior, in the columns of QUALITY and of DERIVED.

    Each cell is scaled to `MOST_BORROWED_N` observations where it has more. None is counted as a
    label of who borrows it: what asks for labels of one's own is not met by others'.
    """
    quality = _scaled(Family.QUALITY, others.quality, others.quality[..., Q.N])
    said = others.derived[..., D.N] + others.derived[..., D.PAIR_N]
    derived = _scaled(Family.DERIVED, others.derived, said)
    quality[..., Q.LABELS] = 0.0
    derived[..., D.PAIRS] = np.minimum(derived[..., D.PAIRS], MOST_BORROWED_N)
    return quality, derived


def key_of(app: NDArray[np.uint64], category: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return what an app's labels in a category are counted under in TEACHING, (n,).

    Both digests are well mixed: two pairs share a key as seldom as two names share a digest.

    Args:
        app, category: (n,) digests; one of them may be (1,).
    """
    return app * np.uint64(_MIX[0]) + category * np.uint64(_MIX[1])


def read_teaching(
    rows: Terms, *, app: int, categories: NDArray[np.uint64], endpoints: NDArray[np.uint64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how many labels an app gave in each cell, and the sum of their rewards.

    They never fade, and no regime ends them. Labels of decisions from before teaching was counted
    are missing. Of a damaged cell both are 0.

    Args:
        app: its digest.
        categories, endpoints: (n_categories,) and (n_arms,) digests, in the order wanted.
    Returns:
        Two arrays (n_categories, n_arms).
    """
    names = key_of(np.array([app], dtype=np.uint64), categories)
    found = np.nan_to_num(read_plain(rows, Family.TEACHING, names=names, endpoints=endpoints))
    return found[..., T.LABELS], found[..., T.REWARD]


def read_calls(rows: Terms, names: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return (n,) how many calls are counted in TEACHING under each of `names`, at any endpoint.

    Args:
        names: (n,) of `key_of`.
    """
    endpoints = np.unique(rows.keys["endpoint"])
    found = np.nan_to_num(read_plain(rows, Family.TEACHING, names=names, endpoints=endpoints))
    return np.asarray(found[..., T.CALLS].sum(axis=1))


def read_profiled(
    rows: Terms,
    *,
    apps: NDArray[np.uint64],
    categories: NDArray[np.uint64],
    endpoints: NDArray[np.uint64],
    column: T = T.PROFILED,
) -> NDArray[np.float64]:
    """Return (n_categories, n_arms) how many calls of a profile USAGE has in each cell.

    Whoever's of these apps: what USAGE counts beyond them is traffic.

    Args:
        apps: (n_apps,) digests, each once.
        categories, endpoints: (n_categories,) and (n_arms,) digests, in the order wanted, each
            once.
        column: of which calls: `PROFILED` all, `PROFILED_FAILED` those that failed.
    """
    out = np.zeros((len(categories), len(endpoints)))
    mine = of_family(rows, Family.TEACHING)
    names = np.unique(mine.keys["category"][mine.values[:, column] != 0])
    if not len(names):
        return out  # most often
    read = read_plain(mine, Family.TEACHING, names=names, endpoints=endpoints)
    found = np.nan_to_num(read[..., column])
    # An app's part taken off a name leaves its category, so that nobody tries all pairs.
    of_each = (names[:, None] - apps * np.uint64(_MIX[0])) * np.uint64(_UNMIX)
    place = positions(of_each.ravel(), categories).reshape(of_each.shape)
    name, _ = np.nonzero(place >= 0)
    np.add.at(out, place[place >= 0], found[name])
    return out


def _scaled(
    family: Family, values: NDArray[np.float64], n: NDArray[np.float64]
) -> NDArray[np.float64]:
    sound = np.where(damaged(values, family)[..., None], 0.0, values)
    with np.errstate(invalid="ignore"):  # NaN of a damaged cell
        share = np.minimum(1.0, MOST_BORROWED_N / np.maximum(n, 1e-9))
    return np.asarray(sound * np.nan_to_num(share)[..., None])


def _added(
    family: Family, own: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.where(damaged(own, family)[..., None], np.nan, own + prior)
