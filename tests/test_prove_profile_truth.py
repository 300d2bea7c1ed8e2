"""The proof of profiles proves something: advice that is wrong is noticed."""

from __future__ import annotations

from copy import deepcopy

from bandit.utility import Objective
from router.profiling.figures import table_of
from scripts.proofs.profile_truth import drawn, figures_of, is_sound, judge_advice, results_of
from telemetry.recorded import synthetic


def test_wrong_advice_is_noticed() -> None:
    table, best = synthetic(n_prompts=2000), Objective()
    rows = drawn(table, 25, seed=3)
    found = table_of(
        [*results_of(table, rows)], strategy="best", objective=best, incumbent=None
    ).as_json()
    bold, worst = deepcopy(found), deepcopy(found)
    bold["advice"] |= {"kind": "route", "gain": {"value": 0.5, "low": 0.4, "high": 0.6}}
    worst["advice"] |= {"kind": "pin", "pin": "small-fast", "lead": 0.05}

    assert judge_advice(found, table, best).is_right
    assert not judge_advice(bold, table, best).is_right
    assert not judge_advice(worst, table, best).is_right
    assert not is_sound(figures_of([judge_advice(worst, table, best)] * 10))
