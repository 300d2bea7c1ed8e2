"""The rows of `bench learning`, and what each has to show.

Bounds that are "beyond noise" are what was measured on streams 0 to 15 before draws that cannot
get stuck: nothing else may pay for these.
"""

from __future__ import annotations

from bandit.replay.scenarios import Scenario
from scripts.benches import draw
from scripts.benches.learning_cases import LOG, TABLES, LearningCase, LearningRun
from scripts.benches.learning_figures import (
    POINTS,
    Experiment,
    Goal,
    SoloExperiment,
    end,
    judged,
    of_streams,
    of_summary,
    over_mix,
    share_back,
    share_moved,
    subsets_ahead,
    worst_spend,
)

LONG = 9_000
"""Calls drawn with replacement; short streams are a permutation of the table."""
PROFILE = 25
VALUE_USD = 0.04
N_SUBSETS = 10
"""Of each of two tables."""
SUBSET_CALLS, LOG_CALLS = 5_000, 6_000
RIVALS = ("greedy", "beta-ts")
INNER_STEPS = (1, 2, 3, 4)


def _ours(table: str, **given: object) -> LearningRun:
    return LearningRun(LearningCase(table, **given))  # type: ignore[arg-type]


def _regret(name: str, run: LearningRun, goal: Goal) -> Experiment:
    return Experiment(name, "regret", of_streams("regret"), (run,), goal)


EXACT = _ours("bfcl", repeat=LONG, sharpness=1.0)
_UNLUCKY = 1.6

LONG_ROWS = (
    _regret(
        "mixed long cold",
        _ours("mixed", repeat=LONG),
        Goal(at_most=172, stretch=150, p90_of_mean=_UNLUCKY, never_stuck=True),
    ),
    _regret(
        "zeroeval long cold",
        _ours("zeroeval", repeat=LONG),
        Goal(at_most=115, stretch=90, p90_of_mean=_UNLUCKY, never_stuck=True),
    ),
    _regret(
        "mixed long profile",
        _ours("mixed", repeat=LONG, profile=PROFILE),
        Goal(at_most=88, p90_of_mean=_UNLUCKY),
    ),
    _regret(
        "zeroeval long profile",
        _ours("zeroeval", repeat=LONG, profile=PROFILE),
        Goal(at_most=12, p90_of_mean=_UNLUCKY),
    ),
    _regret("bfcl long cold", _ours("bfcl", repeat=LONG), Goal(at_most=9999, below=EXACT)),
    _regret("bfcl long cold exact", EXACT, Goal()),
)
SHORT_ROWS = (
    _regret("bfcl short cold", _ours("bfcl"), Goal(at_most=150)),
    _regret("zeroeval short cold", _ours("zeroeval"), Goal(at_most=85, p90_at_most=150)),
    _regret("mixed short cold", _ours("mixed"), Goal(at_most=105)),
    _regret("bfcl short profile", _ours("bfcl", profile=PROFILE), Goal(at_most=25.5)),
    _regret("zeroeval short profile", _ours("zeroeval", profile=PROFILE), Goal(at_most=4.5)),
    _regret("mixed short profile", _ours("mixed", profile=PROFILE), Goal(at_most=48, stretch=42)),
)
VALUE_ROWS = tuple(
    Experiment(
        f"mixed {length} profile value",
        "utility",
        of_streams("utility"),
        (_ours("mixed", profile=PROFILE, value_usd=VALUE_USD, repeat=repeat),),
        goal,
    )
    for length, repeat, goal in (
        ("short", None, Goal(at_least=0.811, stretch=0.814)),
        ("long", LONG, Goal(at_least=0.816)),
    )
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
    runs = (_ours(table, guarded=True, repeat=repeat),)
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
    *_guarded("mixed", LONG, 9999),
)
LABEL_ROWS = tuple(
    _regret(f"{table} {scenario} cold", _ours(table, scenario=scenario), Goal(at_most=at_most))
    for table, scenario, at_most in (
        ("bfcl", Scenario.LABELS, 170),
        ("bfcl", Scenario.DELAY, 160),
        ("zeroeval", Scenario.LABELS, 150),
        ("zeroeval", Scenario.DELAY, 150),
    )
)

_DEGRADED = (_ours("mixed", profile=PROFILE, repeat=LONG, scenario=Scenario.DEGRADATION),)
CHANGE_ROWS = (
    Experiment(
        "degradation onset",
        "regret of 1,000 calls from onset",
        of_streams("onset_regret"),
        _DEGRADED,
        Goal(at_most=9999, beyond_noise=True),
    ),
    Experiment(
        "degradation delay",
        "calls until found, median",
        of_summary("detect_delay_calls"),
        _DEGRADED,
        Goal(at_most=120),
    ),
    Experiment(
        "degradation back",
        "share after ÷ before",
        share_back,
        _DEGRADED,
        Goal(at_least=0.64, beyond_noise=True),
    ),
)


def _budgets(table: str, at_least: float) -> tuple[Experiment, ...]:
    cases = [LearningCase(table, profile=PROFILE, budget_step=step) for step in INNER_STEPS]
    ours = tuple(LearningRun(case) for case in cases)
    mix = tuple(LearningRun(case, "lp-mix") for case in cases)
    return (
        Experiment(
            f"{table} budgets quality",
            "points above lp-mix, mean of 4 budgets; half the streams",
            over_mix,
            ours + mix,
            Goal(at_least=at_least, beyond_noise=True),
        ),
        Experiment(
            f"{table} budgets spend",
            "spend ÷ budget, worst stream of 4 budgets; half the streams",
            worst_spend,
            ours,
            Goal(at_most=1.01),
        ),
    )


BUDGET_ROWS = (
    *_budgets("bfcl", 9999),
    *_budgets("zeroeval", 9999),
    *_budgets("mixed", 9999),
)
BIAS_ROWS = tuple(
    Experiment(
        f"{table} biased labels",
        "share moved",
        share_moved,
        (_ours(table, scenario=Scenario.BIASED_LABELS), _ours(table)),
        Goal(at_most=0.05),
    )
    for table in TABLES
)

_LOGGED = LearningRun(LearningCase("mixed", profile=PROFILE, repeat=LOG_CALLS, logged=True), LOG)
OFF_POLICY_ROWS = tuple(
    Experiment(
        f"off-policy {target} {kind}",
        f"{measure}; twice the streams",
        judged(target, kind),
        (_LOGGED,),
        goal,
    )
    for target, kind, measure, goal in (
        ("incumbent", "error", "RMSE", Goal(at_most=9999, beyond_noise=True)),
        ("incumbent", "covered", "share of intervals", Goal(at_least=9999, beyond_noise=True)),
        ("incumbent", "refused", "share of logs", Goal(at_most=9999, beyond_noise=True)),
        ("profile-greedy", "error", "RMSE", Goal(at_most=9999, beyond_noise=True)),
        ("profile-greedy", "covered", "share of intervals", Goal(at_least=9999, beyond_noise=True)),
        ("profile-greedy", "refused", "share of logs", Goal(at_most=9999, beyond_noise=True)),
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
)
