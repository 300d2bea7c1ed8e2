"""Whether order strategies are calm: simulated weeks under the rules as they are and as they were.

Twenty endpoints, six tasks, one outage. Labels are sparse: another app's thumbs, and one in 500 of
the app's own calls; a second part shows the same weeks with a label on every fifth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bandit.utility import Order
from scripts.benches.orders_week import play
from scripts.benches.orders_world import PLENTY, SPARSE, WEEK_S

Measured = dict[str, Any]
RULES = ("before", "after")
LABELS = {"sparse": SPARSE, "plenty": PLENTY}
REPORTED = 100
"""The first seed of those that are reported; rules were tried on 1 to 8 and 20 to 25."""
MOST_MOVES, MOST_OVER, MOST_BELOW = 2.0, 0.02, 0.1
QUICK_WEEKS, QUICK_MOVES = 2, 3.5
"""Two weeks with sparse labels say little: what they keep is that nothing is as before."""


def run_bench(*, weeks: int = 20, quick: bool = False) -> Measured:
    """Return the figures of all weeks together, and which goals are kept.

    Args:
        weeks: of each row, each of a world of its own.
        quick: two weeks a row, with sparse labels only, under the rules as they are.
    """
    n = QUICK_WEEKS if quick else weeks
    labels = ["sparse"] if quick else list(LABELS)
    rules = RULES[1:] if quick else RULES
    rows = [
        run_row(order, how_many, name, weeks=n)
        for how_many in labels
        for order in (Order.CHEAPEST, Order.FASTEST)
        for name in rules
    ]
    return {"rows": rows, "kept": kept(rows, quick=quick)}


def run_row(
    order: Order, labels: str, rules: str, *, weeks: int, span_s: float = WEEK_S
) -> Measured:
    """Return the means over weeks, with half the width of their 95 % intervals beside them."""
    seeds = range(REPORTED, REPORTED + weeks)
    played = [play(s, order, rules, labelled=LABELS[labels], span_s=span_s) for s in seeds]
    found = [week.figures() for week in played]
    row: Measured = {"order": order.value, "labels": labels, "rules": rules, "weeks": weeks}
    for name in found[0]:
        values = np.array([one[name] for one in found])
        row[name] = float(values.mean())
        row[f"{name}_ci"] = float(1.96 * values.std() / max(weeks - 1, 1) ** 0.5)
    # Prices differ by the hundredfold: in a mean one week at a dear endpoint hides all others.
    row["over_best_median"] = float(np.median([one["over_best"] for one in found]))
    return row


def kept(rows: list[Measured], *, quick: bool = False) -> dict[str, bool]:
    """Return which goals the rules as they are keep while labels are sparse."""
    found = {}
    for row in rows:
        if row["rules"] == "after" and row["labels"] == "sparse":
            order = row["order"]
            found[f"{order}: moves"] = row["moves"] <= (QUICK_MOVES if quick else MOST_MOVES)
            if not quick:
                found[f"{order}: floor"] = row["choice_below_floor"] <= MOST_BELOW
                found[f"{order}: over the best"] = row["over_best"] <= MOST_OVER
    return found


def print_table(measured: Measured) -> None:
    """Print a line for each row, and what is missed."""
    for row in measured["rows"]:
        price = "cost" if row["order"] == Order.CHEAPEST else "seconds"
        print(
            f"{row['order']}, labels {row['labels']}, {row['rules']}: {_pm(row, 'moves', 1)} moves "
            f"a task and week, {_pm(row, 'outage_moves', 1)} more by the outage; "
            f"{_pm(row, 'choice_below_floor')} of the calls while the choice is below the floor, "
            f"by {_pm(row, 'points_below', 3)} in the mean of all; {price} over the best "
            f"{_pm(row, 'over_best')}, in the median {row['over_best_median']:.2f}"
        )
    missed = [name for name, is_kept in measured["kept"].items() if not is_kept]
    print("missed:", ", ".join(missed) or "nothing")


def _pm(row: Measured, name: str, digits: int = 2) -> str:
    return f"{row[name]:.{digits}f} ± {row[f'{name}_ci']:.{digits}f}"
