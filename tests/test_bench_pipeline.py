"""The bench of the pipeline: the keys that it promises, and figures that can be."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from scripts.benches import __main__ as benches
from scripts.benches import pipeline
from scripts.benches.pipeline import Sizes

TINY = Sizes(
    n_events=4_000,
    n_events_large=4_000,
    n_replayed=4_000,
    rates=(1_000,),
    fresh_s=0.5,
    n_timed=200,
    n_jobs=10,
    n_grouped=1_000,
)


@pytest.mark.slow
def test_the_bench_of_the_pipeline_gives_the_figures_that_it_promises() -> None:
    found = pipeline.run_bench(TINY)

    json.dumps(found)
    assert set(found) == {
        "events_per_s",
        "events_per_s_200x40",
        "replay_per_s",
        "freshness_ms",
        "writer_us",
        "cpu",
        "references",
    }
    assert set(found["references"]) == {"rq_per_event", "group_hincrby"}
    fresh = found["freshness_ms"]["1000"]
    assert 0 < fresh["p50"] <= fresh["p99"]
    figures = [found[n] for n in ("events_per_s", "events_per_s_200x40", "replay_per_s")]
    assert all(x > 0 for x in (*figures, found["writer_us"], *found["references"].values()))
    assert {"full", "1000"} <= set(found["cpu"])
    assert all(share >= 0 for shares in found["cpu"].values() for share in shares.values())
    pipeline.print_table(found)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cpu"],
        ["--peer", "other"],
        ["http", "--rounds", "0"],
        ["draw", "--arms", "1"],
        ["draw", "x"],
        ["http", "--seconds", "x"],
    ],
)
def test_a_bench_that_is_not_there_is_bad_input(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        benches.main(arguments)

    assert ended.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


def test_a_bench_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert benches.main(["draw", "--arms", "3", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["arms"] == 3
    assert 0 < found["p50_us"] <= found["p99_us"]


@pytest.mark.slow
def test_the_bench_books_every_call_of_its_apps_and_users() -> None:
    found = pipeline.run_ledger(replace(TINY, n_apps=5, n_users=20))

    assert (found["n_apps"], found["n_users"]) == (5, 20)
    assert found["ledger"]["attempts"] == TINY.n_events / 2
    assert found["ledger"]["cost_nano"] == TINY.n_events / 2 * 2_500_000
    assert found["ledger"]["rows"] > 5 * 20
    assert found["events_per_s"] > 0
    pipeline.print_ledger(found)
