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
from scripts.proofs.savings_play import GROWN, of_one_task, play
from telemetry.recorded import synthetic

RUN = SavingRun(1.0, True, 1.01, 1.0, 0.02, True, 0.0, None, 0.0)


def test_a_run_is_booked_summed_up_and_judged_by_the_table() -> None:
    few, incumbent = portfolio(synthetic(n_prompts=200), 3)

    played = play(few, incumbent, 3, 300)
    said = played.section()
    run = judge_savings(said, played)

    assert len(few.endpoints) <= N_ENDPOINTS
    assert said["calls"] == said["quality"]["labels"] == 300
    served = few.cost_usd[played.prompts[:, 0], played.arm].sum()
    assert said["money"]["served_usd"] == pytest.approx(served, rel=1e-6)
    assert said["incumbent_calls"] == (played.arm == incumbent).sum()
    assert run.true_usd == pytest.approx(few.cost_usd[played.prompts[:, 0], incumbent].sum())
    assert abs(run.said_usd / run.true_usd - 1) < 0.1
    assert np.unique(played.records["token"]["session"]).size < 300, "sessions share a draw"


def test_in_the_world_that_grows_calls_are_long_once_another_is_the_choice() -> None:
    few, _ = portfolio(synthetic(n_prompts=200), 3)
    few, incumbent = of_one_task(few), int(np.argmin(few.quality.mean(axis=0)))

    played = play(few, incumbent, 3, 600, grows=True)
    said = played.section()
    run = judge_savings(said, played)

    n_prompts = (played.prompts >= 0).sum(axis=1)
    assert set(n_prompts.tolist()) == {1, GROWN}
    assert incumbent not in played.arm[n_prompts == GROWN]
    assert played.choices.changes
    assert said["money"]["by_tokens"] > 0
    assert run.money_holds
    assert abs(run.said_usd / run.true_usd - 1) < 0.2
    long, truth = played.prompts[n_prompts == GROWN][0], played.true_usd[n_prompts == GROWN][0]
    assert truth == pytest.approx(few.cost_usd[long, incumbent].sum())


def test_what_misses_too_often_or_is_off_is_not_sound() -> None:
    assert is_sound(figures_of([RUN] * 100))
    assert not is_sound(figures_of([RUN] * 89 + [replace(RUN, money_holds=False)] * 11))
    assert not is_sound(figures_of([RUN] * 89 + [replace(RUN, quality_holds=False)] * 11))
    assert not is_sound(figures_of([replace(RUN, said_usd=1.03)] * 100))
    assert is_sound(figures_of([RUN] * 8 + [replace(RUN, money_holds=False)]))
