"""The rows of `bench learning` on learning itself, and all rows together.

Bounds are what was measured before draws that cannot get stuck, or what is wanted of them.
"""

from __future__ import annotations

from bandit.replay.scenarios import Scenario
from scripts.benches import draw, hosts, yielding
from scripts.benches.learning_beside import BIAS_ROWS, BUDGET_ROWS, CHANGE_ROWS, OFF_POLICY_ROWS
from scripts.benches.learning_cases import LONG, PROFILE, LearningCase, LearningRun
from scripts.benches.learning_figures import POINTS, end, of_summary, subsets_ahead, unlucky
from scripts.benches.learning_goals import Experiment, Goal, SoloExperiment

VALUE_USD = 0.04
LITTLE_USD = 0.02
"""At this value of a success the best endpoint of zeroeval pays by being far better, at a price."""
N_SUBSETS = 10
"""Of each of two tables."""
SUBSET_CALLS = 5_000
RIVALS = ("greedy", "beta-ts")


def _regret(name: str, case: LearningCase, goal: Goal) -> Experiment:
    return Experiment(name, "regret", unlucky("regret"), (LearningRun(case),), goal)


EXACT = LearningCase("bfcl", repeat=LONG, sharpness=1.0)
EXACT_FOR_MONEY = LearningCase("zeroeval", repeat=LONG, value_usd=LITTLE_USD, sharpness=1.0)
_UNLUCKY = 1.6
"""Worst tenth ÷ mean: above it a few lost streams carry the mean."""

LONG_ROWS = (
    _regret(
        "mixed long cold",
        LearningCase("mixed", repeat=LONG),
        Goal(at_most=172, stretch=150, p90_of_mean=_UNLUCKY, never_stuck=True),
    ),
    _regret(
        "zeroeval long cold",
        LearningCase("zeroeval", repeat=LONG),
        Goal(at_most=115, stretch=90, p90_of_mean=_UNLUCKY, never_stuck=True),
    ),
    _regret(
        "mixed long profile",
        LearningCase("mixed", repeat=LONG, profile=PROFILE),
        Goal(at_most=88, p90_of_mean=_UNLUCKY),
    ),
    _regret(
        "zeroeval long profile",
        LearningCase("zeroeval", repeat=LONG, profile=PROFILE),
        Goal(at_most=12, p90_of_mean=_UNLUCKY),
    ),
    _regret(
        "bfcl long cold",
        LearningCase("bfcl", repeat=LONG),
        Goal(at_most=348, below=LearningRun(EXACT)),
    ),
    _regret("bfcl long cold exact", EXACT, Goal()),
)
SHORT_ROWS = (
    _regret("bfcl short cold", LearningCase("bfcl"), Goal(at_most=150)),
    _regret("zeroeval short cold", LearningCase("zeroeval"), Goal(at_most=85, p90_at_most=150)),
    _regret("mixed short cold", LearningCase("mixed"), Goal(at_most=105)),
    _regret("bfcl short profile", LearningCase("bfcl", profile=PROFILE), Goal(at_most=25.5)),
    _regret("zeroeval short profile", LearningCase("zeroeval", profile=PROFILE), Goal(at_most=4.5)),
    _regret(
        "mixed short profile", LearningCase("mixed", profile=PROFILE), Goal(at_most=48, stretch=42)
    ),
)
VALUE_ROWS = (
    *(
        Experiment(
            f"mixed {length} profile value",
            "utility",
            unlucky("utility"),
            (LearningRun(LearningCase("mixed", PROFILE, repeat, VALUE_USD)),),
            goal,
        )
        for length, repeat, goal in (
            ("short", None, Goal(at_least=0.811, stretch=0.814)),
            ("long", LONG, Goal(at_least=0.816)),
        )
    ),
    _regret(
        "zeroeval long cold value",
        LearningCase("zeroeval", repeat=LONG, value_usd=LITTLE_USD),
        Goal(below=LearningRun(EXACT_FOR_MONEY), never_stuck=True),
    ),
    _regret("zeroeval long cold value exact", EXACT_FOR_MONEY, Goal()),
)

_SUBSETS = tuple(
    LearningRun(LearningCase(table, repeat=SUBSET_CALLS, subset=seed), policy)
    for table in ("mixed", "zeroeval")
    for seed in range(N_SUBSETS)
    for policy in ("pointsman", *RIVALS)
)
SUBSET_ROWS = (
    Experiment(
        "subsets",
        "of 20 subsets of endpoints: regret below greedy's and Beta Thompson's",
        subsets_ahead,
        _SUBSETS,
        Goal(at_least=18, never_stuck=True),
    ),
)


def _guarded(table: str, repeat: int | None, at_least: float) -> tuple[Experiment, ...]:
    runs = (LearningRun(LearningCase(table, guarded=True, repeat=repeat)),)
    worst = of_summary("incumbent_worst_prefix", POINTS)
    return (
        Experiment(
            f"{table} incumbent worst prefix",
            "points, 5th percentile",
            worst,
            runs,
            Goal(at_least=-1.0),
        ),
        Experiment(f"{table} incumbent end", "points", end, runs, Goal(at_least=at_least)),
    )


INCUMBENT_ROWS = (
    *_guarded("zeroeval", None, 3.6),
    *_guarded("bfcl", None, 0.0),
    *_guarded("mixed", LONG, 2.33),
)
LABEL_ROWS = tuple(
    _regret(
        f"{table} {scenario} cold", LearningCase(table, scenario=scenario), Goal(at_most=at_most)
    )
    for table, scenario, at_most in (
        ("bfcl", Scenario.LABELS, 170),
        ("bfcl", Scenario.DELAY, 160),
        ("zeroeval", Scenario.LABELS, 150),
        ("zeroeval", Scenario.DELAY, 150),
    )
)

EXPERIMENTS: tuple[Experiment, ...] = (
    *LONG_ROWS,
    *SHORT_ROWS,
    *VALUE_ROWS,
    *SUBSET_ROWS,
    *INCUMBENT_ROWS,
    *LABEL_ROWS,
    *CHANGE_ROWS,
    *BUDGET_ROWS,
    *BIAS_ROWS,
    *OFF_POLICY_ROWS,
)


def _draw_us(n_arms: int) -> float:
    return float(draw.run_bench(n_arms)["p50_us"])


# One line for each bench whose figure stands in the table; it runs alone, before all streams.
OTHERS: tuple[SoloExperiment, ...] = (
    SoloExperiment("draw 10", "microseconds, p50", lambda: _draw_us(10), Goal(at_most=20)),
    SoloExperiment("draw 100", "microseconds, p50", lambda: _draw_us(100), Goal(at_most=40)),
    SoloExperiment(
        "incumbent of .62 beside the soak's others",
        "labels a task until its first release, median",
        lambda: float(yielding.until_first_release()["value"]),
        Goal(at_most=yielding.MOST_LABELS),
    ),
    SoloExperiment(
        "incumbent beside equals",
        "runs of 1,000 with a release before the review",
        lambda: float(yielding.released_at_once()["value"]),
        Goal(at_most=5),
    ),
    SoloExperiment(
        "host 5 points worse at half the price",
        "labels of the group until it is split off, median",
        lambda: float(hosts.labels_until_split(100, 1)[0]["value"]),
        Goal(at_most=8000),
    ),
    SoloExperiment(
        "equal hosts",
        "pairs of 100 that are split, the worse of equal prices and half the price",
        lambda: max(float(row["value"]) for row in hosts.equal_hosts_split(100, 1)),
        Goal(at_most=2),
    ),
)
