"""What a few raters who rate to move traffic do move, with the bound on each and without it.

One in a hundred rates a thousand times as often as the others do, always against the best endpoint
and for another. Each row is played honestly and poisoned, by the same seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.benches.raters_world import BEST, TURNS_A_DAY, RatedWorld, Raters, Where

MOST_MOVED = 0.02
"""Of all traffic, away from the best endpoint, on the mean of the poisoned days, where honest ones
came first."""
MOST_MOVED_QUICK = 0.1
"""Wide, since two runs say little; without the bound it is over .9."""


@dataclass(frozen=True, slots=True)
class Span:
    """How long a run is, in days."""

    calm: int  # before the poison
    poisoned: int


FULL, QUICK = Span(7, 14), Span(3, 4)
ROWS = (
    (Where.EVERYWHERE, True),
    (Where.SLOTS, True),
    (Where.SESSIONS, True),
    (Where.EVERYWHERE, False),
    (Where.SLOTS, False),
)
"""Which endpoints are rated, and whether honest days come first; else poison meets an empty store.
In those days all endpoints are rated, so that every row begins with the same knowledge."""


def run_bench(*, runs: int = 16, quick: bool = False) -> dict[str, Any]:
    """Return the share of the best endpoint by row, and which goals are kept.

    Args:
        runs: of each row; at least 1.
    """
    span, runs = (QUICK, 2) if quick else (FULL, runs)
    rows = [run_row(where, span if calm else Span(0, span.poisoned), runs) for where, calm in ROWS]
    most = MOST_MOVED_QUICK if quick else MOST_MOVED
    # Where nothing is known yet, rows only show what the bound does not do.
    kept = {row["rated"]: row["moved"] <= most for row in rows if row["calm_days"]}
    return {"runs": runs, "rows": rows, "kept": kept}


def run_row(where: Where, span: Span, runs: int) -> dict[str, Any]:
    """Return what was given to the best endpoint while poison came, of each way to rate."""
    found, last = ({raters: np.zeros(runs) for raters in Raters} for _ in range(2))
    for run in range(runs):
        for raters in Raters:
            world = RatedWorld(n_days=span.calm + span.poisoned, seed=[run])
            world.live(span.calm, Raters.HONEST, Where.EVERYWHERE)
            world.live(span.poisoned, raters, where)
            best = np.array(world.shares)[span.calm * TURNS_A_DAY :, BEST]
            found[raters][run], last[raters][run] = best.mean(), best[-TURNS_A_DAY:].mean()
    lost = found[Raters.HONEST] - found[Raters.CAPPED]
    return {
        "rated": where.value,
        "calm_days": span.calm,
        "poisoned_days": span.poisoned,
        "share": {raters.name.lower(): float(share.mean()) for raters, share in found.items()},
        "last_day": {raters.name.lower(): float(share.mean()) for raters, share in last.items()},
        "moved": float(lost.mean()),
        "moved_se": float(lost.std(ddof=1) / np.sqrt(runs)) if runs > 1 else None,
        "moved_uncapped": float((found[Raters.HONEST] - found[Raters.UNCAPPED]).mean()),
        "moved_last_day": float((last[Raters.HONEST] - last[Raters.CAPPED]).mean()),
    }


def print_table(found: dict[str, Any]) -> None:
    """Print the share of the best endpoint, a row a line, and which goals are kept."""
    print(f"share of the best endpoint, {found['runs']} runs a row")
    print(f"{'rated':12}{'before':>14}{'honest':>9}{'capped':>9}{'uncapped':>10}  moved (points)")
    for row in found["rows"]:
        share, error = row["share"], row["moved_se"]
        before = f"{row['calm_days']} honest days" if row["calm_days"] else "nothing"
        moved = f"{100 * row['moved']:.1f}" + (f" ± {100 * error:.1f}" if error is not None else "")
        last, bare = 100 * row["moved_last_day"], 100 * row["moved_uncapped"]
        print(
            f"{row['rated']:12}{before:>14}{share['honest']:9.3f}{share['capped']:9.3f}"
            f"{share['uncapped']:10.3f}  {moved}; the last day {last:.1f}; uncapped {bare:.1f}"
        )
    for name, is_kept in found["kept"].items():
        print(f"{'kept' if is_kept else 'MISSED'}: {name}")
