"""The command `replay`: options checked, figures printed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bandit.incumbent import FLOOR
from bandit.limits import Limits
from bandit.replay.loop import Rules
from bandit.replay.scenarios import Scenario
from bandit.utility import BALANCED, Objective, Order
from telemetry.recorded import Selection
from telemetry.tables import BadTable
from workers.replay import ope as replay_ope
from workers.replay.file import POLICIES, BadSettings, ReplaySettings, replay
from workers.replay.plot import write_plot

DEFAULT_POLICIES = ("pointsman", "best-per-category", "best-single", "greedy", "beta-ts", "random")
STRATEGIES = {
    "quality": Objective(),
    "balanced": BALANCED,
    "cheapest": Objective(order=Order.CHEAPEST),
    "fastest": Objective(order=Order.FASTEST),
}
LEAST_WIDTH = 100
"""Columns of text that the widest table needs; a narrower terminal wraps its lines."""
COLUMNS = (
    ("quality", "quality", "{:.4f}"),
    ("regret", "regret", "{:.1f}"),
    ("regret_ci", "±", "{:.1f}"),
    ("regret_p90", "p90", "{:.1f}"),
    ("stuck_share", "stuck", "{:.2f}"),
    ("usd_per_1k", "USD/1k", "{:.3f}"),
    ("utility", "utility", "{:.4f}"),
    ("gap_share", "gap", "{:.2f}"),
    ("slo_violations", "too slow", "{:.3f}"),
    ("spend_over_budget", "spend", "{:.3f}"),
    ("spend_over_budget_worst", "worst", "{:.3f}"),
    ("alarms", "alarms", "{:.2f}"),
    ("onset_regret", "onset", "{:.1f}"),
    ("explored", "explored", "{:.3f}"),
    ("incumbent_kept", "inc", "{:.2f}"),
    ("incumbent_worst_prefix", "worst prefix", "{:+.4f}"),
    ("incumbent_end", "end", "{:+.4f}"),
    ("decide_us_p50", "µs", "{:.0f}"),
)


class BadInput(Exception):
    """An option or the table cannot be used; the message names field, value and fix."""


def parse(options: Mapping[str, Any]) -> ReplaySettings:
    """Return the settings that the options mean.

    Raises:
        BadInput: an option is out of range, unknown, or contradicts another.
    """
    strategy, scenario = options["strategy"], options["scenario"]
    if strategy not in STRATEGIES:
        raise BadInput(f"--strategy {strategy}: known are {', '.join(STRATEGIES)}")
    if scenario not in list(Scenario):
        raise BadInput(f"--scenario {scenario}: known are {', '.join(Scenario)}")
    policies = tuple(dict.fromkeys(options["policy"] or DEFAULT_POLICIES))
    for name in policies:
        if name not in POLICIES:
            raise BadInput(f"--policy {name}: known are {', '.join(POLICIES)}")
    for name in ("value_usd", "budget_usd_per_1k", "latency_slo_s", "calls_per_second"):
        _positive(name, options[name])
    for name in ("floor", "holdout"):
        _share(name, options[name], most=0.5)
    _share("latency_prob", options["latency_prob"], most=0.9999)
    endpoints = tuple(e.strip() for e in (options["endpoints"] or "").split(",") if e.strip())
    if options["endpoints"] is not None and not endpoints:
        raise BadInput(f"--endpoints {options['endpoints']}: names no endpoint")
    objective = STRATEGIES[strategy]
    if options["value_usd"] is not None:
        objective = replace(objective, value_usd=options["value_usd"])
    floor = options["floor"]
    if floor is None:
        floor = FLOOR if options["incumbent"] else 0.0
    budget = options["budget_usd_per_1k"]
    rules = Rules(
        objective=objective,
        release_every=options["release_every"],
        floor=floor,
        holdout=options["holdout"],
        limits=Limits(latency_s=options["latency_slo_s"], latency_prob=options["latency_prob"]),
        budget_usd=None if budget is None else budget / 1000,
    )
    return ReplaySettings(
        file=options["file"],
        selection=Selection(
            where=tuple(options["where"] or ()),
            endpoints=endpoints,
            keep_unpriced=options["keep_unpriced"],
        ),
        policies=policies,
        strategy=strategy,
        rules=rules,
        incumbent=options["incumbent"],
        holdout_endpoint=options["holdout_endpoint"],
        profile=options["profile"],
        prior_file=options["prior"],
        prior_where=tuple(options["prior_where"] or ()),
        scenario=Scenario(scenario),
        seeds=options["seeds"],
        repeat=options["repeat"],
        calls_per_second=options["calls_per_second"],
        arrivals=options["arrivals"],
    )


def compare(
    settings: ReplaySettings, *, plot: Path | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Return the figures of all policies; write the plot where one is wanted.

    Raises:
        BadInput: the table, or what was asked of it, cannot be used.
    """
    try:
        result = replay(settings, progress=progress)
    except (BadTable, BadSettings) as error:
        raise BadInput(str(error)) from None
    if plot is not None:
        try:
            write_plot(plot, result.curves, n_calls=result.n_calls)
        except OSError as error:
            raise BadInput(f"--plot {plot}: cannot be written ({error.strerror})") from None
    return result.summary


def evaluate(settings: ReplaySettings, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return how well a log of ours judges other policies.

    Raises:
        BadInput: the table, or what was asked of it, cannot be used.
    """
    try:
        return replay_ope.evaluate(settings, progress=progress)
    except (BadTable, BadSettings) as error:
        raise BadInput(str(error)) from None


def show_evaluation(found: Mapping[str, Any]) -> None:
    """Print the judgements as a table."""
    title = (
        f"{found['dataset']}: {found['logs']} logs of {found['requests']} calls, "
        f"{found['endpoints']} endpoints, hold-out {found['incumbent']}"
    )
    table = Table("target", "estimator", title=title, title_justify="left")
    for heading in ("RMSE", "bias", "coverage", "refused", "ESS p50"):
        table.add_column(heading, justify="right")
    for row in found["targets"]:
        values = [
            "" if row[key] is None else form.format(row[key])
            for key, form in (
                ("rmse", "{:.4f}"),
                ("bias", "{:+.4f}"),
                ("coverage", "{:.3f}"),
                ("refused", "{:.2f}"),
                ("ess_p50", "{:.0f}"),
            )
        ]
        table.add_row(row["target"], row["estimator"], *values)
    Console().print(table)


def show(found: Mapping[str, Any]) -> None:
    """Print the figures as a table."""
    console = Console()
    if console.width < LEAST_WIDTH:
        console = Console(width=LEAST_WIDTH)
    title = (
        f"{found['dataset']}: {found['requests']} calls, {found['endpoints']} endpoints, "
        f"{found['categories']} categories, {found['seeds']} seeds"
    )
    rows = found["policies"]
    known = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in rows)]
    if found["settings"]["value_usd"] is None:
        known = [c for c in known if c[0] != "utility"]  # it is quality then
    if found["settings"]["scenario"] == "stationary":
        known = [c for c in known if c[0] != "alarms"]
    if found["settings"]["incumbent"] is not None:
        known = [c for c in known if c[0] not in ("gap_share", "decide_us_p50")]
    table = Table(title=title, title_justify="left")
    table.add_column("policy", no_wrap=True)
    for _, heading, _ in known:
        table.add_column(heading, justify="right")
    for row in rows:
        values = ["" if row.get(key) is None else form.format(row[key]) for key, _, form in known]
        table.add_row(row["policy"], *values)
    console.print(table)


def _positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise BadInput(f"--{name.replace('_', '-')} {value}: must be a number above 0")


def _share(name: str, value: float | None, *, most: float) -> None:
    if value is not None and not 0 <= value <= most:
        raise BadInput(f"--{name.replace('_', '-')} {value}: must be from 0 to {most}")
