"""The proof of savings: it plays what the sidecar books, and sees what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts.proofs.savings import (
    N_ENDPOINTS,
    SavingRun,
    figures_of,
    is_sound,
    judge_savings,
    portfolio,
)
from scripts.proofs.savings_play import play
from telemetry.recorded import synthetic

RUN = SavingRun(1.0, True, 1.01, 1.0, 0.02, True, 0.0, None, 0.0)


def test_a_run_is_booked_summed_up_and_judged_by_the_table() -> None:
    few, incumbent = portfolio(synthetic(n_prompts=200), 3)

    played = play(few, incumbent, 3, 300)
    said = played.section()
    run = judge_savings(said, few, incumbent, played)

    assert len(few.endpoints) <= N_ENDPOINTS
    assert said["calls"] == said["quality"]["labels"] == 300
    served = few.cost_usd[played.prompt, played.arm].sum()
    assert said["money"]["served_usd"] == pytest.approx(served, rel=1e-6)
    assert said["incumbent_calls"] == (played.arm == incumbent).sum()
    assert run.true_usd == pytest.approx(few.cost_usd[played.prompt, incumbent].sum())
    assert abs(run.said_usd / run.true_usd - 1) < 0.1
    assert np.unique(played.records["token"]["session"]).size < 300, "sessions share a draw"


def test_what_misses_too_often_or_is_off_is_not_sound() -> None:
    assert is_sound(figures_of([RUN] * 100))
    assert not is_sound(figures_of([RUN] * 89 + [replace(RUN, money_holds=False)] * 11))
    assert not is_sound(figures_of([RUN] * 89 + [replace(RUN, quality_holds=False)] * 11))
    assert not is_sound(figures_of([replace(RUN, said_usd=1.03)] * 100))
    assert is_sound(figures_of([RUN] * 8 + [replace(RUN, money_holds=False)]))
