"""Simulated worlds: who is there, how calls and labels come, and what is true of whom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml
from numpy.typing import NDArray

from router.config.compiled import Configuration, compile_text

N_TASKS = 8
LEVELS = (0.62, 0.92)
"""Of unequal endpoints, from the worst to the best."""
EQUAL_LEVEL = 0.8
DIFFICULTY = 0.06
"""By how much the easiest task stands above the mean, and the hardest below."""
DEVIATION_SD = 0.02
"""Of a cell about what endpoint and task make it, in an unequal world."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One world: who is there, and how labels and calls come."""

    endpoints: int
    labelled: float  # share of the calls
    late_s: float = 0.0  # how long after its call a label comes
    derived: str | None = None  # "noise": independent of the reward; "telling": a fault costs it
    units: bool = False  # sessions and slots; else every call draws
    shifting: bool = False  # endpoints come and go, and so do tasks
    equal: bool = True


def configuration(n_endpoints: int) -> Configuration:
    """Return that of a learning app; all endpoints cost the same."""
    endpoints = [
        {"id": f"e{i}", "model": f"e{i}", "base_url": f"http://127.0.0.1:1/{i}"}
        for i in range(n_endpoints)
    ]
    value = {
        "endpoints": endpoints,
        "tasks": {f"task{i}": None for i in range(N_TASKS)},
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }
    return compile_text(yaml.safe_dump(value), file="simulated.yaml")


def truth_of(setting: Setting, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (N_TASKS, n_endpoints) shares of calls that succeed."""
    shape = (N_TASKS, setting.endpoints)
    if setting.equal:
        return np.full(shape, EQUAL_LEVEL)
    task = np.linspace(-DIFFICULTY, DIFFICULTY, N_TASKS)
    out = np.linspace(*LEVELS, setting.endpoints) + rng.permutation(task)[:, None]
    return np.asarray(np.clip(out + rng.normal(0, DEVIATION_SD, shape), 0.02, 0.98))
