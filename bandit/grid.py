"""Cells by position, for who knows them all beforehand: the same sums as rows give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bandit import decay, exact
from bandit.cells import factor, windows_and_values
from bandit.evidence import Evidence
from bandit.exact import UNIT
from bandit.families import HALF_LIFE_MS, N_COLUMNS, Family


class Grid:
    """The sums of a fixed set of cells, laid out densely by position instead of by digest.

    The same integers as rows hold, for a process that owns all of them, as a replay does.
    """

    def __init__(self, n_categories: int, n_arms: int) -> None:
        self._shape = (n_categories, n_arms, N_COLUMNS)
        self._sums: dict[tuple[Family, int], NDArray[np.int64]] = {}
        self._carries: dict[tuple[Family, int], NDArray[np.int64]] = {}

    def add(
        self,
        family: Family,
        *,
        category: NDArray[np.intp],
        arm: NDArray[np.intp],
        at_ms: NDArray[np.int64],
        columns: NDArray[np.float64],
    ) -> None:
        """Fold records in, as `terms` and `merge` would.

        Args:
            category, arm: (n,) positions.
            at_ms, columns: as in `terms`.
        Raises:
            ValueError: a value is not finite, or beyond `MOST`.
        """
        window, values = windows_and_values(family, at_ms, columns)
        for number in set(window.tolist()):
            sums = self._sums.get((family, number))
            if sums is None:
                sums = self._sums[family, number] = np.zeros(self._shape, dtype=np.int64)
            inside = window == number
            over = exact.add_at(sums, (category[inside], arm[inside]), values[inside])
            if over is not None:
                carry = self._carries.setdefault((family, number), np.zeros_like(sums))
                carry += over

    def read(self, *, now_ms: int) -> Evidence:
        """Return the evidence as of `now_ms`."""
        return Evidence(
            quality=self.read_family(Family.QUALITY, now_ms=now_ms),
            usage=self.read_family(Family.USAGE, now_ms=now_ms),
            latency=self.read_family(Family.LATENCY, now_ms=now_ms),
            reliability=self.read_family(Family.RELIABILITY, now_ms=now_ms),
            derived=self.read_family(Family.DERIVED, now_ms=now_ms),
            chains=self.read_family(Family.CHAINS, now_ms=now_ms),
        )

    def read_family(self, family: Family, *, now_ms: int) -> NDArray[np.float64]:
        """Return (n_categories, n_arms, N_COLUMNS) evidence of one family."""
        out = np.zeros(self._shape)
        # Floats add up in the order of windows, as rows do, whichever record came first.
        for (kind, number), sums in sorted(self._sums.items(), key=lambda item: item[0]):
            if kind is family:
                scale = decay.window_scale(np.array([number]), HALF_LIFE_MS[family], now_ms=now_ms)
                out += sums * factor(family, scale)[0]
                if (kind, number) in self._carries:
                    out += self._carries[kind, number] * factor(family, scale * float(UNIT))[0]
        return out
