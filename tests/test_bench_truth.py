"""The bench of truth: its simulator's own books, what it counts as true, and its figures."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import structlog

from bandit import cells
from bandit.drift import AlarmKind
from bandit.families import HALF_LIFE_MS, D, Family, Q, U
from bandit.matrix import ReportRow
from router.beliefs.beliefs import believe
from scripts.benches import truth, truth_falls
from scripts.benches.truth import QUICK, conclude, count_alarms, kept, run_row, settings
from scripts.benches.truth_falls import Fall, fall, summary
from scripts.benches.truth_setting import N_TASKS, Setting
from scripts.benches.truth_tally import TENTHS, Tally, compare, moved_by_correction, shown
from scripts.benches.truth_units import StoredDraws
from scripts.benches.truth_world import Raised, SimulatedWorld


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No line of log for each alarm."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def world(
    setting: Setting, looks: int = 0, *, rate: float = 40, look_s: float = 2
) -> SimulatedWorld:
    found = SimulatedWorld(setting, calls_a_second=rate, span_s=max(looks, 1) * look_s, seed=[3])
    for _ in range(looks):
        found.step(look_s)
    return found


@pytest.mark.parametrize(
    "setting",
    [
        Setting(3, 0.4),
        Setting(2, 0.95, late_s=10, derived="telling", units=True, shifting=True, equal=False),
        Setting(5, 0.05, derived="noise", units=True),
    ],
)
def test_what_is_folded_is_what_was_made(setting: Setting) -> None:
    found = world(setting, 30)

    evidence = found.beliefs.evidence
    assert (evidence.quality[:N_TASKS, :, Q.LABELS] == found.labels).all()
    assert (evidence.usage[:N_TASKS, :, U.CALLS] == found.calls).all()
    fading = evidence.quality[:N_TASKS, :, Q.N]
    mean = evidence.quality[:N_TASKS, :, Q.R] / np.where(fading > 0, fading, 1)
    assert mean == pytest.approx(found.wins / np.maximum(found.labels, 1), abs=1e-3)
    on_the_way = sum(len(waiting.tokens) for waiting in found._waiting)
    assert found.made.sum() == found.labels.sum() + on_the_way
    assert (on_the_way > 0) == (setting.late_s > 0)
    watched = cells.read_by_regime(
        found.rows,
        Family.WATCH,
        categories=np.array(found.configuration.task_digests, dtype=np.uint64),
        endpoints=found.configuration.catalog.digests,
        now_ms=found.now_ms,
    )
    assert (sum(watched.values())[:N_TASKS, :, Q.LABELS] == found.labels).all()
    pairs = evidence.derived[:N_TASKS, :, D.PAIRS]
    assert (pairs <= found.labels).all()
    assert pairs.any() == (setting.derived is not None)


@pytest.mark.slow
def test_calls_succeed_as_often_as_the_truth_says() -> None:
    found = world(Setting(2, 0.95, derived="telling", equal=False), 200, rate=100)

    n, expected = found.labels, found.labels * found.truth
    deviation = (found.wins - expected) / np.sqrt(np.maximum(expected * (1 - found.truth), 1))
    assert np.abs(deviation[n >= 50]).max() < 4
    assert found.wins.sum() == pytest.approx(expected.sum(), abs=4 * np.sqrt(n.sum() * 0.25))


def test_whoever_is_away_serves_nobody_and_everyone_comes_back() -> None:
    found = world(Setting(8, 0.4, units=True, shifting=True), rate=50)
    found.span_s = 48.0
    ever = np.zeros(8, dtype=bool)
    for _ in range(24):
        before, up = found.calls.sum(axis=0), found.up()
        found.step(2.0)
        assert not (found.calls.sum(axis=0) - before)[~up].any()
        ever |= ~up
    assert ever.all()


def test_a_unit_follows_its_draw_until_an_alarm_names_its_endpoint() -> None:
    stored, task, unit = StoredDraws(1, 10.0), np.zeros(4, dtype=int), np.array([0, 1, 1, 0])
    stored.end_spans(1000)
    calm = np.zeros(2, dtype=np.int64)
    given = iter([np.array([0, 1]), np.array([1])])

    def draw(of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        arm = next(given)
        assert len(arm) == len(of)
        return arm, np.full(len(arm), 0.5)

    first, propensity = stored.follow(unit, task, calm, draw, now_ms=1000)
    again, _ = stored.follow(
        unit, task, calm, lambda of: draw(of) if len(of) else (of, of), now_ms=2000
    )
    after, _ = stored.follow(unit, task, np.array([1500, 0]), draw, now_ms=2000)

    assert first.tolist() == again.tolist() == [0, 1, 1, 0]
    assert propensity.tolist() == [0.5] * 4
    assert after.tolist() == [1, 1, 1, 1]


def shown_as(task: int, endpoint: int, mean: float, half: float) -> ReportRow:
    return ReportRow(
        category=f"task{task}",
        endpoint=f"e{endpoint}",
        calls=10,
        labels=5,
        quality=mean,
        quality_low=mean - half,
        quality_high=mean + half,
        p_best=0.5,
        ok_rate=1.0,
        usable=None,
        reliability=1.0,
        latency_p50_s=None,
        latency_p95_s=None,
        cost_usd=None,
        cost_per_success_usd=None,
        share=0.5,
        signals={},
    )


def test_an_interval_that_holds_the_truth_counts_and_no_other() -> None:
    found = world(Setting(2, 0.4))  # the truth is .8 everywhere
    rows = [shown_as(0, 0, 0.75, 0.06), shown_as(0, 1, 0.7, 0.06), shown_as(3, 1, 0.81, 0.01)]
    unknown = replace(shown_as(4, 0, 0.8, 0.1), quality=None, quality_low=None, quality_high=None)

    inside, error = compare([*rows, unknown], found)

    assert np.argwhere(inside).tolist() == [[0, 0], [3, 1]]
    assert error[[0, 0, 3], [0, 1, 1]] == pytest.approx([0.05, 0.1, 0.01])
    assert np.isnan(error[4, 0])


def test_a_tally_counts_cells_with_labels_by_tenth_and_errors_of_known_ones() -> None:
    found, tally = world(Setting(2, 0.4), 20), Tally()
    n_cells = int((found.labels > 0).sum())
    inside, error = compare(shown(found), found)

    tally.note(2, found)
    assert (tally.cells[2], sum(tally.cells)) == (n_cells, n_cells)
    assert tally.inside[2] == (inside & (found.labels > 0)).sum()
    assert tally.coverage() == [tally.inside[2] / n_cells]
    few = (found.labels > 0) & (found.labels < 10)
    assert tally.by_labels[0] == ((inside & few).sum(), few.sum())
    assert sum(n for _, n in tally.by_labels) == n_cells
    assert tally.worst_error is None, "no cell has a thousand labels"
    found.labels[1, 1] = 1000
    tally.note(2, found)
    assert tally.worst_error == error[1, 1]


def test_what_is_shown_is_what_its_labels_say() -> None:
    found = world(Setting(3, 0.9), 20)

    assert moved_by_correction(found) == pytest.approx(0, abs=1e-9)
    found.wins[0] = 0
    moved = moved_by_correction(found)
    assert moved is not None
    assert moved > 0.1
    assert moved_by_correction(world(Setting(3, 0.9, derived="noise"), 2)) is None


@pytest.mark.slow
def test_a_fall_to_nothing_is_told_in_a_fork_and_the_first_world_goes_on() -> None:
    calm = world(Setting(3, 0.9), 120, rate=100, look_s=0.5)
    arm = int(calm.labels.sum(axis=0).argmax())
    before = calm.labels.copy()

    found = fall(calm.fork([4]), arm, 0.8, longest_s=150)

    assert found.labels is not None
    assert found.seconds is not None
    assert found.share is not None
    assert found.labels > 0
    assert found.share < 0.2
    assert (calm.labels == before).all()
    assert calm.truth.min() == 0.8
    assert calm.raised == []
    again = calm.fork([5])
    assert (again.beliefs.quality_mean == calm.beliefs.quality_mean).all()
    assert again.alarms.known == calm.alarms.known


def test_a_fall_that_is_never_told_counts_as_endless() -> None:
    told, untold = Fall(40, 5.0, 0.02, 0.01, 0), Fall(None, None, None, 0.03, 2)

    found = summary([told, untold, untold])

    assert (found["told"], found["labels"], found["share"]) == (1, None, 0.02)
    assert (found["worst_moved"], found["other_alarms"]) == (0.03, 4)
    assert summary([told, told, untold])["labels"] == 40


def test_the_grid_holds_every_value_of_every_axis_and_so_does_a_quick_run() -> None:
    whole = settings()

    for grid in (whole, whole[::7]):
        for name in Setting.__slots__:
            assert {getattr(s, name) for s in grid} == {getattr(s, name) for s in whole}, name
    assert len(set(whole)) == 36


@pytest.mark.slow
def test_the_bench_of_truth_gives_the_figures_that_it_promises(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran = [
        run_row(Setting(2, 0.4, late_s=late_s), 400, seed=[0], looks=3) for late_s in (0.0, 3600.0)
    ]
    falls = [
        {"place": "best", "depth": depth, **summary([Fall(50, 4.0, 0.05, 0.01, 0)])}
        for depth in truth_falls.DEPTHS
    ]
    found = conclude(ran, falls, QUICK)

    json.dumps(found, allow_nan=False)
    truth.print_table(found)
    assert "missed:" in capsys.readouterr().out
    assert [row["labels"] for row in found["rows"]] == pytest.approx([400, 400], rel=0.3)
    assert len(found["coverage_90_tenths"]) == TENTHS
    assert found["coverage_90"] == min(found["coverage_90_tenths"])
    n_alarms = sum(row["false_alarms"] for row in found["rows"])
    assert found["false_alarms_per_1e5"] == pytest.approx(1e5 * n_alarms / found["labels"])
    assert found["moved_by_correction"] < 0.01
    assert kept(found | {"coverage_90": 0.9, "worst_error": 0.01}, QUICK)["coverage_90"]
    late = [falls[0], falls[1] | {"labels": None, "share": None}]
    missed = [name for name, is_kept in kept(found | {"falls": late}, QUICK).items() if not is_kept]
    assert {"fall_30_labels", "fall_30_share"} <= set(missed)
    assert "fall_10_labels" not in missed


def test_a_restored_endpoint_is_no_false_alarm_of_its_own() -> None:
    """What a false alarm changed is set right by it: one mistake, not two."""
    kinds = [AlarmKind.DOWN, AlarmKind.RESTORED, AlarmKind.UP]

    assert count_alarms([Raised(i, 0, kind) for i, kind in enumerate(kinds)]) == (2, 1)


def test_beliefs_are_of_the_moment_that_is_given() -> None:
    found = world(Setting(2, 0.9), 5)
    half_life_ms = HALF_LIFE_MS[Family.QUALITY]

    later = believe(
        found.configuration, found.rows, version=1, now_ms=found.now_ms + half_life_ms
    ).evidence

    now = found.beliefs.evidence.quality
    assert later.quality[..., Q.N] == pytest.approx(now[..., Q.N] / 2)
    assert (later.quality[..., Q.LABELS] == now[..., Q.LABELS]).all()
