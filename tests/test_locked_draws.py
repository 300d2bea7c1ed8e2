"""Draws of a locked app: whoever was left out while the other parts were worse is tried again."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bandit.draws import propensities
from router.decision.context import CallContext
from scripts.proofs.believed import rows_of
from scripts.proofs.episode_play import (
    BEGAN_S,
    BODY,
    AnswersAlways,
    Arm,
    EpisodeSetting,
    SimulatedClock,
    configuration_of,
)
from scripts.proofs.episode_world import PARTS
from scripts.proofs.within import SentRequest, SidecarWithin

SEEN = {"plan": {"a": {"labels": 60, "good": 40}, "b": {"labels": 12, "good": 6}}}


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as path:
        yield Path(path)


def share_of_b(state_dir: Path, *, locked: bool) -> float:
    """The propensity with which the planner's next episode would get `b`."""
    clock = SimulatedClock()
    configuration = configuration_of(EpisodeSetting(PARTS, Arm("", locked=locked), 1), state_dir)
    headers = {"x-router-role": "planner", "x-router-task": "plan", "x-router-episode-id": "e"}
    with SidecarWithin(configuration, state_dir, AnswersAlways(), clock=clock) as within:
        within.follow(configuration, rows_of(SEEN, configuration, BEGAN_S))
        request = SentRequest("/v1/chat/completions", headers, BODY)
        context = asyncio.run(within.settle(request)).found
    assert isinstance(context, CallContext)
    law, beliefs = context.route.law, context.beliefs
    assert law is not None
    objective, mask = context.strategy.objective, context.eligibility.mask
    shares = propensities(law, beliefs.table(context.category, objective, law, mask))
    return float(shares[configuration.catalog.by_id["b"].group])


def test_a_locked_app_goes_on_trying_who_may_yet_be_better(state_dir: Path) -> None:
    """Of `a` 40 of 60 labels were good, of `b` 6 of 12: perhaps it is better."""
    locked = share_of_b(state_dir / "1", locked=True)
    other = share_of_b(state_dir / "2", locked=False)

    assert other < 0.03 < 0.05 < locked < 0.2
