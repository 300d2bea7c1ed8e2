"""What the other processes of a stack take is told by their router."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from telemetry.stack_parts import cpu_seconds_by_part

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="processes are counted in /proc"
)
BUSY = """
import sys, time
while time.process_time() < 0.3:
    pass
print(flush=True)
sys.stdin.read()
"""


def busy(*words: str) -> subprocess.Popen[str]:
    """Start one that takes .3 s of CPU and waits, with these words in its command line."""
    command = [sys.executable, "-c", BUSY, *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_each_process_below_a_router_is_told_of_by_its_part_but_for_other_routers() -> None:
    before = cpu_seconds_by_part()
    started = [
        busy("workers.observer.__main__"),
        busy("workers", "--with-jobs"),
        busy("workers", "--told", "9", "--jobs"),
        busy("router.commands.router_process", "serve"),
        busy("something", "else"),
    ]

    found = cpu_seconds_by_part()
    for process in started:
        process.communicate("")

    took = {part: found[part] - before.get(part, 0.0) for part in found}
    assert took.keys() == {"observer", "worker", "jobs"} | before.keys()
    for part in ("observer", "worker", "jobs"):
        assert 0.25 < took[part] < 0.6
    assert cpu_seconds_by_part().keys() == before.keys()  # they have ended


def test_jobs_that_have_ended_stay_among_the_workers() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], input='')\n"
    worker = subprocess.Popen(
        [sys.executable, "-c", code + BUSY, BUSY, "workers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    worker.stdout.readline()  # the child's
    deadline = time.monotonic() + 20
    while cpu_seconds_by_part().get("jobs", 0.0) < 0.25 and time.monotonic() < deadline:
        time.sleep(0.05)

    found = cpu_seconds_by_part()
    worker.communicate("")

    assert found["jobs"] >= 0.25
