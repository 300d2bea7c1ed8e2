"""Regret over time as one SVG file: a line a policy, named where it ends."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 170, 44, 52
LEAST_LABEL_GAP = 16
COLOURS = ("#0b5fa5", "#c2410c", "#15803d", "#7c3aed", "#a16207", "#0e7490", "#be185d", "#475569")
"""Distinct in print, too; ours comes first."""


def write_plot(file: Path, curves: dict[str, NDArray[np.float64]], *, n_calls: int) -> None:
    """Write the regret so far of each policy, mean over seeds, against calls."""
    top = _round_up(max(float(c.max()) for c in curves.values()))
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="#111">Regret so far, in successes, '
        "mean over seeds</text>",
    ]
    for i in range(5):
        y = TOP + inner_h * (1 - i / 4)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + inner_w}" stroke="#e2e8f0"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{top * i / 4:g}", "end"))
        x = LEFT + inner_w * i / 4
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{n_calls * i / 4:,.0f}", "middle"))
    parts.append(_text(LEFT + inner_w / 2, HEIGHT - 12, "calls", "middle"))
    ends = []
    for (name, curve), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        across = LEFT + inner_w * np.arange(len(curve)) / (len(curve) - 1)
        down = TOP + inner_h * (1 - curve / top)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, down, strict=True))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        ends.append((float(down[-1]), name, float(curve[-1]), colour))
    height = HEIGHT - BOTTOM + LEAST_LABEL_GAP / 2  # labels pile up from the axis, never below it
    for y_end, name, value, colour in sorted(ends, reverse=True):
        height = min(y_end + 4, height - LEAST_LABEL_GAP)
        label = f"{name} {value:.0f}"
        parts.append(_text(WIDTH - RIGHT + 8, height, label, "start", colour))
    parts.append("</svg>\n")
    file.write_text("\n".join(parts))


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#475569") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"'
    return f"<text {place}>{escape(text)}</text>"


def _cycle(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _round_up(value: float) -> float:
    """Return the next round number above, such that its quarters read well, too."""
    if value <= 0:
        return 1.0
    power = 10 ** np.floor(np.log10(value))
    return float(
        next(m * power for m in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if m * power >= value)
    )
