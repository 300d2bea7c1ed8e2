"""The bench of growth: its traffic is what the fold believes, and nothing of it is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scripts.benches import growth, growth_late
from scripts.benches.growth import LIVE_HOUR, Month
from scripts.benches.growth_draws import CONVERSATIONS, DAY_MS
from scripts.benches.growth_sizes import StoreSizes, at_100_calls_per_s_mb
from scripts.benches.growth_traffic import N_SHARDS, STEP_MS, Traffic
from telemetry import keys
from telemetry.decoding import decode
from telemetry.events import Kind
from telemetry.young import HOUR_MS, SPAN_MS


@pytest.fixture
def lived(state_dir: Path) -> Iterator[Month]:
    with growth.month(state_dir, Traffic(calls_per_s=1.0)) as lived:
        yield lived


def this_morning() -> int:
    return int(time.time() * 1000) // SPAN_MS * SPAN_MS - DAY_MS


def n_lying(lived: Month, *named: object) -> int:
    return sum(
        lived.client.hlen(name(shard))  # type: ignore[operator]
        for name in named
        for shard in range(N_SHARDS)
    )


def test_records_made_as_arrays_are_sound_and_of_the_mix() -> None:
    step = Traffic().step(0)

    found, bad = decode(step.records.tobytes())

    assert not bad
    n = len(step.calls)
    assert (np.diff(step.at_ms) >= 0).all()
    assert step.at_ms[-1] < STEP_MS
    assert len(found) == n + int((found["kind"] != Kind.OUTCOME).sum())
    assert abs(len(found) / n - 1.4) < 0.05
    assert abs((found["kind"] == Kind.REFERENCE_FEEDBACK).sum() / n - 0.154) < 0.03
    assert abs((step.calls["token"]["user"] > 0).mean() - 0.6) < 0.03
    assert len(step.resolved) == len(step.waiting)


@pytest.mark.parametrize("hour", [0, LIVE_HOUR])
def test_all_that_is_made_is_folded_once_and_nothing_waits(lived: Month, hour: int) -> None:
    lived.live_hour(this_morning(), hour)
    lived.finish(this_morning() + (hour + 1) * HOUR_MS)

    counted = lived.counted()
    assert counted["outcomes"] == lived.traffic.n_calls > 3000
    assert counted["feedback"] == lived.traffic.n_labels > 1000
    assert counted["held"] > 300
    assert not {"dead", "missing", "repeated", "feedback_outdated", "cold"} & set(counted)
    assert n_lying(lived, keys.held) == 0
    assert counted["resolved"] == (counted["held"] if hour == LIVE_HOUR else 0)


def test_sizes_are_of_all_that_lies_there(lived: Month) -> None:
    lived.live_hour(this_morning(), 0)

    sizes = StoreSizes.of(lived.client, lived.draws)

    assert sizes.n_lying["label"] == lived.counted()["feedback"]
    assert 1.4 < sizes.n_lying["reference"] / lived.traffic.n_calls < 1.6
    assert not lived.client.keys(keys.draw("*"))
    assert all(20 < size < 300 for size in sizes.bytes_of.values())
    assert at_100_calls_per_s_mb(sizes)["all"] > 0


def test_draws_end_when_their_time_is_up(lived: Month) -> None:
    begins_ms = this_morning()
    lived.live_hour(begins_ms, 0)
    strings = list(lived.client.scan_iter(match=keys.draw("*"), count=1000))
    packed = list(lived.client.scan_iter(match=f"{{{keys.prefix()}:talks*}}:*", count=1000))
    n = lived.draws.n_lying
    assert len(strings) == n.total() - n[CONVERSATIONS]
    assert sum(map(lived.client.hlen, packed)) == n[CONVERSATIONS] > 1000

    lived.draws.end(begins_ms + HOUR_MS)
    n = lived.draws.n_lying
    assert 0 < n["session"] < 0.4 * lived.traffic.n_calls  # of the last half hour
    lived.draws.end(begins_ms + 2 * DAY_MS)
    assert lived.draws.n_lying.total() == 0
    assert not lived.client.keys(keys.draw("*"))
    assert not lived.client.exists(*packed)


@pytest.mark.slow
def test_feedback_for_old_decisions_is_timed_until_it_is_folded(
    lived: Month, state_dir: Path
) -> None:
    begins_ms = this_morning() - 3 * DAY_MS
    for day in (0, 3):
        lived.live_hour(begins_ms + day * DAY_MS, LIVE_HOUR)
        lived.archive.take(now_ms=begins_ms + (day + 1) * DAY_MS + STEP_MS)
    lived.finish(begins_ms + 4 * DAY_MS)
    n_before = lived.counted()["feedback"]

    found = growth_late.measure(
        lived.address, state_dir, lived.told, within_s=1.0, ways=("decision_id",)
    )

    assert found is not None
    assert found["n"] == 6
    assert 0 < found["p50"] <= found["p99"] < 60
    counted = lived.counted()
    assert counted["cold"] == 6
    assert counted["feedback"] + counted["feedback_outdated"] == n_before + 6
