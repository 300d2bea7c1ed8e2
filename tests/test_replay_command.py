"""The command `replay`: its one JSON object, its plot, and what it refuses."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from conftest import Said, pointsman

from bandit.replay.baselines import Learning
from bandit.replay.scenarios import Scenario
from telemetry.recorded import Selection
from workers.replay import file as replay_file
from workers.replay.command import STRATEGIES
from workers.replay.file import POLICIES

COLUMNS = ("prompt_id", "category", "model", "quality", "cost_usd", "latency_s", "split")
TOP = {"dataset", "requests", "endpoints", "categories", "seeds", "settings", "policies"}
SETTINGS = {
    "where", "strategy", "value_usd", "latency_slo_s", "latency_prob", "release_every", "floor",
    "holdout", "budget_usd", "incumbent", "holdout_endpoint", "profile", "prior", "scenario",
    "repeat", "calls_per_second", "dropped", "declared",
}  # fmt: skip
FIGURES = {
    "policy", "quality", "quality_ci", "quality_second_half", "regret", "regret_ci", "usd_per_1k",
    "regret_p90", "stuck_share",
    "utility", "utility_ci", "gap_share", "slo_violations", "spend_over_budget",
    "spend_over_budget_worst", "alarms", "false_alarms_per_10k", "onset_regret",
    "detect_delay_calls", "recovered_share", "share_moved", "explored", "incumbent_kept",
    "incumbent_loss", "incumbent_worst_prefix", "incumbent_end", "decide_us_p50", "decide_us_p99",
    "update_us_p50",
}  # fmt: skip
TIMED = {"decide_us_p50", "decide_us_p99", "update_us_p50"}


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take longer to start than these replays take to run."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)


def rows(n: int = 24) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rate = {"x": (0.9, 0.3), "y": (0.4, 0.8), "z": (0.5, 0.5)}
    usd = {"x": 0.004, "y": 0.002, "z": 0.001}
    return [
        {
            "prompt_id": f"p{i}",
            "category": "ab"[i % 2],
            "model": model,
            "quality": float(rng.random() < rate[model][i % 2]),
            "cost_usd": usd[model] * (1 + i % 3),
            "latency_s": 0.5 + i % 4,
            "split": "old" if i < n // 3 else "new",
        }
        for i in range(n)
        for model in rate
    ]


def written(file: Path, table: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        pl.DataFrame(table).write_parquet(file)
        return file
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, table[0])
        writer.writeheader()
        writer.writerows(table)
    return file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "outcomes.csv", rows())


def replay(*arguments: object) -> Said:
    return pointsman("replay", *arguments)


def found(*arguments: object) -> dict[str, Any]:
    result = replay(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


# What it says


def test_json_has_exactly_the_known_keys(file: Path) -> None:
    value = found(file, "--seeds", 2, "--policy", "pointsman", "--policy", "lp-mix")

    assert set(value) == TOP
    assert set(value["settings"]) == SETTINGS
    assert [set(p) for p in value["policies"]] == [FIGURES, FIGURES]
    assert [p["policy"] for p in value["policies"]] == ["pointsman", "lp-mix"]


def test_json_says_what_was_replayed(file: Path) -> None:
    value = found(file, "--seeds", 3, "--policy", "random", "--repeat", 40, "--where", "split=new")

    assert (value["dataset"], value["requests"], value["seeds"]) == ("outcomes.csv", 40, 3)
    assert (value["endpoints"], value["categories"]) == (3, 2)
    assert value["settings"]["where"] == ["split=new"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_csv_and_parquet_say_the_same(tmp_path: Path, file: Path, suffix: str) -> None:
    other = written(tmp_path / f"other.{suffix}", rows())

    expected = found(file, "--seeds", 1, "--policy", "greedy")["policies"][0]
    value = found(other, "--seeds", 1, "--policy", "greedy")["policies"][0]

    assert {k: v for k, v in value.items() if k not in TIMED} == {
        k: v for k, v in expected.items() if k not in TIMED
    }


@pytest.mark.parametrize("scenario", Scenario)
def test_every_scenario_replays(file: Path, scenario: Scenario) -> None:
    value = found(
        file, "--scenario", scenario, "--seeds", 1, "--repeat", 60, "--policy", "pointsman"
    )

    assert value["settings"]["scenario"] == scenario
    assert 0 <= value["policies"][0]["quality"] <= 1
    moved = value["policies"][0]["share_moved"]
    assert (moved is not None) is (scenario is Scenario.BIASED_LABELS)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("profile", [0, 4])
def test_every_policy_replays_with_and_without_a_profile(file: Path, policy: str, profile) -> None:
    value = found(file, "--policy", policy, "--seeds", 1, "--profile", profile)

    assert value["requests"] == 24 - 2 * profile
    assert value["policies"][0]["policy"] == policy


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_replays_with_an_incumbent(file: Path, strategy: str) -> None:
    value = found(
        file, "--strategy", strategy, "--incumbent", "z", "--seeds", 1, "--policy", "pointsman"
    )

    assert value["settings"]["floor"] == 0.02
    assert value["policies"][0]["incumbent_end"] is not None


@pytest.mark.parametrize(
    "options",
    [
        ("--budget-usd-per-1k", "3"),
        ("--budget-usd-per-1k", "0.001", "--scenario", "newcomer"),
        ("--latency-slo-s", "2", "--latency-prob", ".5"),
        ("--floor", ".1", "--holdout", ".2", "--holdout-endpoint", "y"),
        ("--prior-where", "split=old", "--where", "split=new"),
        ("--value-usd", ".01", "--endpoints", "x,y"),
    ],
)
def test_options_that_go_together_replay(file: Path, options: tuple[str, ...]) -> None:
    value = found(file, *options, "--seeds", 1, "--repeat", 50)

    assert len(value["policies"]) == 6


def test_without_json_a_table_names_every_policy(file: Path) -> None:
    result = replay(file, "--seeds", 1, "--policy", "greedy", "--policy", "best-single")

    assert result.exit_code == 0
    assert "greedy" in result.stdout
    assert "best-single" in result.stdout


def test_best_per_category_has_all_of_the_gap_and_best_single_none(file: Path) -> None:
    first, second = found(
        file, "--policy", "best-per-category", "--policy", "best-single", "--seeds", 2
    )["policies"]

    assert first["gap_share"] == pytest.approx(1)
    assert second["gap_share"] == pytest.approx(0)
    assert first["regret"] == pytest.approx(0)


def settings_of(file: Path, **changes: Any) -> replay_file.ReplaySettings:
    from bandit.replay.loop import Rules

    given = {
        "file": file,
        "selection": Selection(),
        "policies": ("pointsman", "beta-ts"),
        "strategy": "quality",
        "rules": Rules(),
        "incumbent": None,
        "holdout_endpoint": None,
        "profile": 0,
        "prior_file": None,
        "prior_where": (),
        "scenario": Scenario.STATIONARY,
        "seeds": 3,
        "repeat": 40,
        "calls_per_second": 1.0,
        "arrivals": None,
    } | changes
    return replay_file.ReplaySettings(**given)


def untimed(result: replay_file.ReplayResult) -> list[dict[str, Any]]:
    return [{k: v for k, v in p.items() if k not in TIMED} for p in result.summary["policies"]]


@pytest.mark.slow
def test_figures_are_the_same_with_one_process_and_with_two(file: Path, monkeypatch) -> None:
    settings = settings_of(file)
    alone = replay_file.replay(settings, progress=lambda _: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    together = replay_file.replay(settings, progress=lambda _: None)

    assert untimed(together) == untimed(alone)
    assert not multiprocessing.active_children()
    for name, curve in alone.curves.items():
        assert np.array_equal(together.curves[name], curve)


def test_a_policys_figures_do_not_depend_on_who_else_is_replayed(file: Path) -> None:
    settings = settings_of(file, profile=3)
    both = replay_file.replay(settings, progress=lambda _: None)
    alone = replay_file.replay(settings_of(file, profile=3, policies=("beta-ts",)), progress=print)

    assert untimed(alone) == untimed(both)[1:]


def test_all_policies_meet_the_same_stream_and_the_same_graded_prompts(file: Path) -> None:
    world, _ = replay_file.prepare(settings_of(file, profile=3))

    streams = [replay_file.trace_of(world, name, 1, Scenario.STATIONARY)[0] for name in POLICIES]

    for stream in streams[1:]:
        assert np.array_equal(stream.prompt, streams[0].prompt)
        assert np.array_equal(stream.profile, streams[0].profile)


@pytest.mark.parametrize("policy", ["greedy", "pointsman"])
def test_a_newcomer_is_nobodys_profile(file: Path, policy: str) -> None:
    world, _ = replay_file.prepare(settings_of(file, profile=4))
    stream = replay_file.stream_of(world, 0, Scenario.NEWCOMER)

    made = replay_file.make_policy(world, policy, stream, np.random.default_rng(0))

    if isinstance(made, Learning):
        assert made.known is not None
        graded = np.isfinite(made.known)
    else:
        graded = made.loop.posterior.labels > 0
    assert graded.all(axis=0).tolist() == stream.profiled.tolist()
    assert not graded[:, stream.changed].any()


def test_calls_arrive_as_recorded(tmp_path: Path, file: Path) -> None:
    arrivals = written(tmp_path / "arrivals.csv", [{"offset_s": s} for s in (2.5, 1.0, 1.25)])

    world, _ = replay_file.prepare(settings_of(file, arrivals=arrivals))

    assert world.arrivals_ms is not None
    assert world.arrivals_ms.tolist() == [0, 250, 1500]


def test_the_endpoint_of_biased_labels_is_the_median_one(file: Path) -> None:
    world, _ = replay_file.prepare(settings_of(file))

    by_quality = np.argsort(world.outcomes.quality.mean(axis=0), kind="stable")
    assert world.median == by_quality[1]


# The plot


def test_the_plot_is_well_formed_and_names_every_policy(tmp_path: Path, file: Path) -> None:
    plot = tmp_path / "regret.svg"

    result = replay(
        file, "--seeds", 1, "--policy", "greedy", "--policy", "best-per-category", "--plot", plot
    )

    assert result.exit_code == 0
    root = ElementTree.fromstring(plot.read_text())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = " ".join(e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "greedy" in text
    assert "best-per-category" in text
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 2


# What it refuses


def refused(*arguments: object) -> str:
    result = replay(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert not result.stdout
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("column", COLUMNS[:5])
def test_a_missing_column_is_named_with_those_needed(tmp_path: Path, column: str) -> None:
    table = [{k: v for k, v in row.items() if k != column} for row in rows()]

    message = refused(written(tmp_path / "t.csv", table))

    assert f"no column '{column}'" in message
    assert "needed are prompt_id, category, model, quality, cost_usd" in message


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "fix"),
    [
        ("quality", 85.0, "from 0 to 1 (divide percentages by 100)"),
        ("quality", -0.5, "from 0 to 1"),
        ("quality", float("nan"), "from 0 to 1"),
        ("quality", None, "from 0 to 1"),
        ("cost_usd", float("nan"), "in USD a call (empty where unknown)"),
        ("cost_usd", float("inf"), "from 0 to 1000"),
        ("cost_usd", -1.0, "from 0 to 1000"),
        ("latency_s", 2_000_000.0, "from 0 to 86400, in seconds"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_row(
    tmp_path: Path, suffix: str, column: str, value: float, fix: str
) -> None:
    table = rows()
    table[4][column] = value

    message = refused(written(tmp_path / f"t.{suffix}", table))

    assert f"{column} {value}" in message
    assert "of y on p1" in message
    assert fix in message


def test_a_value_that_is_no_number_is_named(tmp_path: Path) -> None:
    table = rows()
    table[4]["quality"] = "good"

    assert "quality good of y on p1; it must be a number" in refused(
        written(tmp_path / "t.csv", table)
    )


def test_doubled_rows_are_named_with_the_way_out(tmp_path: Path) -> None:
    table = [*rows(), rows()[4]]

    message = refused(written(tmp_path / "t.csv", table))

    assert "y has several rows for prompt p1" in message
    assert "--where" in message


@pytest.mark.parametrize("column", ["prompt_id", "category", "model"])
def test_a_row_without_a_name_is_refused(tmp_path: Path, column: str) -> None:
    table = rows()
    table[4][column] = None

    assert f"a row has no {column}" in refused(written(tmp_path / "t.parquet", table))


def test_a_prompt_of_two_categories_is_named(tmp_path: Path) -> None:
    table = rows()
    table[4]["category"] = "c"

    assert "prompt p1 has several categories" in refused(written(tmp_path / "t.csv", table))


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "t.csv"
    empty.write_text(",".join(COLUMNS) + "\n")

    assert "the table has no rows" in refused(empty)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    junk = tmp_path / "t.parquet"
    junk.write_bytes(b"\x00\xff not parquet")

    assert "cannot be read as parquet or CSV" in refused(junk)
    assert "cannot be read" in refused(tmp_path / "missing.csv")
    assert "cannot be read" in refused(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--endpoints", "nobody"), ("--endpoints nobody", "present: x, y, z")),
        (("--endpoints", " , "), ("--endpoints", "names no endpoint")),
        (("--incumbent", "nobody"), ("--incumbent nobody", "x, y, z")),
        (("--holdout", ".1", "--holdout-endpoint", "nobody"), ("nobody", "x, y, z")),
        (("--policy", "magic"), ("--policy magic", "known are pointsman, best-per-category")),
        (("--scenario", "war"), ("--scenario war", "known are stationary, degradation")),
        (("--strategy", "magic"), ("--strategy magic", "quality, balanced, cheapest, fastest")),
        (("--floor", ".9"), ("--floor 0.9", "from 0 to 0.5")),
        (("--floor", "nan"), ("--floor nan", "from 0 to 0.5")),
        (("--holdout", "-.1"), ("--holdout -0.1", "from 0 to 0.5")),
        (("--holdout", ".1"), ("--holdout 0.1", "--holdout-endpoint or --incumbent")),
        (("--value-usd", "0"), ("--value-usd 0.0", "above 0")),
        (("--value-usd", "inf"), ("--value-usd inf", "above 0")),
        (("--budget-usd-per-1k", "-3"), ("--budget-usd-per-1k -3.0", "above 0")),
        (("--latency-slo-s", "nan"), ("--latency-slo-s nan", "above 0")),
        (("--latency-prob", "95"), ("--latency-prob 95.0", "from 0 to 0.9999")),
        (("--calls-per-second", "0"), ("--calls-per-second 0.0", "above 0")),
        (("--where", "split"), ("--where split", "column=value")),
        (("--where", "nothing=1"), ("--where nothing=1", "columns: prompt_id")),
        (("--where", "split=middle"), ("--where split=middle", "no row")),
        (("--seeds", "0"), ("--seeds", "not in the range")),
        (("--seeds", "many"), ("--seeds", "not a valid int")),
        (("--repeat", "0"), ("--repeat", "not in the range")),
        (("--profile", "-1"), ("--profile", "not in the range")),
        (("--release-every", "0"), ("--release-every", "not in the range")),
        (("--arrivals", "missing.csv"), ("missing.csv", "offset_s")),
        (("--prior", "missing.csv"), ("missing.csv", "cannot be read")),
    ],
)
def test_a_bad_option_is_named_with_its_value_and_the_way_out(
    file: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    message = refused(file, "--seeds", 1, *options)

    for word in words:
        assert word in message


def test_a_category_of_one_prompt_cannot_be_graded(tmp_path: Path) -> None:
    table = rows()
    for row in table[:3]:
        row["category"] = "lonely"

    message = refused(written(tmp_path / "t.csv", table), "--profile", 5, "--seeds", 1)

    assert "--profile 5" in message
    assert "lonely" in message
    assert "--profile 0" in message


@pytest.mark.parametrize("options", [("--latency-slo-s", "2"), ("--strategy", "fastest")])
def test_latency_is_needed_where_it_is_asked_for(tmp_path: Path, options) -> None:
    table = [{k: v for k, v in row.items() if k != "latency_s"} for row in rows()]

    message = refused(written(tmp_path / "t.csv", table), "--seeds", 1, *options)

    assert "no column 'latency_s'" in message


def test_a_newcomer_among_nobody_is_refused(file: Path) -> None:
    message = refused(file, "--endpoints", "x", "--scenario", "newcomer", "--seeds", 1)

    assert "--scenario newcomer: needs a second endpoint" in message


def test_a_prior_that_shares_no_endpoint_is_refused(tmp_path: Path, file: Path) -> None:
    other = [row | {"model": row["model"] * 2} for row in rows()]

    message = refused(file, "--prior", written(tmp_path / "o.csv", other), "--seeds", 1)

    assert "share no priced endpoint" in message


def test_a_plot_that_cannot_be_written_is_refused(tmp_path: Path, file: Path) -> None:
    plot = tmp_path / "nowhere" / "regret.svg"

    message = refused(file, "--seeds", 1, "--policy", "greedy", "--plot", plot)

    assert f"--plot {plot}" in message.replace(" ", "") or str(plot) in message
    assert "cannot be written" in message


# What is left out


def test_rows_without_a_cost_are_dropped_and_counted(tmp_path: Path) -> None:
    table = rows()
    table[4]["cost_usd"] = None
    for row in table:
        if row["model"] == "z":
            row["cost_usd"] = None
    file = written(tmp_path / "t.csv", table)

    value = found(file, "--seeds", 1, "--policy", "random")
    kept = found(file, "--seeds", 1, "--policy", "random", "--keep-unpriced")

    assert value["settings"]["dropped"] == {
        "rows_without_cost": 25,
        "endpoints_without_rows": 1,
        "prompts_not_answered_by_all": 1,
    }
    assert (value["endpoints"], value["requests"]) == (2, 23)
    assert (kept["endpoints"], kept["requests"]) == (3, 24)


def test_an_incumbent_that_was_left_out_is_no_incumbent(file: Path) -> None:
    assert "--incumbent z" in refused(file, "--endpoints", "x,y", "--incumbent", "z")
