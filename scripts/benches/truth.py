"""Whether posteriors tell the truth while nothing happens, and whether a fall is told.

Worlds of 2, 8 and 50 endpoints, 5, 40 and 95 % labelled, labels at once and an hour late, endpoints
alike and not; derived labels, units and shifting traffic take turns. Each is looked at thirty
times: what `report` shows then is held against the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from bandit.drift import AlarmKind
from scripts.benches import truth_falls
from scripts.benches.truth_setting import Setting
from scripts.benches.truth_tally import BANDS, TENTHS, Tally
from scripts.benches.truth_world import BEGAN_MS, Raised, SimulatedWorld

ENDPOINTS, LABELLED, LATE_S = (2, 8, 50), (0.05, 0.4, 0.95), (0.0, 3600.0)
DERIVED = (None, "noise", "telling")
CHECKS_A_TENTH = 3
LOOKS_A_TENTH, LOOKS_A_TENTH_QUICK = 120, 12
SPAN_S = 2400.0
"""Simulated time from the first label on: at 5 % labelled 230 calls a second, else 12 to 29."""
LATE_SPAN_S = 18_000.0
"""Five hours, where labels come an hour late; that hour comes before."""


@dataclass(frozen=True, slots=True)
class Goals:
    """What a run has to show."""

    coverage_90: float
    worst_error: float
    alarms_per_1e5: float  # false ones
    labels: dict[float, float]  # by the depth of a fall: the median until it is told
    share: float  # of a fallen endpoint, a minute after the alarm
    moved: float  # of anybody else's belief
    other_alarms: int


FULL = Goals(0.87, 0.06, 1.0, {0.1: 600, 0.3: 60}, share=0.1, moved=0.05, other_alarms=0)
QUICK = Goals(0.82, 0.08, 3.4, {0.1: 1200, 0.3: 120}, share=0.15, moved=0.08, other_alarms=1)
"""Wide, since six worlds and three calm stretches say little: two false alarms in 60,000 labels."""


def settings() -> list[Setting]:
    """Return the grid: 36 worlds; what is no axis of it takes turns over its rows."""
    out = []
    axes = product(enumerate(ENDPOINTS), enumerate(LABELLED), LATE_S, (True, False))
    for (i, n), (j, labelled), late_s, equal in axes:
        turn = i + j + (late_s > 0) + equal
        units, shifting = (i + j + (late_s > 0)) % 2 == 0, (i + (late_s > 0)) % 2 == 0
        out.append(Setting(n, labelled, late_s, DERIVED[turn % 3], units, shifting, equal))
    return out


def run_bench(*, quick: bool = False, seed: int = 0, n_labels: int | None = None) -> dict[str, Any]:
    """Return the figures of all worlds, of the falls, and which goals are kept.

    Args:
        n_labels: of all worlds together; None: 1,000,000, of a quick run 60,000.
    """
    grid = list(enumerate(settings()))
    if quick:
        grid = grid[::7]  # six rows in which every value of every axis occurs
    each = (n_labels or (60_000 if quick else 1_000_000)) / len(grid)
    looks = LOOKS_A_TENTH_QUICK if quick else LOOKS_A_TENTH
    ran = [run_row(setting, round(each), seed=[seed, 0, i], looks=looks) for i, setting in grid]
    falls = truth_falls.run_falls(n_calm=3 if quick else 10, seed=seed, quick=quick)
    return conclude(ran, falls, QUICK if quick else FULL)


def run_row(
    setting: Setting, n_labels: int, *, seed: list[int], looks: int
) -> tuple[dict[str, Any], Tally]:
    """Return the figures of one world over so many labels, about.

    Args:
        looks: at the store, in a tenth of the stream.
    """
    span_s = LATE_SPAN_S if setting.late_s else SPAN_S
    look_s = span_s / TENTHS / looks
    world = SimulatedWorld(
        setting,
        calls_a_second=n_labels / setting.labelled / span_s,
        span_s=span_s + setting.late_s,
        seed=seed,
    )
    while (world.now_ms - BEGAN_MS) / 1000 < setting.late_s:
        world.step(look_s)
    tally = Tally()
    for tenth in range(TENTHS):
        for look in range(1, looks + 1):
            world.step(look_s)
            if look % (looks // CHECKS_A_TENTH) == 0:
                tally.note(tenth, world)
    false, back = count_alarms(world.raised)
    row = {
        **asdict(setting),
        "labels": int(world.labels.sum()),
        "coverage_90": min(tally.coverage(), default=None),
        "coverage_90_pooled": sum(tally.inside) / max(sum(tally.cells), 1),
        "worst_error": tally.worst_error,
        "false_alarms": false,
        "restored": back,
        "moved_by_correction": tally.moved,
    }
    return row, tally


def count_alarms(raised: Sequence[Raised]) -> tuple[int, int]:
    """Return how many alarms of a calm world were false, and how many set one of those right."""
    back = sum(one.kind is AlarmKind.RESTORED for one in raised)
    return len(raised) - back, back


def conclude(
    ran: list[tuple[dict[str, Any], Tally]], falls: list[dict[str, Any]], goals: Goals
) -> dict[str, Any]:
    """Return all figures, and which goals are kept.

    Coverage is pooled over worlds tenth by tenth, each world by its own share: else those with
    fifty endpoints would hide the others, which have a thirtieth of their cells.
    """
    rows = [row for row, _ in ran]
    tenths = [
        float(np.mean([t.inside[k] / t.cells[k] for _, t in ran if t.cells[k]]))
        for k in range(TENTHS)
        if any(t.cells[k] for _, t in ran)
    ]
    errors = [row["worst_error"] for row in rows if row["worst_error"] is not None]
    moved = [m for row in rows if (m := row["moved_by_correction"]) is not None]
    n_labels = sum(row["labels"] for row in rows)
    found: dict[str, Any] = {
        "rows": rows,
        "labels": n_labels,
        "coverage_90": min(tenths),
        "coverage_90_tenths": tenths,
        "coverage_90_by_endpoints": {
            str(n): float(np.mean([r["coverage_90_pooled"] for r in rows if r["endpoints"] == n]))
            for n in sorted({row["endpoints"] for row in rows})
        },
        "coverage_90_by_labels": _by_labels([tally for _, tally in ran]),
        "worst_error": max(errors, default=0.0),
        "false_alarms_per_1e5": 1e5 * sum(row["false_alarms"] for row in rows) / n_labels,
        "moved_by_correction": max(moved, default=0.0),
        "falls": falls,
    }
    return {**found, "kept": kept(found, goals)}


def _by_labels(tallies: list[Tally]) -> dict[str, float | None]:
    """Return the coverage of all cells by how many labels they have, from so many on."""
    sums = np.sum([tally.by_labels for tally in tallies], axis=0)
    return {str(b): float(i / n) if n else None for b, (i, n) in zip(BANDS, sums, strict=True)}


def kept(found: dict[str, Any], goals: Goals) -> dict[str, bool]:
    """Return which goals are kept. Those of falls hold at each place; a share not known is none."""
    out = {
        "coverage_90": found["coverage_90"] >= goals.coverage_90,
        "worst_error": found["worst_error"] <= goals.worst_error,
        "false_alarms_per_1e5": found["false_alarms_per_1e5"] <= goals.alarms_per_1e5,
    }
    for depth, most in goals.labels.items():
        own = [row for row in found["falls"] if row["depth"] == depth]
        told = [row["labels"] is not None and row["labels"] <= most for row in own]
        left = [row["share"] is not None and row["share"] <= goals.share for row in own]
        name = f"fall_{round(100 * depth)}"
        out[f"{name}_labels"], out[f"{name}_share"] = all(told), all(left)
        out[f"{name}_moved"] = all(row["worst_moved"] <= goals.moved for row in own)
        out[f"{name}_others"] = sum(row["other_alarms"] for row in own) <= goals.other_alarms
    return out


def print_table(found: dict[str, Any]) -> None:
    """Print the figures of each world and fall, one a line, and what is kept."""
    for row in found["rows"]:
        how = ", ".join(
            word
            for word in (
                f"{row['endpoints']:2} endpoints",
                "equal" if row["equal"] else "unequal",
                f"{row['labelled']:.0%} labelled",
                "an hour late" if row["late_s"] else "at once",
                row["derived"] and f"derived: {row['derived']}",
                row["units"] and "units",
                row["shifting"] and "shifting",
            )
            if word
        )
        covered, error = row["coverage_90_pooled"], row["worst_error"]
        print(
            f"{how:88} covered {covered:.3f}, worst error {_figure(error)}, "
            f"false alarms {row['false_alarms']}"
        )
    for row in found["falls"]:
        print(
            f"{row['place']} falls by {row['depth']:.0%}: told {row['told']} of {row['runs']}, "
            f"after {_figure(row['labels'], 0)} labels; then {_figure(row['share'])} of the calls; "
            f"others moved {row['worst_moved']:.3f}, other alarms {row['other_alarms']}"
        )
    for name in ("coverage_90", "worst_error", "false_alarms_per_1e5", "moved_by_correction"):
        print(f"{name}: {found[name]:.3f}")
    for by in ("endpoints", "labels"):
        shares = found[f"coverage_90_by_{by}"]
        print(f"covered by {by}:", ", ".join(f"{k}: {_figure(v)}" for k, v in shares.items()))
    missed = [name for name, is_kept in found["kept"].items() if not is_kept]
    print("missed:", ", ".join(missed) or "nothing")


def _figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
