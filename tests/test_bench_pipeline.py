"""The bench of the pipeline: the keys that it promises, and figures that can be."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from router.cli import app
from workers import bench_pipeline
from workers.bench_pipeline import Sizes

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
def test_the_bench_of_the_pipeline_gives_the_figures_that_it_promises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_pipeline, "QUICK", TINY)

    done = CliRunner().invoke(app, ["bench", "pipeline", "--quick", "--json"])

    assert done.exit_code == 0
    found = json.loads(done.stdout)
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
    bench_pipeline.print_table(found)
