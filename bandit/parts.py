"""The parts that calls play for their callers, by role: how many, their cost, times and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bandit.cells import Terms, of_family, read_plain
from bandit.families import Family, P

_BASE = 0x8C5F3A1D77E20000
"""What the keys of all roles begin with. Rows in stores and archives are named so: it stays."""
Z95 = 1.6449
"""Of a normal: 95 % lie below its mean plus so many sd."""


@dataclass(frozen=True, slots=True)
class RoleFigures:
    """A role's calls of one endpoint, or of all of them, over all time; what is not known is None.

    A call is one at an endpoint, as everywhere in reports: a fallback is one more.
    """

    calls: int
    labels: int
    quality: float | None  # mean reward of those labels
    ok_rate: float | None
    latency_p50_s: float | None
    latency_p95_s: float | None
    cost_usd: float | None  # of calls whose cost is known
    usd_per_call: float | None


def key_of(mark: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Return what the figures of roles are counted under in ROLES, in place of a category, (n,).

    Args:
        mark: (n,) of the roles, as tokens tell them: from 1 to 65,535.
    """
    return np.asarray(mark, dtype=np.uint64) + np.uint64(_BASE)


def read_roles(rows: Terms) -> dict[int, dict[int, NDArray[np.float64]]]:
    """Return by key of role, and then by digest of endpoint, the (N_COLUMNS,) sums of ROLES.

    They never fade. A damaged cell, with a value that no sum of records can have, is left out.
    """
    mine = of_family(rows, Family.ROLES)
    roles, endpoints = (np.unique(mine.keys[name]) for name in ("category", "endpoint"))
    found = read_plain(mine, Family.ROLES, names=roles, endpoints=endpoints)
    out: dict[int, dict[int, NDArray[np.float64]]] = {}
    for role, of_role in zip(roles.tolist(), found, strict=True):
        counted = zip(endpoints.tolist(), of_role, strict=True)
        out[role] = {endpoint: sums for endpoint, sums in counted if np.nansum(np.abs(sums)) > 0}
    return out


def figures_of(sums: NDArray[np.float64]) -> RoleFigures:
    """Return what sums of ROLES say; those of several endpoints may be added up.

    Args:
        sums: (N_COLUMNS,).
    """
    at = dict(zip(P, sums.tolist(), strict=True))
    answered = at[P.OK] + at[P.FAILED]
    n, cost_usd = at[P.N], at[P.COST_NANO] / 1e9 if at[P.PRICED] else None
    mean = at[P.LN] / n if n else 0.0
    sd = math.sqrt(max(at[P.LN2] / n - mean**2, 0.0)) if n else 0.0
    return RoleFigures(
        calls=round(at[P.CALLS]),
        labels=round(at[P.LABELS]),
        quality=at[P.REWARD] / at[P.LABELS] if at[P.LABELS] else None,
        ok_rate=at[P.OK] / answered if answered else None,
        latency_p50_s=math.exp(mean) if n else None,
        latency_p95_s=math.exp(mean + Z95 * sd) if n else None,
        cost_usd=cost_usd,
        usd_per_call=cost_usd / at[P.PRICED] if cost_usd is not None else None,
    )
