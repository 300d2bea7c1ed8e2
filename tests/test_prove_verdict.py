"""The proof of a verdict: its trials are what they say, and it sees what is missed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bandit.verdict import VerdictKind
from scripts.proofs.verdict import (
    INVENTED,
    TRUTHS,
    TrialRun,
    figures_of,
    main,
    missed,
    one_run,
)
from scripts.proofs.verdict_world import VALUE_USD, play_trial, trial_pair
from telemetry.recorded import synthetic

RUN = TrialRun(False, True, VerdictKind.KEEP, 700, True, 650)
BETTER = TrialRun(True, True, VerdictKind.GAINS, 700, True, 650)


def test_two_endpoints_differ_by_what_is_true() -> None:
    table = synthetic(n_prompts=400)

    for name, truth in TRUTHS.items():
        pair = trial_pair(table, *INVENTED[name], truth)
        worth = (table.quality - table.cost_usd / VALUE_USD)[:, [pair.incumbent, pair.challenger]]
        by_task = np.array([worth[table.category == c].mean(axis=0) for c in range(4)])
        assert pair.shares.sum() == pytest.approx(1)
        assert pair.shares @ (by_task[:, 1] - by_task[:, 0]) == pytest.approx(truth, abs=1e-9)
    with pytest.raises(ValueError, match="cannot differ"):
        trial_pair(table, "allround", "small-fast", 0.9)


def test_the_last_look_has_every_call_and_label_and_earlier_ones_what_had_come() -> None:
    table = synthetic(n_prompts=400)
    played = play_trial(table, trial_pair(table, *INVENTED["better"], 0.05), 1, 5000)

    looks = [(n, rows.copy()) for n, rows in played.sums()]

    assert [n for n, _ in looks] == played.looks()
    for n, rows in looks[:-1]:
        assert abs(int(rows["units"].sum()) - n) <= 1
        assert rows["labelled"].sum() <= rows["calls"].sum()
    assert any(rows["labelled"].sum() < rows["calls"].sum() for _, rows in looks)
    n, rows = looks[-1]
    assert n == rows["units"].sum() == len(played.at)
    assert rows["labelled"].sum() == rows["calls"].sum() == 5000
    worth = rows["reward"].sum() - rows["cost_usd"].sum() / VALUE_USD
    assert played.utility.sum() == pytest.approx(worth)
    assert np.unique(rows["bucket"]).size < n / 4, "users come again"


def test_a_better_one_is_shown_and_held() -> None:
    table = synthetic(n_prompts=400)

    run = one_run(table, trial_pair(table, *INVENTED["better"], 0.05), 20_000, 2)

    assert run.ended is VerdictKind.GAINS
    assert run.holds
    assert 200 < run.sessions < 5000


def test_every_goal_that_is_missed_is_told() -> None:
    sound = figures_of({"same": [RUN] * 100, "worse": [RUN] * 100, "better": [BETTER] * 100})
    assert sound["better"]["sessions_median"] == 700
    assert sound["better"]["sessions_fixed_n"] == 650
    assert missed(sound, is_full=True) == []

    none = [TrialRun(False, False, VerdictKind.NOT_SHOWN, 0, False, 0)] * 100
    bad = figures_of({"same": [BETTER] * 6 + none[:94], "worse": none, "better": none})
    assert bad["better"]["sessions_median"] is None
    assert len(missed(bad, is_full=True)) == 5
    assert len(missed(bad, is_full=False)) == 4


def test_it_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--quick", "--runs", "1", "--repeat", "6000", "--json"])

    said = json.loads(capsys.readouterr().out)
    assert code in (0, 1)
    assert said["runs"] == 1
    assert {*said} == {"runs", "same", "worse", "better"}
    assert {*said["same"]} == {"false_gains", "naive_false_gains"}
    assert {*said["worse"]} == {"ended_keep"}
    assert {*said["better"]} == {
        "gains_shown",
        "coverage",
        "sessions_median",
        "sessions_fixed_n",
    }
