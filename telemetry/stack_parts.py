"""What the other processes of a router's stack took of the CPU, as the kernel has booked it.

A router tells of its own threads (`telemetry.pacer`). What its observer takes, and in a stack the
worker, its jobs, the store and the supervisor, it reads off the process table when it is asked:
none of them spends anything on it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePath

from telemetry.processes import keeper

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
ROUTER, WORKER, JOBS = "router", "worker", "jobs"
PROGRAMS = {
    "workers.observer.__main__": "observer",
    "workers.spans": "spans",
    "workers": WORKER,
    "router.commands.supervisor": "supervisor",
    "router.commands.router_process": ROUTER,
}
SERVERS = ("valkey-server", "redis-server")


def cpu_seconds_by_part() -> dict[str, float]:
    """Return the CPU seconds of every process of this stack that is no router, by its part.

    Those of jobs that have ended are the worker's to tell. Outside of a stack there is the observer
    alone, and where there is no `/proc`, nothing.
    """
    found: dict[str, float] = defaultdict(float)
    above = keeper()
    beside = [] if above is None else [above, *_below(above)]
    for pid in (*beside, *_below(os.getpid())):
        part = _part_of(pid)
        try:
            told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            own, of_ended = (sum(map(int, told[at : at + 2])) / TICKS_PER_S for at in (11, 13))
        except (OSError, ValueError):
            continue  # it has ended
        if part is not None:
            found[part] += own
        if part == WORKER:
            found[JOBS] += of_ended
    return dict(found)


def _below(pid: int) -> Iterator[int]:
    """Yield what a process has started, and what that has, but for routers and what is theirs."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return
    for child in children:
        if _part_of(child) != ROUTER:
            yield child
            yield from _below(child)


def _part_of(pid: int) -> str | None:
    """Return which part of a stack a process is; None where it is none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return None
    program = PurePath(words[0].split(" ")[0]).name
    if program in SERVERS:
        return "store"
    part = next((PROGRAMS[word] for word in words if word in PROGRAMS), None)
    return JOBS if part == WORKER and "--jobs" in words else part
