"""The bench of raters: who is heard how often, and what its table says."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from bandit import cells
from bandit.families import Family, Q
from scripts.benches.raters import Span, print_table, run_row
from scripts.benches.raters_world import (
    BEST,
    N_POISONERS,
    N_RATERS,
    PRAISED,
    TIMES_USUAL,
    TURNS_A_DAY,
    RatedWorld,
    Raters,
    Where,
)
from workers.folding.raters import MOST_COUNTED


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """No line of log for each alarm."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


def labels_after_a_day(raters: Raters, where: Where) -> list[int]:
    world = RatedWorld(n_days=1, seed=[1])
    world.live(1, raters, where)
    assert len(world.shares) == TURNS_A_DAY
    rows = cells.of_family(world.rows, Family.QUALITY)  # of all regimes: an alarm begins another
    of = world.configuration.catalog.digests.tolist()
    return [int(rows.values[rows.keys["endpoint"] == e, Q.LABELS].sum()) for e in of]


def test_honest_raters_are_heard_once_a_cell_and_day() -> None:
    assert labels_after_a_day(Raters.HONEST, Where.EVERYWHERE) == [N_RATERS] * 4


@pytest.mark.parametrize(
    ("raters", "each"),
    [(Raters.CAPPED, MOST_COUNTED), (Raters.UNCAPPED, TIMES_USUAL // TURNS_A_DAY * TURNS_A_DAY)],
)
def test_poisoners_are_heard_as_often_as_the_bound_lets_them(raters: Raters, each: int) -> None:
    found = labels_after_a_day(raters, Where.EVERYWHERE)

    honest = N_RATERS - N_POISONERS
    for arm, n in enumerate(found):
        assert n == honest + (N_POISONERS * each if arm in (BEST, PRAISED) else 0)


def test_a_poisoner_without_sessions_is_heard_at_one_endpoint_a_day() -> None:
    found = labels_after_a_day(Raters.CAPPED, Where.SLOTS)

    assert sum(found) <= N_RATERS - N_POISONERS + N_POISONERS * MOST_COUNTED


def test_a_row_tells_what_was_moved(capsys: pytest.CaptureFixture[str]) -> None:
    row = run_row(Where.EVERYWHERE, Span(1, 2), runs=2)

    share = row["share"]
    assert row["moved"] == pytest.approx(share["honest"] - share["capped"])
    assert row["moved_uncapped"] == pytest.approx(share["honest"] - share["uncapped"])
    assert share["uncapped"] < 0.3
    print_table({"runs": 2, "rows": [row], "kept": {"everywhere": True}})
    assert "everywhere   1 honest days" in capsys.readouterr().out
