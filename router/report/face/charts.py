"""Densities and shares as SVG, small enough to stand in a row of a table. Pure.

Figures stand beside each, so that none has words of its own: who does not see it misses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from bandit.task_detail import Curve, TaskDetail

WIDTH, HEIGHT = 200, 24
HEAD = (
    f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true" '
    'focusable="false">'
)
GROUND = f'<path class="g" d="M0 {HEIGHT}H{WIDTH}"/>'
SEEN = 0.02
"""Of a density's height: what is lower does not widen an axis."""


class Axis(NamedTuple):
    """What a row of densities has in common."""

    low: float
    high: float
    is_log: bool = False

    def x_of(self, value: float) -> int:
        """Return where a value stands."""
        if self.is_log:
            value, low, high = (math.log(max(v, 1e-9)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        span = high - low or 1.0
        return round(WIDTH * min(max((value - low) / span, 0.0), 1.0))


def quality_axis(detail: TaskDetail) -> Axis | None:
    """Return an axis for all densities of quality: from a twentieth to 1; None without any."""
    seen = _seen([line.quality_curve for line in detail.endpoints])
    return Axis(math.floor(20 * min(seen)) / 20, 1.0) if seen else None


def latency_axis(detail: TaskDetail) -> Axis | None:
    """Return a logarithmic axis for all densities of latency; None without any."""
    seen = [x for x in _seen([line.latency_curve for line in detail.endpoints]) if x > 0]
    return Axis(min(seen), max(seen), is_log=True) if seen else None


def density(curve: Curve | None, axis: Axis | None, mark: float | None) -> str:
    """Return a density above a ground line, as high as there is room, its mean marked."""
    if curve is None or axis is None or not curve.at or max(curve.height) <= 0:
        return ""
    top = max(curve.height)
    spots = [
        (axis.x_of(x), round(HEIGHT - (HEIGHT - 2) * max(h, 0) / top))
        for x, h in zip(curve.at, curve.height, strict=True)
    ]
    line = "L".join(f"{x} {y}" for x, y in _apart(spots))
    area = f'<path d="M{spots[0][0]} {HEIGHT}L{line}L{spots[-1][0]} {HEIGHT}Z"/>'
    tick = f'<path class="t" d="M{axis.x_of(mark)} 0V{HEIGHT}"/>' if mark is not None else ""
    return f"{HEAD}{area}{GROUND}{tick}</svg>"


def shares(days: Sequence[float | None]) -> str:
    """Return a share by day, of all from bottom to top; a day without calls is a gap."""
    if not any(day is not None for day in days):
        return ""
    edges = [round(WIDTH * i / len(days)) for i in range(len(days) + 1)]
    steps = "".join(
        f"M{edges[i]} {HEIGHT}V{round(HEIGHT * (1 - min(max(day, 0), 1)))}H{edges[i + 1]}V{HEIGHT}Z"
        for i, day in enumerate(days)
        if day is not None
    )
    return f'{HEAD}<path d="{steps}"/>{GROUND}</svg>'


def _seen(curves: Sequence[Curve | None]) -> list[float]:
    """Return where curves are high enough to be seen."""
    return [
        x
        for curve in curves
        if curve is not None and curve.height and max(curve.height) > 0
        for x, h in zip(curve.at, curve.height, strict=True)
        if h > SEEN * max(curve.height) and math.isfinite(x)
    ]


def _apart(spots: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return points without those that their neighbour covers."""
    kept = list(spots[:1])
    kept += [now for before, now in pairwise(spots) if now != before]
    return kept
