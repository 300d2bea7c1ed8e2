"""The rows of `bench learning` that other work may not pay for: change, money, chosen labels, logs.

Bounds that are "beyond noise" are what was measured before draws that cannot get stuck.
"""

from __future__ import annotations

from bandit.replay.scenarios import Scenario
from scripts.benches.learning_cases import LOG, LONG, PROFILE, TABLES, LearningCase, LearningRun
from scripts.benches.learning_figures import (
    judged,
    of_streams,
    of_summary,
    over_mix,
    share_back,
    share_moved,
    worst_spend,
)
from scripts.benches.learning_goals import Experiment, Goal

LOG_CALLS = 6_000
"""Few enough that what a log hardly tried has to be refused."""
INNER_STEPS = (1, 2, 3, 4)

_DEGRADED = (LearningRun(LearningCase("mixed", PROFILE, LONG, scenario=Scenario.DEGRADATION)),)
CHANGE_ROWS = (
    Experiment(
        "degradation onset",
        "regret of 1,000 calls from onset",
        of_streams("onset_regret"),
        _DEGRADED,
        Goal(at_most=26, beyond_noise=True),
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
    *_budgets("bfcl", 1.85),
    *_budgets("zeroeval", -0.22),
    *_budgets("mixed", 1.21),
)
BIAS_ROWS = tuple(
    Experiment(
        f"{table} biased labels",
        "share moved to the favoured endpoint",
        share_moved,
        (
            LearningRun(LearningCase(table, scenario=Scenario.BIASED_LABELS)),
            LearningRun(LearningCase(table)),
        ),
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
        ("incumbent", "error", "RMSE", Goal(at_most=0.023, beyond_noise=True)),
        ("incumbent", "covered", "share of intervals", Goal(at_least=0.943, beyond_noise=True)),
        ("incumbent", "refused", "share of logs", Goal(at_most=0.03, beyond_noise=True)),
        ("profile-greedy", "error", "RMSE", Goal(at_most=0.018, beyond_noise=True)),
        (
            "profile-greedy",
            "covered",
            "share of intervals",
            Goal(at_least=0.978, beyond_noise=True),
        ),
        ("profile-greedy", "refused", "share of logs", Goal(at_most=0.32, beyond_noise=True)),
    )
)
