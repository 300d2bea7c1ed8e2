"""By how much a router grows that sees all units of a month, in a process of its own."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np

from bandit.steps import Step
from router.decision.draws import Draws
from router.decision.shared_draws import StoredDraw
from router.decision.units import SESSION_S, Unit
from router.dispatch.recent import RecentNames
from scripts.benches.growth_draws import KEY_BYTES
from scripts.benches.growth_traffic import (
    CALLS_PER_S,
    IN_SESSIONS,
    N_TASKS,
    N_USERS,
    OF_USERS,
    STEP_MS,
    Traffic,
)
from telemetry.processes import child_environment
from telemetry.store import Address
from workers.folding.hearing import pieces

DAY_S, STEP_S = 86_400, STEP_MS // 1000
N_CALLS = int(CALLS_PER_S * STEP_S)
STEPS_OF_NAMES = 12
"""Names of 70,000 calls: five times what is remembered."""
MB = 1_000_000


def measure(days: int) -> float:
    """Return by how many megabytes the process grew, whatever its tables dropped meanwhile."""
    command = [sys.executable, "-m", "scripts.benches.growth_router", str(days)]
    found = subprocess.run(  # noqa: S603 - our own module
        command, env=child_environment(), stdout=subprocess.PIPE, check=True
    )
    return round(int(found.stdout) / MB, 1)


def main(days: int) -> int:
    """Show a router all units and enough names of so many days; return the bytes that it grew."""
    traffic, draws, names = Traffic(), Draws(Address("unix:///nowhere")), RecentNames()
    traffic.step(0)  # what making records takes is no part of it
    before = _resident()
    for from_ms in range(0, STEPS_OF_NAMES * STEP_MS, STEP_MS):
        for record in pieces(traffic.step(from_ms).calls):
            names.note(record)
    for from_s in range(0, days * DAY_S, STEP_S):
        _see(draws, from_s, traffic.chance)
    return _resident() - before


def _see(draws: Draws, from_s: int, chance: np.random.Generator) -> None:
    """Have a router see the units of ten minutes, in the order of nothing in particular."""
    now, day = float(from_s), from_s // DAY_S
    given = StoredDraw(1 << 60, 0.5, from_s * 1000, from_s, Step.SAMPLE)
    n_sessions = int(N_CALLS * IN_SESSIONS)
    n_others = N_CALLS - n_sessions
    for n, is_session, ends_at in ((n_sessions, True, 0.0), (n_others, False, now + SESSION_S)):
        for _ in range(n):
            key = secrets.token_bytes(KEY_BYTES)
            draws.keep(key, given, Unit(key, is_session, ends_at), now=now)
    for slot in chance.integers(0, N_USERS * N_TASKS, int(n_others * OF_USERS)).tolist():
        key = (day * N_USERS * N_TASKS + slot).to_bytes(KEY_BYTES, "little")
        if draws.get(key, now=now) is None:
            draws.keep(key, given, Unit(key, False, (day + 1.0) * DAY_S, is_day=True), now=now)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
