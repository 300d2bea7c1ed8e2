"""`bench idle`: what the whole stack costs while nobody calls, and how soon it listens.

`pointsman up` as users start it, with its private store and observer, over ten endpoints. It
answers some calls, so that what it loads when they come is loaded, and there is something to
archive; then it is left alone. CPU is what the kernel booked for each process, children that came
and went included; memory is the proportional share (PSS).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from router.commands.up import READY_FILE
from router.demo.stack import stack
from scripts.benches.http_load import body_of
from scripts.benches.http_targets import pss_mb, ten_endpoints, tree

N_CALLS = 200
START_WITHIN_S = 60.0
LOOK_EVERY_S = 0.005
CALM_S, CALM_SHARE, CALM_WITHIN_S = 5.0, 0.05, 180.0
"""It is calm once so many seconds went by with less than that of a core, and no job runs."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
NAMES = ("router", "observer", "worker", "jobs", "store", "supervisor")


@dataclass(frozen=True, slots=True)
class CpuBooked:
    """CPU seconds since the start, by process."""

    at: float
    cpu_s: dict[str, float]

    @property
    def total_s(self) -> float:
        """Return that of all."""
        return sum(self.cpu_s.values())


def run_bench(*, seconds: float = 300.0) -> dict[str, Any]:
    """Start a stack, leave it alone, and return what it costs."""
    with tempfile.TemporaryDirectory(prefix="pointsman-idle-") as temporary:
        directory = Path(temporary)
        with stack(directory) as helpers:
            upstream = helpers.listen("upstream", "scripts.benches.upstream")
            config = directory / "pointsman.yaml"
            server = {"port": 0, "state_dir": str(directory / "state")}
            config.write_text(yaml.safe_dump({"server": server, **ten_endpoints(upstream)}))
            with _up(config, directory) as (process, port, start_s):
                started = {
                    "start_s": round(start_s, 2),
                    "start_cpu_s": round(_usage(process.pid).total_s, 2),
                }
                _call(port)
                _wait_for_calm(process.pid)
                found = _measure(process.pid, seconds)
    return {**found, **started, "seconds": seconds}


@contextmanager
def _up(config: Path, directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
    """Yield the stack's first process, its port, and how long it took until it answered."""
    environment = {name: os.environ[name] for name in os.environ if name != "REDIS_URL"}
    command = [sys.executable, "-m", "router.cli", "up", "--config", str(config)]
    began = time.monotonic()
    with (directory / "up.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        port = _answering(process, directory / "state" / READY_FILE, directory / "up.log")
        yield process, port, time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answering(process: subprocess.Popen[bytes], ready: Path, log: Path) -> int:
    """Wait until the router answers; return its port."""
    deadline = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            port = int(ready.read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1):
                return port
        except (OSError, ValueError):
            time.sleep(LOOK_EVERY_S)
    raise RuntimeError(f"it did not start:\n{log.read_text()[-2000:]}")


def _call(port: int) -> None:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    for number in range(N_CALLS):
        request = urllib.request.Request(url, body_of(streamed=number % 2 == 1))
        request.add_header("content-type", "application/json")
        request.add_header("x-router-session-id", f"idle-{number % 20}")
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            answer.read()


def _wait_for_calm(pid: int) -> None:
    deadline = time.monotonic() + CALM_WITHIN_S
    before = _usage(pid)
    while time.monotonic() < deadline:
        time.sleep(CALM_S)
        now = _usage(pid)
        is_quiet = now.total_s - before.total_s < CALM_SHARE * (now.at - before.at)
        if is_quiet and "jobs" not in dict(_processes(pid)):
            return
        before = now


def _measure(pid: int, seconds: float) -> dict[str, Any]:
    before = _usage(pid)
    time.sleep(seconds)
    after = _usage(pid)
    span = after.at - before.at
    memory = defaultdict[str, float](float)
    for name, one in _processes(pid):
        memory[name] += pss_mb(one)
    by_process = {
        name: {
            "idle_cpu_share": round((after.cpu_s[name] - before.cpu_s[name]) / span, 5),
            "memory_mb": round(memory[name], 1),
        }
        for name in NAMES
    }
    return {
        "idle_cpu_share": round((after.total_s - before.total_s) / span, 5),
        "memory_mb": round(sum(memory.values()), 1),
        "by_process": by_process,
    }


def _processes(pid: int) -> list[tuple[str, int]]:
    return [(_name(one), one) for one in tree(pid)]


def _name(pid: int) -> str:
    """Return which part of the stack a process is."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if "workers.observer.__main__" in words:
        return "observer"
    if "router.commands.supervisor" in words:
        return "supervisor"
    if "workers" in words:
        return "jobs" if "--jobs" in words else "worker"
    return "router" if "serve" in words else "store"


def _usage(pid: int) -> CpuBooked:
    """Return what was used; a child that ended is its parent's, and only jobs come and go."""
    used = defaultdict[str, float](float)
    for name, one in _processes(pid):
        try:
            # The kernel's clock of another process, of its ended threads too.
            used[name] += time.clock_gettime((~one << 3) | 2)
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it just ended
            continue
        used["jobs"] += (int(fields[13]) + int(fields[14])) / TICKS_PER_S
    return CpuBooked(time.monotonic(), used)


def print_table(result: dict[str, Any]) -> None:
    """Print what each process costs, then all of them."""
    table = Table(box=None, title=f"idle for {result['seconds']:g} s")
    for heading in ("process", "% of a core", "MB"):
        table.add_column(heading, justify="left" if heading == "process" else "right")
    for name, found in result["by_process"].items():
        table.add_row(name, f"{100 * found['idle_cpu_share']:.2f}", f"{found['memory_mb']:.1f}")
    table.add_row("all", f"{100 * result['idle_cpu_share']:.2f}", f"{result['memory_mb']:.1f}")
    console = Console()
    console.print(table)
    start_s, cpu_s = result["start_s"], result["start_cpu_s"]
    console.print(f"listening after {start_s:.2f} s, by when all had used {cpu_s:.2f} s of CPU")
