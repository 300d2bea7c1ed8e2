"""The table of learning: its rows, their figures by hand, and goals that are kept or missed."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from scripts.benches import __main__ as benches
from scripts.benches import learning
from scripts.benches.learning_cases import LOG, TABLES, LearningCase, LearningRun, world_of
from scripts.benches.learning_figures import (
    end,
    judged,
    of_streams,
    over_mix,
    share_back,
    share_moved,
    subsets_ahead,
    unlucky,
    worst_spend,
)
from scripts.benches.learning_goals import Experiment, Goal, Played, RowFigures
from scripts.benches.learning_rows import EXPERIMENTS
from workers.replay.ope import JudgedEstimate

KEYS = ["experiment", "measure", "regret", "regret_ci", "regret_p90", "stuck_share", "goal", "kept"]
SHORT = 40
N_PROMPTS, N_MODELS = 48, 9
RUN = LearningRun(LearningCase("mixed"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three tables in their own shape, small."""
    where = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(4)
    rows = [
        {
            "prompt_id": f"p{i}",
            "category": "ab"[i % 2],
            "model": f"m{m}",
            "quality": float(rng.random() < 0.3 + 0.06 * m),
            "cost_usd": 0.001 * (m + 1),
            "run_date": "2024-08-11",
            "in_all_categories": True,
        }
        for i in range(N_PROMPTS)
        for m in range(N_MODELS)
    ]
    for name, _ in TABLES.values():
        pl.DataFrame(rows).write_parquet(where / name)
    return where


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take longer to start than these streams take to play."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def shortened(run: LearningRun) -> LearningRun:
    return replace(run, case=replace(run.case, repeat=SHORT))


def short_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows as they are, on streams of a few calls."""
    rows = [
        replace(
            e,
            runs=tuple(shortened(run) for run in e.runs),
            goal=replace(e.goal, below=e.goal.below and shortened(e.goal.below)),
        )
        for e in EXPERIMENTS
    ]
    monkeypatch.setattr(learning, "EXPERIMENTS", rows)


def asked(*arguments: str) -> int:
    return benches.main(["learning", *arguments])


# The command


@pytest.mark.slow
def test_every_row_comes_in_one_object_with_exactly_the_known_keys(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short_rows(monkeypatch)
    monkeypatch.setattr(learning, "OTHERS", ())

    assert asked("--json", "--streams", "1", "--subset-streams", "1", "--data", str(data)) == 0

    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [list(row) for row in rows] == [KEYS] * len(EXPERIMENTS)
    assert [row["experiment"] for row in rows] == [e.name for e in EXPERIMENTS]
    assert all((row["goal"] is None) == (row["kept"] is None) for row in rows)


def test_the_same_streams_give_the_same_rows_and_progress_is_no_part_of_them(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short_rows(monkeypatch)
    arguments = ("--json", "--streams", "3", "--rows", "mixed short cold,bfcl long", "--data")

    said = []
    for _ in range(2):
        assert asked(*arguments, str(data)) == 0
        said.append(capsys.readouterr())

    assert said[0].out == said[1].out
    names = [row["experiment"] for row in json.loads(said[0].out)["rows"]]
    assert names == ["bfcl long cold", "bfcl long cold exact", "mixed short cold"]
    assert "9 of 9 streams" in said[0].err


def test_a_whole_name_means_its_row_alone_and_a_part_all_that_have_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = learning.OTHERS
    monkeypatch.setattr(learning, "OTHERS", [replace(e, figure=lambda: 39.0) for e in rows])

    assert asked("--rows", "draw 10", "--json") == 0
    (one,) = json.loads(capsys.readouterr().out)["rows"]
    assert asked("--rows", "draw", "--json") == 0
    both = json.loads(capsys.readouterr().out)["rows"]
    assert asked("--rows", "draw") == 0

    assert (one["experiment"], one["regret"], one["kept"]) == ("draw 10", 39.0, False)
    assert [(row["experiment"], row["kept"]) for row in both] == [
        ("draw 10", False), ("draw 100", True),
    ]  # fmt: skip
    assert "draw 100" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("--rows", "zeroevil"), ("--rows zeroevil", "zeroeval long cold")),
        (("--data", "nowhere"), (str(Path("nowhere", "bfcl_2024.parquet")), "--data DIR")),
    ],
)
def test_what_is_not_there_is_named_with_the_way_out(
    arguments: tuple[str, ...], names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        asked(*arguments)

    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert all(name in said.err for name in names)


def test_a_table_that_cannot_be_used_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mixed_2024.parquet").write_text("no table")

    with pytest.raises(SystemExit) as ended:
        asked("--rows", "mixed short cold", "--data", str(tmp_path))

    assert ended.value.code == 2
    assert "mixed_2024.parquet" in capsys.readouterr().err


# Cases


def test_budgets_are_geometric_steps_from_the_cheapest_to_the_best(data: Path) -> None:
    known = world_of(LearningCase("mixed"), data).known
    low, high = known.overall_cost_usd.min(), known.overall_cost_usd[known.ranking[0]]

    budgets = [
        world_of(LearningCase("mixed", budget_step=step), data).rules.budget_usd
        for step in range(6)
    ]

    assert budgets[0] == pytest.approx(low)
    assert budgets[5] == pytest.approx(high)
    assert np.diff(np.log(budgets)) == pytest.approx([np.log(high / low) / 5] * 5)


def test_a_subset_is_two_to_six_endpoints_and_its_seed_names_it(data: Path) -> None:
    subsets = [
        world_of(LearningCase("mixed", subset=seed), data).outcomes.endpoints for seed in range(10)
    ]

    assert {len(s) for s in subsets} <= {2, 3, 4, 5, 6}
    assert len({tuple(s) for s in subsets}) > 5
    world_of.cache_clear()
    assert world_of(LearningCase("mixed", subset=3), data).outcomes.endpoints == subsets[3]


def test_the_incumbent_is_the_third_best_and_a_log_keeps_it_among_eight(data: Path) -> None:
    third = world_of(LearningCase("mixed"), data).known.ranking[2]
    guarded = world_of(LearningCase("mixed", guarded=True), data)
    logged = world_of(LearningCase("mixed", logged=True), data)

    assert guarded.rules.incumbent == third
    assert guarded.rules.floor == 0.02
    assert len(logged.outcomes.endpoints) == 8
    kept = logged.rules.holdout_arm
    assert kept is not None
    assert logged.outcomes.endpoints[kept] == guarded.outcomes.endpoints[third]
    assert (logged.rules.floor, logged.rules.holdout) == (0.02, 0.03)
    assert logged.rules.incumbent is None


def test_dear_streams_are_halved_and_logs_doubled() -> None:
    budget = LearningRun(LearningCase("mixed", budget_step=1))
    log = LearningRun(LearningCase("mixed", logged=True), LOG)
    subset = LearningRun(LearningCase("mixed", subset=1), "greedy")

    assert [learning._n_streams(run, 16, 4) for run in (RUN, budget, log, subset)] == [16, 8, 32, 4]


def test_the_same_run_is_played_once() -> None:
    twice = [Experiment(name, "regret", of_streams("regret"), (RUN,)) for name in "ab"]

    assert learning._runs(twice) == [RUN]


# Figures


def played(*found: object, run: LearningRun = RUN, budget_usd: float | None = None) -> Played:
    return Played(run, budget_usd, found)


def stream(**values: object) -> SimpleNamespace:
    """What one stream gave, as far as a figure asks."""
    return SimpleNamespace(**values)


def test_points_over_the_incumbent_at_the_end_by_hand() -> None:
    row = end([played(stream(end=0.01), stream(end=0.03))])

    assert row.value == pytest.approx(2.0)
    assert row.ci == pytest.approx(1.96 * np.std([1, 3], ddof=1) / 2**0.5)


def test_the_share_that_comes_back_by_hand() -> None:
    row = share_back(
        [
            played(
                stream(share_before=0.8, share_recovered=0.2),
                stream(share_before=0.2, share_recovered=0.4),
            )
        ]
    )
    never = share_back([played(stream(share_before=None, share_recovered=None))])

    assert row.value == pytest.approx(0.6)
    # What is left of each stream beside .6 of its share before: −.28 and .28, over a mean of .5.
    assert row.ci == pytest.approx(1.96 * np.std([-0.56, 0.56], ddof=1) / 2**0.5)
    assert np.isnan(never.value)


def test_a_share_moves_from_that_of_the_same_stream_without_bias() -> None:
    biased = played(stream(share_favoured=0.3), stream(share_favoured=0.5))
    usual = played(stream(share_favoured=0.2), stream(share_favoured=0.2))

    assert share_moved([biased, usual]).value == pytest.approx(0.2)


def test_quality_over_the_mix_is_the_mean_over_budgets_of_the_same_streams() -> None:
    ours = [played(stream(quality=0.8), stream(quality=0.9)), played(stream(quality=0.7))]
    mix = [played(stream(quality=0.7), stream(quality=0.9)), played(stream(quality=0.6))]

    one = over_mix([ours[0], mix[0]])
    assert one.value == pytest.approx(5)
    assert one.ci == pytest.approx(1.96 * np.std([10, 0], ddof=1) / 2**0.5)
    assert over_mix([played(stream(quality=0.8)), ours[1], played(stream(quality=0.9)), mix[1]]
                    ).value == pytest.approx((-10 + 10) / 2)  # fmt: skip


def test_of_twenty_subsets_those_count_where_ours_is_below_all_rivals() -> None:
    def run(seed: int, policy: str, *regrets: float, stuck: bool = False) -> Played:
        case = LearningCase("mixed", subset=seed)
        return played(
            *(stream(regret=r, stuck=stuck) for r in regrets), run=LearningRun(case, policy)
        )

    row = subsets_ahead(
        [
            run(0, "pointsman", 10, 20), run(0, "greedy", 0, 40), run(0, "beta-ts", 16, 16),
            run(1, "pointsman", 10, 20, stuck=True), run(1, "greedy", 9, 9),
            run(1, "beta-ts", 90, 90),
        ]
    )  # fmt: skip

    assert row.value == 1
    assert row.stuck == 0.5  # of ours


def test_an_estimate_is_judged_over_the_logs_that_were_not_refused() -> None:
    def log(error: float, covered: bool, refused: bool) -> list[JudgedEstimate]:
        return [
            JudgedEstimate("incumbent", "dr", error, covered, refused, 300.0),
            JudgedEstimate("incumbent", "ips", 9.0, False, False, 300.0),
            JudgedEstimate("uniform", "dr", 9.0, False, False, 300.0),
        ]

    logs = played(log(0.03, True, False), log(-0.04, False, False), log(1.0, False, True))

    assert judged("incumbent", "error")([logs]).value == pytest.approx((0.0025 / 2) ** 0.5)
    assert judged("incumbent", "covered")([logs]).value == pytest.approx(0.5)
    assert judged("incumbent", "refused")([logs]).value == pytest.approx(1 / 3)
    assert np.isnan(judged("incumbent", "error")([played(log(1, True, True))]).value)


def test_figures_of_real_streams_are_those_that_replay_tells(data: Path) -> None:
    run = LearningRun(LearningCase("mixed", repeat=SHORT, budget_step=2), "lp-mix")
    (told,) = learning._play(data, [run], 4, 1).values()

    row = unlucky("regret")([told])
    regrets = [f.regret for f in told.found]
    spent = [f.usd / told.budget_usd for f in told.found]
    assert len(regrets) == 2
    assert row.value == pytest.approx(np.mean(regrets))
    assert row.p90 == pytest.approx(min(regrets) + 0.9 * (max(regrets) - min(regrets)))
    assert row.stuck == np.mean([f.stuck for f in told.found])
    assert worst_spend([told]).value == pytest.approx(max(spent))


# Goals


@pytest.mark.parametrize(
    ("goal", "row", "kept"),
    [
        (Goal(at_most=10), RowFigures(10.0), True),
        (Goal(at_most=10), RowFigures(10.1), False),
        (Goal(at_least=10), RowFigures(10.0), True),
        (Goal(at_least=10), RowFigures(9.9), False),
        (Goal(at_most=10, stretch=5), RowFigures(9.0), True),
        (Goal(at_most=10, beyond_noise=True), RowFigures(11.0, ci=1.0), True),
        (Goal(at_most=10, beyond_noise=True), RowFigures(11.1, ci=1.0), False),
        (Goal(at_least=10, beyond_noise=True), RowFigures(9.0, ci=1.0), True),
        (Goal(at_most=10), RowFigures(10.5, ci=1.0), False),
        (Goal(at_most=10, p90_of_mean=1.6), RowFigures(10.0, p90=16.0), True),
        (Goal(at_most=10, p90_of_mean=1.6), RowFigures(9.0, p90=15.0), False),
        (Goal(at_most=10, p90_at_most=15), RowFigures(9.0, p90=16.0), False),
        (Goal(at_most=10, never_stuck=True), RowFigures(9.0, stuck=0.0), True),
        (Goal(at_most=10, never_stuck=True), RowFigures(9.0, stuck=0.1), False),
        (Goal(at_most=10), RowFigures(float("nan")), False),
        (Goal(), RowFigures(3.0), None),
    ],
)
def test_a_goal_is_kept_only_as_a_whole(goal: Goal, row: RowFigures, kept: bool | None) -> None:
    assert goal.kept(row, None) is kept


@pytest.mark.parametrize(("beside", "kept"), [(9.1, True), (9.0, False)])
def test_a_run_beside_has_to_be_beaten(beside: float, kept: bool) -> None:
    assert Goal(below=RUN).kept(RowFigures(9.0), beside) is kept


def test_a_goal_says_all_that_it_asks_for() -> None:
    goal = Goal(at_most=172, stretch=150, p90_of_mean=1.6, never_stuck=True)

    assert goal.text() == "≤ 172 (150), p90 ≤ 1.6 × mean, stuck 0"
    assert Goal(at_least=0.64, beyond_noise=True).text() == "≥ 0.64, beyond noise"
    assert Goal(p90_at_most=150, below=RUN).text() == "less than exact draws, p90 ≤ 150"
    assert Goal().text() is None
