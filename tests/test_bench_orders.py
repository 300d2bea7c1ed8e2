"""The bench of order strategies: what counts as a move, as below the floor, as over the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bandit.incumbent import Release
from bandit.utility import Objective, Order
from scripts.benches import orders as bench
from scripts.benches.orders_week import AFTER_S, LOOK_S, OUTAGE_S, OrderWeek, play
from scripts.benches.orders_world import (
    CALLS_AN_HOUR,
    HOUR_S,
    N_ENDPOINTS,
    N_TASKS,
    OrderTraffic,
    OrderWorld,
)


def world(**more: np.ndarray) -> OrderWorld:
    """One in which endpoint 0 costs 1, 1 costs 2, and so on; 0 alone is below the floor."""
    found = OrderWorld.draw(np.random.default_rng(1))
    shape = (N_TASKS, N_ENDPOINTS)
    quality = np.full(shape, 0.9)
    quality[:, 0] = 0.6
    same = {"ok": np.ones(shape), "quality": quality, "tokens_out": np.ones(shape)}
    usd = np.arange(1.0, N_ENDPOINTS + 1)
    return replace(found, **same, usd_in=0 * usd, usd_out=usd, **more)


def move(task: int, before: int, after: int) -> Release:
    return Release(task, before, after, 0.9, 1.0, "first in the order")


def test_moves_from_and_to_who_was_away_are_told_apart_from_the_others() -> None:
    week = OrderWeek(world(), Objective(Order.CHEAPEST), outage=(100.0, 3))
    week.moves = [
        (99.0, move(0, 3, 1)),  # before it began
        (100.0, move(0, 3, 1)),
        (101.0, move(1, 2, 1)),  # has nothing to do with it
        (100.0 + OUTAGE_S, move(2, 1, 3)),
        (100.0 + OUTAGE_S + AFTER_S, move(2, 3, 1)),
    ]
    week.calls[:], week.chosen[:] = 1, 1

    figures = week.figures()

    assert figures["moves"] == pytest.approx(3 / N_TASKS)
    assert figures["outage_moves"] == pytest.approx(2 / N_TASKS)
    assert figures["most_moves"] == 1


def test_figures_are_of_calls_beside_the_best_above_the_floor() -> None:
    week = OrderWeek(world(), Objective(Order.CHEAPEST))
    week.calls[:, 0], week.calls[:, 1], week.calls[:, 3] = 1, 2, 1
    week.chosen[:, 1] = 4

    figures = week.figures()

    # A success costs 1 ÷ .6, twice 2 ÷ .9 and 4 ÷ .9; at the best four times 2 ÷ .9.
    assert figures["over_best"] == pytest.approx((1 / 0.6 + 8 / 0.9) / (8 / 0.9) - 1)
    assert figures["choice_over_best"] == pytest.approx(0)
    assert figures["below_floor"] == pytest.approx(0.25)
    assert figures["points_below"] == pytest.approx((0.81 - 0.6) / 4)
    assert figures["choice_below_floor"] == 0


def test_calls_and_labels_come_as_often_as_the_world_says() -> None:
    found = world()
    traffic = OrderTraffic(found, np.random.default_rng(2), labelled=0.5)
    share = np.full((N_TASKS, N_ENDPOINTS), 1 / N_ENDPOINTS)

    made = sum(traffic.serve(share, h * HOUR_S, HOUR_S, None).sum() for h in range(24))
    evidence = traffic.evidence(24 * HOUR_S)

    assert made == pytest.approx(24 * sum(CALLS_AN_HOUR), rel=0.05)
    labels = evidence.quality[..., 0].sum()
    assert labels == pytest.approx(
        0.5 * made + 0.3 * (evidence.usage[..., 0].sum() - made), rel=0.05
    )


def test_a_day_is_the_same_under_both_rules_until_they_differ_and_again_when_played_again() -> None:
    played = [
        play(1, Order.CHEAPEST, name, span_s=40 * LOOK_S) for name in ("after", "after", "before")
    ]

    assert played[0].moves == played[1].moves
    assert (played[0].calls == played[1].calls).all()
    assert (played[0].world.quality == played[2].world.quality).all()
    assert len(played[2].moves) > len(played[0].moves)


def test_the_table_names_what_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    row = bench.run_row(Order.FASTEST, "sparse", "after", weeks=2, span_s=8 * LOOK_S)
    missed = {**row, "moves": 2.1, "choice_below_floor": 0.0, "over_best": 0.02}

    bench.print_table({"rows": [missed], "kept": bench.kept([missed])})

    said = capsys.readouterr().out
    assert "fastest, labels sparse, after: 2.1 ±" in said
    assert said.splitlines()[-1] == "missed: fastest: moves"
    assert bench.kept([missed], quick=True) == {"fastest: moves": True}
