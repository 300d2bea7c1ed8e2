"""The bench beside nginx: the keys that it promises, and what its ratios are of."""

from __future__ import annotations

import pytest

from scripts.benches import __main__ as benches
from scripts.benches import http, ordinary
from scripts.benches.http import Samples

ROUNDS = (1.0, 2.0, 4.0)
GOALS = {
    *("cpu_ratio_c16", "cpu_ratio_c16_all", "cpu_ratio_c1", "cpu_ratio_c1_all"),
    *("cpu_ratio_chunk", "added_p50_ratio", "added_ttft_ratio", "python"),
}


def sampled(target: str, **by_measure: float) -> Samples:
    samples = Samples()
    for scale in ROUNDS:  # a machine that gets slower and slower
        for measure, value in by_measure.items():
            samples.add("nginx", measure, scale)
            samples.add(target, measure, value * scale)
    return samples


def test_each_goal_has_a_key_and_its_ratio_is_of_the_same_round() -> None:
    samples = sampled("pointsman", cpu_us_c16=9, cpu_us_c16_all=13, cpu_us_chunk=3)

    found = http._summary(samples, rounds=3, seconds=1.0, others=["litellm"])

    assert found.keys() >= GOALS
    ratios = [found[f"cpu_ratio_{what}"] for what in ("c16", "c16_all", "chunk")]
    assert ratios == [9, 13, 3]
    assert found["cpu_ratio_c1"] is None  # was not measured
    assert "enable-optimizations" in found["python"]
    assert found["peers"].keys() == {"litellm"}


def test_of_ordinary_traffic_a_calls_cost_is_told_by_that_at_saturation() -> None:
    samples = sampled("pointsman", cpu_us_full_all=10, cpu_us_150_all=13, cpu_us_20_all=20)

    found = ordinary._summary(samples, rounds=3, seconds=1.0)

    assert (found["cpu_ratio_150"], found["cpu_ratio_20"]) == (1.3, 2)
    assert found["cpu_ratio_to_nginx_150_all"] == 13


def test_a_peer_that_would_not_be_measured_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        benches.main(["http", "--mix", "ordinary", "--peer", "litellm"])

    assert ended.value.code == 2
    assert "--peer" in capsys.readouterr().err
